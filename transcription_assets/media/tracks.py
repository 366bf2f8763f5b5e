"""Choice of the audio tracks to transcribe: those with speech, without duplicates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transcription_assets.media.ffmpeg_process import SAMPLE_RATE
from transcription_assets.media.mixing import SILENT_DB, Samples, gain_steps, loudness
from transcription_assets.media.spool import BLOCK, Spool

Detector = Callable[[Samples], Sequence[tuple[float, float]]]
"""Voice activity detector: returns the (start, end) of speech in mono samples, in seconds."""

LOUDEST_BLOCKS = 30
"""Number of 10 s blocks of each track that are examined: those with the highest peaks."""

_LEAST_VOICED_S = 0.5
_LEAST_NEW_SHARE = 0.5
_LOUDER_DB = 9.0
_FRAME_S = 0.1


@dataclass(frozen=True, slots=True)
class _Examined:
    """Loudness of one track, and the voiced 0.1 s frames of each examined block by its number."""

    track: int
    level: float
    voiced: Mapping[int, NDArray[np.bool_]]

    @property
    def seconds(self) -> float:
        return sum(float(frames.sum()) for frames in self.voiced.values()) * _FRAME_S


def with_speech(spools: Sequence[Spool], languages: Sequence[str], detector: Detector) -> list[int]:
    """Return the indexes (in `spools`) of the tracks to mix, in order; never empty.

    They are the first track with speech, and each later one that has speech while the chosen ones are silent or much
    quieter: guest and interviewer, but neither a dubbed version nor a second mix of the same voices.

    Raises:
        OSError: a spool cannot be read.

    """
    audible = [number for number, spool in enumerate(spools) if loudness(spool.powers) > SILENT_DB]
    if len(audible) < 2:  # noqa: PLR2004 -- a choice needs two
        return audible or [0]
    blocks_of = {number: _loudest_blocks(spools[number]) for number in audible}
    examined = [_examine(number, spools[number], set().union(*blocks_of.values()), detector) for number in audible]
    speaking = [item for item in examined if item.seconds >= _LEAST_VOICED_S]
    if not speaking:
        return [max(examined, key=lambda item: item.level).track]
    chosen = [speaking[0]]
    for item in speaking[1:]:
        foreign = all(
            languages[item.track] and languages[other.track] and languages[item.track] != languages[other.track]
            for other in chosen
        )
        if not foreign and _new_share(item, chosen, spools, blocks_of[item.track]) >= _LEAST_NEW_SHARE:
            chosen.append(item)
    return [item.track for item in chosen]


def _loudest_blocks(spool: Spool) -> set[int]:
    powers = spool.powers
    frames = int(BLOCK / SAMPLE_RATE / _FRAME_S)
    peaks = np.array([powers[start : start + frames].max() for start in range(0, len(powers), frames)])
    return {int(number) for number in np.argsort(-peaks, kind="stable")[:LOUDEST_BLOCKS]}


def _examine(number: int, spool: Spool, blocks: set[int], detector: Detector) -> _Examined:
    level = loudness(spool.powers)
    gain = np.float32(2 ** gain_steps(level))
    voiced = {}
    for index in sorted(blocks):
        if (block := spool.block(index)) is None:
            continue
        samples = np.clip(block.mean(axis=1, dtype=np.float32) * gain, -1, 1)
        frames = np.zeros(-(-len(samples) // int(_FRAME_S * SAMPLE_RATE)), np.bool_)
        for start, end in detector(samples):
            frames[round(start / _FRAME_S) : round(end / _FRAME_S)] = True
        voiced[index] = frames
    return _Examined(number, level, voiced)


def _new_share(item: _Examined, chosen: Sequence[_Examined], spools: Sequence[Spool], blocks: set[int]) -> float:
    """Return the share of the voiced frames of a track in which the chosen tracks are silent or much quieter."""
    has_word = total = 0
    for index in blocks & item.voiced.keys():
        voiced = item.voiced[index]
        levels = _levels(item, spools, index, len(voiced))
        free = voiced.copy()
        for other in chosen:
            covered = np.resize(other.voiced.get(index, np.zeros(1, np.bool_)), len(voiced))
            free &= ~covered | (_levels(other, spools, index, len(voiced)) < levels - _LOUDER_DB)
        has_word += int(free.sum())
        total += int(voiced.sum())
    return has_word / total if total else 0.0


def _levels(item: _Examined, spools: Sequence[Spool], index: int, count: int) -> NDArray[np.float64]:
    """Return the levels (dB) of the 0.1 s frames of a block, relative to the loudness of its track."""
    frames = int(BLOCK / SAMPLE_RATE / _FRAME_S)
    powers = np.zeros(count)
    stored = spools[item.track].powers[index * frames : index * frames + count]
    powers[: len(stored)] = stored
    return 10 * np.log10(np.maximum(powers, 1e-12)) - item.level
