"""Finding the second: real LanceDB tables; where it is about meaning, vectors that the test makes."""

import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from transcription_assets import index
from transcription_assets.embedding import EmbeddingModel, Vectors
from transcription_assets.failures import PermanentFailure, TransientFailure
from transcription_assets.index import Index, cards, table_name, tables
from transcription_assets.passages import Sentence
from transcription_assets.query import MAX_LIMIT, MAX_TEXT, Answer, Filters, Mode, Query, QueryRefused, sought
from transcription_assets.steps.embeddings import About, Choice, recorded_on, rows_of
from transcription_assets.steps.search import Searcher
from transcription_assets.transcript import Media, Segment, SpeechModel, Transcript, Word

THEMES = ("sea", "bread", "chess", "ice")


class ThemeEncoder:
    """FAKE: the vector of a text is which of four themes it names, and a little of nothing in particular."""

    def __init__(self, name: str = "themes", width: int = 256) -> None:
        self.model = EmbeddingModel(name, "1")
        self.weak_below = 0.5
        self.width = width

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            vectors[row] = np.random.default_rng(list(text.encode())).normal(size=self.width) / 20
            for column, theme in enumerate(THEMES):
                vectors[row, column] += theme in text.lower()
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def encode_query(self, text: str) -> Vectors:
        vector: Vectors = self.encode([text])[0]
        return vector


def spoken(key: str, *sentences: str, language: str = "en", each_s: float = 6.0) -> Transcript:
    """One sentence after another, each of the same length, its words evenly in it."""
    segments = []
    for number, sentence in enumerate(sentences):
        said = sentence.split()
        step = (each_s - 0.1) / len(said)
        start = number * each_s
        words = tuple(Word(start + i * step, start + (i + 1) * step, f" {word}", 0.9) for i, word in enumerate(said))
        segments.append(Segment(number, start, words[-1].end, sentence, words, -0.1, 0.0, 1.0))
    return Transcript(
        filename=key.rpartition("/")[2],
        language=language,
        language_probability=1.0,
        duration=len(sentences) * each_s,
        segments=tuple(segments),
        media=Media(key, "1"),
        model=SpeechModel("none", "1", "none", "none"),
    )


SEA = spoken(
    "video/talks/2024-05-17 sea.mp4",
    "We went out to sea in a small boat.",
    "The captain was called Halvorsen, and she feared nothing.",
    "On the third day a wave of eleven metres broke the mast.",
    "To be or not to be was no question then.",
    "Nobody slept, and nobody spoke.",
    "In the morning we saw the harbour of Bergen.",
)
BREAD = spoken(
    "audio/radio/brot.mp3",
    "Das Brot braucht achtzehn Stunden, said the baker of bread.",
    "L'acqua deve essere fredda.",
    "Ein Café in Zürich kauft jeden Tag.",
    language="de",
)
CHESS = spoken("video/talks/it's 100% _chess_.mp4", "A game of chess in Bergen took nine hours.", "Then came the draw.")
SAID = (SEA, BREAD, CHESS)


def rows(transcript: Transcript, encoder: ThemeEncoder | None = None, passage_s: float = 12.0) -> pl.DataFrame:
    key = transcript.media.key
    return rows_of(
        transcript, About(transcript.filename, recorded_on(key)), encoder or ThemeEncoder(), Choice(passage_s)
    )


def fill(table: Index, *transcripts: Transcript, encoder: ThemeEncoder | None = None) -> None:
    table.replace(pl.concat([rows(item, encoder) for item in transcripts]), [item.media.key for item in transcripts])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    table = Index(str(tmp_path_factory.mktemp("tables")))
    fill(table, *SAID)
    table.maintain()
    return Searcher(table, lambda _model: ThemeEncoder())


def ask(searcher: Searcher, text: str, mode: Mode = Mode.HYBRID, **filters: object) -> Answer:
    return searcher.search(Query(text, mode=mode, filters=Filters(**filters)))  # type: ignore[arg-type]


def keys(answer: Answer) -> set[str]:
    return {hit.media_key for hit in answer.hits}


