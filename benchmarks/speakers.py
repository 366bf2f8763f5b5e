"""Measure diarisation: error rate, number of speakers, words, voices in other recordings, speed and memory.

python -m benchmarks.speakers VOICES [--conversations PYANNOTE] [--monologues FOLDER] [--words base] [--hours 10]

VOICES is `audio_data` of a copy of the repository resemble-ai/Resemblyzer, PYANNOTE a copy of pyannote/pyannote-audio.
The dialogues are made first (`benchmarks.dialogues`), in a folder that is deleted in the end, or in `--work`. Speed is
that of one thread by its CPU time, so other work on the machine matters little; memory is the peak of a fresh process
that finds the speakers of the dialogues, repeated for `--hours`.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import dialogues, recordings
from benchmarks.machine import MODELS, ROOT, describe, environment
from transcription_assets import media, models, settings
from transcription_assets.evaluation import speakers as evaluation
from transcription_assets.evaluation.diarisation import DiarisationError
from transcription_assets.evaluation.speakers import Judged, SpeakerFigures, Transcribe
from transcription_assets.media import find_ffmpeg
from transcription_assets.speakers.diariser import Bounds, Diariser
from transcription_assets.speakers.local import LocalDiariser
from transcription_assets.speech import SAMPLE_RATE, AudioSource, Samples
from transcription_assets.wiring import Services, locate_installed

ERROR_BAR, COUNT_BAR, WORDS_BAR, FOUND_BAR, SPEED_BAR, MEMORY_BAR_MB = 0.05, 0.9, 0.95, 0.85, 40.0, 1000.0
MODEL = "campplus-segmentation"
HELD_OUT, OTHER_VOICES, REAL = "dialogues, held out", "dialogues of ten other voices", "real conversations"


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak of the resident memory, CPU time and number of speakers of a long recording."""

    hours: float
    peak_mb: float
    cpu_s: float
    speakers: int


def main() -> int:
    """Print the tables, and return 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", type=Path)
    parser.add_argument("--conversations", type=Path, help="copy of pyannote-audio, for its labelled excerpts")
    parser.add_argument("--monologues", type=Path, help="folder of recordings of one voice, besides the demo's")
    parser.add_argument("--words", help="speech model with which the words of the held-out dialogues are counted")
    parser.add_argument("--hours", type=float, default=0.0, help="length of the recording for memory; 0 = none")
    parser.add_argument("--work", type=Path, help="folder for the dialogues; kept")
    parser.add_argument("--long", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.long:
        print(json.dumps(_long(chosen.voices, chosen.hours)))
        return 0
    os.environ["OMP_NUM_THREADS"] = "1"
    print(describe(), end="\n\n")
    with tempfile.TemporaryDirectory() as place:
        return 0 if _measure(chosen, chosen.work or Path(place)) else 1


def _measure(chosen: argparse.Namespace, work: Path) -> bool:
    import torch

    torch.set_num_threads(1)
    diariser = LocalDiariser(models.locate(MODEL, "voice", MODELS))
    sets = make_sets(chosen.voices, chosen.conversations, work)
    transcribe = transcriber(chosen.words) if chosen.words else None
    held: SpeakerFigures | None = None
    others: SpeakerFigures | None = None
    print("| set | recordings | DER | missed / false / confused | right number | right, speakers under 3 s optional |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, folder in sets.items():
        judged = list(
            evaluation.evaluate(folder, diariser, find_ffmpeg(), Bounds(), transcribe if name == HELD_OUT else None)
        )
        figures = evaluation.figures(judged)
        print(row(name, judged, figures), flush=True)
        held = figures if name == HELD_OUT else held
        others = figures if name == OTHER_VOICES else others
    assert held is not None
    assert others is not None
    numbers = dict(monologues(diariser, chosen.monologues))
    print("\nspeakers of recordings of one voice: " + ", ".join(f"{name} {count}" for name, count in numbers.items()))
    peak = long(sets[HELD_OUT], chosen.hours) if chosen.hours else None
    print("\n| measure | bar | measured | |\n| --- | --- | --- | --- |")
    return all([*_bars(held, others, numbers, peak)])


def make_sets(voices: Path, conversations: Path | None, work: Path) -> dict[str, Path]:
    """Make the dialogues that are missing in `work`, and return the folder of each set.

    Raises:
        TranscriptionError: a voice cannot be decoded, or there is no ffmpeg.
        OSError: a file cannot be read or written.

    """
    sets = {HELD_OUT: work / "held", OTHER_VOICES: work / "ten"}
    if not sets[HELD_OUT].exists():
        found = dialogues.voices_in(voices / "librispeech_train-clean-100")[1::2]
        dialogues.make(found, sets[HELD_OUT], count=50, seconds=90.0, overlap=0.0, seed=1)
    if not sets[OTHER_VOICES].exists():
        found = dialogues.voices_in(voices / "librispeech_test-other")
        dialogues.make(found, sets[OTHER_VOICES], count=20, seconds=90.0, overlap=0.0, seed=1)
    if conversations:
        for part, names in (("AMI dev and test, a telephone call", ("development", "test")), ("AMI train", ("train",))):
            sets[f"{REAL}, {part}"] = work / names[0]
            if not (work / names[0]).exists():
                excerpts(conversations, work / names[0], names)
    return sets


def excerpts(source: Path, target: Path, parts: Sequence[str]) -> None:
    """Copy the labelled excerpts of pyannote-audio's tests (and its sample) with an RTTM file for each.

    Raises:
        OSError: a file cannot be read or written.

    """
    target.mkdir(parents=True)
    data = source / "tests" / "data"
    lines = [line for part in parts for line in (data / f"debug.{part}.rttm").read_text("utf-8").splitlines()]
    found = {ascii_name(path.stem): path for path in data.glob("*.wav")}
    for name in dict.fromkeys(line.split()[1] for line in lines):
        own = [line for line in lines if line.split()[1] == name]
        shutil.copy(found[name], target / f"{name}.wav")
        (target / f"{name}.rttm").write_text("\n".join(own) + "\n", "utf-8")
    if "test" in parts:
        for suffix in (".wav", ".rttm"):
            shutil.copy(source / "src" / "pyannote" / "audio" / "sample" / f"sample{suffix}", target)


def ascii_name(name: str) -> str:
    """Return a name without accents."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def row(name: str, judged: Sequence[Judged], found: SpeakerFigures) -> str:
    """Return the row of a set in the table."""
    error = sum((item.error for item in judged), DiarisationError())
    kinds = " / ".join(f"{part / error.speech:.1%}" for part in (error.missed, error.false_alarm, error.confused))
    return (
        f"| {name} | {found.recordings} ({found.duration / 60:.0f} min) | {found.error:.1%} | {kinds} "
        f"| {found.right_count:.0%} | {found.right_count_without_brief:.0%} |"
    )


