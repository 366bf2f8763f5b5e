"""Batches for the decoder: the chunks of the windows that are decoded together, sorted by length."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from transcription_assets.domain import chunking
from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment
from transcription_assets.speech import alignment, assembly, fallback, languages
from transcription_assets.speech.decoder import Chunk
from transcription_assets.speech.engine import SAMPLE_RATE, WindowTask
from transcription_assets.speech.languages import Probabilities
from transcription_assets.speech.windows import DecodedWindow

SHORT_CHUNK_S = 6.0
"""The language of a shorter chunk cannot be detected reliably: it is chosen from those of longer chunks."""


@dataclass(slots=True)
class WindowState:
    """A window that is decoded; `votes` (voiced seconds by language) are shared by the windows of its recording."""

    task: WindowTask
    votes: dict[str, float] = field(default_factory=dict)

    def finished(
        self, segments: Iterable[Segment], votes: Mapping[str, float], more: Iterable[Region] = ()
    ) -> DecodedWindow:
        """Return the result of the window. All times count from its start; `more` are regions that VAD left out."""
        plan = self.task.plan
        voiced = sorted([*plan.voiced, *more], key=lambda region: region.start)
        timed = alignment.aligned(segments, self.task.samples, voiced)
        return assembly.window(plan.start, plan.end, timed, voiced, votes)


@dataclass(slots=True)
class ChunkTask:
    """A chunk of a window; decoding fills `answer` (times from the chunk's start), `votes` and `told`.

    `alone` is whether its language is detected from the chunk itself. `votes` are voiced seconds by language.
    """

    work: WindowState
    region: Region
    chunk: Chunk
    alone: bool
    votes: dict[str, float] = field(default_factory=dict)
    answer: list[Segment] = field(default_factory=list)
    told: Probabilities = ()
    """Languages detected in the chunk, with probabilities."""
    unexplained: bool = False
    """True if VAD found no speech in it."""


def states(windows: Sequence[WindowTask]) -> list[WindowState]:
    """Return new states of the windows, in the same order; those of one recording share their votes."""
    votes: dict[str, dict[str, float]] = {}
    return [WindowState(task, votes.setdefault(task.recording, {})) for task in windows]


def chunk_tasks(work: WindowState) -> list[ChunkTask]:
    """Return the chunks of a window; if all are short, the longest ones are `alone`."""
    packed = chunking.pack(work.task.plan.voiced)
    longest = max((item.length for item in packed), default=0.0)
    needed = min(SHORT_CHUNK_S, longest)
    return [
        ChunkTask(work, region, _chunk(work, region, work.task.plan.voiced), alone=bool(region.length >= needed))
        for region in packed
    ]


def unexplained_tasks(work: WindowState, answered: Iterable[ChunkTask]) -> list[ChunkTask]:
    """Return chunks of active regions that VAD left out, see `vad.unexplained`.

    Regions that have words from a chunk that spans them are not decoded again.
    """
    spans = [
        Region(word.start + job.region.start, word.end + job.region.start)
        for job in answered
        if job.work is work
        for segment in job.answer
        for word in segment.words
    ]
    left = chunking.uncovered(work.task.plan.unexplained, chunking.merge_regions(spans, 0.0))
    packed = chunking.pack([region for region in left if region.length > chunking.LONGEST_WORDLESS_S], pause_s=0.0)
    return [ChunkTask(work, region, _amplified(_chunk(work, region, (region,))), alone=False) for region in packed]


def even_size(jobs: int, most: int, workers: int) -> int:
    """Return a batch size, at most `most`, that gives all workers equal work: 10 for 20 chunks and two workers."""
    rounds = max(1, math.ceil(jobs / (most * workers)))
    return max(1, math.ceil(jobs / (rounds * workers)))


def batches(jobs: Iterable[ChunkTask], size: int) -> Iterator[list[ChunkTask]]:
    """Yield batches of chunks of similar length and the same vocabulary, the longest of each vocabulary first."""
    ordered = sorted(jobs, key=lambda job: (job.chunk.vocabulary, -job.chunk.length))
    batch: list[ChunkTask] = []
    for job in ordered:
        if batch and (len(batch) == size or batch[0].chunk.vocabulary != job.chunk.vocabulary):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def finished(work: WindowState, jobs: Iterable[ChunkTask]) -> DecodedWindow:
    """Return the result of a window from its chunks; `jobs` may have those of other windows, too."""
    own = [job for job in jobs if job.work is work]
    votes: dict[str, float] = {}
    for job in own:
        languages.count(votes, job.votes)
    segments = [fallback.shifted(item, job.region.start) for job in own for item in job.answer]
    return work.finished(segments, votes, [job.region for job in own if job.unexplained])


class Progress:
    """Share of the voiced seconds of the windows that are decoded; thread-safe."""

    def __init__(self, windows: Sequence[WindowTask], report: Callable[[float], None]) -> None:
        self._total = sum(region.length for window in windows for region in window.plan.voiced)
        self._report = report
        self._done = 0.0
        self._lock = threading.Lock()

    def add(self, batch: Sequence[ChunkTask]) -> None:
        """Report the share after this batch; chunks that are decoded again do not raise it above 1."""
        with self._lock:
            self._done += sum(job.chunk.voiced_s for job in batch)
            self._report(min(1.0, self._done / self._total) if self._total else 1.0)


def _chunk(work: WindowState, region: Region, voiced: Iterable[Region]) -> Chunk:
    samples = work.task.samples[int(region.start * SAMPLE_RATE) : int(region.end * SAMPLE_RATE)]
    return Chunk(samples, tuple(chunking.clip_regions(voiced, region)), work.task.vocabulary)


def _amplified(chunk: Chunk) -> Chunk:
    """Return the chunk with its peak at half of full scale: Whisper's features cut off levels below -100 dB."""
    peak = float(abs(chunk.samples).max(initial=0.0))
    return replace(chunk, samples=chunk.samples * np.float32(0.5 / peak)) if peak else chunk
