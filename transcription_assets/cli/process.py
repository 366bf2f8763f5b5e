"""Process everything in the inbox without a UI: the same steps as the assets, one group of recordings after another."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from transcription_assets.costs.usage import UsageRecorder
from transcription_assets.domain import inbox_diff
from transcription_assets.errors import TranscriptionError
from transcription_assets.pipeline import (
    audio,
    embeddings,
    failure_notes,
    identification,
    move_done,
    search_index,
    slides,
    speakers,
    transcript,
    usage_journal,
    video,
)
from transcription_assets.pipeline.embeddings import Embeddings
from transcription_assets.wiring import Services
from transcription_assets.worker_wiring import SpeechSettings
from transcription_assets.workers.recordings import WorkerBatch

PUBLISH_EVERY = 20
"""Recordings between two commits to the search table: a commit for each would leave many small fragments."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """Content of the inbox: complete recordings, those still being copied, and the number of other files."""

    ready: Sequence[str]
    growing: Sequence[str]
    ignored: int


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of one recording: its current step, and the seconds of it that this step has processed."""

    key: str
    name: str
    done_s: float = 0.0
    total_s: float | None = None


@dataclass(slots=True)
class Report:
    """Outcome so far; `failed` maps media keys to reasons, `incomplete` those that are done but seem to be a part."""

    done: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    incomplete: dict[str, str] = field(default_factory=dict)
    audio_s: float = 0.0
    usage: UsageRecorder = field(default_factory=UsageRecorder)


Progress = Callable[[Step], None]


def look(tools: Services, media_keys: Sequence[str] = ()) -> Inbox:
    """List the inbox; if recordings are still being copied, wait once for `settle_s` and list it again.

    If media keys are given, they are taken as they are, and the inbox is not listed.

    Raises:
        TranscriptionError: the store cannot be listed.

    """
    if media_keys:
        return Inbox(ready=media_keys, growing=(), ignored=0)
    ready, growing, ignored = _listed(tools)
    if growing:
        time.sleep(tools.settings.settle_s)
        ready, growing, ignored = _listed(tools)
    return Inbox(ready, growing, ignored)


def _listed(tools: Services) -> tuple[list[str], list[str], int]:
    listing = tools.store.list_media()
    settle_s = tools.settings.settle_s if tools.store.is_local else 0.0
    ready, growing = inbox_diff.split_settled(listing.frame, datetime.now(UTC), settle_s)
    return ready["key"].to_list(), growing["key"].to_list(), listing.ignored


def process(tools: Services, media_keys: Sequence[str], progress: Progress, report: Report) -> Iterator[None]:
    """Run all steps for each recording, yield after each, and keep `report` up to date.

    A recording that fails does not stop the others. Each step runs for a group of recordings, so that short ones are
    transcribed together.

    Raises:
        TranscriptionError: the failure concerns all recordings, such as missing weights or a full disk.

    """
    report.usage = UsageRecorder({"transcript": SpeechSettings.of(tools.settings).local_gpus})
    try:
        for start in range(0, len(media_keys), PUBLISH_EVERY):
            yield from _process_group(tools, media_keys[start : start + PUBLISH_EVERY], progress, report)
            usage_journal.add(tools.store, report.usage.take())
    finally:
        usage_journal.add(tools.store, report.usage.take())
    if report.done:
        search_index.materialise(tools.table)
    usage_journal.compact(tools.store)


def _process_group(tools: Services, group: Sequence[str], progress: Progress, report: Report) -> Iterator[None]:
    waiting: list[Embeddings] = []
    ready: Iterable[tuple[str, bool]] = _transcribed(tools, group, progress, report)
    if tools.settings.embeddings_launcher != "in_process":
        # Workers get all of them at once; what they encode is new.
        reused_before = dict(ready)
        encoded = _encode_in_workers(tools, list(reused_before), progress, report)
        ready = [(key, reused and key not in encoded) for key, reused in reused_before.items()]
    for key, reused in ready:
        if key not in report.failed:
            with _noted(key, report):
                waiting.append(_embedded(tools, key, progress, report, reused=reused))
        yield
    if waiting:
        with report.usage.measured("embeddings"):
            _publish(tools, waiting, report)
    yield


