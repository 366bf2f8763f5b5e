"""Pages of an answer: together they hold every moment once, and the first one costs no more than it must."""

from pathlib import Path

import pytest

from transcription_assets.search import searcher
from transcription_assets.search.index import Index
from transcription_assets.search.query import Answer, Hit, Mode, Query, SimilarQuery
from transcription_assets.search.searcher import FEWEST, GROWTH, Searcher
from transcription_assets_tests.search.talks import ThemeEncoder, fill, spoken

LONG, SHORT = 100, 40
"""Sentences of one long recording, and recordings of one sentence."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    """A search over a long recording and many short ones, all of them about the river and the sea."""
    table = Index(str(tmp_path_factory.mktemp("pages")))
    long = spoken("audio/long.mp3", *(f"Part {number}: the river runs into the sea." for number in range(LONG)))
    said = [f"{'So ' * (number % 7)}{'down ' * (number % 11)} the river to the sea." for number in range(SHORT)]
    fill(table, long, *(spoken(f"audio/short/{number}.mp3", text) for number, text in enumerate(said)))
    table.maintain()
    return Searcher(table, lambda _model: ThemeEncoder())


def pages(archive: Searcher, question: Query | SimilarQuery, limit: int) -> list[Hit]:
    """Follow `offset` until there is no more, and return the hits of all pages."""
    hits: list[Hit] = []
    while True:
        answer = page(archive, question, limit, len(hits))
        hits += answer.hits
        if not answer.more:
            return hits
        assert answer.hits


def page(archive: Searcher, question: Query | SimilarQuery, limit: int, offset: int) -> Answer:
    if isinstance(question, Query):
        return archive.search(Query(question.text, limit, offset, question.mode))
    return archive.similar(SimilarQuery(question.media_key, question.second, limit, offset))


@pytest.mark.parametrize("limit", [10, 25])
@pytest.mark.parametrize(
    "question",
    [
        Query('"the river"'),
        Query("the river", mode=Mode.TEXT),
        Query("down to the sea", mode=Mode.VECTOR),
        SimilarQuery("audio/long.mp3", 200.0),
    ],
)
def test_pages_hold_every_moment_exactly_once(archive: Searcher, question: Query | SimilarQuery, limit: int) -> None:
    hits = pages(archive, question, limit)
    places = [(hit.media_key, hit.start) for hit in hits]
    assert len(places) == len(set(places))
    assert {key for key, _ in places} == {"audio/long.mp3", *(f"audio/short/{number}.mp3" for number in range(SHORT))}
    long = sorted(hit.context_start for hit in hits if hit.media_key == "audio/long.mp3")
    gaps = [later - earlier for earlier, later in zip([0.0, *long], [*long, LONG * 6.0], strict=True)]
    assert max(gaps) < 60.0


def test_only_later_pages_rank_more_passages(archive: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, search_vectors = list[int](), Index.search_vectors
    monkeypatch.setattr(
        Index,
        "search_vectors",
        lambda self, pinned, vector, filters, most: (
            wanted.append(most),
            search_vectors(self, pinned, vector, filters, most),
        )[1],
    )
    encoded, encode = list[str](), ThemeEncoder.encode_query
    monkeypatch.setattr(ThemeEncoder, "encode_query", lambda self, text: (encoded.append(text), encode(self, text))[1])
    archive.search(Query("the river"))
    assert wanted == [FEWEST]
    wanted.clear()
    archive.search(Query("the river", offset=10))
    assert wanted == [FEWEST, FEWEST * GROWTH]
    assert encoded == ["the river"] * 2


def test_last_page_that_can_be_asked_for_has_no_more(archive: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searcher, "MAX_OFFSET", 20)
    for question in (Query("the river"), SimilarQuery("audio/long.mp3", 200.0)):
        answers = [page(archive, question, 10, offset) for offset in (0, 10, 20)]
        assert [answer.more for answer in answers] == [True, True, False]
        assert [len(answer.hits) for answer in answers] == [10, 10, 10]


def test_first_page_of_few_merged_moments_tells_of_more(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, spoken("audio/long.mp3", *(f"Part {number} of the sea." for number in range(90))))
    archive = Searcher(table, lambda _model: ThemeEncoder())
    question = Query("the sea", mode=Mode.TEXT)
    first = page(archive, question, 10, 0)
    assert len(first.hits) < 10
    assert first.more
    assert len(page(archive, question, 10, len(first.hits)).hits) == 10
