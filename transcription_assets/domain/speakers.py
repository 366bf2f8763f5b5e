"""Turns of speakers, and the assignment of words to them. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from transcription_assets.domain.transcript import Segment, Transcript, Word

NEAREST_S = 1.0
"""A word outside of all turns belongs to the nearest one within this distance."""
INSERTION_S = 0.4
"""Words of another speaker inside a sentence, together shorter than this, are taken for an error of the turns."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Speech of one speaker in [start, end) seconds; `overlap` if others speak at the same time."""

    start: float
    end: float
    label: str
    overlap: bool = False


def display_name(label: str) -> str:
    """Return the name of a speaker whom nobody has named."""
    return f"Speaker {label}"


def transcript_of(transcript: Transcript, turns: Sequence[Turn], names: Mapping[str, str] | None = None) -> Transcript:
    """Return the transcript with the speaker of each segment; segments are split where the speaker changes.

    `turns` are in order of start. `names` maps labels to names. Segments that have a speaker (that of a channel) stay
    as they are; without turns, all do.
    """
    return replace(transcript, segments=segments_of(transcript.segments, turns, names)) if turns else transcript


def segments_of(
    segments: Iterable[Segment], turns: Sequence[Turn], names: Mapping[str, str] | None = None
) -> tuple[Segment, ...]:
    """Return the segments with their speakers, numbered from 0; see `transcript_of`. There is at least one turn."""
    known = {label: (names or {}).get(label) or display_name(label) for label in {turn.label for turn in turns}}
    timeline = _Timeline(turns)
    parts = (
        part for segment in segments for part in ([segment] if segment.speaker else _split(segment, timeline, known))
    )
    return tuple(replace(part, id=number) for number, part in enumerate(parts))


def talk_times(turns: Sequence[Turn]) -> dict[str, float]:
    """Return the seconds of each label, the longest first; overlapped speech counts for each of its speakers."""
    seconds: dict[str, float] = {}
    for turn in turns:
        seconds[turn.label] = seconds.get(turn.label, 0.0) + turn.end - turn.start
    return dict(sorted(seconds.items(), key=lambda item: (-item[1], item[0])))


class _Timeline:
    """Turns by time."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self._starts = [turn.start for turn in turns]
        self._longest = max(turn.end - turn.start for turn in turns)

    def label(self, start: float, end: float) -> str:
        """Return the label with the most speech in [start, end], else the nearest within NEAREST_S, else ""."""
        seconds: dict[str, float] = {}
        nearest: tuple[float, str] | None = None
        for turn in self._around(start, end):
            common = min(turn.end, end) - max(turn.start, start)
            if common > 0:
                # Of two who speak at once, the one who does so alone is more likely to be the one transcribed.
                seconds[turn.label] = seconds.get(turn.label, 0.0) + common * (0.9 if turn.overlap else 1.0)
            elif nearest is None or -common < nearest[0]:
                nearest = -common, turn.label
        if seconds:
            return max(seconds, key=lambda label: seconds[label])
        return nearest[1] if nearest and nearest[0] <= NEAREST_S else ""

    def _around(self, start: float, end: float) -> Iterator[Turn]:
        first = bisect_left(self._starts, start - self._longest - NEAREST_S)
        for turn in self._turns[first:]:
            if turn.start > end + NEAREST_S:
                return
            if turn.end >= start - NEAREST_S:
                yield turn


def _split(segment: Segment, timeline: _Timeline, names: Mapping[str, str]) -> list[Segment]:
    """Return the parts of a segment by speaker; a segment without words stays whole."""
    if not segment.words:
        return [replace(segment, speaker=names.get(timeline.label(segment.start, segment.end), ""))]
    labels = _smoothed(segment.words, [timeline.label(word.start, word.end) for word in segment.words])
    runs = [list(group) for _, group in groupby(zip(labels, segment.words, strict=True), key=lambda item: item[0])]
    if len(runs) == 1:
        return [replace(segment, speaker=names.get(labels[0], ""))]
    return [_part(segment, [word for _, word in run], names.get(run[0][0], "")) for run in runs]


def _part(segment: Segment, words: Sequence[Word], speaker: str) -> Segment:
    return replace(
        segment,
        start=words[0].start,
        end=words[-1].end,
        text="".join(word.word for word in words).strip(),
        words=tuple(words),
        speaker=speaker,
    )


def _smoothed(words: Sequence[Word], labels: list[str]) -> list[str]:
    """Give words without a speaker that of their neighbours, and short insertions that of the words around them."""
    filled = _filled(labels)
    runs = [(label, len(list(group))) for label, group in groupby(filled)]
    settled: list[str] = []
    for number, (label, count) in enumerate(runs):
        own = words[len(settled) : len(settled) + count]
        between = 0 < number < len(runs) - 1 and runs[number - 1][0] == runs[number + 1][0]
        inserted = between and own[-1].end - own[0].start < INSERTION_S
        settled += [runs[number - 1][0] if inserted else label] * count
    return settled


def _filled(labels: Sequence[str]) -> list[str]:
    """Replace "" by the label before, at the start by the first label that follows."""
    latest = next((label for label in labels if label), "")
    filled = []
    for label in labels:
        latest = label or latest
        filled.append(latest)
    return filled
