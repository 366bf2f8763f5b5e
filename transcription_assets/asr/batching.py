"""Decoding for many requests with one engine: windows of several recordings are decoded together.

Threads read windows ahead, one of each recording in turn, so that a long recording does not delay short ones. Whenever
the engine is free, it takes all windows that were read, up to the length that it decodes together. Nothing waits for
more requests: while the engine works, further windows become ready.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from transcription_assets.speech import DecodedWindow, Engine, Samples, SpeechOptions, WindowTask, recognition
from transcription_assets.speech.recognition import WindowJob

READERS = 2
"""Threads that read windows: each waits for an ffmpeg most of the time."""
AHEAD_GROUPS = 2
"""Windows are read ahead until they fill so many groups of the engine."""

MOST_FAILURES = 5
"""Groups that fail one after another before the engine counts as broken."""

Deliver = Callable[[WindowJob, DecodedWindow | Exception], None]
Observe = Callable[[int, float, float], None]
"""Called after each group with its number of windows, seconds of audio, and seconds of decoding."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class RecordingWork:
    """The windows of one recording that are to be decoded with the same options.

    `deliver` is called with each window and its result, from a thread, in any order. After a failure or `cancel`,
    windows that are not decoded are dropped.
    """

    jobs: Iterable[WindowJob]
    options: SpeechOptions
    deliver: Deliver
    cancelled: bool = False
    waiting: deque[WindowJob] = field(init=False)

    def __post_init__(self) -> None:
        """Queue all windows."""
        self.waiting = deque(self.jobs)


@dataclass(frozen=True, slots=True)
class _Ready:
    work: RecordingWork
    job: WindowJob
    samples: Samples


def _unobserved(_windows: int, _audio_s: float, _decoding_s: float) -> None:
    """Ignore a group."""


class Batcher:
    """Decodes the windows of all submitted recordings with `engine`, in threads that end with `close`."""

    def __init__(self, engine: Engine, observe: Observe = _unobserved) -> None:
        self._engine = engine
        self._engines: dict[SpeechOptions, Engine] = {engine.options: engine}
        self._observe = observe
        self._changed = threading.Condition()
        self._works: deque[RecordingWork] = deque()
        self._ready: deque[_Ready] = deque()
        self._ahead_s = 0.0
        self._closed = False
        self._failures = 0
        threads = [threading.Thread(target=self._read, name=f"asr reader {number}") for number in range(READERS)]
        self._threads = [*threads, threading.Thread(target=self._decode, name="asr decoder")]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    @property
    def options(self) -> SpeechOptions:
        """Options of the engine, which those of a recording replace in part."""
        return self._engine.options

    def engine_of(self, options: SpeechOptions) -> Engine:
        """Return the engine with other options.

        Raises:
            Exception: the model does not support the options (PermanentFailure).

        """
        if options not in self._engines:
            self._engines[options] = self._engine.with_options(options)
        return self._engines[options]

    def submit(self, work: RecordingWork) -> None:
        """Queue the windows of a recording."""
        with self._changed:
            self._works.append(work)
            self._changed.notify_all()

    def cancel(self, work: RecordingWork) -> None:
        """Drop the windows of a recording that are not being decoded; nothing more is delivered of them."""
        with self._changed:
            self._drop(work)
            self._changed.notify_all()

    @property
    def problem(self) -> str:
        """Reason why nothing is decoded, "" if there is none."""
        if not self._closed and not all(thread.is_alive() for thread in self._threads):
            return "a thread of the engine ended"
        if self._failures >= MOST_FAILURES:
            return f"the engine failed {self._failures} times in a row"
        return ""

    @property
    def has_ended(self) -> bool:
        """True once no thread works."""
        return not any(thread.is_alive() for thread in self._threads)

    def close(self, limit_s: float = float("inf")) -> None:
        """End the threads within `limit_s`; the group that is being decoded is finished first, the rest is dropped."""
        until = time.monotonic() + min(limit_s, threading.TIMEOUT_MAX)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))

    def _drop(self, work: RecordingWork) -> None:
        work.cancelled = True
        work.waiting.clear()
        self._works = deque(each for each in self._works if each is not work)
        kept = [item for item in self._ready if item.work is not work]
        self._ahead_s -= sum(item.job.plan.length for item in self._ready if item.work is work)
        self._ready = deque(kept)

    def _read(self) -> None:
        while (taken := self._next_to_read()) is not None:
            work, job = taken
            samples = recognition.read(job)
            with self._changed:
                if work.cancelled or isinstance(samples, Exception):
                    self._ahead_s -= job.plan.length
                else:
                    self._ready.append(_Ready(work, job, samples))
                self._changed.notify_all()
            if isinstance(samples, Exception):
                self._deliver(work, job, samples)
            del samples

    def _next_to_read(self) -> tuple[RecordingWork, WindowJob] | None:
        """Wait for a window of the next recording in turn; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._works and self._has_room))
            if self._closed:
                return None
            work = self._works.popleft()
            job = work.waiting.popleft()
            if work.waiting:
                self._works.append(work)
            self._ahead_s += job.plan.length
            return work, job

    @property
    def _has_room(self) -> bool:
        return self._ahead_s < AHEAD_GROUPS * self._engine.group_s

    def _decode(self) -> None:
        while (group := self._next_group()) is not None:
            answers = self._decoded(group)
            for item, answer in zip(group, answers, strict=True):
                self._deliver(item.work, item.job, answer)
            del group, answers  # the samples must not outlive their use

    def _next_group(self) -> list[_Ready] | None:
        """Wait for windows, and take those with the same options as the first; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ready)
            if self._closed:
                return None
            options = self._ready[0].work.options
            group: list[_Ready] = []
            kept: deque[_Ready] = deque()
            length = 0.0
            for item in self._ready:
                if item.work.options == options and length < self._engine.group_s:
                    group.append(item)
                    length += item.job.plan.length
                else:
                    kept.append(item)
            self._ready = kept
            self._ahead_s -= length
            self._changed.notify_all()
            return group

    def _decoded(self, group: Sequence[_Ready]) -> Sequence[DecodedWindow | Exception]:
        windows = [
            WindowTask(f"{id(item.work)}", item.job.plan, item.samples, item.job.source.vocabulary) for item in group
        ]
        started = time.monotonic()
        try:
            answers = self.engine_of(group[0].work.options).decode(windows)
            answers = [answer for _, answer in zip(group, answers, strict=True)]
            audio_s = sum(item.job.plan.length for item in group)
            self._observe(len(group), audio_s, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001 -- the failure of a group is the result of its windows
            answers = [error] * len(group)
        self._failures = self._failures + 1 if all(isinstance(each, Exception) for each in answers) else 0
        return answers

    def _deliver(self, work: RecordingWork, job: WindowJob, answer: DecodedWindow | Exception) -> None:
        if work.cancelled:
            return
        if isinstance(answer, Exception):
            with self._changed:
                self._drop(work)
        try:
            work.deliver(job, answer)
        except Exception:
            log.exception("a result was not delivered")
