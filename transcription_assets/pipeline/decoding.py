"""Decoding of recordings into checkpoints: what is to be decoded (requests), and the protocol of what decodes it.

A transcriber gets all requests of a batch at once. It decodes the windows that have no checkpoint, writes their
checkpoints, and reports each recording when its last one is written. `InProcessTranscriber` does it here; the workers
run the same `decode_windows` elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from transcription_assets.costs.timing import WorkerUse
from transcription_assets.domain.transcript import SpeechModel
from transcription_assets.errors import TransientFailure
from transcription_assets.pipeline import shard_status, window_plan
from transcription_assets.pipeline.checkpoints import Checkpoints, WindowId
from transcription_assets.pipeline.shard_status import StatusWriter
from transcription_assets.pipeline.window_plan import WindowPlan
from transcription_assets.pipeline.work_queue import Progress, WorkQueue
from transcription_assets.speech import Engine, SpeechOptions, SpeechResult, assembly, recognition
from transcription_assets.speech.recognition import WindowJob
from transcription_assets.storage import Store

Group = Sequence[WindowJob]


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """A recording to decode; `version` identifies the sound, the model, the options and the plan of its checkpoints."""

    key: str
    version: str
    plan: WindowPlan
    vocabulary: tuple[str, ...] = ()

    def checkpoints(self, store: Store) -> Checkpoints:
        """Return the checkpoints of this recording and version."""
        return Checkpoints(store, self.key, self.version)

    @property
    def lengths(self) -> Mapping[WindowId, float]:
        """Length of each window in seconds, by channel and time."""
        return {
            (channel, number): window.length
            for channel, windows in enumerate(self.plan.channels)
            for number, window in enumerate(windows)
        }

    @property
    def channels(self) -> int:
        """Number of channels that are decoded separately."""
        return len(self.plan.channels)

    def missing(self, store: Store) -> set[WindowId]:
        """Return the windows that have no checkpoint.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        return self.lengths.keys() - self.checkpoints(store).present()

    def jobs(self, store: Store, ffmpeg: str, wanted: Iterable[WindowId]) -> list[WindowJob]:
        """Return the windows of `wanted`, by channel and time."""
        source = window_plan.stored_source(store, self.key, len(self.plan.channels), ffmpeg, self.vocabulary)
        chosen = set(wanted)
        jobs = recognition.window_jobs(self.key, source, self.plan.channels)
        return [job for job in jobs if (job.channel, job.number) in chosen]


Outcome = tuple[DecodeRequest, Exception | None]
"""A request, and its failure, None if all its windows have checkpoints."""


class Transcriber(Protocol):
    """Decodes recordings into checkpoints, in this process or elsewhere."""

    @property
    def model(self) -> SpeechModel:
        """Model stored in every transcript."""
        ...

    @property
    def options(self) -> SpeechOptions:
        """Options stored in every transcript."""
        ...

    @property
    def use(self) -> WorkerUse:
        """Machines that were held for it so far, beside that of this process."""
        ...

    def prepare(self, store: Store) -> None:
        """Begin to load what decoding needs, without waiting for it; failures are raised by `decode`."""
        ...

    def decode(self, store: Store, requests: Sequence[DecodeRequest], progress: Progress) -> Iterator[Outcome]:
        """Yield the outcome of each request, as soon as it is known, in any order.

        Raises:
            Exception: nothing could be decoded; failures of single recordings are yielded.

        """
        ...

    def close(self) -> None:
        """End what was started for decoding; another call of `decode` starts it again."""
        ...