def test_a_word_leads_to_the_second_of_its_sentence_and_is_marked(library: Searcher) -> None:
    hit = ask(library, "mast").hits[0]
    assert (hit.media_key, hit.start) == (SEA.media.key, 12.0)
    assert hit.text[slice(*hit.sentence)] == "On the third day a wave of eleven metres broke the mast."
    assert [hit.text[a:b] for a, b in hit.matches] == ["mast"]
    assert hit.context_start <= hit.start < hit.end <= hit.context_end
    assert hit.recorded == date(2024, 5, 17)
    assert 0 < hit.score <= 1
    assert not hit.weak


def test_a_meaning_is_found_without_any_of_its_words(library: Searcher) -> None:
    hit = ask(library, "sea", Mode.VECTOR).hits[0]
    assert (hit.media_key, hit.start) == (SEA.media.key, 0.0)


def test_neighbouring_passages_of_a_recording_are_one_hit(library: Searcher) -> None:
    answer = ask(library, "nobody slept in the boat at sea")
    assert [hit.media_key for hit in answer.hits].count(SEA.media.key) <= 2
    spans = sorted((hit.context_start, hit.context_end) for hit in answer.hits if hit.media_key == SEA.media.key)
    assert all(first[0] < second[0] for first, second in pairwise(spans))


def test_two_moments_of_a_recording_never_show_the_same_sentence(tmp_path: Path) -> None:
    said = [
        f"Part {number} of a talk about {theme}." for number, theme in enumerate(["sea", "bread", "ice", "chess"] * 10)
    ]
    table = Index(str(tmp_path))
    fill(table, spoken("audio/long.mp3", *said))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    hits = searcher.search(Query("sea talk part", limit=MAX_LIMIT)).hits
    spans = sorted((hit.context_start, hit.context_end) for hit in hits)
    assert len(spans) > 3
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert all(hit.text[slice(*hit.sentence)] in said for hit in hits)


def test_a_phrase_in_quotes_is_found_only_where_it_was_said_so(library: Searcher) -> None:
    assert keys(ask(library, '"not to be"')) == {SEA.media.key}
    assert keys(ask(library, '"be to not"')) == set()
    assert keys(ask(library, '"Harbour of Bergen"')) == {SEA.media.key}
    assert keys(ask(library, 'Bergen "nine hours"')) == {CHESS.media.key}
    assert keys(ask(library, '"not to be"', Mode.VECTOR)) == {SEA.media.key}


@pytest.mark.parametrize("typed", ["Halvorson", "HALVERSEN", "halvorsn", "Hlavorsen"])
def test_a_name_that_is_misspelt_is_found(library: Searcher, typed: str) -> None:
    hit = ask(library, typed, Mode.TEXT).hits[0]
    assert "Halvorsen" in hit.text[slice(*hit.sentence)]
    assert [hit.text[a:b] for a, b in hit.matches] == ["Halvorsen"]


IN_OTHER_SCRIPTS = {
    "ru": ("Вчера Толстой приехал в Ясную Поляну.", ["Толстой", '"Ясную Поляну"', "поляну"]),
    "el": ("\u0397 θάλασσα ήταν ήρεμη το πρωί.", ["θάλασσα", '"ήταν ήρεμη"']),
    "ko": ("우리는 한국에서 기차를 탔습니다.", ["한국에서", '"한국에서 기차를"']),
    "ja": ("私はガラスの城を見ました。", ["ガラス", "城", '"ガラスの城"']),
    "zh": ("我们昨天在北京大学学习。", ["北京", '"北京大学"', "昨天 学习"]),
    "hi": ("हम कल दिल्ली गए थे।", ["दिल्ली", '"कल दिल्ली"']),
    "th": ("เมื่อวานเราไปกรุงเทพ", ["กรุงเทพ"]),
    "ar": ("ذهبنا إلى القاهرة أمس.", ["أمس", "القاهرة"]),
    "tr": ("İstanbul çok güzel.", ["İstanbul", "güzel"]),
    "pl": ("Wczoraj byliśmy w Łodzi.", ["Łodzi", "lodzi", "byliśmy"]),
    "vi": ("Hôm qua chúng tôi đến Đà Nẵng.", ["Đà Nẵng", "da nang"]),
    "en": (
        "He said don't, at 3.5 percent of naïve œuvre, in the U.S. too.",
        ["naive", "oeuvre", '"3.5 percent"', "U.S."],
    ),
}