@contextmanager
def _noted(key: str, report: Report) -> Iterator[None]:
    """Turn an error into the recording's entry in the report."""
    try:
        yield
    except TranscriptionError as error:
        report.failed[key] = str(error)
    except Exception as error:  # noqa: BLE001 -- a bug that one file triggers must not stop the others
        report.failed[key] = f"{key}: {type(error).__name__}: {error}"


def _transcribed(
    tools: Services, group: Sequence[str], progress: Progress, report: Report
) -> Iterator[tuple[str, bool]]:
    """Yield the recordings with a transcript, and whether it was there before."""
    lengths: dict[str, float] = {}
    for key, delegated in _probed(tools, group, progress, report):
        with _noted(key, report):
            lengths[key] = _extracted(tools, key, report, delegated)
    watch: Callable[[str, float], None] = lambda key, done_s: progress(Step(key, "transcript", done_s, lengths[key]))  # noqa: E731
    usage = report.usage
    with failure_notes.recording_failures(tools.store, list(lengths), "transcript"), usage.measured("transcript"):
        made = transcript.materialise_each(tools.store, list(lengths), tools.transcript_tools, watch) if lengths else ()
    # Workers get no new shard while a result is used, and the optional steps take long.
    optional = tools.settings.finds_voices or tools.settings.slides
    answers = usage.each("transcript", made, _is_reused)
    try:
        for key, answer in list(answers) if optional else answers:
            with _noted(key, report):
                if isinstance(answer, Exception):
                    usage.failed("transcript", answer)
                    raise answer
                _, reused = answer
                report.audio_s += 0.0 if reused else lengths[key]
                if not _is_reused((key, answer)):
                    usage.finished("transcript", lengths[key])
                if tools.settings.finds_voices:
                    _with_speakers(tools, key, progress, lengths[key], report)
                if tools.settings.slides:
                    _with_slides(tools, key, progress, lengths[key], report)
            if key not in report.failed:
                yield key, reused
    finally:
        if lengths:
            usage.workers("transcript", tools.transcript_tools.speech.use)


def _is_reused(answer: transcript.Answer) -> bool:
    """Return whether the transcript existed already, or is that of another recording with the same audio."""
    _, result = answer
    return not isinstance(result, Exception) and (result[1] or bool(result[0].reused_from))


def _with_speakers(tools: Services, key: str, progress: Progress, length: float, report: Report) -> None:
    """Find the speakers of a recording, and give them to its words."""
    progress(Step(key, "speakers", 0.0, length))
    with report.usage.measured("speakers"):
        with failure_notes.recording_failures(tools.store, [key], "speakers"):
            found = tools.speaker_tools
        watch: Callable[[float], None] = lambda done_s: progress(Step(key, "speakers", done_s, length))  # noqa: E731
        made = speakers.materialise(tools.store, key, found, watch)
        identification.apply(tools.store, tools.voiceprints, key)
    if made.reused:
        report.usage.reused("speakers")
    else:
        report.usage.finished("speakers", length)


def _with_slides(tools: Services, key: str, progress: Progress, length: float, report: Report) -> None:
    """Find the slides of a recording; without them it is incomplete, and not failed."""
    progress(Step(key, "slides", 0.0, length))
    watch: Callable[[float], None] = lambda done_s: progress(Step(key, "slides", done_s, length))  # noqa: E731
    try:
        with report.usage.measured("slides"):
            found = slides.materialise(tools.store, key, tools.slide_tools, watch)
    except TranscriptionError as error:
        report.incomplete.setdefault(key, f"its slides were not read: {error}")
    else:
        if found.reused:
            report.usage.reused("slides")
        else:
            report.usage.finished("slides", length)
        if found.problem:
            report.incomplete.setdefault(key, found.problem)


