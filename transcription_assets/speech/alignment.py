"""Correction of word times, because Whisper's attention extends words into the pauses next to them. Pure functions.

Pauses are located by loudness with a resolution of 10 ms.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets.speech.engine import SAMPLE_RATE, Samples

FRAME_S = 0.01
SHORTEST_PAUSE_S = 0.12
"""A shorter silence may be the closure of a `k` or `t` inside a word."""
INSIDE_WORD_S = 0.3
"""Longest silence that may be inside a word with speech on both sides of it."""
REACH_S = 0.25
"""Longest distance by which the edge of a word is extended over voiced audio to the adjacent pause."""
BLOCK_S = 10.0
"""Length of the blocks for which the noise floor is estimated: joined recordings have floors of their own."""
FLOOR_PERCENTILE, SPEECH_PERCENTILE = 10, 95
LOWEST_FLOOR_DB = 55.0
"""Maximum distance of the floor below the speech level: digital silence is no measure of what is audible."""
DIGITAL_SILENCE_DB = -90.0
FEWEST_NOISE_FRAMES = 15
"""Minimum number of frames outside of voices from which the noise of a block is estimated: 150 ms."""
SILENCE_SHARE, SILENCE_DB = 0.25, 8.0
"""Silence is below floor + min(share of the distance from floor to speech level, decibels)."""
ALONE_S = 0.5
"""A word this far inside a pause is not moved: it may be a hallucination, which must stay recognisable as one."""


def aligned(segments: Iterable[Segment], samples: Samples, voiced: Sequence[Region]) -> list[Segment]:
    """Return the segments with their word times moved out of pauses.

    Args:
        segments: in any order; times in seconds from the first sample.
        samples: shape (samples,), mono, 16 kHz.
        voiced: regions of VAD; everything outside counts as a pause.

    """
    sound = pauses(samples, voiced)
    return [_aligned(segment, sound, len(samples) / SAMPLE_RATE) for segment in segments]


def pauses(samples: Samples, voiced: Sequence[Region]) -> list[Region]:
    """Return the pauses in order: at least SHORTEST_PAUSE_S without speech, or shorter at the start or end."""
    seconds = len(samples) / SAMPLE_RATE
    loudness = _loudness(samples)
    outside = np.ones(len(loudness), bool)
    for region in voiced:
        outside[int(region.start / FRAME_S) : int(np.ceil(region.end / FRAME_S))] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], _silent(loudness, outside) | outside, [False]])))
    found = [Region(float(a) * FRAME_S, float(b) * FRAME_S) for a, b in edges.reshape(-1, 2)]
    long = [item for item in found if item.length >= SHORTEST_PAUSE_S or item.start == 0 or item.end >= seconds]
    return [item for item in long if item.length > 0]


def snapped(words: Sequence[Word], silences: Sequence[Region], seconds: float) -> list[Word]:
    """Return the words moved out of the silences, in the same order, without negative lengths or overlaps.

    `seconds` is the length of the audio.
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
    """Move each word at a silence to the side with the larger part of it, and extend the nearest words to its edges."""
    before: _Times | None = None
    after: _Times | None = None
    for times in moved:
        left, right = silence.start - times.start, times.end - silence.end
        if max(left, right) < -ALONE_S:
            continue
        inside = left > 0 and right > 0
        if inside and min(left, right) >= SHORTEST_PAUSE_S and silence.length <= INSIDE_WORD_S:
            return  # the closure of a plosive inside this word
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
    """Return the level in dB of frames of FRAME_S, each smoothed with its neighbours; shape (frames,)."""
    step = int(FRAME_S * SAMPLE_RATE)
    power = np.square(np.pad(samples, (0, -len(samples) % step)).reshape(-1, step)).mean(axis=1)
    smooth = np.convolve(power, np.ones(3) / 3, mode="same")
    return (10 * np.log10(smooth + 1e-10)).astype(np.float32)


def _silent(loudness: NDArray[np.float32], outside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask of the frames that are about as quiet as the noise floor of their block.

    `outside` marks the frames outside the voiced regions. If digital silence hides the noise of a block (sound that
    begins late, a join), these frames tell how loud the noise is.
    """
    silent = np.zeros(len(loudness), bool)
    size = int(BLOCK_S / FRAME_S)
    for first in range(0, len(loudness), size):
        # The last block has full length: a word alone in a short block would be its own floor.
        start = max(0, min(first, len(loudness) - size))
        block = loudness[start : start + size]
        floor, speech = np.percentile(block, [FLOOR_PERCENTILE, SPEECH_PERCENTILE])
        if floor < speech - LOWEST_FLOOR_DB:
            noise = block[outside[start : start + size] & (block > DIGITAL_SILENCE_DB)]
            if len(noise) >= FEWEST_NOISE_FRAMES:
                floor = np.percentile(noise, FLOOR_PERCENTILE)
        floor = max(floor, speech - LOWEST_FLOOR_DB)
        silent[first : first + size] = block[first - start :] < floor + min(
            SILENCE_SHARE * (speech - floor), SILENCE_DB
        )
    return silent
