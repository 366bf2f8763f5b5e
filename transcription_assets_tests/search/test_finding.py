"""Search hits and their start times, on real LanceDB tables with vectors made by the tests."""

from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from transcription_assets.domain.passages import cut_sentences
from transcription_assets.errors import PermanentFailure
from transcription_assets.evaluation.search_quality import talks
from transcription_assets.search import retrieval
from transcription_assets.search.evidence import highlight_ranges
from transcription_assets.search.filters import Filters
from transcription_assets.search.index import Index
from transcription_assets.search.query import MAX_LIMIT, Mode, Query, is_frequent, is_like, parse_query, tokens
from transcription_assets.search.searcher import Searcher
from transcription_assets.search.vocabulary import build
from transcription_assets_tests.search.talks import BREAD, CHESS, SAID, SEA, ThemeEncoder, ask, fill, keys, spoken


def test_word_finds_start_of_its_sentence_and_is_highlighted(library: Searcher) -> None:
    hit = ask(library, "mast").hits[0]
    assert (hit.media_key, hit.start) == (SEA.media.key, 12.0)
    assert hit.text[slice(*hit.sentence)] == "On the third day a wave of eleven metres broke the mast."
    assert [hit.text[a:b] for a, b in hit.matches] == ["mast"]
    assert hit.context_start <= hit.start < hit.end <= hit.context_end
    assert hit.recorded == date(2024, 5, 17)
    assert 0 < hit.score <= 1
    assert not hit.weak


def test_vector_search_finds_the_nearest_sentence(library: Searcher) -> None:
    hit = ask(library, "sea", Mode.VECTOR).hits[0]
    assert (hit.media_key, hit.start) == (SEA.media.key, 0.0)


def test_neighbouring_passages_are_merged_into_one_hit(library: Searcher) -> None:
    answer = ask(library, "nobody slept in the boat at sea")
    assert [hit.media_key for hit in answer.hits].count(SEA.media.key) <= 2
    spans = sorted((hit.context_start, hit.context_end) for hit in answer.hits if hit.media_key == SEA.media.key)
    assert all(first[0] < second[0] for first, second in pairwise(spans))


def test_hits_of_one_recording_do_not_overlap(tmp_path: Path) -> None:
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


def test_quoted_phrase_matches_only_exact_word_order(library: Searcher) -> None:
    assert keys(ask(library, '"not to be"')) == {SEA.media.key}
    assert keys(ask(library, '"be to not"')) == set()
    assert keys(ask(library, '"Harbour of Bergen"')) == {SEA.media.key}
    assert keys(ask(library, 'Bergen "nine hours"')) == {CHESS.media.key}
    assert keys(ask(library, '"not to be"', Mode.VECTOR)) == {SEA.media.key}


@pytest.mark.parametrize(
    ("typed", "phrases", "terms"),
    [
        ('12" pipe or 14" wheels', (), ("12", "pipe", "14", "wheels")),
        ("12” pipe or 14” wheels", (), ("12", "pipe", "14", "wheels")),
        ("12“ Rohr, 14“ Rad", (), ("12", "rohr", "14", "rad")),
        ('5\' 10" tall, "red album"', (("red", "album"),), ("5", "10", "tall")),
        ('מפקד צה"ל ומנכ"ל החברה', (), ("מפקד", "צה", "ל", "ומנכ", "החברה")),
        ('"cold war"s end', (("cold", "war"),), ("s", "end")),
        ('"מפקד צה"ל" אמר', (("מפקד", "צה", "ל"),), ("אמר",)),
        ('צַהַ"ל אמר "שלום"', (("שלום",),), ("צה", "ל", "אמר")),
        ('("silver compass"), sea', (("silver", "compass"),), ("sea",)),
        ("„Brot und Salz“ «mot juste»", (("brot", "und", "salz"), ("mot", "juste")), ()),
        ("学习“北京”大学", (("北", "京"),), ("学", "习", "大")),
        ('silver "compass', (), ("silver", "compass")),
    ],
)
def test_quotes_are_phrases_only_around_whole_words(
    typed: str, phrases: tuple[tuple[str, ...], ...], terms: tuple[str, ...]
) -> None:
    parsed = parse_query(typed)
    assert (parsed.phrases, parsed.terms) == (phrases, terms)