def _probed(
    tools: Services, group: Sequence[str], progress: Progress, report: Report
) -> Iterator[tuple[str, WorkerBatch]]:
    """Probe the recordings, and yield those that can be played, with the work that workers do on them."""
    lengths: dict[str, float | None] = {}
    for key in group:
        progress(Step(key, "video"))
        with _noted(key, report):
            with report.usage.measured("video"):
                made = video.materialise(tools.store, key, tools.decoder)
            lengths[key] = made.probe.duration
            if made.reused:
                report.usage.reused("video")
            else:
                report.usage.finished("video", made.probe.duration or 0.0)
    watch: Callable[[str, float], None] = lambda key, done_s: progress(Step(key, "audio", done_s, lengths[key]))  # noqa: E731
    with failure_notes.recording_failures(tools.store, list(lengths), "audio"), report.usage.measured("audio"):
        delegated = tools.audio_workers.begin(
            tools.store, list(lengths), lambda key: audio.pending(tools.store, key, tools.decoder), watch
        )
    try:
        with delegated:
            for key, length in lengths.items():
                progress(Step(key, "audio", 0.0, length))
                yield key, delegated
            with report.usage.measured("audio"):
                delegated.end()
    finally:
        report.usage.workers("audio", tools.audio_workers.use)


def _extracted(tools: Services, key: str, report: Report, delegated: WorkerBatch) -> float:
    with report.usage.measured("audio"):
        is_new = delegated.finish(key)
        made = audio.materialise(tools.store, key, tools.decoder)
    if is_new or not made.reused:
        report.usage.finished("audio", made.duration)
        with suppress(TranscriptionError):  # `transcript` raises the same again
            tools.transcript_tools.speech.prepare(tools.store)
    else:
        report.usage.reused("audio")
    if made.shortfall:
        report.incomplete[key] = made.shortfall
    return made.duration


def _encode_in_workers(tools: Services, keys: Sequence[str], progress: Progress, report: Report) -> set[str]:
    """Have workers encode the recordings, and return those that they did; the failures are in the report."""
    if not keys:
        return set()
    with failure_notes.recording_failures(tools.store, keys, "embeddings"), report.usage.measured("embeddings"):
        delegated = tools.embeddings_workers.begin(
            tools.store,
            keys,
            lambda key: embeddings.pending(tools.store, key, tools.encoder, tools.passage_options),
            lambda key, done_s: progress(Step(key, "embeddings", done_s)),
        )
    encoded: set[str] = set()
    try:
        with delegated:
            for key in keys:
                progress(Step(key, "embeddings"))
                with _noted(key, report), report.usage.measured("embeddings"):
                    if delegated.finish(key):
                        encoded.add(key)
            with report.usage.measured("embeddings"):
                delegated.end()
    finally:
        report.usage.workers("embeddings", tools.embeddings_workers.use)
    return encoded


def _embedded(tools: Services, key: str, progress: Progress, report: Report, *, reused: bool) -> Embeddings:
    progress(Step(key, "embeddings"))
    with report.usage.measured("embeddings"):
        with failure_notes.recording_failures(tools.store, [key], "embeddings"):
            encoder = tools.encoder
        made = embeddings.materialise(tools.store, key, encoder, tools.passage_options)
    if reused and made.reused:
        report.usage.reused("embeddings")
    else:
        report.usage.finished("embeddings", 0.0)
    (report.reused if reused and made.reused else report.done).append(key)
    return made


def _publish(tools: Services, waiting: Sequence[Embeddings], report: Report) -> None:
    try:
        if tools.settings.finds_voices:
            identification.publish(tools.store, tools.voiceprints, [item.key for item in waiting])
        embeddings.publish(tools.store, tools.table, waiting)
        unfinished = move_done.move(tools.store, tools.table, waiting) if tools.settings.done_prefix else {}
    except TranscriptionError as error:
        unfinished = dict.fromkeys((item.key for item in waiting), error)
    report.failed |= {key: str(error) for key, error in unfinished.items()}
    report.done = [key for key in report.done if key not in report.failed]
    report.reused = [key for key in report.reused if key not in report.failed]