def transcriber(model: str) -> Transcribe:
    """Return the function that transcribes with this speech model, in one thread.

    Raises:
        TranscriptionError: a setting is invalid.

    """
    chosen = settings.load().model_copy(update={"whisper_model": model, "models_dir": MODELS})
    services = Services(chosen, locate_installed(chosen))
    return services.segments_of


def monologues(diariser: Diariser, more: Path | None) -> Iterator[tuple[str, int]]:
    """Yield the number of speakers that are found in each recording of one voice.

    Raises:
        TranscriptionError: a recording cannot be decoded, or the weights cannot be loaded.

    """
    ffmpeg = find_ffmpeg()
    for path in [*recordings.found(recordings.DEMO), *(recordings.found(more) if more else [])]:
        source = AudioSource(lambda _channel, start: media.read_samples(str(path), ffmpeg=ffmpeg, start=start))  # noqa: B023 -- read here
        found = diariser.diarise(source.read(0, 0.0), evaluation.speech_of(source)[1], Bounds())
        yield path.stem, len(found.voiceprints)


def long(folder: Path, hours: float) -> Peak:
    """Measure a fresh process that finds the speakers of the recordings of a folder, repeated for `hours`.

    Raises:
        subprocess.CalledProcessError: the process failed.

    """
    command = [sys.executable, "-m", "benchmarks.speakers", str(folder), "--long", "--hours", str(hours)]
    ran = subprocess.run(command, cwd=ROOT, env=environment({}), check=True, capture_output=True, text=True)
    return Peak(hours, **json.loads(ran.stdout.splitlines()[-1]))


def _long(folder: Path, hours: float) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    diariser = LocalDiariser(models.locate(MODEL, "voice", MODELS))
    started = time.process_time()
    found = diariser.diarise(_repeated(folder, hours * 3600), [(0.0, hours * 3600)], Bounds())
    cpu_s = time.process_time() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"peak_mb": peak_mb, "cpu_s": cpu_s, "speakers": len(found.voiceprints)}


def _repeated(folder: Path, seconds: float) -> Iterator[Samples]:
    left = round(seconds * SAMPLE_RATE)
    while left > 0:
        for path in recordings.found(folder):
            for block in media.read_samples(str(path), ffmpeg=find_ffmpeg()):
                yield block[:left]
                left -= len(block)
                if left <= 0:
                    return


def _bars(
    held: SpeakerFigures, others: SpeakerFigures, numbers: Mapping[str, int], peak: Peak | None
) -> Iterator[bool]:
    """Print a row for each bar, and yield whether it is held."""
    one = sum(number == 1 for number in numbers.values())
    yield _bar("DER on dialogues of 2 to 5 real voices", "≤ 5 %", f"{held.error:.1%}", held.error <= ERROR_BAR)
    yield _bar(
        "right number of speakers", "≥ 90 % of 50 dialogues", f"{held.right_count:.0%}", held.right_count >= COUNT_BAR
    )
    yield _bar("one speaker in a monologue", "all", f"{one} of {len(numbers)}", one == len(numbers))
    if held.words:
        shown = f"{held.right_words:.1%} of {held.words}"
        yield _bar("words with the right speaker", "≥ 95 %", shown, held.right_words >= WORDS_BAR)
    if others.recognised is not None and others.equal_error is not None:
        shown = f"{others.recognised:.0%} (equal error rate {others.equal_error:.2%})"
        kind = "same voice in another recording, 1 % false accepts"
        yield _bar(kind, "≥ 85 %", shown, others.recognised >= FOUND_BAR)
    speed = (held.duration + others.duration) / (held.cpu_s + others.cpu_s)
    yield _bar("speed on 2 cores", "≥ 40 × real time", f"{speed:.0f} × on one thread", speed >= SPEED_BAR)
    if peak:
        shown = f"{peak.peak_mb:.0f} MB for {peak.hours:g} h, {peak.hours * 3600 / peak.cpu_s:.0f} × real time"
        yield _bar("memory", "≤ 1 GB for 10 h", shown, peak.peak_mb <= MEMORY_BAR_MB)


def _bar(measure: str, bar: str, shown: str, held: bool) -> bool:  # noqa: FBT001 -- a private function of a table
    print(f"| {measure} | {bar} | {shown} | {'held' if held else '**missed**'} |")
    return held


if __name__ == "__main__":
    sys.exit(main())