@pytest.mark.parametrize("typed", ["Halvorson", "HALVERSEN", "halvorsn", "Hlavorsen"])
def test_misspelt_name_is_found(library: Searcher, typed: str) -> None:
    hit = ask(library, typed, Mode.TEXT).hits[0]
    assert "Halvorsen" in hit.text[slice(*hit.sentence)]
    assert [hit.text[a:b] for a, b in hit.matches] == ["Halvorsen"]


@pytest.mark.parametrize(
    ("word", "other", "alike"),
    [
        ("compas", "compass", True),
        ("compsas", "compass", True),  # neighbours swapped
        ("cmopsas", "compass", False),  # two errors in a word of 7 letters
        ("gyrocomapss", "gyrocompass", True),
        ("gyrocmopsas", "gyrocompass", True),  # two errors in a word of 11 letters
        ("gyrcmopsas", "gyrocompass", False),
        ("cat", "car", False),
        ("1914a", "1915a", False),
    ],
)
def test_number_of_wrong_letters_depends_on_the_length(word: str, other: str, *, alike: bool) -> None:
    assert is_like(word, other) is alike
    assert is_like(other, word) is alike


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
def test_words_in_every_script_are_found_and_highlighted(tmp_path: Path, *, indexed: bool) -> None:
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


def test_frequent_words_are_dropped_unless_nothing_else_remains() -> None:
    assert parse_query("für das Brot, où est même le pain").terms == ("brot", "pain")
    assert parse_query("fur coat").terms == ("fur", "coat")
    assert parse_query("für das").terms == ("fur", "das")


SPOKEN_IN = {
    "en": "a cold war, peace, a red hat that was hard; bread by the sea, son of a gun, come together",
    "de": "der kalte Kapitän hat einen Hut, die Welt und die Ursache",
    "fr": "la couleur noir, le goût du pain",
    "es": "el mes de mayo, la cruz",
    "it": "una cosa bella",
}


@pytest.mark.parametrize(
    ("typed", "terms"),
    [
        ("cold war", ("cold", "war")),
        ("war and peace", ("war", "peace")),
        ("wer war der Kapitän", ("kapitan",)),
        ("red hat", ("red", "hat")),
        ("er hat einen Hut", ("hut",)),
        ("die hard", ("hard",)),
        ("die Welt", ("welt",)),
        ("son of a gun", ("son", "gun")),
        ("son pain", ("pain",)),
        ("come together", ("come", "together")),
        ("come la cosa", ("cosa",)),
        ("or noir", ("or", "noir")),
        ("sea or bread", ("sea", "bread")),
        ("mes de mayo", ("mes", "mayo")),
        ("US economy", ("us", "economy")),
        ("the US economy", ("us", "economy")),
        ("MIT lecture", ("mit", "lecture")),
        ("bread or sea or bread", ("bread", "sea")),
        ("Hut oder bread", ("hut", "bread")),
        ("US 経済", ("us", "経", "済")),
        ("mit Hut", ("hut",)),
        ("TELL US MORE", ("tell", "more")),
        ("AT&T", ("at", "t")),
        ("Q&A about I/O", ("q", "a", "about", "i", "o")),
        ("he/she came", ("came",)),
    ],
)
def test_stop_word_of_another_language_is_a_term(typed: str, terms: tuple[str, ...]) -> None:
    made = build([pl.DataFrame({"text": list(SPOKEN_IN.values()), "language": list(SPOKEN_IN)})], 1)
    assert parse_query(typed, made).terms == terms


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.TEXT])
@pytest.mark.parametrize(("question", "said"), [("cold war", "cold war"), ("AT&T", "AT&T"), ("the cold", "the cold")])
def test_question_as_typed_is_found_among_many_with_a_word(
    tmp_path: Path, question: str, said: str, mode: Mode
) -> None:
    table = Index(str(tmp_path))
    word = question.split()[-1 if question.startswith("the") else 0].partition("&")[2] or "cold"
    frequent = [spoken(f"audio/{number}.mp3", f"It is {word}, {word}, {word}.") for number in range(40)]
    long = " ".join(["and so it went on and on"] * 8)
    fill(table, *frequent, spoken("audio/there.mp3", f"{long} as {said} divided them {long}."))
    table.maintain()
    hit = ask(Searcher(table, lambda _model: ThemeEncoder()), question, mode).hits[0]
    assert hit.media_key == "audio/there.mp3"


