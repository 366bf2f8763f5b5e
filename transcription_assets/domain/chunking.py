"""Cutting of audio into windows that fit in memory and chunks that fit in Whisper's 30 seconds. All times in seconds.

A *region* is an interval of voice activity; regions are ordered and do not overlap.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from transcription_assets.domain.transcript import Span, Speech, Word

CHUNK_S = 30.0
LONGEST_PAUSE_S = 3.0
LONGEST_WORDLESS_S = 2.0
"""Longest stretch of voice activity without words that is not a gap: a breath, a cough, a laugh."""
DISPLAY_PAUSE_S = 0.5
"""Longest pause that separates neither voice activity nor gaps in the transcript."""


@dataclass(frozen=True, slots=True)
class Region:
    """A half-open interval [start, end) in seconds."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """Duration in seconds."""
        return self.end - self.start


def pack(regions: Sequence[Region], longest_s: float = CHUNK_S, pause_s: float = LONGEST_PAUSE_S) -> list[Region]:
    """Join neighbouring regions into chunks of at most `longest_s`, without pauses longer than `pause_s`.

    Every region is inside exactly one chunk, except one longer than `longest_s`, which is cut into equal parts.
    Chunks contain no long pauses because these cause hallucinations.
    """
    chunks: list[Region] = []
    for region in _shortened(regions, longest_s):
        last = chunks[-1] if chunks else None
        if last and region.end - last.start <= longest_s and region.start - last.end <= pause_s:
            chunks[-1] = Region(last.start, region.end)
        else:
            chunks.append(region)
    return chunks


def _shortened(regions: Iterable[Region], longest_s: float) -> Iterable[Region]:
    for region in regions:
        parts = max(1, -int(-region.length // longest_s))
        step = region.length / parts
        for part in range(parts):
            end = region.end if part == parts - 1 else region.start + (part + 1) * step
            yield Region(region.start + part * step, end)


def cut(regions: Sequence[Region], length_s: float, earliest_s: float) -> float:
    """Return where a window of `length_s` seconds ends: the middle of its last pause after `earliest_s`.

    Without such a pause it is the end of the window, where at most one word is cut.
    """
    edges = [(left.end, right.start) for left, right in pairwise(regions)]
    if not regions:
        return length_s
    edges.append((regions[-1].end, length_s))
    pauses = [(end + start) / 2 for end, start in edges if start > end and (end + start) / 2 >= earliest_s]
    return pauses[-1] if pauses else length_s


def coverage(regions: Sequence[Region], words: Sequence[Word], tolerance_s: float = 0.5) -> Speech:
    """Measure how much of the voice activity has words, each extended by `tolerance_s` on both sides, as for breaths.

    The result also has the gaps, and the words at least `tolerance_s` away from any region (hallucinations).
    """
    spoken = _union(Region(word.start - tolerance_s, word.end + tolerance_s) for word in words)
    voiced = sum(region.length for region in regions)
    missing = sum(gap.length for gap in uncovered(regions, spoken))
    gaps = _gaps(regions, words)
    audible = _union(Region(region.start - tolerance_s, region.end + tolerance_s) for region in regions)
    strange = [word for word in words if _is_apart(word, audible)]
    return Speech(
        vad_seconds=round(voiced, 3),
        covered_seconds=round(voiced - missing, 3),
        largest_gap=round(max((gap.length for gap in gaps), default=0.0), 3),
        gaps=_spans(gap for gap in gaps if gap.length > LONGEST_WORDLESS_S),
        hallucinations=_spans(_union(Region(word.start, max(word.end, word.start + 0.001)) for word in strange)),
        voiced=_spans(merge_regions(regions, DISPLAY_PAUSE_S)),
    )


def find_gaps(regions: Sequence[Region], words: Sequence[Word]) -> list[Region]:
    """Return the gaps: over LONGEST_WORDLESS_S of voice activity without words; a short pause does not split a gap."""
    return [gap for gap in _gaps(regions, words) if gap.length > LONGEST_WORDLESS_S]


def _gaps(regions: Sequence[Region], words: Sequence[Word]) -> list[Region]:
    """Return all voice activity without words, measured from word to word, without tolerance."""
    return uncovered(merge_regions(regions, DISPLAY_PAUSE_S), _union(Region(word.start, word.end) for word in words))


def merge_regions(regions: Iterable[Region], pause_s: float) -> list[Region]:
    """Merge regions with no more than `pause_s` between them; the result is ordered."""
    merged: list[Region] = []
    for region in sorted(regions, key=lambda item: item.start):
        if merged and region.start - merged[-1].end <= pause_s:
            merged[-1] = Region(merged[-1].start, max(merged[-1].end, region.end))
        else:
            merged.append(region)
    return merged


def clip_regions(regions: Iterable[Region], span: Region) -> list[Region]:
    """Return the parts of the regions inside `span`, with times relative to its start."""
    cut = [Region(max(item.start, span.start) - span.start, min(item.end, span.end) - span.start) for item in regions]
    return [item for item in cut if item.length > 0]


def uncovered(regions: Sequence[Region], spoken: Sequence[Region]) -> list[Region]:
    """Return the parts of `regions` outside `spoken`; both must be ordered and without overlaps."""
    gaps: list[Region] = []
    first = 0
    for region in regions:
        while first < len(spoken) and spoken[first].end <= region.start:
            first += 1
        gaps += _uncovered(region, spoken, first)
    return gaps


def _spans(regions: Iterable[Region]) -> tuple[Span, ...]:
    return tuple((round(region.start, 3), round(region.end, 3)) for region in regions)


def _is_apart(word: Word, audible: Sequence[Region]) -> bool:
    at = bisect_right(audible, word.start, key=lambda item: item.start)
    before = audible[at - 1].end if at else float("-inf")
    after = audible[at].start if at < len(audible) else float("inf")
    return word.start >= before and word.end <= after


def _union(spans: Iterable[Region]) -> list[Region]:
    return merge_regions(spans, 0.0)


def _uncovered(region: Region, spoken: Sequence[Region], first: int) -> list[Region]:
    gaps: list[Region] = []
    clock = region.start
    for index in range(first, len(spoken)):
        span = spoken[index]
        if span.start >= region.end:
            break
        if span.start > clock:
            gaps.append(Region(clock, span.start))
        clock = max(clock, span.end)
    if clock < region.end:
        gaps.append(Region(clock, region.end))
    return gaps