@pytest.mark.parametrize("indexed", [False, True])
def test_words_of_every_script_are_found_and_marked_with_and_before_maintenance(
    tmp_path: Path, *, indexed: bool
) -> None:
    table = Index(str(tmp_path))
    fill(table, *(spoken(f"audio/{code}.mp3", said) for code, (said, _) in IN_OTHER_SCRIPTS.items()))
    if indexed:
        table.maintain()
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    for code, (_, questions) in IN_OTHER_SCRIPTS.items():
        for question in questions:
            hits = ask(searcher, question, Mode.TEXT).hits
            assert hits, question
            assert (hits[0].media_key, hits[0].weak) == (f"audio/{code}.mp3", False), question
            assert hits[0].matches, question


def test_frequent_words_are_left_out_also_those_with_an_accent_unless_there_is_nothing_else() -> None:
    assert sought("für das Brot, où est même le pain").terms == ("brot", "pain")
    assert sought("fur coat").terms == ("fur", "coat")
    assert sought("für das").terms == ("fur", "das")


def test_accents_case_and_elision_do_not_matter(library: Searcher) -> None:
    for typed in ("cafe zurich", "CAFÉ ZÜRICH", "Cafe\u0301 Zu\u0308rich", "acqua"):
        assert keys(ask(library, typed, Mode.TEXT)) == {BREAD.media.key}, typed


def test_a_moment_that_fits_nothing_is_said_to_be_weak(library: Searcher) -> None:
    answer = ask(library, "glaciers, icebergs")
    assert answer.hits
    assert all(hit.weak for hit in answer.hits)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"prefix": "video/talks/"}, {SEA.media.key, CHESS.media.key}),
        ({"prefix": "video/talks/it's 100% _"}, {CHESS.media.key}),
        ({"prefix": "video/talk_"}, set()),
        ({"languages": ("de", "fr")}, {BREAD.media.key}),
        ({"since": date(2024, 5, 17), "until": date(2024, 5, 17)}, {SEA.media.key}),
        ({"since": date(2024, 5, 18)}, set()),
        ({"since": date(1, 1, 1), "until": date.max}, {SEA.media.key}),
        ({"shortest_s": 20.0}, {SEA.media.key}),
        ({"longest_s": 15.0}, {CHESS.media.key}),
        ({"speakers": ("Anna",)}, set()),
    ],
)
def test_a_filter_keeps_what_it_says_and_nothing_else(
    library: Searcher, filters: dict[str, object], found: set[str]
) -> None:
    for mode in (Mode.HYBRID, Mode.VECTOR):
        assert keys(ask(library, "sea bread chess Bergen Brot", mode, **filters)) == found, mode


