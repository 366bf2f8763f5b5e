"""Weights of the ranking from labelled questions, stored beside the tables and used by searches."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from transcription_assets.cli.main import main
from transcription_assets.embedding import Weights
from transcription_assets.errors import PermanentFailure
from transcription_assets.evaluation.calibration import SENTENCE, SENTENCE_WORDS, WORDS, fit
from transcription_assets.evaluation.search_quality import Question, questions, talks
from transcription_assets.search.index import Index
from transcription_assets.search.index_files import CALIBRATIONS
from transcription_assets.search.query import Query
from transcription_assets.search.searcher import Searcher
from transcription_assets.wiring import Services
from transcription_assets_tests.search.talks import BREAD, CHESS, SEA, ThemeEncoder, fill

MODEL = "themes@1"
ASKED = [
    Question("keyword", "mast", SEA.media.key, (12.0,)),
    Question("question", "what is said about chess", CHESS.media.key, (0.0,)),
    Question("question", "something about the sea, not about bread", SEA.media.key, (0.0,)),
    Question("keyword", "baker Stunden", BREAD.media.key, (0.0,)),
    Question("none", "photosynthesis"),
]


def test_weights_are_of_the_grid_and_no_worse_than_the_defaults(library: Searcher) -> None:
    found = fit(MODEL, library, ASKED)
    assert found.mrr >= found.default_mrr
    assert found.weights.sentence in SENTENCE
    assert found.weights.words in WORDS
    assert found.weights.sentence_words in SENTENCE_WORDS
    assert 0 <= found.weights.weak_below < 1
    assert found.questions == len(ASKED)


def test_held_out_questions_are_refused(library: Searcher) -> None:
    with pytest.raises(PermanentFailure):
        fit(MODEL, library, questions(talks()))


def test_searches_use_the_weights_beside_the_table(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, SEA)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    before = searcher.find(Query("sea"))
    assert before is not None
    assert before.weights == ThemeEncoder().weights
    measured = Weights(words=0.1, weak_below=0.7)
    table.calibrate(MODEL, measured)
    table.calibrate("another@2", Weights())
    after = searcher.find(Query("sea"))
    assert after is not None
    assert after.weights == measured
    assert Index(str(tmp_path)).calibrated("another@2") == Weights()
    assert Index(str(tmp_path)).calibrated("unknown@3") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"themes@1": {"unknown": 1}}', b'{"themes@1": 3}'])
def test_damaged_calibrations_are_ignored_and_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CALIBRATIONS).write_bytes(content)
    table = Index(str(tmp_path))
    assert table.calibrated(MODEL) is None
    table.calibrate(MODEL, Weights(words=0.2))
    assert table.calibrated(MODEL) == Weights(words=0.2)


def test_evaluation_needs_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = list[Weights | None]()

    def evaluated(_encoder: object, _passage_s: float, weights: Weights | None) -> None:
        used.append(weights)
        raise PermanentFailure("enough")

    monkeypatch.setattr("transcription_assets.cli.evaluation.evaluate", evaluated)
    monkeypatch.setattr("transcription_assets.wiring.locate_installed", lambda _settings: None)
    monkeypatch.setattr(Services, "encoder", ThemeEncoder())
    monkeypatch.setenv("TRANSCRIPTION_STORE", str(tmp_path / "none"))
    assert CliRunner().invoke(main, ["eval", "search"]).exit_code == 1
    assert used == [None]
    assert not (tmp_path / "none").exists()
