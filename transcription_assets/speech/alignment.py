"""Word times moved onto the sound: Whisper's attention stretches words over the pauses beside them. Pure.

The loudness of the sound tells where a pause begins and ends to a hundredth of a second.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transcription_assets.chunks import Region
from transcription_assets.speech.engine import SAMPLE_RATE, Samples
from transcription_assets.transcript import Segment, Word

FRAME_S = 0.01
SHORTEST_PAUSE_S = 0.12
"""A shorter silence may be the closure of a `k` or `t` inside a word."""
INSIDE_WORD_S = 0.3
"""A silence up to here may lie inside a word that has voice on both sides of it."""
REACH_S = 0.25
"""So far the edge of a word is moved over voiced sound to the pause that it is next to."""
BLOCK_S = 30.0
"""The noise floor is estimated for each stretch of this length."""
FLOOR_PERCENTILE, SPEECH_PERCENTILE = 10, 95
LOWEST_FLOOR_DB = 55.0
"""The floor is at most so far below the speech: digital silence says nothing about what can be heard."""
SILENCE_SHARE, SILENCE_DB = 0.25, 8.0
"""Silence ends so far above the floor: a share of the way to the speech, at most so many decibels."""
ALONE_S = 0.5
"""A word that lies so far from all speech stays where it is: it may be an invention, which has to be seen as one."""


def aligned(segments: Iterable[Segment], samples: Samples, voiced: Sequence[Region]) -> list[Segment]:
    """Return the segments with their word times snapped to the sound.

    Args:
        segments: in any order; times in seconds from the first sample.
        samples: mono, 16 kHz.
        voiced: regions in which the detector finds a voice; what is outside is a pause.

    """
    sound = pauses(samples, voiced)
    return [_aligned(segment, sound, len(samples) / SAMPLE_RATE) for segment in segments]


def pauses(samples: Samples, voiced: Sequence[Region]) -> list[Region]:
    """Return the stretches of at least SHORTEST_PAUSE_S without speech, in order; sound beyond both ends is a pause."""
    seconds = len(samples) / SAMPLE_RATE
    silent = _silent(_loudness(samples))
    outside = np.ones(len(silent), bool)
    for region in voiced:
        outside[int(region.start / FRAME_S) : int(np.ceil(region.end / FRAME_S))] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent | outside, [False]])))
    found = [Region(float(a) * FRAME_S, float(b) * FRAME_S) for a, b in edges.reshape(-1, 2)]
    long = [item for item in found if item.length >= SHORTEST_PAUSE_S or item.start == 0 or item.end >= seconds]
    return [item for item in long if item.length > 0]


def snapped(words: Sequence[Word], silences: Sequence[Region], seconds: float) -> list[Word]:
    """Return the words on the sound between the silences: in the same order, none of negative length, none overlapping.

    `seconds` is the length of the sound.
    """
    if not words:
        return []
    moved = [_Times(_within(word.start, seconds), _within(word.end, seconds)) for word in words]
    first, last = moved[0].start - REACH_S, moved[-1].end + REACH_S
    for silence in silences:
        if silence.end >= first and silence.start <= last:
            _part(moved, silence)
    clock = 0.0
    snapped_words = []
    for word, times in zip(words, moved, strict=True):
        start = max(times.start, clock)
        clock = end = max(times.end, start)
        snapped_words.append(replace(word, start=start, end=end))
    return snapped_words


@dataclass(slots=True)
class _Times:
    start: float
    end: float


def _part(moved: Sequence[_Times], silence: Region) -> None:
    """Move the words at a silence to that side of it where more of them is; the nearest ones touch its edges."""
    before: _Times | None = None
    after: _Times | None = None
    for times in moved:
        left, right = silence.start - times.start, times.end - silence.end
        if max(left, right) < -ALONE_S:
            continue
        inside = left > 0 and right > 0
        if inside and min(left, right) >= SHORTEST_PAUSE_S and silence.length <= INSIDE_WORD_S:
            return  # a closure inside this word
        if left >= right:
            times.start, times.end = min(times.start, silence.start), min(times.end, silence.start)
            before = times
        elif after is None:
            after = times
        if left < right:
            times.start, times.end = max(times.start, silence.end), max(times.end, silence.end)
    if before is not None and silence.start - before.end <= REACH_S:
        before.end = silence.start
    if after is not None and after.start - silence.end <= REACH_S:
        after.start = silence.end


def _aligned(segment: Segment, silences: Sequence[Region], seconds: float) -> Segment:
    words = tuple(snapped(segment.words, silences, seconds))
    return replace(segment, words=words, start=words[0].start, end=words[-1].end) if words else segment


def _within(time: float, seconds: float) -> float:
    return min(max(time, 0.0), seconds)


def _loudness(samples: Samples) -> NDArray[np.float32]:
    """Return decibels in frames of FRAME_S, each smoothed with its neighbours."""
    step = int(FRAME_S * SAMPLE_RATE)
    power = np.square(np.pad(samples, (0, -len(samples) % step)).reshape(-1, step)).mean(axis=1)
    smooth = np.convolve(power, np.ones(3) / 3, mode="same")
    return (10 * np.log10(smooth + 1e-10)).astype(np.float32)


def _silent(loudness: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which frames are about as quiet as the noise between the words of their block."""
    silent = np.zeros(len(loudness), bool)
    size = int(BLOCK_S / FRAME_S)
    for first in range(0, len(loudness), size):
        block = loudness[first : first + size]
        floor, speech = np.percentile(block, [FLOOR_PERCENTILE, SPEECH_PERCENTILE])
        floor = max(floor, speech - LOWEST_FLOOR_DB)
        silent[first : first + size] = block < floor + min(SILENCE_SHARE * (speech - floor), SILENCE_DB)
    return silent