@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
@examples(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_filter_value_can_become_an_expression(library: Searcher, value: str) -> None:
    ways = (
        value,
        f"' OR '1'='1{value}",
        f"{value}') OR (1=1) --",
        f"{value}\\') OR (1=1)) --",
        f"\\' OR 1=1 --{value}",
    )
    for bad in ways:
        assert not ask(library, "sea", speakers=(bad,)).hits
        assert not ask(library, "sea", languages=(bad,)).hits
        assert all(hit.media_key.startswith(bad) for hit in ask(library, "sea", prefix=bad).hits)


@pytest.mark.parametrize("name", ["O'Brien", "''", "\\", "\\'", "'\\''", "a''b", '"', "--", "%_", "\n\t\0", "é\u0301"])
def test_a_filter_finds_exactly_what_has_its_value_whatever_is_in_it(tmp_path: Path, name: str) -> None:
    table = Index(str(tmp_path))
    named = replace(SEA, segments=tuple(replace(item, speaker=name, language=name) for item in SEA.segments))
    fill(table, named, BREAD)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    for filters in ({"speakers": (name,)}, {"languages": (name, "no")}):
        assert keys(ask(searcher, "sea bread", **filters)) == {SEA.media.key}


@given(text=st.text(max_size=60))
@examples(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_question_is_answered_cleanly(library: Searcher, text: str) -> None:
    for mode in Mode:
        for hit in ask(library, text, mode).hits:
            assert 0 <= hit.sentence[0] < hit.sentence[1] <= len(hit.text)
            assert all(0 <= a < b <= len(hit.text) for a, b in hit.matches)
            assert hit.context_start <= hit.start <= hit.end


@pytest.mark.parametrize("text", ["", "   ", '""', "😀", "' OR 1=1; --", "the of and", "\0", "מה נאמר", "*" * 900, '"'])
def test_odd_questions_are_answered_cleanly(library: Searcher, text: str) -> None:
    for mode in Mode:
        assert ask(library, text, mode).passages > 0


def test_pages_follow_one_another_without_a_gap_or_a_repetition(library: Searcher) -> None:
    whole = library.search(Query("sea bread chess", limit=MAX_LIMIT)).hits
    pages = [library.search(Query("sea bread chess", limit=1, offset=place)) for place in range(len(whole))]
    assert [hit for page in pages for hit in page.hits] == list(whole)
    assert [page.more for page in pages] == [True] * (len(whole) - 1) + [False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "x" * (MAX_TEXT + 1)},
        {"text": "x", "limit": 0},
        {"text": "x", "limit": MAX_LIMIT + 1},
        {"text": "x", "offset": -1},
    ],
)
def test_a_question_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(QueryRefused):
        Query(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"languages": ("x",) * 21}, {"prefix": "x" * 1001}, {"longest_s": -1.0}, {"prefix": "\udc80"}]
)
def test_a_filter_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(QueryRefused):
        Filters(**wrong)  # type: ignore[arg-type]


def test_new_rows_are_found_at_once_by_word_phrase_and_meaning_before_any_index_has_them(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert searcher.search(Query("anything")) == Answer((), more=False, passages=0, mode=Mode.HYBRID)
    fill(table, SEA)
    table.maintain()
    fill(table, BREAD, CHESS)
    for text, mode in (("draw", Mode.TEXT), ('"nine hours"', Mode.TEXT), ("chess", Mode.VECTOR)):
        assert ask(searcher, text, mode).hits[0].media_key == CHESS.media.key, text


def test_a_hit_names_its_speaker_only_where_somebody_knows_who_speaks(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    anna = replace(CHESS, segments=tuple(replace(item, speaker="Anna") for item in CHESS.segments))
    fill(table, anna, SEA)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "draw", Mode.TEXT).hits[0].speaker == "Anna"
    assert ask(searcher, "mast", Mode.TEXT).hits[0].speaker is None
    looked = table.look()
    assert looked
    found = table.read(looked, list(table.holding(looked, sought("mast"), Filters(), 10)))
    assert {sentence.speaker for item in found.values() for sentence in item.sentences} == {""}


def test_what_was_found_is_shown_as_it_was_though_the_table_is_rewritten_meanwhile(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, BREAD, SEA)
    looked = table.look()
    assert looked
    found = table.holding(looked, sought("mast"), Filters(), 10)
    # Rows move to other places: row ids of before would now show somebody else's words.
    table.remove([BREAD.media.key])
    fill(table, CHESS)
    table.maintain()
    assert {item.title for item in table.read(looked, list(found)).values()} == {SEA.filename}
    assert ask(Searcher(table, lambda _model: ThemeEncoder()), "draw", Mode.TEXT).hits[0].recording == CHESS.filename


def test_a_search_goes_on_after_the_tables_were_deleted_and_made_anew(tmp_path: Path) -> None:
    table = Index(str(tmp_path / "tables"))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    fill(table, SEA)
    assert keys(ask(searcher, "mast", Mode.TEXT)) == {SEA.media.key}
    shutil.rmtree(tmp_path / "tables")
    fill(Index(str(tmp_path / "tables")), CHESS)
    assert keys(ask(searcher, "draw", Mode.TEXT)) == {CHESS.media.key}


def test_a_frequent_word_that_the_best_passages_lack_is_not_taken_for_misspelt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Index(str(tmp_path))
    rare = [spoken(f"audio/{number}.mp3", "A zebra stood there.") for number in range(40)]
    often = [spoken(f"audio/often {number}.mp3", "The station was far away.") for number in range(60)]
    fill(table, *rare, *often)
    looked_up: list[Sequence[str]] = []
    like = Index.like
    monkeypatch.setattr(
        Index, "like", lambda self, looked, words, *rest: (looked_up.append(words), like(self, looked, words, *rest))[1]
    )
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "zebra station", Mode.TEXT).hits
    assert looked_up == []
    ask(searcher, "zebra stetion", Mode.TEXT)
    assert looked_up == [("stetion",)]


