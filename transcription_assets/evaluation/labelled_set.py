"""Talks of the labelled set as transcripts: the demo's with times from its recordings, others with synthetic times.

The others were never spoken: the length of each word follows from its letters, so that times can be evaluated.
"""

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transcription_assets.domain.transcript import Media, Segment, SpeechModel, Transcript, Word
from transcription_assets.errors import PermanentFailure

SET = Path(__file__).parent / "set"

WORD_S = 0.12
LETTER_S = 0.065
PAUSE_S = 0.5
BREATH_S = 1.0
BREATH_EVERY = 5
KINDS = ("keyword", "name", "number", "paraphrase", "question", "cross-language", "none")


@dataclass(frozen=True, slots=True)
class Talk:
    """A recording of the set: its transcript, and its title for display."""

    title: str
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the moments of one recording that answer it (seconds); none if it is unanswerable."""

    kind: str
    text: str
    media_key: str = ""
    starts: tuple[float, ...] = ()


def talks() -> list[Talk]:
    """Return all talks of the set, in a fixed order."""
    demo = json.loads((SET / "demo.json").read_text(encoding="utf-8"))
    made = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted((SET / "talks").glob("*.toml"))]
    return [_recorded(item) for item in demo] + [_made(item) for item in made]


def questions(said: Sequence[Talk]) -> list[Question]:
    """Return all questions, with the times of their true moments.

    Raises:
        PermanentFailure: the words of a true moment do not occur exactly once in the talks, or moments of one question
            are in several recordings.

    """
    document = tomllib.loads((SET / "queries.toml").read_text(encoding="utf-8"))
    return [_question(item, said) for item in document["queries"]]


def _question(item: dict[str, Any], said: Sequence[Talk]) -> Question:
    wanted = [item["said"]] if isinstance(item["said"], str) else item["said"]
    places = [_place(words, said) for words in wanted if words]
    if len({key for key, _ in places}) > 1:
        raise PermanentFailure(f"{item['text']!r} of the labelled set has its moments in several recordings")
    return Question(item["kind"], item["text"], places[0][0] if places else "", tuple(start for _, start in places))


def _place(words: str, said: Sequence[Talk]) -> tuple[str, float]:
    places = [
        (talk.transcript.media.key, segment.start)
        for talk in said
        for segment in talk.transcript.segments
        if words in segment.text
    ]
    if len(places) != 1:
        raise PermanentFailure(f"{words!r} of the labelled set is said {len(places)} times in its talks, not once")
    return places[0]


def _recorded(item: dict[str, Any]) -> Talk:
    """Build a talk with the recorded times of its sentences; words share their sentence's time by their letters."""
    segments = [
        _segment(number, sentence["text"], sentence["start"], sentence["end"])
        for number, sentence in enumerate(item["sentences"])
    ]
    return _talk(item, f"video/{item['file']}", segments)


def _made(item: dict[str, Any]) -> Talk:
    segments, clock = [], PAUSE_S
    for number, text in enumerate(item["spoken"]):
        end = clock + sum(WORD_S + LETTER_S * len(word) for word in text.split())
        segments.append(_segment(number, text, clock, end))
        clock = end + (BREATH_S if number % BREATH_EVERY == BREATH_EVERY - 1 else PAUSE_S)
    return _talk(item, item["file"], segments)


def _segment(number: int, text: str, start: float, end: float) -> Segment:
    words = tuple(_words(text, start, end))
    return Segment(number, words[0].start, words[-1].end, text, words, -0.2, 0.01, 1.2)


def _words(text: str, start: float, end: float) -> Iterator[Word]:
    spoken = text.split()
    lengths = [WORD_S + LETTER_S * len(word) for word in spoken]
    share = (end - start) / sum(lengths)
    for word, length in zip(spoken, lengths, strict=True):
        last = start + share * length
        yield Word(round(start, 3), round(last, 3), f" {word}", 0.9)
        start = last


def _talk(item: dict[str, Any], key: str, segments: Sequence[Segment]) -> Talk:
    transcript = Transcript(
        filename=key.rpartition("/")[2],
        language=item["language"],
        language_probability=1.0,
        duration=segments[-1].end + PAUSE_S,
        segments=tuple(segments),
        media=Media(key, "evaluation"),
        model=SpeechModel("evaluation", "1", "none", "none"),
    )
    return Talk(item["title"], transcript)
