"""Evaluation of a diariser on labelled recordings: a folder with audio files and an RTTM file beside each."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from transcription_assets import media
from transcription_assets.domain.media_keys import is_media
from transcription_assets.domain.speakers import Turn, segments_of
from transcription_assets.domain.transcript import Segment, Span, Word
from transcription_assets.errors import PermanentFailure
from transcription_assets.evaluation.diarisation import (
    COLLAR_S,
    DiarisationError,
    Labelled,
    equal_error_rate,
    found_at,
    mapping,
    score,
)
from transcription_assets.speakers.diariser import Bounds, Diariser
from transcription_assets.speech import AudioSource, recognition

FALSE_ACCEPTS = 0.01
BRIEF_S = 3.0
"""Speakers of the reference with less speech are left out of the second count."""

Transcribe = Callable[[Path], Sequence[Segment]]
"""Function that returns the words of a recording."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One recording: errors with overlap (and without), speakers, and words with the right speaker.

    `brief` is the number of reference speakers with less than BRIEF_S of speech.
    """

    name: str
    duration: float
    error: DiarisationError
    error_alone: DiarisationError
    speakers: int
    found: int
    brief: int
    words: int
    right_words: int
    cpu_s: float
    voiceprints: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By speaker of the reference."""


@dataclass(frozen=True, slots=True)
class SpeakerFigures:
    """Figures of a set. `equal_error` and `recognised` (at FALSE_ACCEPTS) compare voices between recordings."""

    recordings: int
    duration: float
    error: float
    error_alone: float
    right_count: float
    right_count_without_brief: float
    words: int
    right_words: float
    cpu_s: float
    equal_error: float | None
    recognised: float | None
    threshold: float | None


def evaluate(
    folder: Path, diariser: Diariser, ffmpeg: str, bounds: Bounds, transcribe: Transcribe | None
) -> Iterator[Judged]:
    """Yield each labelled recording of the folder, judged; words only with `transcribe`.

    Raises:
        PermanentFailure: the folder has no labelled recording, or an RTTM file is damaged.
        TranscriptionError: a recording cannot be decoded, or the weights cannot be loaded.
        OSError: a file cannot be read.

    """
    labelled = [path for path in sorted(folder.iterdir()) if is_media(path.name) and path.with_suffix(".rttm").exists()]
    if not labelled:
        raise PermanentFailure(f"{folder} has no recording with an RTTM file (the same name, suffix .rttm) beside it")
    for path in labelled:
        yield judge(path, diariser, ffmpeg, bounds, transcribe)


def judge(path: Path, diariser: Diariser, ffmpeg: str, bounds: Bounds, transcribe: Transcribe | None) -> Judged:
    """Diarise one recording and compare it with its RTTM file.

    Raises:
        PermanentFailure: the RTTM file is damaged.
        TranscriptionError: the recording cannot be decoded, or the weights cannot be loaded.
        OSError: a file cannot be read.

    """
    reference = read_rttm(path.with_suffix(".rttm"))
    source = AudioSource(lambda _channel, start: media.read_samples(str(path), ffmpeg=ffmpeg, start=start))
    duration, voiced = speech_of(source)
    started = time.process_time()
    found = diariser.diarise(source.read(0, 0.0), voiced, bounds)
    cpu_s = time.process_time() - started
    turns: list[Labelled] = [(turn.start, turn.end, turn.label) for turn in found.turns]
    names = mapping(reference, turns)
    words = _words(transcribe(path), found.turns, reference, names) if transcribe else (0, 0)
    seconds: dict[str, float] = {}
    for start, end, name in reference:
        seconds[name] = seconds.get(name, 0.0) + end - start
    return Judged(
        path.stem,
        duration,
        score(reference, turns),
        score(reference, turns, with_overlap=False),
        len(seconds),
        len(found.voiceprints),
        sum(length < BRIEF_S for length in seconds.values()),
        *words,
        cpu_s,
        {names[label]: vector for label, vector in found.voiceprints.items() if label in names},
    )


def speech_of(source: AudioSource) -> tuple[float, list[Span]]:
    """Return the length of the first channel, and its spans with speech by voice activity detection, in seconds.

    Raises:
        TranscriptionError: the recording cannot be decoded.

    """
    windows = recognition.plan(source)[0]
    voiced = [
        (window.start + region.start, window.start + region.end) for window in windows for region in window.voiced
    ]
    return (windows[-1].end if windows else 0.0), voiced


def read_rttm(path: Path) -> list[Labelled]:
    """Return (start, end, speaker) of each SPEAKER line.

    Raises:
        PermanentFailure: a line is damaged.
        OSError: the file cannot be read.

    """
    turns: list[Labelled] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start, length, name = float(fields[3]), float(fields[4]), fields[7]
        except (IndexError, ValueError) as error:
            raise PermanentFailure(f"{path}, line {number}: not a SPEAKER line of RTTM") from error
        turns.append((start, start + length, name))
    return turns


def figures(judged: Sequence[Judged]) -> SpeakerFigures:
    """Return the figures of a set."""
    error = sum((item.error for item in judged), DiarisationError())
    alone = sum((item.error_alone for item in judged), DiarisationError())
    words = sum(item.words for item in judged)
    same, different = _pairs(judged)
    compared = same and different
    recognised, threshold = found_at(same, different, FALSE_ACCEPTS) if compared else (None, None)
    return SpeakerFigures(
        len(judged),
        sum(item.duration for item in judged),
        error.rate,
        alone.rate,
        _share([item.found == item.speakers for item in judged]),
        _share([item.speakers - item.brief <= item.found <= item.speakers for item in judged]),
        words,
        sum(item.right_words for item in judged) / words if words else 0.0,
        sum(item.cpu_s for item in judged),
        equal_error_rate(same, different)[0] if compared else None,
        recognised,
        threshold,
    )


def _share(answers: Sequence[bool]) -> float:
    return sum(answers) / len(answers) if answers else 0.0


def _pairs(judged: Sequence[Judged]) -> tuple[list[float], list[float]]:
    """Return the similarities of the same and of different voices, each pair from two recordings."""
    same: list[float] = []
    different: list[float] = []
    for first, second in combinations(judged, 2):
        for name, vector in first.voiceprints.items():
            for other, another in second.voiceprints.items():
                cosine = sum(a * b for a, b in zip(vector, another, strict=True))
                (same if name == other else different).append(cosine)
    return same, different


def _words(
    segments: Sequence[Segment], turns: Sequence[Turn], reference: Sequence[Labelled], names: Mapping[str, str]
) -> tuple[int, int]:
    """Return the number of words with a speaker in the reference, and of those with the right one."""
    truth = [Turn(start, end, name) for start, end, name in sorted(reference)]
    said = right = 0
    for segment in segments_of(segments, turns, names) if turns else segments:
        for word in segment.words:
            speakers = _speaking(word, truth)
            said += bool(speakers)
            right += segment.speaker in speakers
    return said, right


def _speaking(word: Word, truth: Sequence[Turn]) -> set[str]:
    middle = (word.start + word.end) / 2
    return {turn.label for turn in truth if turn.start - COLLAR_S <= middle <= turn.end + COLLAR_S}
