"""Decoding of recordings into checkpoints: what is to be decoded (requests), and the protocol of what decodes it.

A transcriber gets all requests of a batch at once. It decodes the windows that have no checkpoint, writes their
checkpoints, and reports each recording when its last one is written. `InProcessTranscriber` does it here; the workers
run the same `decode_windows` elsewhere.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from transcription_assets.domain.transcript import SpeechModel
from transcription_assets.errors import TransientFailure
from transcription_assets.pipeline import quarantine, shard_status, window_plan
from transcription_assets.pipeline.checkpoints import Checkpoints, WindowId
from transcription_assets.pipeline.shard_status import StatusWriter
from transcription_assets.pipeline.window_plan import WindowPlan
from transcription_assets.speech import Engine, SpeechOptions, SpeechResult, assembly, recognition
from transcription_assets.speech.recognition import WindowJob
from transcription_assets.storage import Store

Progress = Callable[[str, float], None]
"""Function that is called with a media key and the seconds of the recording that are decoded."""
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
    def windows(self) -> set[WindowId]:
        """All windows of the recording."""
        return {(channel, number) for channel, plans in enumerate(self.plan.channels) for number in range(len(plans))}

    def missing(self, store: Store) -> set[WindowId]:
        """Return the windows that have no checkpoint.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        return self.windows - self.checkpoints(store).present()

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

    def prepare(self, _store: Store) -> None:
        """Do nothing: the weights load in this process when the first recording is decoded."""

    def decode(self, store: Store, requests: Sequence[DecodeRequest], progress: Progress) -> Iterator[Outcome]:
        """Implement `Transcriber.decode`.

        Raises:
            TranscriptionError: the store cannot be read.

        """
        if not requests:
            return
        backlog = Backlog.of(store, requests, progress, self.owner)
        yield from backlog.known
        groups = backlog.groups(self.ffmpeg, self.engine.group_s)
        if not groups:
            return
        with StatusWriter(store, shard_status.path(uuid4().hex, 0), self.owner, keep=False) as status:
            decoding, report = backlog.requests, backlog.tracker.decoding
            for job, error in decode_windows(store, decoding, self.engine, groups, status, progress=report):
                yield from backlog.fail(job.recording, error) if error else backlog.finish(job)

    def close(self) -> None:
        """Do nothing: the engine belongs to this process."""


class Backlog:
    """The requests of a batch whose outcome is not known yet.

    `requests` are by media key, `missing` are their windows without a checkpoint. `suspects` are those that a process
    died of. `known` are the outcomes that were known from the beginning.
    """

    def __init__(self, store: Store, requests: Sequence[DecodeRequest], progress: Progress) -> None:
        self._store = store
        self.tracker = ProgressTracker(progress)
        self.requests = {request.key: request for request in requests}
        self.missing: dict[str, set[WindowId]] = {}
        self.suspects: set[str] = set()
        self.known: list[Outcome] = []

    @classmethod
    def of(cls, store: Store, requests: Sequence[DecodeRequest], progress: Progress, owner: str) -> "Backlog":
        """Return the backlog; processes that died earlier are taken into account.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        quarantine.recover(store, owner)
        backlog = cls(store, requests, progress)
        backlog.known = backlog.isolate()
        for key, request in list(backlog.requests.items()):
            missing = backlog.missing[key] = request.missing(store)
            backlog.tracker.begin(request, missing)
            if not missing:
                backlog.known += backlog._drop(key, None)
        return backlog

    def isolate(self) -> list[Outcome]:
        """Read which recordings a process died of; return the failures of those that must not be tried again.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        versions = {key: request.version for key, request in self.requests.items()}
        deaths = quarantine.load(self._store, versions) if versions else {}
        self.suspects = set(deaths)
        final = {key: item.error(key) for key, item in deaths.items() if item.is_final}
        return [outcome for key, error in final.items() for outcome in self._drop(key, error)]

    def groups(self, ffmpeg: str, group_s: float) -> list[list[WindowJob]]:
        """Return the windows to decode in groups; each recording that a process died of is alone, after all others."""
        alone = [[job] for key in self.missing if key in self.suspects for job in self._jobs(key, ffmpeg)]
        return self.pooled_groups(ffmpeg, group_s) + alone

    def pooled_groups(self, ffmpeg: str, group_s: float) -> list[list[WindowJob]]:
        """Return the windows of the recordings that no process died of, in groups."""
        pooled = [job for key in self.missing if key not in self.suspects for job in self._jobs(key, ffmpeg)]
        return recognition.grouped(pooled, group_s)

    def suspect_groups(self, ffmpeg: str) -> list[list[WindowJob]]:
        """Return the windows of the first recording that a process died of, each in a group of its own."""
        first = next((key for key in self.missing if key in self.suspects), None)
        return [[job] for job in self._jobs(first, ffmpeg)] if first else []

    def _jobs(self, key: str, ffmpeg: str) -> list[WindowJob]:
        return self.requests[key].jobs(self._store, ffmpeg, self.missing[key])

    def finish(self, job: WindowJob) -> list[Outcome]:
        """Note a window as decoded; return the outcome of its recording if that was the last one.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        key = job.recording
        if key not in self.requests:
            return []
        if key in self.suspects:
            quarantine.lift(self._store, key)
        self.missing[key].discard((job.channel, job.number))
        self.tracker.finish(job)
        return [] if self.missing[key] else self._drop(key, None)

    def fail(self, key: str, error: Exception) -> list[Outcome]:
        """Note the failure of a recording; return its outcome, unless it was known before."""
        return self._drop(key, error)

    def _drop(self, key: str, error: Exception | None) -> list[Outcome]:
        self.missing.pop(key, None)
        request = self.requests.pop(key, None)
        return [(request, error)] if request else []


class ProgressTracker:
    """Decoded seconds of each recording: the mean over its channels, which never decreases."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._channels: dict[str, int] = {}
        self._done_s: dict[str, float] = defaultdict(float)
        self._reported_s: dict[str, float] = defaultdict(float)

    def begin(self, request: DecodeRequest, missing: set[WindowId]) -> None:
        """Count the windows of a recording that are decoded already."""
        channels = request.plan.channels
        self._channels[request.key] = len(channels)
        lengths = (channels[channel][number].length for channel, number in request.windows - missing)
        self._done_s[request.key] = sum(lengths) / max(1, len(channels))

    def decoding(self, group: Group, share: float) -> None:
        """Report the seconds done of the recordings in a group, of which this share is decoded."""
        partly: dict[str, float] = defaultdict(float)
        for job in group:
            partly[job.recording] += share * self._seconds(job)
        for key, seconds in partly.items():
            self._tell(key, self._done_s[key] + seconds)

    def finish(self, job: WindowJob) -> None:
        """Count a window as decoded."""
        self._done_s[job.recording] += self._seconds(job)
        self._tell(job.recording, self._done_s[job.recording])

    def _tell(self, key: str, seconds: float) -> None:
        self._reported_s[key] = max(self._reported_s[key], seconds)
        self._report(key, self._reported_s[key])

    def _seconds(self, job: WindowJob) -> float:
        return job.plan.length / self._channels[job.recording]


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
        status.begin(group, {job.recording: requests[job.recording].version for job in group})

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
