"""The labelled search set, its figures, and hybrid search compared with each single mode."""

import json
from itertools import pairwise

import pytest

from transcription_assets import models, settings
from transcription_assets.cli.evaluation import document
from transcription_assets.embedding import SentenceEncoder
from transcription_assets.evaluation.labelled_search import Evaluation, evaluate
from transcription_assets.evaluation.search_quality import (
    CLOSE_S,
    KINDS,
    SET,
    TOLERANCE_S,
    Question,
    figures,
    interval,
    judge,
    questions,
    talks,
    tuning_questions,
)
from transcription_assets.search.query import Hit, Mode
from transcription_assets_tests.demo import TOLD


def hit(key: str, start: float, *, weak: bool = False) -> Hit:
    return Hit(key, key, start, start + 1, "a b", (0, 1), (), start, start + 1, 0.5, weak, "en", None, None, None)


def test_the_set_has_enough_talks_and_questions_of_every_kind() -> None:
    said = talks()
    asked = questions(said)
    assert len(said) >= 15
    assert len([talk for talk in said if talk.transcript.duration > 100]) >= 10
    assert {talk.transcript.language for talk in said} == {"en", "de", "es", "fr", "it", "pt", "ru"}
    assert sum(talk.transcript.media.key.startswith("audio/human/") for talk in said) == 4
    assert len(asked) >= 250
    counted = {kind: sum(question.kind == kind for question in asked) for kind in KINDS}
    assert sum(counted.values()) == len(asked)
    assert min(counted.values()) >= 8
    assert all(bool(question.media_key) == (question.kind != "none") for question in asked)
    assert len({question.text for question in asked}) == len(asked)


def test_at_least_half_of_the_questions_are_held_out() -> None:
    said = talks()
    asked, tuning = questions(said), tuning_questions(said)
    held_out = [question for question in asked if question.held_out]
    assert not any(question.held_out for question in tuning)
    assert len(held_out) >= len(asked) / 2
    assert {question.kind for question in held_out} == set(KINDS)
    assert {*tuning, *held_out} == {*asked}


def test_interval_holds_the_mean_and_narrows_with_more_values() -> None:
    few, many = interval([0.0, 1.0] * 10), interval([0.0, 1.0] * 1000)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]
    assert interval([1.0] * 9) == (1.0, 1.0)
    assert interval([]) == (0.0, 0.0)


def test_times_of_the_talks_increase_and_are_reproducible() -> None:
    said = talks()
    assert said == talks()
    for talk in said:
        words = talk.transcript.words
        assert all(a.start <= a.end <= b.start + 0.001 for a, b in pairwise(words))
        assert words[-1].end <= talk.transcript.duration


def test_the_demo_in_the_set_equals_the_demo_file() -> None:
    assert (SET / "demo.json").read_bytes() == TOLD.read_bytes()


def test_a_hit_counts_only_near_the_time_in_the_right_recording() -> None:
    asked = Question("keyword", "x", "a", (50.0, 80.0))
    assert judge(asked, [hit("a", 50 + TOLERANCE_S)]).rank == 1
    assert judge(asked, [hit("a", 50 + TOLERANCE_S + 0.1), hit("b", 50), hit("a", 79)]).rank == 3
    assert judge(asked, [hit("b", 50)]).off_s is None
    assert judge(asked, [hit("a", 60.5)]).off_s == 10.5
    assert judge(asked, []).rank == 0
    assert judge(asked, [hit("a", 57.0), hit("a", 76.0)], CLOSE_S).rank == 2


def test_the_figures_match_their_definitions() -> None:
    asked = Question("keyword", "x", "a", (50.0,))
    nowhere = Question("none", "y")
    found = figures(
        [
            judge(asked, [hit("a", 50.0, weak=True)]),
            judge(asked, [hit("b", 1.0), hit("a", 52.0)]),
            judge(nowhere, [hit("b", 1.0, weak=True)]),
            judge(nowhere, [hit("b", 1.0)]),
        ]
    )
    assert (found.hit_1, found.hit_5, found.mrr) == (0.5, 1.0, 0.75)
    assert (found.admitted, found.doubted, found.off_s) == (0.5, 1.0, 0.0)


@pytest.fixture(scope="module")
def made() -> Evaluation:
    chosen = settings.load()
    located = models.pull(chosen.encoder_model, "encoder", chosen.models_dir)
    encoder = SentenceEncoder(located.path, name=located.name, revision=located.revision, device="cpu")
    return evaluate(encoder, chosen.passage_s)


@pytest.mark.models
@pytest.mark.timeout(1200)  # three modes of 304 questions with a real encoder
def test_hybrid_search_is_at_least_as_good_as_each_alone(made: Evaluation) -> None:
    for half in (made.tuning, made.held_out):
        together, meaning, words = (half.overall[mode] for mode in Mode)
        assert together.mrr >= max(meaning.mrr, words.mrr)
        assert together.hit_1_interval[0] <= together.hit_1 <= together.hit_1_interval[1]
        assert together.off_s <= 1.0
        assert half.close[Mode.HYBRID].hit_1 <= together.hit_1
    assert made.held_out.close_by_kind["number"][Mode.HYBRID].hit_1 >= 0.9
    assert made.held_out.close_by_kind["keyword"][Mode.HYBRID].hit_1 >= 0.9


@pytest.mark.models
@pytest.mark.timeout(1200)
def test_the_evaluation_can_be_written_as_json(made: Evaluation) -> None:
    read = json.loads(json.dumps(document(made)))
    assert set(read["held_out"]["overall"]) == {"hybrid", "vector", "text"}
    assert len(read["questions"]) == made.both.overall[Mode.HYBRID].questions
