"""Moments similar to a moment, and searches in one recording."""

from pathlib import Path

import pytest

from transcription_assets.embedding import Weights
from transcription_assets.search.filters import Filters, InvalidQuery
from transcription_assets.search.index import Index
from transcription_assets.search.query import MAX_LIMIT, Mode, SimilarQuery
from transcription_assets.search.searcher import Searcher
from transcription_assets_tests.search.talks import ThemeEncoder, ask, fill, keys, spoken

SAID = {
    "sea": ["The sea was calm.", "A gull.", "Nothing else.", "The sea, again."] * 8,
    "tide": ["Tides of the sea.", "They turn twice a day."],
    "bread": ["Bread is flour.", "And water."],
    "it's": ["Ice is cold.", "So is the sea."],
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    table = Index(str(tmp_path_factory.mktemp("similar")))
    fill(table, *(spoken(f"audio/{name}.mp3", *said) for name, said in SAID.items()))
    table.maintain()
    return Searcher(table, lambda _model: ThemeEncoder())


def test_similar_moments_leave_out_the_moment_itself(archive: Searcher) -> None:
    answer = archive.similar(SimilarQuery("audio/sea.mp3", 96.0, limit=MAX_LIMIT))
    assert answer.mode is Mode.VECTOR
    assert answer.hits
    own = [hit for hit in answer.hits if hit.media_key == "audio/sea.mp3"]
    assert all(hit.context_end < 96.0 or hit.context_start > 96.0 for hit in own)
    other = [hit.media_key for hit in answer.hits if hit.media_key != "audio/sea.mp3"]
    assert other.index("audio/tide.mp3") < other.index("audio/bread.mp3")


def test_similar_moments_obey_filters_and_pages(archive: Searcher) -> None:
    found = archive.similar(SimilarQuery("audio/sea.mp3", 0.5, filters=Filters(recording="audio/it's.mp3")))
    assert keys(found) == {"audio/it's.mp3"}
    first = archive.similar(SimilarQuery("audio/sea.mp3", 0.5, limit=1))
    second = archive.similar(SimilarQuery("audio/sea.mp3", 0.5, limit=1, offset=1))
    assert first.more
    assert first.hits != second.hits


def test_similar_moments_are_weak_by_the_weights_of_the_encoder(tmp_path: Path) -> None:
    encoder = ThemeEncoder("all-MiniLM-L6-v2")
    table = Index(str(tmp_path))
    fill(table, *(spoken(f"audio/{name}.mp3", *said) for name, said in SAID.items() if name != "it's"), encoder=encoder)
    searcher = Searcher(table, lambda _model: encoder)
    question = SimilarQuery("audio/sea.mp3", 0.5, limit=MAX_LIMIT)
    of_profile = {hit.media_key: hit.weak for hit in searcher.similar(question).hits}
    assert (of_profile["audio/tide.mp3"], of_profile["audio/bread.mp3"]) == (False, True)
    table.calibrate(str(encoder.model), Weights(weak_below=1.1))
    assert all(hit.weak for hit in searcher.similar(question).hits)


@pytest.mark.parametrize(("key", "second"), [("audio/sea.mp3", 1e6), ("audio/none.mp3", 0.0), ("' OR 1=1 --", 0.0)])
def test_moment_that_is_not_indexed_has_no_similar_ones(archive: Searcher, key: str, second: float) -> None:
    answer = archive.similar(SimilarQuery(key, second))
    assert answer.hits == ()
    assert answer.note


def test_nothing_is_similar_in_an_empty_index(tmp_path: Path) -> None:
    answer = Searcher(Index(str(tmp_path)), lambda _model: ThemeEncoder()).similar(SimilarQuery("audio/a.mp3", 0.0))
    assert (answer.hits, answer.passages) == ((), 0)


@pytest.mark.parametrize(
    "wrong", [{"second": -1.0}, {"second": float("nan")}, {"limit": 0}, {"offset": -1}, {"media_key": "k" * 2000}]
)
def test_similar_query_is_bounded(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidQuery):
        SimilarQuery(**{"media_key": "audio/a.mp3", "second": 0.0, **wrong})  # type: ignore[arg-type]


def test_search_in_one_recording_ignores_others_with_its_prefix(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, spoken("audio/a.mp3", "The sea."), spoken("audio/a.mp3.wav", "The sea."), spoken("audio/b.mp3", "Sea."))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert keys(ask(searcher, "sea", recording="audio/a.mp3")) == {"audio/a.mp3"}
    assert keys(ask(searcher, "sea", recording="audio/none.mp3")) == set()
