"""Accuracy of word times, on synthesised speech with known word times, pauses and noise.

    python -m benchmarks.onsets [--system ours batched sequential stable-ts] [--sentences 9]

Five voices of Flite and eSpeak NG (see `benchmarks.spoken`) read talks of the evaluation set with pauses of 0.15 to
4 s, three of them in brown noise 20 dB below the voice. Only words that were recognised are compared.
"""

import argparse
import random
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import spoken
from benchmarks.machine import MODELS, ROOT, describe
from benchmarks.spoken import RATE, Samples, SpokenWord
from transcription_assets import models, speech

TALKS = ROOT / "transcription_assets" / "evaluation" / "set" / "talks"
READ = (
    ("chess", "flite:slt", False),
    ("glacier", "flite:rms", True),
    ("compass", "espeak:en-us", False),
    ("lighthouse", "flite:awb", True),
    ("sleep", "espeak:en-gb", True),
)
"""Talk, voice, and whether noise is added."""
BETWEEN_SENTENCES_S = (0.4, 0.6, 1.0, 1.5, 2.5, 4.0)
INSIDE_SENTENCES_S = (0.15, 0.25, 0.4, 0.7, 1.2, 2.0)
SPEECH_RMS, NOISE_RMS = 0.1, 0.01
MEDIAN_BAR_MS, P95_BAR_MS = 60.0, 250.0
THREADS = 2

Timed = tuple[str, float, float]
"""A recognised word, its start and its end in seconds."""
Listen = Callable[[Samples], list[Timed]]


@dataclass(frozen=True, slots=True)
class Reading:
    """A talk read by a synthesiser: its samples and the true word times."""

    name: str
    samples: Samples
    words: tuple[SpokenWord, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--system", nargs="+", choices=[*SYSTEMS], default=["ours", "batched", "sequential"])
    parser.add_argument("--sentences", type=int, default=9, help="of each talk")
    chosen = parser.parse_args()
    print(describe())
    readings = [read(number, *item, chosen.sentences) for number, item in enumerate(READ)]
    minutes = sum(len(reading.samples) for reading in readings) / RATE / 60
    words = sum(len(reading.words) for reading in readings)
    print(f"\n{minutes:.1f} minutes, {words} words, {len(readings)} voices, {chosen.model}\n", flush=True)
    path = models.locate(chosen.model, "speech", MODELS).path
    print("| | words | onset, ms: median | 95 % | ends, ms: median | 95 % |\n| --- | --- | --- | --- | --- | --- |")
    held = True
    for name in chosen.system:
        listen = SYSTEMS[name](path)
        pairs = [pair for reading in readings for pair in matched(reading.words, listen(reading.samples))]
        starts = np.abs([found[1] - true.start for true, found in pairs]) * 1000
        ends = np.abs([found[2] - true.end for true, found in pairs]) * 1000
        median, p95 = (float(value) for value in np.percentile(starts, [50, 95]))
        end = " | ".join(f"{value:.0f}" for value in np.percentile(ends, [50, 95]))
        print(f"| {name} | {len(pairs)} | {median:.0f} | {p95:.0f} | {end} |", flush=True)
        if name == "ours":
            held = median <= MEDIAN_BAR_MS and p95 <= P95_BAR_MS
    print("\nall bars held" if held else f"\nmissed: median {MEDIAN_BAR_MS} ms, 95 % {P95_BAR_MS} ms")
    return int(not held)


def read(seed: int, talk: str, voice: str, noisy: bool, sentences: int) -> Reading:  # noqa: FBT001 -- a row of READ
    """Synthesise a talk with pauses between and inside its sentences; the same seed gives the same samples.

    Raises:
        OSError: the talk does not exist, or the synthesiser is not installed.

    """
    chance = random.Random(seed)  # noqa: S311 -- no secret
    said = tomllib.loads((TALKS / f"{talk}.toml").read_text(encoding="utf-8"))["spoken"][:sentences]
    phrases, pauses = [], []
    for sentence in said:
        for number, phrase in enumerate(spoken.phrases_of(sentence, iter(chance.random, None))):
            phrases.append(spoken.speak(phrase, voice).trimmed())
            pauses.append(chance.choice(INSIDE_SENTENCES_S if number else BETWEEN_SENTENCES_S))
    whole = spoken.joined(phrases, pauses)
    samples = np.concatenate([whole.samples, np.zeros(RATE, np.float32)])
    samples *= SPEECH_RMS / np.sqrt(np.square(samples[samples != 0]).mean())
    if noisy:
        samples += _brown(len(samples), np.random.default_rng(seed))
    return Reading(f"{talk}, {voice}", np.clip(samples, -1, 1).astype(np.float32), whole.words)


def _brown(length: int, random_state: np.random.Generator) -> Samples:
    spectrum = np.fft.rfft(random_state.standard_normal(length))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20.0)), length)
    scaled: Samples = (NOISE_RMS * noise / noise.std()).astype(np.float32)
    return scaled


def matched(true: Sequence[SpokenWord], found: Sequence[Timed]) -> Iterator[tuple[SpokenWord, Timed]]:
    """Yield the pairs of words that are the same in both, in order."""
    said, heard = ([_plain(text) for text in texts] for texts in ((w.text for w in true), (w[0] for w in found)))
    for block in SequenceMatcher(None, said, heard, autojunk=False).get_matching_blocks():
        yield from zip(true[block.a : block.a + block.size], found[block.b : block.b + block.size], strict=True)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9']", "", text.lower())


def _ours(path: Path) -> Listen:
    hardware = speech.Hardware("cpu", "int8", cpu_threads=THREADS)
    engine = speech.Whisper(path, name="base", revision="", hardware=hardware)

    def listen(samples: Samples) -> list[Timed]:
        heard = speech.transcribe_one(engine, speech.audio_source(samples))
        return [(word.word, word.start, word.end) for segment in heard.segments for word in segment.words]

    return listen


def _model(path: Path) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(str(path), device="cpu", compute_type="int8", cpu_threads=THREADS, local_files_only=True)


def _timed(segments: Any) -> list[Timed]:
    return [(word.word, float(word.start), float(word.end)) for segment in segments for word in segment.words]


def _sequential(path: Path) -> Listen:
    model = _model(path)
    return lambda samples: _timed(model.transcribe(samples, vad_filter=True, word_timestamps=True)[0])


def _batched(path: Path) -> Listen:
    from faster_whisper import BatchedInferencePipeline

    pipeline = BatchedInferencePipeline(_model(path))
    return lambda samples: _timed(pipeline.transcribe(samples, batch_size=8, word_timestamps=True)[0])


def _stable_ts(path: Path) -> Listen:
    """Run stable-ts over faster-whisper as in its README (`pip install stable-ts`)."""
    import stable_whisper

    model = stable_whisper.load_faster_whisper(
        str(path), device="cpu", compute_type="int8", cpu_threads=THREADS, local_files_only=True
    )
    return lambda samples: _timed(model.transcribe(samples, word_timestamps=True, verbose=None).segments)


SYSTEMS: dict[str, Callable[[Path], Listen]] = {
    "ours": _ours,
    "batched": _batched,
    "sequential": _sequential,
    "stable-ts": _stable_ts,
}


if __name__ == "__main__":
    sys.exit(main())
