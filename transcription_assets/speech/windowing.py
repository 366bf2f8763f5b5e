"""Splitting of audio into windows that fit in memory, cut at pauses, each with its voiced regions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from transcription_assets.domain import chunking
from transcription_assets.domain.chunking import Region
from transcription_assets.speech.engine import SAMPLE_RATE, Samples
from transcription_assets.speech.vad import unexplained, voiced_regions

WINDOW_S = 600.0
"""Maximum length of a window: 38 MB, and enough chunks that a short last batch does not matter."""
EARLIEST_SHARE = 0.8
"""Share of the maximum length after which a window may end."""
LOUDNESS_S = 0.05


@dataclass(frozen=True, slots=True)
class AudioWindow:
    """A window of audio: samples (mono, 16 kHz), voiced regions (times from its start), whether it is the last one.

    `unexplained` are active regions in which VAD finds no speech.
    """

    samples: Samples
    voiced: tuple[Region, ...]
    last: bool
    unexplained: tuple[Region, ...] = ()

    @property
    def length(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE


def cut_windows(blocks: Iterable[Samples], window_s: float | None = None) -> Iterator[AudioWindow]:
    """Yield windows of at most `window_s` seconds (plus one block), cut at pauses.

    Joined, the windows are exactly the input, so every voiced second is in one of them.

    Raises:
        Exception: any exception of the iterable `blocks`.

    """
    longest_s = WINDOW_S if window_s is None else window_s
    held: list[Samples] = []
    seconds = 0.0
    for block in blocks:
        held.append(block)
        seconds += len(block) / SAMPLE_RATE
        if seconds < longest_s:
            continue
        samples = _joined(held)
        voiced = voiced_regions(samples)
        end = _end(samples, voiced)
        yield _window(samples[:end], chunking.clip_regions(voiced, Region(0.0, end / SAMPLE_RATE)), last=False)
        held = [samples[end:].copy()]
        seconds = len(held[0]) / SAMPLE_RATE
    if held and seconds:
        samples = _joined(held)
        yield _window(samples, voiced_regions(samples), last=True)


def _window(samples: Samples, voiced: list[Region], *, last: bool) -> AudioWindow:
    return AudioWindow(samples, tuple(voiced), last, tuple(unexplained(samples, voiced)))


def _end(samples: Samples, voiced: list[Region]) -> int:
    """Return the sample where the window ends: in its last pause, else between two regions, else where it is quietest.

    Adjacent regions have a short pause between them, unless they are parts of speech that is longer than a chunk.
    """
    seconds = len(samples) / SAMPLE_RATE
    earliest_s = EARLIEST_SHARE * seconds
    at = chunking.cut(voiced, seconds, earliest_s=earliest_s)
    if at == seconds and voiced and voiced[-1].end >= seconds:
        first = int(earliest_s * SAMPLE_RATE)
        touching = [round(region.end * SAMPLE_RATE) for region in voiced[:-1] if region.end >= earliest_s]
        quiet = min(touching, key=partial(_loudness, samples), default=first + _quietest(samples[first:]))
        at = quiet / SAMPLE_RATE
    # In whole hundredths of a second, so that ffmpeg can seek to exactly this sample.
    return round(at * 100) * SAMPLE_RATE // 100


def _loudness(samples: Samples, at: int) -> float:
    """Return the mean power of the LOUDNESS_S seconds around a sample."""
    half = int(LOUDNESS_S * SAMPLE_RATE) // 2
    return float(np.square(samples[max(0, at - half) : at + half]).mean())


def _quietest(samples: Samples) -> int:
    """Return the middle of the quietest LOUDNESS_S seconds, which is most likely between two words."""
    step = int(LOUDNESS_S * SAMPLE_RATE)
    frames = len(samples) // step
    if not frames:
        return len(samples)
    loudness = np.square(samples[: frames * step].reshape(frames, step)).mean(axis=1)
    return int(loudness.argmin()) * step + step // 2


def _joined(held: list[Samples]) -> Samples:
    """Join blocks into one array and clear the list: a window takes 38 MB, and decoding needs the memory."""
    samples = sane(np.concatenate(held))
    held.clear()
    return samples


def sane(samples: Samples) -> Samples:
    """Return the samples as float32 in [-1, 1]: NaN and infinity become 0, and louder samples are clipped."""
    samples = samples.astype(np.float32, copy=False)
    if samples.min(initial=0.0) >= -1.0 and samples.max(initial=0.0) <= 1.0:  # false for NaN too
        return samples
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)
