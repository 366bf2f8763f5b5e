"""Planning of windows that fit in memory, cut at pauses, each with its voiced regions."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from transcription_assets.domain import chunking
from transcription_assets.domain.chunking import Region
from transcription_assets.errors import TransientFailure
from transcription_assets.speech.engine import SAMPLE_RATE, Samples
from transcription_assets.speech.vad import unexplained, voiced_regions
from transcription_assets.speech.windows import PlannedWindow

WINDOW_S = 600.0
"""Maximum length of a window: 38 MB, and enough chunks that a short last batch does not matter."""
EARLIEST_SHARE = 0.8
"""Share of the maximum length after which a window may end."""
LOUDNESS_S = 0.05


def plan_windows(blocks: Iterable[Samples], window_s: float | None = None) -> Iterator[PlannedWindow]:
    """Yield the windows of a channel, at most `window_s` seconds each (plus one block), cut at pauses.

    `blocks` are its samples (mono, 16 kHz). Each window starts where the previous one ends, and the last one ends with
    the samples, so every voiced second is in exactly one window.

    Raises:
        Exception: any exception of the iterable `blocks`.

    """
    longest_s = WINDOW_S if window_s is None else window_s
    held: list[Samples] = []
    first = pending = 0  # samples
    for block in blocks:
        held.append(block)
        pending += len(block)
        if pending < longest_s * SAMPLE_RATE:
            continue
        samples = _joined(held)
        voiced = voiced_regions(samples)
        end = _end(samples, voiced)
        yield _window(first, samples[:end], chunking.clip_regions(voiced, Region(0.0, end / SAMPLE_RATE)))
        first += end
        held = [samples[end:].copy()]
        pending = len(held[0])
    if pending:
        samples = _joined(held)
        yield _window(first, samples, voiced_regions(samples))


def _window(first: int, samples: Samples, voiced: list[Region]) -> PlannedWindow:
    start, end = first / SAMPLE_RATE, (first + len(samples)) / SAMPLE_RATE
    return PlannedWindow(start, end, tuple(voiced), tuple(unexplained(samples, voiced)))


def read_window(plan: PlannedWindow, blocks: Iterable[Samples]) -> Samples:
    """Return the samples of a window from `blocks`, which start with it and may continue after it.

    Raises:
        TransientFailure: there are fewer samples than planned; a store may truncate a response without an error.
        Exception: any exception of the iterable `blocks`.

    """
    wanted = round(plan.end * SAMPLE_RATE) - round(plan.start * SAMPLE_RATE)
    held: list[Samples] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= wanted:
            break
    samples = _joined(held) if held else np.empty(0, np.float32)
    if len(samples) < wanted:
        raise TransientFailure(
            f"the store gave {len(samples) / SAMPLE_RATE:.1f} s of extracted speech from {plan.start:.1f} s on, "
            f"expected {plan.length:.1f} s; try again"
        )
    return samples[:wanted]


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
    return min(round(at * 100) * SAMPLE_RATE // 100, len(samples))


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
