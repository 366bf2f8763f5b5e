"""Measure how often the voice of a stranger suggests a person, and how often a named person is suggested.

python -m benchmarks.suggestions VOICES [--people N]

VOICES holds recordings of one voice each, named `<speaker>-<anything>.flac` (as LibriSpeech names them; any folder
depth). Speakers with one recording are strangers to each other: N of them are named, and each of the others is compared
with all of these people. Of a speaker with several recordings one is named besides, and the others are compared. The
rule is that of the product (`domain.people.identity`), with several thresholds.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe
from transcription_assets import media, settings
from transcription_assets.domain.people import Claims, Person, identity
from transcription_assets.speakers.diariser import Bounds
from transcription_assets.speakers.local import LocalDiariser
from transcription_assets.speech import AudioSource, recognition
from transcription_assets.wiring import DIARISER_MODEL, locate_installed

THRESHOLDS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)

Vector = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", type=Path)
    parser.add_argument("--people", type=int, default=100, help="number of named people")
    chosen = parser.parse_args()
    print(describe())
    voices = voiceprints(chosen.voices)
    singles = {name: vectors[0] for name, vectors in voices.items() if len(vectors) == 1}
    named = dict(list(singles.items())[: chosen.people])
    strangers = [vector for name, vector in singles.items() if name not in named]
    several = {name: vectors for name, vectors in voices.items() if len(vectors) > 1}
    print(f"{len(named)} named people, {len(strangers)} strangers; {len(several)} people with several recordings\n")
    print("| least cosine | stranger leads to a suggestion | named person is suggested | another person is suggested |")
    print("| --- | --- | --- | --- |")
    for least in THRESHOLDS:
        wrong = sum(bool(suggested(vector, named, least)) for vector in strangers)
        answers = [
            (name, suggested(vector, {**named, name: vectors[0]}, least))
            for name, vectors in several.items()
            for vector in vectors[1:]
        ]
        right = sum(name == answer for name, answer in answers)
        other = sum(bool(answer) and name != answer for name, answer in answers)
        shares = (_share(wrong, len(strangers)), _share(right, len(answers)), _share(other, len(answers)))
        print(f"| {least:.2f} | {' | '.join(shares)} |")


def suggested(vector: Vector, named: Mapping[str, Vector], least: float) -> str:
    """Return the person (ID) whom a voice suggests, "" if nobody is."""
    cosines = {name: float(vector @ other) for name, other in named.items()}
    similar = {name: cosine for name, cosine in cosines.items() if cosine >= least}
    return identity("1", Claims(), {name: Person(name, name) for name in similar}, similar).person


def voiceprints(folder: Path) -> dict[str, Sequence[Vector]]:
    """Return the voiceprints of each speaker, one for each recording in which a voice is found."""
    chosen = settings.load()
    ffmpeg = media.find_ffmpeg(chosen.ffmpeg)
    diariser = LocalDiariser(locate_installed(chosen)(DIARISER_MODEL, "voice"))
    found: dict[str, list[Vector]] = defaultdict(list)
    for path in sorted(folder.rglob("*.flac")):
        source = _source(path, ffmpeg)
        (windows,) = recognition.plan(source)
        voiced = [(window.start + part.start, window.start + part.end) for window in windows for part in window.voiced]
        answer = diariser.diarise(source.read(0, 0.0), voiced, Bounds(1, 1))
        found[path.name.partition("-")[0]] += [np.array(one, np.float32) for one in answer.voiceprints.values()]
    return dict(found)


def _source(path: Path, ffmpeg: str) -> AudioSource:
    return AudioSource(lambda _channel, start: media.read_samples(str(path), ffmpeg=ffmpeg, start=start))


def _share(count: int, total: int) -> str:
    return f"{count} of {total} ({count / total:.1%})" if total else "none"


if __name__ == "__main__":
    main()
