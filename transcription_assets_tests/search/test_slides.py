"""Slides in the search table: their rows, their place in the ranking, and the filter by kind."""

import json
from pathlib import Path

import polars as pl
import pytest

from transcription_assets.pipeline.embeddings import PassageOptions, RecordingInfo, rows_of
from transcription_assets.search.filters import Filters, InvalidQuery
from transcription_assets.search.index import Index
from transcription_assets.search.query import Hit, HitSlide, Mode, SimilarQuery
from transcription_assets.search.searcher import NO_KINDS, Searcher
from transcription_assets.slides.finder import Slide
from transcription_assets_tests.search.talks import SEA, ThemeEncoder, ask, fill, spoken

KEY = SEA.media.key
SLIDES = (
    Slide(1, 0.0, 14.0, "Northern voyages\nCaptain and crew"),
    Slide(2, 14.0, 36.0, "Storm damage\nEleven metres of wave"),
    Slide(3, 36.0, 36.0, "Questionnaire"),
)


def rows(*slides: Slide) -> pl.DataFrame:
    return rows_of(SEA, RecordingInfo("Sea", None), ThemeEncoder(), PassageOptions(12.0, slides=True), shown=slides)


def searcher(folder: Path, frame: pl.DataFrame) -> Searcher:
    table = Index(str(folder))
    table.replace(frame, [KEY])
    return Searcher(table, lambda _model: ThemeEncoder())


@pytest.fixture
def found(tmp_path: Path) -> Searcher:
    """A search over one talk with its slides."""
    return searcher(tmp_path, rows(*SLIDES))


def words(search: Searcher, text: str, *kinds: str) -> tuple[Hit, ...]:
    return ask(search, text, Mode.TEXT, kinds=kinds).hits


def test_slides_are_rows_beside_the_passages() -> None:
    frame = rows(*SLIDES)
    shown = frame.filter(pl.col("kind") == "slide")
    assert shown["id"].to_list() == [f"{KEY}#slide{number}" for number in (1, 2, 3)]
    assert shown["start_s"].to_list() == [0.0, 14.0, 36.0]
    assert frame.filter(pl.col("kind") == "speech").equals(rows())


def test_a_word_that_is_only_shown_starts_at_its_slide(found: Searcher) -> None:
    (hit,) = words(found, "storm damage")
    assert (hit.kind, hit.start, hit.media_key) == ("slide", 14.0, KEY)
    assert hit.slide == HitSlide(2, 14.0, 36.0, "Storm damage Eleven metres of wave")
    assert hit.text == "Storm damage Eleven metres of wave"
    assert hit.text[slice(*hit.sentence)] == "Storm damage"
    assert [hit.text[a:b] for a, b in hit.matches] == ["Storm", "damage"]


def test_what_is_said_and_shown_at_once_is_one_hit(found: Searcher) -> None:
    (hit,) = words(found, "eleven metres")
    assert hit.slide
    assert hit.slide.number == 2
    text = hit.said or hit.text
    assert "broke the mast" in text


def test_a_spoken_hit_has_the_slide_that_is_shown(found: Searcher) -> None:
    best = words(found, "wave broke the mast of eleven metres")[0]
    assert (best.kind, best.said) == ("speech", "")
    assert best.slide
    assert best.slide.number == 2
    assert "Storm" not in best.text


def test_a_slide_of_another_sentence_is_not_that_of_the_hit(tmp_path: Path) -> None:
    late = Slide(1, 6.5, 11.0, "The captain was born here")
    (hit,) = [one for one in words(searcher(tmp_path, rows(late)), "small boat captain") if one.kind == "speech"]
    assert hit.start < 6.0
    assert hit.slide is None


def test_a_slide_does_not_swallow_what_is_said_during_it(tmp_path: Path) -> None:
    search = searcher(tmp_path, rows(Slide(1, 0.0, 36.0, "The boat and the harbour of Bergen")))
    hits = words(search, "boat harbour Bergen")
    assert hits[0].kind == "slide"
    assert hits[0].said
    assert "speech" in {hit.kind for hit in hits[1:]}


def test_what_is_said_late_in_a_slide_is_found_there(tmp_path: Path) -> None:
    talk = spoken(KEY, *(f"Mile {number} of the voyage." for number in range(20)), "The budget is approved.")
    late = talk.segments[-1]
    slide = Slide(1, 0.0, late.end + 60.0, "Budget")
    frame = rows_of(talk, RecordingInfo("Sea", None), ThemeEncoder(), PassageOptions(12.0, slides=True), shown=[slide])
    hits = words(searcher(tmp_path, frame), "budget")
    assert {(hit.kind, hit.start, hit.said) for hit in hits} == {("slide", 0.0, ""), ("speech", late.start, "")}