def test_frequent_words_beside_a_word_cost_no_query_if_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Index(str(tmp_path))
    fill(table, *(spoken(f"audio/{number}.mp3", "They went down the river.") for number in range(60)))
    table.maintain()
    queries = []
    found = retrieval._run  # noqa: SLF001 -- every query of LanceDB passes it
    monkeypatch.setattr(retrieval, "_run", lambda *given: (queries.append(given), found(*given))[1])
    assert ask(Searcher(table, lambda _model: ThemeEncoder()), "the river", Mode.TEXT).hits
    assert len(queries) == 1


def test_search_ignores_accents_case_and_elision(library: Searcher) -> None:
    for typed in ("cafe zurich", "CAFÉ ZÜRICH", "Cafe\u0301 Zu\u0308rich", "acqua"):
        assert keys(ask(library, typed, Mode.TEXT)) == {BREAD.media.key}, typed


def test_unrelated_hits_are_marked_as_weak(library: Searcher) -> None:
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
def test_filter_returns_exactly_the_matching_recordings(
    library: Searcher, filters: dict[str, object], found: set[str]
) -> None:
    for mode in (Mode.HYBRID, Mode.VECTOR):
        assert keys(ask(library, "sea bread chess Bergen Brot", mode, **filters)) == found, mode


def test_pages_have_no_gaps_and_no_duplicates(library: Searcher) -> None:
    whole = library.search(Query("sea bread chess", limit=MAX_LIMIT)).hits
    pages = [library.search(Query("sea bread chess", limit=1, offset=place)) for place in range(len(whole))]
    assert [hit for page in pages for hit in page.hits] == list(whole)
    assert [page.more for page in pages] == [True] * (len(whole) - 1) + [False]


