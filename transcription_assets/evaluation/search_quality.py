"""Quality of search: a labelled set of talks and questions, and the metrics of answers.

The talks of the demo and those of people (`human.json`, as Whisper base understood them, errors included) have times
from their recordings. The others were never spoken: the length of each word follows from its letters, so that times can
be evaluated. The metrics are hit@1, hit@5, mean reciprocal rank, time error, and the detection of unanswerable
questions, with 95 % confidence intervals (bootstrap over the questions).

Half of the questions are held out: weights, limits and rules of the search may be chosen with the others only.
"""

import json
import statistics
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from transcription_assets.domain.transcript import Media, Segment, SpeechModel, Transcript, Word
from transcription_assets.errors import PermanentFailure
from transcription_assets.search.query import Hit

SET = Path(__file__).parent / "set"

WORD_S = 0.12
LETTER_S = 0.065
PAUSE_S = 0.5
BREATH_S = 1.0
BREATH_EVERY = 5
KINDS = ("keyword", "name", "typo", "number", "paraphrase", "question", "cross-language", "none")

TOLERANCE_S = 10.0
"""A hit is correct if it starts at most this many seconds from the true moment."""
CLOSE_S = 5.0
"""Stricter tolerance: the sentence itself, or a neighbouring one."""
DEPTH = 10
RESAMPLES = 2000
"""Samples of the questions, with replacement, from which an interval is estimated."""
TUNING, HELD_OUT = "queries.toml", "held-out.toml"


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
    held_out: bool = False


def talks() -> list[Talk]:
    """Return all talks of the set, in a fixed order."""
    demo = json.loads((SET / "demo.json").read_text(encoding="utf-8"))
    human = json.loads((SET / "human.json").read_text(encoding="utf-8"))
    documents = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted((SET / "talks").glob("*.toml"))]
    recorded = [_recorded(item, f"video/{item['file']}") for item in demo]
    recorded += [_recorded(item, item["file"]) for item in human]
    return recorded + [_synthetic(item) for item in documents]


def questions(recorded: Sequence[Talk]) -> list[Question]:
    """Return all questions, those for tuning first, with the times of their true moments.

    Raises:
        PermanentFailure: as `tuning_questions` does.

    """
    return tuning_questions(recorded) + _read(HELD_OUT, recorded)


def tuning_questions(recorded: Sequence[Talk]) -> list[Question]:
    """Return the questions by which weights and limits may be chosen, with the times of their true moments.

    Raises:
        PermanentFailure: the words of a true moment do not occur exactly once in the talks, or moments of one question
            are in several recordings.

    """
    return _read(TUNING, recorded)


def _read(file: str, recorded: Sequence[Talk]) -> list[Question]:
    document = tomllib.loads((SET / file).read_text(encoding="utf-8"))
    return [_question(item, recorded, held_out=file == HELD_OUT) for item in document["queries"]]


def _question(item: dict[str, Any], recorded: Sequence[Talk], *, held_out: bool) -> Question:
    passages = [item["said"]] if isinstance(item["said"], str) else item["said"]
    places = [_place(words, recorded) for words in passages if words]
    if len({key for key, _ in places}) > 1:
        raise PermanentFailure(f"{item['text']!r} of the labelled set has true moments in several recordings")
    key = places[0][0] if places else ""
    return Question(item["kind"], item["text"], key, tuple(start for _, start in places), held_out)


def _place(words: str, recorded: Sequence[Talk]) -> tuple[str, float]:
    places = [
        (talk.transcript.media.key, segment.start)
        for talk in recorded
        for segment in talk.transcript.segments
        if words in segment.text
    ]
    if len(places) != 1:
        raise PermanentFailure(f"{words!r} of the labelled set occurs {len(places)} times in its talks, not once")
    return places[0]


def _recorded(item: dict[str, Any], key: str) -> Talk:
    """Build a talk with the recorded times of its sentences; words share their sentence's time by their letters."""
    segments = [
        replace(
            _segment(number, sentence["text"], sentence["start"], sentence["end"]),
            language=sentence.get("language", item["language"]),
        )
        for number, sentence in enumerate(item["sentences"])
    ]
    return _talk(item, key, segments)


def _synthetic(item: dict[str, Any]) -> Talk:
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


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with the rank of its true moment (0 = not in the answer) and the time error of the first hit.

    `off_s` is None if the first hit is in another recording; `is_weak` says whether there is no hit or the first is
    weak.
    """

    question: Question
    rank: int
    off_s: float | None
    is_weak: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """Metrics over questions: shares, and the median time error (seconds) of first hits in the right recording.

    The intervals hold 95 % of the values of resampled questions. `admitted` is the share of unanswerable questions
    whose answer is weak, `doubted` the share of correct first hits that are marked weak; each is 0.0 if there are none.
    """

    questions: int
    hit_1: float
    hit_5: float
    mrr: float
    off_s: float
    admitted: float
    doubted: float
    hit_1_interval: tuple[float, float] = (0.0, 0.0)
    mrr_interval: tuple[float, float] = (0.0, 0.0)


def judge(question: Question, hits: Sequence[Hit], tolerance_s: float = TOLERANCE_S) -> Judged:
    """Compare the hits with the true moments of the question."""
    ranks = [rank for rank, hit in enumerate(hits[:DEPTH], 1) if _is_correct(question, hit, tolerance_s)]
    first = hits[0] if hits else None
    off_s = _off(question, first) if first and first.media_key == question.media_key else None
    return Judged(question, ranks[0] if ranks else 0, off_s, first is None or first.weak)


def figures(judged: Sequence[Judged]) -> Figures:
    """Compute the metrics of judged questions."""
    answerable = [item for item in judged if item.question.media_key]
    unanswerable = [item for item in judged if not item.question.media_key]
    correct = [item for item in answerable if item.rank == 1]
    first = [float(item.rank == 1) for item in answerable]
    reciprocal = [1 / item.rank if item.rank else 0.0 for item in answerable]
    return Figures(
        questions=len(judged),
        hit_1=_share(first),
        hit_5=_share([1 <= item.rank <= 5 for item in answerable]),  # noqa: PLR2004 -- hit@5
        mrr=_share(reciprocal),
        off_s=round(statistics.median([item.off_s for item in answerable if item.off_s is not None] or [0.0]), 2),
        admitted=_share([item.is_weak for item in unanswerable]),
        doubted=_share([item.is_weak for item in correct]),
        hit_1_interval=interval(first),
        mrr_interval=interval(reciprocal),
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the mean, by the percentiles of resampled means; reproducible."""
    if not values:
        return 0.0, 0.0
    chance = np.random.default_rng(0)
    drawn = np.asarray(values)[chance.integers(0, len(values), (RESAMPLES, len(values)))]
    low, high = np.percentile(drawn.mean(axis=1), [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def _is_correct(question: Question, hit: Hit, tolerance_s: float) -> bool:
    return hit.media_key == question.media_key and _off(question, hit) <= tolerance_s


def _off(question: Question, hit: Hit) -> float:
    return min(abs(hit.start - start) for start in question.starts)


def _share(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), 4) if values else 0.0
