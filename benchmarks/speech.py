"""Comparison of the speech engine with faster-whisper: long speech, short clips, sound without speech, time per stage.

python -m benchmarks.speech [--model base] [--rounds 2] [--clips 100] [--minutes 12] [--only long clips silent stages]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import recordings
from benchmarks.machine import MODELS, describe
from transcription_assets import media, models
from transcription_assets.evaluation import comparison
from transcription_assets.evaluation.comparison import ReferenceRecording
from transcription_assets.evaluation.competitors import Configuration
from transcription_assets.speech import Hardware, Whisper, audio_source, transcribe_one, windowing
from transcription_assets.speech.decoder import ChunkDecoder

SHORTEST_S, LONGEST_S = 5.0, 12.0
LONG_BAR, CLIPS_BAR = 1.3, 3.5
THREADS = 2
SILENT = {
    "silence": "anullsrc=r=16000:cl=mono:d=60",
    "white noise": "anoisesrc=d=60:seed=7:a=0.3",
    "a chord with a beat": "aevalsrc='0.2*(sin(2*PI*220*t)+sin(2*PI*277.18*t)+sin(2*PI*329.63*t))"
    "*(0.6+0.4*sin(2*PI*2*t))':s=16000:d=60",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="base")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--minutes", type=int, default=12, help="of long speech, in steps of two")
    parser.add_argument("--only", nargs="+", choices=[*PARTS], default=[*PARTS])
    chosen = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        missed = [name for name in chosen.only if not PARTS[name](Path(folder), chosen)]
    print(f"missed: {', '.join(missed)}" if missed else "all bars held")
    return int(bool(missed))


def _truth() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        (recordings.DEMO.parent / "recordings.json").read_text(encoding="utf-8")
    )
    return found


def _long(folder: Path, chosen: argparse.Namespace) -> bool:
    """Compare with the batched and the sequential decoder on about twelve minutes of speech in one file.

    Only English: those two decode the whole file in the language of its first 30 s.
    """
    english = [entry for entry in _truth() if entry["language"] == "en"] * (chosen.minutes // 2)
    sources = [str(recordings.DEMO / str(entry["file"])) for entry in english]
    inputs = [part for source in sources for part in ("-i", source)]
    parts = "".join(f"[{number}:a]aresample=16000[a{number}];" for number in range(len(sources)))
    joined = "".join(f"[a{number}]" for number in range(len(sources)))
    path = folder / "long.flac"
    recordings.make(*inputs, "-filter_complex", f"{parts}{joined}concat=n={len(sources)}:v=0:a=1", "-ac", "1", path)
    said = " ".join(str(entry["text"]) for entry in english)
    return _compared(
        [ReferenceRecording(path, recordings.seconds(path), said)], chosen, ("batched", "sequential"), LONG_BAR
    )


def _clips(folder: Path, chosen: argparse.Namespace) -> bool:
    """Compare with faster-whisper by default settings on a hundred clips of whole sentences, one after another."""
    made: list[ReferenceRecording] = []
    for start, end, said, source in _spans():
        if len(made) == chosen.clips:
            break
        path = folder / f"{len(made):03}.wav"
        cut: list[str | Path] = ["-ss", str(start), "-t", str(end - start), "-i", source]
        # The second repetition is quieter and starts a little later, so that no two clips are the same sound.
        again = len(made) // 50
        recordings.make(*cut, "-ac", "1", "-ar", "16000", "-af", f"volume={1 - again / 4},adelay={again * 130}", path)
        made.append(ReferenceRecording(path, end - start, said))
    return _compared(made, chosen, ("plain",), CLIPS_BAR)


def _spans() -> Iterator[tuple[float, float, str, Path]]:
    """Yield runs of whole sentences of 5 to 12 s (start, end, text and source), repeated without end."""
    spans = []
    for entry in _truth():
        sentences: list[dict[str, float | str]] = list(entry["sentences"])  # type: ignore[call-overload]
        for first in range(len(sentences)):
            for last in range(first, min(first + 4, len(sentences))):
                start, end = float(sentences[first]["start"]) - 0.2, float(sentences[last]["end"]) + 0.25
                if SHORTEST_S <= end - start <= LONGEST_S:
                    text = " ".join(str(item["text"]) for item in sentences[first : last + 1])
                    spans.append((max(start, 0.0), end, text, recordings.DEMO / str(entry["file"])))
    while True:
        yield from spans


def _compared(found: list[ReferenceRecording], chosen: argparse.Namespace, others: Sequence[str], bar: float) -> bool:
    """Compare speed with the first of the others, word errors with the last; return whether the bars are held."""
    located = models.locate(chosen.model, "speech", MODELS)
    entries = [Configuration(system, chosen.model, located.path, threads=THREADS) for system in ("ours", *others)]
    results = comparison.measure(entries, found, chosen.rounds, lambda line: print(f"  {line}", file=sys.stderr))
    document = comparison.document(results, found)
    seconds = sum(item.seconds for item in found)
    print(f"\n{len(found)} recordings, {seconds:.0f} s, {chosen.model}, {chosen.rounds} rounds in turns\n")
    print("| | × real time | wall s | CPU s | WER | MB |\n| --- | --- | --- | --- | --- | --- |")
    for item in document["configurations"]:
        walls, used = (" ".join(f"{value:.1f}" for value in item[name]) for name in ("wall_s", "cpu_s"))
        print(f"| {item['name']} | {item['rtfx']} | {walls} | {used} | {item['wer']:.2%} | {item['peak_mb']} |")
    ours, *theirs = document["configurations"]
    faster = ours["rtfx"] / theirs[0]["rtfx"]
    worse = 100 * (ours["wer"] - theirs[-1]["wer"])
    print(
        f"\n{faster:.2f} × {others[0]} (bar {bar}); WER {worse:+.2f} points against {others[-1]} (bar +0.10)",
        flush=True,
    )
    return bool(faster >= bar and worse <= 0.1)


def _silent(folder: Path, chosen: argparse.Namespace) -> bool:
    """Check that sound without speech gives no words."""
    located = models.locate(chosen.model, "speech", MODELS)
    engine = Whisper(located.path, name=chosen.model, revision="", hardware=Hardware("cpu", "int8", THREADS))
    total = 0
    for name, source in SILENT.items():
        path = folder / "silent.flac"
        recordings.make("-f", "lavfi", "-i", source, path)
        samples = np.concatenate([*media.read_samples(path, ffmpeg=media.find_ffmpeg())])
        heard = transcribe_one(engine, audio_source(samples))
        words = sum(len(segment.words) for segment in heard.segments)
        print(f"{name}, 60 s: {words} words")
        total += words
    return total == 0


def _stages(_folder: Path, chosen: argparse.Namespace) -> bool:
    """Print the wall seconds of each stage, with one worker and all threads, on three minutes of speech."""
    located = models.locate(chosen.model, "speech", MODELS)
    hardware = Hardware("cpu", "int8", cpu_threads=THREADS, workers=1)
    engine = Whisper(located.path, name=chosen.model, revision="", hardware=hardware)
    engine.load()
    spent: dict[str, float] = {}
    blocks = [
        block
        for path in recordings.found(recordings.DEMO)
        for block in media.read_samples(path, ffmpeg=media.find_ffmpeg())
    ]
    watched = [
        (windowing, "voiced_regions", "voice activity"),
        (ChunkDecoder, "_features", "features"),
        (ChunkDecoder, "_encode", "encoder"),
        (ChunkDecoder, "_languages", "language"),
        (ChunkDecoder, "_generate", "decoder"),
        (ChunkDecoder, "_words", "word times"),
        (ChunkDecoder, "careful", "repair"),
    ]
    started = time.monotonic()
    for path in recordings.found(recordings.DEMO):
        for _ in media.read_samples(path, ffmpeg=media.find_ffmpeg()):
            pass
    spent["ffmpeg"] = time.monotonic() - started
    with _timed(watched, spent):
        started = time.monotonic()
        heard = transcribe_one(engine, audio_source(np.concatenate(blocks)))
        wall_s = time.monotonic() - started
    spent["the rest"] = wall_s - sum(seconds for name, seconds in spent.items() if name != "ffmpeg")
    print(f"\n| stage | s for {heard.duration:.0f} s of sound | share |\n| --- | --- | --- |")
    for name, seconds in spent.items():
        print(f"| {name} | {seconds:.2f} | {seconds / (wall_s + spent['ffmpeg']):.0%} |")
    return True


@contextmanager
def _timed(watched: list[tuple[object, str, str]], spent: dict[str, float]) -> Iterator[None]:
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in watched]

    def timing(work: Callable[..., object], label: str) -> Callable[..., object]:
        def timed(*args: object, **named: object) -> object:
            started = time.monotonic()
            try:
                return work(*args, **named)
            finally:
                spent[label] = spent.get(label, 0.0) + time.monotonic() - started

        return timed

    for (owner, name, work), (_, _, label) in zip(originals, watched, strict=True):
        setattr(owner, name, timing(work, label))
    try:
        yield
    finally:
        for owner, name, work in originals:
            setattr(owner, name, work)


PARTS: dict[str, Callable[[Path, argparse.Namespace], bool]] = {
    "long": _long,
    "clips": _clips,
    "silent": _silent,
    "stages": _stages,
}


if __name__ == "__main__":
    sys.exit(main())