def test_in_a_long_sentence_the_moment_is_shortly_before_the_words(tmp_path: Path) -> None:
    long = spoken("audio/long.mp3", " ".join(["and"] * 30 + ["zebra"] + ["so"] * 9), each_s=20.0)
    table = Index(str(tmp_path))
    fill(table, long)
    hit = ask(Searcher(table, lambda _model: ThemeEncoder()), "zebra", Mode.TEXT).hits[0]
    said = next(word.start for word in long.words if "zebra" in word.word)
    assert said - 2.6 <= hit.start < said


def test_without_the_tables_model_words_alone_are_compared_and_that_is_said(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, *SAID)

    def nothing_here(model: str) -> ThemeEncoder:
        raise PermanentFailure(f"model {model} is not here")

    answer = ask(Searcher(table, nothing_here), "mast")
    assert answer.mode is Mode.TEXT
    assert "themes@1 is not here" in answer.note
    assert answer.hits[0].media_key == SEA.media.key


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.VECTOR])
def test_a_service_that_does_not_answer_leaves_the_words(tmp_path: Path, mode: Mode) -> None:
    class AwayEncoder(ThemeEncoder):
        def encode_query(self, text: str) -> Vectors:
            raise TransientFailure(f"no vector for {text}")

    table = Index(str(tmp_path))
    fill(table, *SAID)
    answer = ask(Searcher(table, lambda _model: AwayEncoder()), "mast", mode)
    assert (answer.mode, answer.note) == (Mode.TEXT, "only words are compared: no vector for mast")
    assert keys(answer) == {SEA.media.key}