@dataclass(frozen=True, slots=True)
class InProcessTranscriber:
    """Transcriber that decodes in this process; `owner` identifies the run, so that its retries know their own."""

    engine: Engine
    ffmpeg: str
    owner: str = ""

    @property
    def model(self) -> SpeechModel:
        """Model of the engine."""
        return self.engine.model

    @property
    def options(self) -> SpeechOptions:
        """Options of the engine."""
        return self.engine.options

    @property
    def use(self) -> WorkerUse:
        """Nothing: it decodes here."""
        return WorkerUse()

    def prepare(self, _store: Store) -> None:
        """Do nothing: the weights load in this process when the first recording is decoded."""

    def decode(self, store: Store, requests: Sequence[DecodeRequest], progress: Progress) -> Iterator[Outcome]:
        """Implement `Transcriber.decode`.

        Raises:
            TranscriptionError: the store cannot be read.

        """
        if not requests:
            return
        queue = WorkQueue.of(store, requests, progress, self.owner)
        yield from queue.known
        groups = _jobs_of(store, queue, self.ffmpeg, self.engine.group_s)
        if not groups:
            return

        def report(group: Group, share: float) -> None:
            queue.tracker.working([shard_status.reference(job) for job in group], share)

        with StatusWriter(store, shard_status.path(uuid4().hex, 0), self.owner, keep=False) as status:
            for job, error in decode_windows(store, queue.requests, self.engine, groups, status, progress=report):
                window = shard_status.reference(job)
                yield from queue.fail(job.recording, error) if error else queue.finish(window)

    def close(self) -> None:
        """Do nothing: the engine belongs to this process."""


def _jobs_of(store: Store, queue: WorkQueue[DecodeRequest], ffmpeg: str, group_s: float) -> list[Group]:
    """Return the windows that are not decoded, in groups."""
    jobs = {
        shard_status.reference(job): job
        for key, request in queue.requests.items()
        for job in request.jobs(store, ffmpeg, queue.missing[key])
    }
    return [[jobs[window] for window in group] for group in queue.groups(group_s)]


def decode_windows(
    store: Store,
    requests: Mapping[str, DecodeRequest],
    engine: Engine,
    groups: Iterable[Group],
    status: StatusWriter,
    *,
    parallel: int = 0,
    progress: Callable[[Group, float], None] = lambda _group, _share: None,
) -> Iterator[tuple[WindowJob, Exception | None]]:
    """Decode the groups and write a checkpoint for each window; yield each window with its failure, None if done.

    The `status` says at any time what is being decoded; for `parallel` see `Engine.decode`.
    """
    requests = dict(requests)

    def begin(group: Group) -> None:
        windows = [shard_status.reference(job) for job in group]
        status.begin(windows, {job.recording: requests[job.recording].version for job in group})

    def watch(group: Group, share: float) -> None:
        status.progress(share)
        progress(group, share)

    for job, answer in recognition.decode_groups(engine, groups, begin, watch, parallel):
        error = answer if isinstance(answer, Exception) else None
        if not isinstance(answer, Exception):
            try:
                requests[job.recording].checkpoints(store).put((job.channel, job.number), answer)
            except Exception as failed:  # noqa: BLE001 -- an error of one recording must not stop the others
                error = failed
        if error is None:
            status.finish(shard_status.reference(job))
        else:
            status.fail(job.recording, error)
        yield job, error


def merged(store: Store, request: DecodeRequest, options: SpeechOptions) -> SpeechResult:
    """Return the result of a recording from its checkpoints.

    Raises:
        TransientFailure: a checkpoint is missing or was damaged (then it is deleted, so that the next run decodes it).
        TranscriptionError: the store refuses or does not answer.

    """
    checkpoints = request.checkpoints(store)
    channels = []
    for channel, plans in enumerate(request.plan.channels):
        windows = [(number, checkpoints.get((channel, number))) for number in range(len(plans))]
        if damaged := [number for number, window in windows if window is None]:
            for number in damaged:
                checkpoints.discard((channel, number))
            raise TransientFailure(f"{request.key}: a checkpoint of its decoded speech was damaged; try again")
        channels.append([window for _, window in windows if window is not None])
    return assembly.merge(channels, fixed_language=options.language)
