"""Recognition of recordings with any engine: plan their windows, group them, decode the groups, merge the results.

The functions are separate so that a plan can be made on one machine and its groups be decoded on others: the result of
a group does not depend on the other groups, so neither their order nor where they are decoded changes any word.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from transcription_assets.speech import assembly
from transcription_assets.speech.engine import AudioSource, Engine, Samples, SpeechResult, WindowTask
from transcription_assets.speech.windowing import plan_windows, read_window
from transcription_assets.speech.windows import DecodedWindow, PlannedWindow

Item = TypeVar("Item")
Result = TypeVar("Result")

ChannelPlans = Sequence[Sequence[PlannedWindow]]
"""The windows of each channel of a recording."""


@dataclass(frozen=True, slots=True)
class WindowJob:
    """A window to read and decode; `number` (from 0) counts the windows of its channel."""

    recording: str
    channel: int
    number: int
    plan: PlannedWindow
    source: AudioSource


Decoded = tuple[WindowJob, DecodedWindow | Exception]


def plan(source: AudioSource, window_s: float | None = None) -> ChannelPlans:
    """Read a recording to its end, and return its windows, of at most `window_s` seconds; see `plan_windows`.

    Raises:
        Exception: any exception of `source.read`.

    """
    return tuple(tuple(plan_windows(source.read(channel, 0.0), window_s)) for channel in range(source.channels))


def window_jobs(recording: str, source: AudioSource, plans: ChannelPlans) -> list[WindowJob]:
    """Return the windows of a recording, by channel and time."""
    return [
        WindowJob(recording, channel, number, window, source)
        for channel, windows in enumerate(plans)
        for number, window in enumerate(windows)
    ]


def grouped(items: Iterable[Item], length_of: Callable[[Item], float], group_s: float) -> list[list[Item]]:
    """Return groups of consecutive windows to decode together, each of at least `group_s` seconds except the last."""
    groups: list[list[Item]] = []
    length = group_s
    for item in items:
        if length >= group_s:
            groups.append([])
            length = 0.0
        groups[-1].append(item)
        length += length_of(item)
    return groups


def decode_groups(
    engine: Engine,
    groups: Iterable[Sequence[WindowJob]],
    begin: Callable[[Sequence[WindowJob]], None] = lambda _group: None,
    progress: Callable[[Sequence[WindowJob], float], None] = lambda _group, _share: None,
    parallel: int = 0,
) -> Iterator[Decoded]:
    """Yield each window with its result; a failure is yielded as an exception in its place.

    The next group is read in a background thread while one is decoded. `begin` is called before a group is decoded,
    `progress` with the share (0 to 1) of it that is done. After a recording failed, its later windows are left out.
    For `parallel` see `Engine.decode`.

    Raises:
        Exception: any exception of `begin`.

    """
    failed: set[str] = set()

    def read_group(group: Sequence[WindowJob]) -> list[tuple[WindowJob, Samples | Exception]]:
        return [(job, read(job)) for job in group if job.recording not in failed]

    for _, samples in _prefetched(read_group, groups):
        left = [(job, item) for job, item in samples if job.recording not in failed]
        for job, answer in _decode_group(engine, left, begin, progress, parallel):
            if isinstance(answer, Exception):
                failed.add(job.recording)
            yield job, answer
        del samples, left  # they must not outlive the group: the next two may be in memory already


def transcribe(engine: Engine, sources: Iterable[AudioSource]) -> list[SpeechResult | Exception]:
    """Return one result for each recording, in the same order; a failure is returned as an exception in its place.

    Everything happens in this process and nothing is stored; the pipeline decodes from stored plans into checkpoints.
    """
    answers: dict[str, SpeechResult | Exception] = {}
    plans: dict[str, ChannelPlans] = {}
    jobs: list[WindowJob] = []
    for number, source in enumerate(sources):
        name = str(number)
        answers[name] = RuntimeError("not decoded")
        try:
            plans[name] = plan(source)
        except Exception as error:  # noqa: BLE001 -- the error is the result of this recording
            answers[name] = error
            continue
        jobs += window_jobs(name, source, plans[name])
    done: dict[tuple[str, int], list[DecodedWindow]] = {}
    for job, answer in decode_groups(engine, grouped(jobs, lambda job: job.plan.length, engine.group_s)):
        if isinstance(answer, Exception):
            answers[job.recording] = answer
            plans.pop(job.recording, None)
        else:
            done.setdefault((job.recording, job.channel), []).append(answer)
    for name, channels in plans.items():
        windows = [done.get((name, channel), []) for channel in range(len(channels))]
        answers[name] = assembly.merge(windows, fixed_language=engine.options.language)
    return list(answers.values())


def transcribe_one(engine: Engine, source: AudioSource) -> SpeechResult:
    """Return the result of a single recording.

    Raises:
        Exception: the failure of the recording.

    """
    (answer,) = transcribe(engine, [source])
    if isinstance(answer, Exception):
        raise answer
    return answer


def _decode_group(
    engine: Engine,
    group: Sequence[tuple[WindowJob, Samples | Exception]],
    begin: Callable[[Sequence[WindowJob]], None],
    progress: Callable[[Sequence[WindowJob], float], None],
    parallel: int,
) -> Iterator[Decoded]:
    jobs = [job for job, samples in group if not isinstance(samples, Exception)]
    windows = [
        WindowTask(job.recording, job.plan, samples, job.source.vocabulary)
        for job, samples in group
        if not isinstance(samples, Exception)
    ]
    yield from ((job, samples) for job, samples in group if isinstance(samples, Exception))
    if not jobs:
        return
    begin(jobs)
    started = time.monotonic()
    answers = engine.decode(windows, lambda share: progress(jobs, share), parallel)
    seconds = time.monotonic() - started
    work = [1.0 + sum(region.length for region in job.plan.voiced) for job in jobs]
    for job, answer, share in zip(jobs, answers, work, strict=True):
        timed = replace(answer, wall_s=seconds * share / sum(work)) if isinstance(answer, DecodedWindow) else answer
        yield job, timed


def read(job: WindowJob) -> Samples | Exception:
    """Return the samples of a window; a failure is returned."""
    try:
        blocks = iter(job.source.read(job.channel, job.plan.start))
        try:
            return read_window(job.plan, blocks)
        finally:
            if (close := getattr(blocks, "close", None)) is not None:
                close()  # ends its ffmpeg
    except Exception as error:  # noqa: BLE001 -- the error is the result of this window
        return error


def _prefetched(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result; the next one is computed in a background thread, one at a time."""
    left = iter(items)
    with ThreadPoolExecutor(1) as pool:
        waiting = [(item, pool.submit(function, item)) for item in islice(left, 1)]
        while waiting:
            item, result = waiting.pop()
            found = result.result()
            waiting = [(later, pool.submit(function, later)) for later in islice(left, 1)]
            del result  # it holds the samples, which must not outlive their use
            yield item, found
            del found