def test_another_model_fills_a_table_beside_and_is_served_once_it_is_complete(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    old, new = ThemeEncoder("old"), ThemeEncoder("new", width=300)
    encoders = {str(item.model): item for item in (old, new)}
    searcher = Searcher(table, encoders.__getitem__)
    fill(table, SEA, BREAD, encoder=old)
    table.maintain()

    fill(table, CHESS, encoder=new)
    # New work is found by its words at once, and what was there by words and meaning.
    assert ask(searcher, "draw").hits[0].media_key == CHESS.media.key
    assert ask(searcher, "sea", Mode.VECTOR).hits[0].media_key == SEA.media.key
    state = table.maintain()
    assert (state.recordings, state.building) == (3, table_name(rows(SEA, new)["recipe"][0]))
    with pytest.raises(PermanentFailure, match="lacks 2 recordings"):
        table.switch(state.building)

    fill(table, SEA, encoder=new)
    # Half of it is rebuilt: the served table is searched by meaning as before, and so it is after the way back.
    assert ask(searcher, "sea", Mode.VECTOR).hits[0].media_key == SEA.media.key
    fill(table, BREAD, encoder=new)
    after = table.maintain()
    assert (after.table, after.building, after.recordings) == (state.building, "", 3)
    assert ask(searcher, "chess", Mode.VECTOR).hits[0].media_key == CHESS.media.key
    roles = {item.role: item.table for item in table.status()}
    assert roles == {"served": state.building, "before": state.table}
    table.switch(state.table)
    assert Index(str(tmp_path)).maintain().table == state.table
    hit = ask(searcher, "sea", Mode.VECTOR).hits[0]
    assert (hit.media_key, hit.weak) == (SEA.media.key, False)


def test_a_recording_that_changed_while_another_table_is_built_is_found_as_it_is_now(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    fill(table, SEA, BREAD, encoder=old)
    again = replace(SEA, segments=CHESS.segments)
    fill(table, again, encoder=new)
    searcher = Searcher(table, {str(item.model): item for item in (old, new)}.__getitem__)
    assert keys(ask(searcher, "draw", Mode.TEXT)) == {SEA.media.key}
    assert keys(ask(searcher, "mast", Mode.TEXT)) == set()


def test_a_recording_without_words_leaves_every_table(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, SEA, BREAD)
    table.replace(rows(SEA).clear(), [SEA.media.key])
    assert table.held([SEA.media.key, BREAD.media.key]) == {(BREAD.media.key, "1"): table.count()}


@pytest.mark.parametrize("name", ["passages", table_name("columns 2")])
def test_a_table_of_an_earlier_version_says_what_to_do_and_gives_way_to_the_rebuilt_one(
    tmp_path: Path, name: str
) -> None:
    import lancedb

    old = rows(SEA).drop("card", "near", "title", "speakers", "recorded", "duration_s", "recipe").to_arrow()
    lancedb.connect(str(tmp_path)).create_table(name, old)
    table = Index(str(tmp_path))
    if name != "passages":
        table.switch(name)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    with pytest.raises(PermanentFailure, match="`transcription-assets index rebuild`; nothing is transcribed"):
        ask(searcher, "mast")
    # One recording of several: not served, for the others could not be found then.
    fill(table, CHESS)
    assert table.maintain().table == name
    with pytest.raises(PermanentFailure, match="index rebuild"):
        ask(searcher, "draw")
    assert {state.table: state.role for state in table.status()}[name] == "served"
    fill(table, SEA)
    assert table.maintain().table == table_name(rows(SEA)["recipe"][0])
    assert keys(ask(searcher, "Bergen")) == {SEA.media.key, CHESS.media.key}


def test_a_writer_that_was_there_before_a_switch_does_not_undo_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "POINTER_S", 60.0)
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    writer = Index(str(tmp_path))
    fill(writer, SEA, encoder=old)
    fill(writer, SEA, encoder=new)
    served = Index(str(tmp_path)).maintain().table
    fill(writer, CHESS, encoder=new)
    state = Index(str(tmp_path)).maintain()
    assert (state.table, state.building, state.recordings) == (served, "", 2)
    assert served == table_name(rows(SEA, new)["recipe"][0])


def test_a_table_that_is_just_being_made_is_not_dropped_by_who_cares_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    table = Index(str(tmp_path))
    fill(table, SEA, BREAD, encoder=old)
    make = tables.Tables.make

    def made(self: tables.Tables, name: str, schema: pa.Schema) -> None:
        make(self, name, schema)
        Index(str(tmp_path)).maintain()

    monkeypatch.setattr(tables.Tables, "make", made)
    fill(table, CHESS, encoder=new)
    roles = {state.role: state.recordings for state in Index(str(tmp_path)).status()}
    assert roles == {"served": 3, "building": 1}


def test_where_all_recordings_wait_for_their_vectors_words_are_found_and_the_reason_is_said(tmp_path: Path) -> None:
    old, new = ThemeEncoder("old"), ThemeEncoder("new", width=300)
    fill(Index(str(tmp_path)), SEA, encoder=old)
    fill(Index(str(tmp_path)), replace(SEA, segments=CHESS.segments), encoder=new)
    answer = ask(Searcher(Index(str(tmp_path)), lambda _model: new), "draw")
    assert keys(answer) == {SEA.media.key}
    assert "only words are compared" in answer.note


def test_beside_another_table_a_recording_that_fell_silent_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    table = Index(str(tmp_path))
    fill(table, SEA, BREAD, encoder=old)
    table.replace(rows(SEA, new), [SEA.media.key, BREAD.media.key])
    assert set(table.held([SEA.media.key, BREAD.media.key])) == {(SEA.media.key, "1")}
    searcher = Searcher(table, lambda _model: old)
    assert ask(searcher, "sea", Mode.VECTOR).hits[0].media_key == SEA.media.key


def test_a_served_table_that_somebody_deleted_is_replaced_by_the_next_one(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, SEA, encoder=ThemeEncoder("old"))
    shutil.rmtree(tmp_path / f"{table.maintain().table}.lance")
    again = Index(str(tmp_path))
    fill(again, CHESS, encoder=ThemeEncoder("new"))
    assert again.maintain().recordings == 1
    assert keys(ask(Searcher(again, lambda _model: ThemeEncoder("new")), "draw")) == {CHESS.media.key}


def test_a_table_shows_its_own_recipe_also_when_it_took_in_what_waits_for_another(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    old, new = ThemeEncoder("old"), ThemeEncoder("new")
    fill(table, SEA, encoder=old)
    fill(table, replace(SEA, segments=CHESS.segments), encoder=new)
    fill(table, BREAD, encoder=old)
    assert all(table_name(state.recipe) == state.table for state in table.status())


@given(
    said=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4),
    recorded=st.none() | st.dates(),
    seconds=st.floats(0, 40),
)
def test_a_card_gives_back_what_was_written_on_it(said: list[str], recorded: date | None, seconds: float) -> None:
    spoken_ = [
        Sentence(number * seconds, (number + 1) * seconds, text, text[:1], ((0, 1.25),))
        for number, text in enumerate(said)
    ]
    written = cards.card(
        "video/ä.mp4", title="Ä\n", language="de", recorded=recorded, duration_s=12.5, sentences=spoken_
    )
    found = cards.candidate(7, written, cards.near(np.ones(4), np.ones((len(said), 4))), 4)
    assert (found.media_key, found.title, found.recorded, found.duration_s) == ("video/ä.mp4", "Ä\n", recorded, 12.5)
    assert [(one.start, one.end, one.text, one.speaker) for one in found.sentences] == [
        (one.start, one.end, one.text, one.speaker) for one in spoken_
    ]
    assert [bool(one.words) for one in found.sentences] == [cards.is_long(one) for one in spoken_]
    assert found.vector is not None
    assert found.sentence_vectors is not None
    assert (found.vector.shape, found.sentence_vectors.shape) == ((4,), (len(said), 4))
    assert cards.candidate(7, written, None, 4).vector is None


def test_searches_go_on_while_a_table_is_written_and_cared_for(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, *SAID)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    stop, wrong = threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            if keys(ask(searcher, "mast", Mode.TEXT)) != {SEA.media.key}:
                wrong.append("a moment was gone")

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(5):
            fill(table, SEA, BREAD)
            table.maintain()
    finally:
        stop.set()
        for thread in looking:
            thread.join()
    assert wrong == []


def test_a_large_table_gets_its_indexes_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "VECTOR_INDEX_ROWS", 300)
    generator = np.random.default_rng(0)
    many = pl.concat([rows(SEA)] * 100)
    vectors = generator.normal(size=(many.height, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    many = many.with_columns(
        pl.Series("id", [f"n{number}" for number in range(many.height)]),
        pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, 256)),
    )
    table = Index(str(tmp_path))
    table.replace(pl.concat([many, rows(CHESS)]), [SEA.media.key, CHESS.media.key])
    assert table.maintain().vector_index
    (state,) = table.status()
    assert {"text", "vector", "media_key", "language", "recorded", "duration_s", "speakers"} <= set(state.indexes)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "nine hours").hits[0].media_key == CHESS.media.key
    assert keys(ask(searcher, "sea", prefix="video/talks/it")) == {CHESS.media.key}


def test_facets_say_what_can_be_filtered_by(library: Searcher) -> None:
    facets = library.facets()
    assert facets.recordings == 3
    assert facets.languages == {"en": 2, "de": 1}
    assert facets.collections == {"video/talks/": 2, "audio/radio/": 1}
    assert facets.since == facets.until == date(2024, 5, 17)


def test_every_language_of_a_recording_can_be_filtered_by(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    said = [replace(item, language="en" if item.id < 3 else "no") for item in SEA.segments]
    fill(table, replace(SEA, segments=tuple(said)))
    assert table.facets().languages == {"en": 1, "no": 1}
    assert keys(ask(Searcher(table, lambda _model: ThemeEncoder()), "Bergen", languages=("no",))) == {SEA.media.key}