def test_results_can_be_restricted_to_a_kind(found: Searcher) -> None:
    assert {hit.kind for hit in words(found, "captain", "slide")} == {"slide"}
    assert {hit.kind for hit in words(found, "captain", "speech")} == {"speech"}
    assert words(found, "Halvorsen", "slide") == ()
    assert words(found, "questionnaire", "speech") == ()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="film"):
        Filters(kinds=("film",))
    with pytest.raises(InvalidQuery, match="film"):
        SimilarQuery(KEY, 0.0, moment_kind="film")


def test_moments_similar_to_a_slide_are_near_its_text(tmp_path: Path) -> None:
    talk = spoken(KEY, "Bread is flour.", "Bread is water.")
    slides = [Slide(1, 0.0, 6.0, "Chess"), Slide(2, 6.0, 3600.0, "Ice"), Slide(3, 3600.0, 3600.0, "The sea")]
    info, choice = RecordingInfo("Bread", None), PassageOptions(12.0, slides=True)
    frame = rows_of(talk, info, ThemeEncoder(), choice, shown=slides)
    others = {"bread": "Bread of rye.", "chess": "A game of chess.", "ice": "Ice is cold.", "sea": "The sea is calm."}
    table = Index(str(tmp_path))
    table.replace(frame, [KEY])
    fill(table, *(spoken(f"audio/{name}.mp3", text) for name, text in others.items()))
    search = Searcher(table, lambda _model: ThemeEncoder())

    def nearest(second: float, kind: str) -> str:
        first = search.similar(SimilarQuery(KEY, second, filters=Filters(prefix="audio/"), moment_kind=kind)).hits[0]
        return first.media_key.removeprefix("audio/").removesuffix(".mp3")

    assert [nearest(second, "speech") for second in (6.0, 1800.0)] == ["bread", "ice"]
    assert [nearest(second, "slide") for second in (5.9, 6.0, 3600.0)] == ["chess", "ice", "sea"]
    own = search.similar(SimilarQuery(KEY, 6.0, moment_kind="slide")).hits
    assert 2 not in {hit.slide.number for hit in own if hit.slide}
    assert {1, 3} <= {hit.slide.number for hit in own if hit.slide}


def test_facets_count_recordings_of_each_kind(found: Searcher) -> None:
    assert found.facets().kinds == {"speech": 1, "slide": 1}


def test_a_slide_without_time_can_be_found(found: Searcher) -> None:
    (hit,) = words(found, "questionnaire")
    assert (hit.start, hit.end) == (36.0, 36.0)


def test_a_recording_without_speech_is_found_by_its_slides(tmp_path: Path) -> None:
    frame = rows(*SLIDES).filter(pl.col("kind") == "slide")
    assert [hit.kind for hit in words(searcher(tmp_path, frame), "storm")] == ["slide"]


def of_the_release_before(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows as the release before slides wrote them: no kind, six fields in a card, the recipe of columns 3."""
    cards = []
    for card in frame["card"]:
        *fields, _slide, sentences = json.loads(card)
        cards.append(json.dumps([*fields, sentences], ensure_ascii=False, separators=(",", ":")))
    recipe = "themes@1 | passages of 12 s, 8 s of them twice | columns 3"
    return frame.drop("kind").with_columns(pl.Series("card", cards), recipe=pl.lit(recipe))


def test_a_table_of_earlier_columns_is_searched_as_speech(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    earlier = of_the_release_before(rows())
    assert {len(json.loads(card)) for card in earlier["card"]} == {6}
    import lancedb

    from transcription_assets.search import schema

    name = schema.table_name(str(earlier["recipe"][0]))
    lancedb.connect(str(tmp_path)).create_table(name, schema.keyed(earlier))
    table.switch(name)
    table.maintain()
    search = Searcher(table, lambda _model: ThemeEncoder())
    assert [hit.kind for hit in words(search, "Halvorsen", "speech")] == ["speech"]
    answer = ask(search, "Halvorsen", Mode.TEXT, kinds=("slide",))
    assert (answer.hits, answer.note) == ((), NO_KINDS)
    answer = search.similar(SimilarQuery(KEY, 0.0, filters=Filters(kinds=("slide",))))
    assert (answer.hits, answer.note) == ((), NO_KINDS)
    assert search.similar(SimilarQuery(KEY, 0.0, moment_kind="slide")).hits
    assert search.facets().kinds == {"speech": 1}
    (frame,) = table.passages(("id", "kind"))
    assert set(frame["kind"]) == {"speech"}
    table.replace(rows(*SLIDES), [KEY])
    table.maintain()
    assert search.facets().kinds == {"speech": 1, "slide": 1}
    assert [hit.kind for hit in words(search, "storm damage")] == ["slide"]
