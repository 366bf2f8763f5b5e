"""Make labelled dialogues of 2 to 5 real voices: `python -m benchmarks.dialogues VOICES TARGET --count 50`.

VOICES holds recordings of one voice each, named `<speaker>-<anything>.flac` (as LibriSpeech names them; any folder
depth). Each dialogue is `NNN.wav` (16 kHz) with `NNN.rttm`: who speaks when, with pauses over 0.3 s left out. Every
speaker of a dialogue has a room, a distance and a level of their own, the dialogue a background noise, and every fifth
one the band of a telephone. The same seed makes the same files.
"""

import argparse
import wave
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

from benchmarks.spoken import RATE
from transcription_assets import media
from transcription_assets.domain.chunking import Region, merge_regions

Samples = NDArray[np.float32]

FRAME = 160
LEVEL = 0.05
"""Level (RMS) of speech before the gain of its speaker."""
LONGEST_PAUSE_S = 0.3
"""Pauses up to this are part of a turn in the reference, as in the evaluations of NIST."""
CUT_PAUSE_S = 0.5
SHORTEST_TURN_S, LONGEST_TURN_S = 1.0, 8.0


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker and turns of speech, each trimmed to its sound."""

    speaker: str
    turns: tuple[Samples, ...]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Samples (mono, 16 kHz) and (start, end, speaker) in seconds."""

    samples: Samples
    turns: tuple[tuple[float, float, str], ...]


def voices_in(folder: Path) -> list[Voice]:
    """Return the voices below a folder, by name; their recordings are cut at pauses into turns.

    Raises:
        TranscriptionError: a file cannot be decoded, or there is no ffmpeg.

    """
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*.flac")):
        files[path.stem.partition("-")[0]].append(path)
    with ThreadPoolExecutor(8) as pool:
        sounds = {name: list(pool.map(read, paths)) for name, paths in files.items()}
    return [Voice(name, tuple(turn for sound in own for turn in _cut(sound))) for name, own in sounds.items()]


def read(path: Path) -> Samples:
    """Return the samples of a recording (mono, 16 kHz).

    Raises:
        TranscriptionError: it cannot be decoded, or there is no ffmpeg.

    """
    return np.concatenate(list(media.read_samples(str(path), ffmpeg=media.find_ffmpeg())))


def sounding(samples: Samples, pause_s: float = LONGEST_PAUSE_S) -> list[Region]:
    """Return where a clean recording is within 30 dB of its loud parts and above its noise, joined over pauses.

    Times are in seconds. The noise is the level that 5 % of the recording stay below; speech is 8 dB above it.
    """
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    levels = np.sqrt(np.square(frames).mean(1))
    quiet, peak = np.percentile(levels, [5, 95])
    limit = max(peak * 10 ** (-30 / 20), min(quiet * 10 ** (8 / 20), peak * 10 ** (-15 / 20)))
    loud = np.concatenate([[False], levels > limit, [False]])
    edges = np.flatnonzero(np.diff(loud.astype(np.int8))).reshape(-1, 2) * FRAME / RATE
    return merge_regions((Region(start, end) for start, end in edges.tolist()), pause_s)