def test_hit_has_a_speaker_only_if_the_speaker_is_known(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    anna = replace(CHESS, segments=tuple(replace(item, speaker="Anna") for item in CHESS.segments))
    fill(table, anna, SEA)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "draw", Mode.TEXT).hits[0].speaker == "Anna"
    assert ask(searcher, "mast", Mode.TEXT).hits[0].speaker is None
    pinned = table.snapshot()
    assert pinned
    found = table.read(pinned, list(table.search_words(pinned, parse_query("mast"), Filters(), 10)))
    assert {sentence.speaker for item in found.values() for sentence in item.sentences} == {""}


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Return the words of each lookup by similar spelling."""
    words_of_each: list[tuple[str, ...]] = []
    like = Index.search_similar_words
    monkeypatch.setattr(
        Index,
        "search_similar_words",
        lambda self, pinned, words, *rest: (words_of_each.append(words), like(self, pinned, words, *rest))[1],
    )
    return words_of_each


def test_frequent_word_is_not_treated_as_misspelt(tmp_path: Path, looked_up: list[tuple[str, ...]]) -> None:
    table = Index(str(tmp_path))
    rare = [spoken(f"audio/{number}.mp3", "A zebra stood there.") for number in range(40)]
    often = [spoken(f"audio/often {number}.mp3", "The station was far away.") for number in range(60)]
    fill(table, *rare, *often)
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "zebra station", Mode.TEXT).hits
    assert looked_up == []
    ask(searcher, "zebra stetion", Mode.TEXT)
    assert looked_up == [("stetion",)]


def test_word_of_a_removed_recording_is_misspelt_again(tmp_path: Path, looked_up: list[tuple[str, ...]]) -> None:
    table = Index(str(tmp_path))
    gone = spoken("audio/gone.mp3", "Stetion.")
    fill(table, gone, *(spoken(f"audio/{number}.mp3", "A zebra stood there.") for number in range(40)))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert keys(ask(searcher, "stetion", Mode.TEXT)) == {gone.media.key}
    table.remove([gone.media.key])
    ask(searcher, "zebra stetion", Mode.TEXT)
    assert looked_up == [("stetion",)]


def test_hit_in_long_sentence_starts_shortly_before_the_words(tmp_path: Path) -> None:
    long = spoken("audio/long.mp3", " ".join(["and"] * 30 + ["zebra"] + ["so"] * 9), each_s=20.0)
    table = Index(str(tmp_path))
    fill(table, long)
    hit = ask(Searcher(table, lambda _model: ThemeEncoder()), "zebra", Mode.TEXT).hits[0]
    said = next(word.start for word in long.words if "zebra" in word.word)
    assert said - 2.6 <= hit.start < said


def test_search_without_model_falls_back_to_text_with_a_note(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, *SAID)

    def nothing_here(model: str) -> ThemeEncoder:
        raise PermanentFailure(f"model {model} is not here")

    answer = ask(Searcher(table, nothing_here), "mast")
    assert answer.mode is Mode.TEXT
    assert "themes@1 is not here" in answer.note
    assert answer.hits[0].media_key == SEA.media.key


def test_facets_list_available_filter_values(library: Searcher) -> None:
    facets = library.facets()
    assert facets.recordings == 3
    assert facets.languages == {"en": 2, "de": 1}
    assert facets.collections == {"video/talks/": 2, "audio/radio/": 1}
    assert facets.since == facets.until == date(2024, 5, 17)


DEMO = talks()[:3]
"""The labelled set starts with the demo recordings."""


def content_pairs() -> dict[str, set[tuple[str, float]]]:
    """Return every pair of neighbouring, infrequent words of the demo with the sentences that contain it."""
    found: dict[str, set[tuple[str, float]]] = {}
    for talk in DEMO:
        for said in cut_sentences(talk.transcript.segments):
            for one, other in pairwise(tokens(said.text)):
                if not is_frequent(one) and not is_frequent(other):
                    place = (talk.transcript.media.key, said.start)
                    found.setdefault(f"{one.text} {other.text}".lower(), set()).add(place)
    return found


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.TEXT])
def test_neighbouring_words_lead_to_a_sentence_with_both(tmp_path: Path, mode: Mode) -> None:
    """Matching words decide whatever the encoder ranks nearer: the vectors here are meaningless."""
    table = Index(str(tmp_path))
    fill(table, *(talk.transcript for talk in DEMO))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    pairs = content_pairs()
    assert len(pairs) > 100
    elsewhere = {}
    for question, places in pairs.items():
        hit = ask(searcher, question, mode).hits[0]
        if not any(hit.media_key == key and hit.start == start for key, start in places):
            elsewhere[question] = hit.text[slice(*hit.sentence)]
    assert elsewhere == {}


def test_hits_with_more_evidence_come_first_and_weak_ones_last(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    said = {
        "typed": "They hid a silver compass there.",
        "order": "They had a silver and a compass there.",
        "all": "The compass was of pure silver.",
        "some": "A sea of compass roses.",
        "near": "The sea, the sea, the sea.",
        "none": "Nothing of the kind was spoken.",
    }
    fill(table, *(spoken(f"audio/{name}.mp3", text) for name, text in said.items()))
    hits = ask(Searcher(table, lambda _model: ThemeEncoder()), "silver compass by the sea").hits
    assert [hit.weak for hit in hits] == sorted(hit.weak for hit in hits)
    hits = ask(Searcher(table, lambda _model: ThemeEncoder()), "silver compass").hits
    assert [hit.media_key for hit in hits][:4] == [f"audio/{name}.mp3" for name in ("typed", "order", "all", "some")]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_passage_with_all_words_is_found_among_many_with_one(tmp_path: Path) -> None:
    """More passages contain one of the words, several times each, than a search examines."""
    table = Index(str(tmp_path))
    compass = [spoken(f"audio/c{number}.mp3", "Compass, compass, compass!") for number in range(40)]
    silver = [spoken(f"audio/s{number}.mp3", "Silver, silver, silver!") for number in range(40)]
    apart = [spoken(f"audio/b{number}.mp3", "Silver is no compass, and compass no silver.") for number in range(40)]
    long = " ".join(["and so it went on and on"] * 8)
    there = spoken("audio/there.mp3", f"{long} with a silver compass {long}.")
    fill(table, *compass, *silver, *apart, there)
    hit = ask(Searcher(table, lambda _model: ThemeEncoder()), "silver compass", Mode.TEXT).hits[0]
    assert hit.media_key == there.media.key


def test_inflected_query_words_are_highlighted() -> None:
    wanted = parse_query("compass bee curtain car")
    text = "Compasses, bees and curtains, no care."
    assert [text[a:b] for a, b in highlight_ranges(text, wanted, {})] == ["Compasses", "bees", "curtains"]