def _cut(samples: Samples) -> Iterator[Samples]:
    """Yield turns of 1 to 8 seconds, cut at the quietest moments."""
    for region in sounding(samples, CUT_PAUSE_S):
        piece = samples[round(region.start * RATE) : round(region.end * RATE)]
        while len(piece) > LONGEST_TURN_S * RATE:
            first, last = int(3 * RATE), int(LONGEST_TURN_S * RATE)
            power = np.convolve(np.square(piece[first:last]), np.ones(RATE // 10), "same")
            at = first + int(power.argmin())
            yield piece[:at]
            piece = piece[at:]
        if len(piece) >= SHORTEST_TURN_S * RATE:
            yield piece


def dialogue(voices: Sequence[Voice], rng: np.random.Generator, *, seconds: float, overlap: float) -> Dialogue:
    """Mix turns of the voices in turn; `overlap` is the share of changes at which the next one starts early."""
    rooms = {voice.speaker: _room(rng) for voice in voices}
    gains = {voice.speaker: 10 ** (rng.uniform(-6, 6) / 20) for voice in voices}
    waiting = {voice.speaker: list(rng.permutation(len(voice.turns))) for voice in voices}
    mixed = np.zeros(round((seconds + 2 * LONGEST_TURN_S) * RATE), np.float32)
    turns: list[tuple[float, float, str]] = []
    clock, latest = rng.uniform(0.2, 1.5), ""
    while clock < seconds and (able := [voice for voice in voices if waiting[voice.speaker]]):
        others = [voice for voice in able if voice.speaker != latest] or able
        unheard = [voice for voice in others if voice.speaker not in {turn[2] for turn in turns}]
        voice = others[rng.integers(len(others))] if not unheard or rng.random() < 0.5 else unheard[0]
        for _ in range(rng.integers(1, 3)):
            if not waiting[voice.speaker]:
                break
            turn = voice.turns[waiting[voice.speaker].pop()]
            turn = turn * np.float32(LEVEL / np.sqrt(np.square(turn).mean()) * gains[voice.speaker])
            early = turns and voice.speaker != latest and rng.random() < overlap
            start = max(0.0, clock - rng.uniform(0.4, 1.5)) if early else clock
            at = round(start * RATE)
            wet = fftconvolve(turn, rooms[voice.speaker]).astype(np.float32)[: len(mixed) - at]
            mixed[at : at + len(wet)] += wet
            turns += [(start + part.start, start + part.end, voice.speaker) for part in sounding(turn)]
            latest = voice.speaker
            clock = max(clock, start + len(turn) / RATE) + rng.uniform(0.05, 0.9)
    end = min(len(mixed), round((clock + 0.5) * RATE))
    noise = rng.standard_normal(end).astype(np.float32) * np.float32(LEVEL * 10 ** (rng.uniform(-45, -20) / 20))
    return Dialogue(mixed[:end] + noise, tuple(sorted(turns)))


def _room(rng: np.random.Generator) -> Samples:
    """Return an impulse response: the voice, then decaying noise; 0.1 to 0.5 s to -60 dB."""
    length = rng.uniform(0.1, 0.5)
    at = np.arange(round(length * RATE))
    tail = rng.standard_normal(len(at)) * 10 ** (-3 * at / len(at))
    tail[: round(0.002 * RATE)] = 0.0
    response = tail * rng.uniform(0.1, 0.6) / np.sqrt(np.square(tail).sum())
    response[0] = 1.0
    heard: Samples = response.astype(np.float32)
    return heard


def telephone(samples: Samples) -> Samples:
    """Return the samples in the band of a telephone, 300 to 3400 Hz."""
    filtered: Samples = sosfilt(butter(4, [300, 3400], "bandpass", fs=RATE, output="sos"), samples).astype(np.float32)
    return filtered


def write(path: Path, made: Dialogue) -> None:
    """Write a dialogue as 16-bit WAV, and its turns as RTTM beside it.

    Raises:
        OSError: the folder cannot be written.

    """
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(made.samples, -1, 1) * 32767).astype("<i2").tobytes())
    lines = (
        f"SPEAKER {path.stem} 1 {start:.3f} {end - start:.3f} <NA> <NA> {speaker} <NA> <NA>\n"
        for start, end, speaker in made.turns
    )
    path.with_suffix(".rttm").write_text("".join(lines), encoding="utf-8")


def make(voices: Sequence[Voice], target: Path, *, count: int, seconds: float, overlap: float, seed: int) -> None:
    """Write `count` dialogues; the voices are used in rounds, so that each appears about equally often.

    Raises:
        OSError: the folder cannot be written.

    """
    rng = np.random.default_rng(seed)
    target.mkdir(parents=True, exist_ok=True)
    order: list[int] = []
    for number in range(count):
        speakers = 2 + number % 4
        if len(order) < speakers:
            order = list(rng.permutation(len(voices)))
        chosen = [voices[order.pop()] for _ in range(speakers)]
        made = dialogue(chosen, rng, seconds=seconds, overlap=overlap)
        if number % 5 == 4:
            made = Dialogue(telephone(made.samples), made.turns)
        write(target / f"{number:03}.wav", made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("voices", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=90.0, help="longest dialogue")
    parser.add_argument("--overlap", type=float, default=0.0, help="share of changes of speaker that overlap")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--half", choices=["all", "even", "odd"], default="all", help="which voices, by their order")
    options = parser.parse_args()
    voices = voices_in(options.voices)
    voices = {"all": voices, "even": voices[::2], "odd": voices[1::2]}[options.half]
    make(
        [voice for voice in voices if voice.turns],
        options.target,
        count=options.count,
        seconds=options.seconds,
        overlap=options.overlap,
        seed=options.seed,
    )


if __name__ == "__main__":
    main()
