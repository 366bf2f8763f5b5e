"""Other forms of words and numbers, and sentences found by them."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.search import vocabulary as words_of_table
from transcription_assets.search.evidence import Evidence, QuestionWords
from transcription_assets.search.index import Index
from transcription_assets.search.query import Mode, parse_query, tokens
from transcription_assets.search.searcher import Searcher
from transcription_assets.search.vocabulary import Forms, Vocabulary, build, forms_of, from_parquet
from transcription_assets.search.word_forms import (
    SMALLEST,
    may_hold_numbers,
    merge_numbers,
    numbers,
    parts,
    read_question,
    ways,
)
from transcription_assets_tests.search.talks import ThemeEncoder, ask, fill, spoken


@pytest.mark.parametrize(
    ("text", "language", "keys"),
    [
        ("nine hundred lamps", "en", ["#900", "lamps"]),
        ("900 lamps", "en", ["#900", "lamps"]),
        ("two hundred and three days", "en", ["#203", "days"]),
        ("about 50,000 bees", "en", ["about", "#50000", "bees"]),
        ("1.000.000 Brote", "de", ["#1000000", "brote"]),
        ("4.2 million", "en", ["#4200000"]),
        ("5 million dollars", "en", ["#5000000", "dollars"]),
        ("a 5-million-dollar house", "en", ["a", "#5000000", "dollar", "house"]),
        ("5 hundred thousand", "en", ["#500000"]),
        ("5 Millionen", "de", ["#5000000"]),
        ("5 mille", "fr", ["#5000"]),
        ("5 mil millones", "es", ["#5000000000"]),
        ("5 milioni", "it", ["#5000000"]),
        ("2 miliardi", "it", ["#2000000000"]),
        ("5 miljoen", "nl", ["#5000000"]),
        ("5 milhões", "pt", ["#5000000"]),
        ("chapter 5, million", "en", ["chapter", "#5", "#1000000"]),
        ("in 1990 thousand", "en", ["in", "#1990", "#1000"]),
        ("the 5th million", "en", ["the", "#5.", "#1000000"]),
        ("3.5km and 12V", "en", ["#3.5", "km", "and", "#12", "v"]),
        ("5км", "ru", ["#5", "км"]),
        ("the 90s", "en", ["the", "90s"]),
        ("on the third day", "en", ["on", "the", "#3.", "day"]),
        ("the 3rd day", "en", ["the", "#3.", "day"]),
        ("le 3ème jour", "fr", ["le", "#3.", "jour"]),
        ("il terzo giorno", "it", ["il", "#3.", "giorno"]),
        ("zweihundertvierzig Brote", "de", ["#240", "brote"]),
        ("ciento cuarenta y tres escalones", "es", ["#143", "escalones"]),
        ("in nineteen eleven", "en", ["in", "#1911"]),
        ("chapters 12, 15 and 20", "en", ["chapters", "#12", "#15", "and", "#20"]),
        ("twelve, fifteen", "en", ["#12", "#15"]),
        ("room 5a", "en", ["room", "5a"]),
        ("la 5a sinfonía", "es", ["la", "#5.", "sinfonia"]),
        ("one of them", "en", ["one", "of", "them"]),
        ("5 km and 5 miles", "xx", ["#5", "km", "and", "#5", "miles"]),
        ("九百", "zh", ["九", "百"]),
    ],
)
def test_equal_numbers_have_equal_keys(text: str, language: str, keys: list[str]) -> None:
    assert [token.folded for token in merge_numbers(text, list(tokens(text)), language)] == keys


@given(st.text(max_size=60), st.sampled_from(["en", "de", "fr", "es", "it", "nl", "pt", "ru", ""]))
def test_numbers_of_any_text_are_ordered_ranges(text: str, language: str) -> None:
    words = list(tokens(text))
    found = numbers(text, words, language)
    assert all(number.first < number.last <= len(words) for number in found)
    assert all(one.last <= other.first for one, other in pairwise(found))
    merged = merge_numbers(text, words, language)
    assert all(one.end <= other.start for one, other in pairwise(merged))
    assert {at for one in merged for at in range(one.start, one.end)} >= {one.start for one in words}


@pytest.mark.parametrize("value", [2, 9, 21, 100, 143, 900, 1911, 50_000, 2_000_000])
def test_parts_include_the_number(value: int) -> None:
    assert value in parts(value)
    assert all(part >= 2 for part in parts(value))


@pytest.mark.parametrize(
    ("value", "languages", "said"),
    [
        (900, (), [9, 100]),
        (943, (), [9, 100, 40, 3]),
        (943, (), [900, 43]),
        (1911, (), [19, 11]),
        (1900, (), [19, 100]),
        (50_000, (), [50, 1000]),
        (5_000_000, (), [5, 0, 0]),
        (4_200_000, (), [4, 2, 1_000_000]),
        (80, ("fr",), [4, 20]),
        (97, ("fr",), [4, 20, 17]),
        (271, ("fr",), [2, 100, 60, 11]),
    ],
)
def test_number_can_be_said_in_each_of_its_ways(value: int, languages: tuple[str, ...], said: list[int]) -> None:
    assert any(
        all(not part.isdisjoint(said) for part in way) and set(said) <= set().union(*way)
        for way in ways(value, languages)
    )


@pytest.mark.parametrize(
    ("question", "keys"),
    [
        ("silver compass", None),
        ("neunhundert Lampen", ["#900", "lampen"]),
        ("nine hundred", ["#900"]),
        ("once", None),
        ("once upon", None),
        ("Otto", None),
        ("Otto Lampen", None),
        ("900", ["#900"]),
    ],
)
def test_question_is_read_in_languages_that_its_words_fit(question: str, keys: list[str] | None) -> None:
    words = {"lampen": "de", "upon": "en", "silver": "en", "compass": "en"}
    read = read_question(question, ["en", "de", "es", "it"], lambda word, language: words.get(word) == language)
    assert (None if read is None else [token.folded for token in read]) == keys


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    said = {
        "en": "The curtain, curtains and cities; a city of nine hundred transcriptions. Transcripts, too.",
        "de": "Ein Haus, viele Häuser und Brote.",
        "ru": "Ясную поляну, поляны.",
        "zh": "我们昨天在北京大学学习。",
    }
    return build([pl.DataFrame({"text": list(said.values()), "language": list(said)})], 7)


def test_vocabulary_survives_its_file(vocabulary: Vocabulary) -> None:
    read = from_parquet(vocabulary.to_parquet())
    assert read.table.equals(vocabulary.table)
    assert read.by_stem.equals(vocabulary.by_stem)
    assert read.by_stem.height > 0
    assert (read.languages, read.version) == (vocabulary.languages, 7)
    with pytest.raises(ValueError, match="damaged"):
        from_parquet(b"PAR1 of another kind")


@pytest.mark.parametrize(("word", "occurs"), [("häuser", True), ("hauser", False), ("haus", True), ("", False)])
def test_vocabulary_knows_a_word_by_its_spelling(vocabulary: Vocabulary, word: str, *, occurs: bool) -> None:
    assert vocabulary.has_spelling(word) is occurs


@pytest.mark.parametrize(
    ("question", "term", "others"),
    [
        ("curtain", "curtain", {"curtains"}),
        ("city", "city", {"cities"}),
        ("haus", "haus", {"häuser"}),
        ("Brot", "brot", {"brote"}),
        ("поляной", "полянои", {"поляну"}),
        ("transcri", "transcri", {"transcriptions", "transcripts"}),
        ("900", "900", {"nine", "hundred"}),
        ("nine hundred", "nine", {"900", "hundred"}),
    ],
)
def test_forms_of_a_word_are_those_that_occur(
    vocabulary: Vocabulary, question: str, term: str, others: set[str]
) -> None:
    found = forms_of(parse_query(question), vocabulary).looked_up[term]
    assert others <= set(found)
    assert term not in found


@pytest.mark.parametrize("question", ["transcri ", "transcri?", '"transcri"', "transcri and more", "tr", "北"])
def test_finished_words_and_short_ones_are_not_completed(vocabulary: Vocabulary, question: str) -> None:
    found = forms_of(parse_query(question), vocabulary).looked_up
    assert not any("transcripts" in others for others in found.values())


SAID = {
    "en/lamps": ("en", "He lit nine hundred lamps on the third day of the feast."),
    "en/digits": ("en", "The 900 soldiers came on the 4th of May."),
    "de/brot": ("de", "Wir backen zweihundertvierzig Brote für die Häuser am Fluss."),
    "es/faro": ("es", "Subimos ciento cuarenta y tres escalones con los prismáticos."),
    "fr/laine": ("fr", "Les tapisseries ont trois cent quatre-vingts couleurs."),
    "it/pane": ("it", "Servono settanta forni per il pane della festa."),
    "nl/kaas": ("nl", "De kazen rijpen negen maanden in de kelders."),
    "pt/mar": ("pt", "Os barcos voltaram depois de quinze dias."),
    "ru/pole": ("ru", "Вчера Толстой приехал в Ясную Поляну."),
    "en/compasses": ("en", "Two silver compasses were sold."),
    "en/compass": ("en", "One silver compass was lost."),
    "en/other": ("en", "Transcription of the speech took a night."),
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    table = Index(str(tmp_path_factory.mktemp("forms")))
    fill(table, *(spoken(f"audio/{name}.mp3", text, language=code) for name, (code, text) in SAID.items()))
    table.maintain()
    return Searcher(table, lambda _model: ThemeEncoder())


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.TEXT])
@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("900 lamps", "en/lamps"),
        ("nine hundred soldiers", "en/digits"),
        ("fourth of May", "en/digits"),
        ("3rd day", "en/lamps"),
        ("240 Brote", "de/brot"),
        ("143 escalones", "es/faro"),
        ("380 couleurs", "fr/laine"),
        ("70 forni", "it/pane"),
        ("9 maanden", "nl/kaas"),
        ("15 dias", "pt/mar"),
        ("brot haus", "de/brot"),
        ("escalón", "es/faro"),
        ("tapisserie", "fr/laine"),
        ("forno", "it/pane"),
        ("kelder", "nl/kaas"),
        ("barco", "pt/mar"),
        ("поляной", "ru/pole"),
        ("silver compasses", "en/compasses"),
        ("silver compass", "en/compass"),
    ],
)
def test_question_finds_the_sentence_with_another_form(archive: Searcher, question: str, name: str, mode: Mode) -> None:
    hit = ask(archive, question, mode).hits[0]
    assert hit.media_key == f"audio/{name}.mp3"
    assert hit.matches
    assert not hit.weak


def test_number_is_highlighted_as_a_whole(archive: Searcher) -> None:
    hit = ask(archive, "900 lamps").hits[0]
    assert [hit.text[a:b] for a, b in hit.matches] == ["nine hundred", "lamps"]


def test_part_of_a_number_does_not_count_as_the_number(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, spoken("audio/a.mp3", "He lit nine lamps."), spoken("audio/b.mp3", "Of nine hundred none was lit."))
    table.maintain()
    hits = ask(Searcher(table, lambda _model: ThemeEncoder()), "900", Mode.TEXT).hits
    assert hits[0].media_key == "audio/b.mp3"
    assert [[hit.text[a:b] for a, b in hit.matches] for hit in hits] == [["nine hundred"], []]
    assert [hit.weak for hit in hits] == [False, True]


AMOUNTS = {
    "digits": "It cost 5,000,000 dollars then.",
    "scale": "It cost 5 million dollars then.",
    "words": "It cost five million dollars then.",
}


@pytest.mark.parametrize("question", ["5,000,000", "5000000", "5 million", "five million", "five million dollars"])
def test_amounts_are_equal_however_they_are_written(tmp_path: Path, question: str) -> None:
    table = Index(str(tmp_path))
    texts = {**AMOUNTS, "other": "Five of a thousand."}
    fill(table, *(spoken(f"audio/{name}.mp3", text) for name, text in texts.items()))
    table.maintain()
    hits = ask(Searcher(table, lambda _model: ThemeEncoder()), question, Mode.TEXT).hits
    assert {hit.media_key for hit in hits if not hit.weak} == {f"audio/{name}.mp3" for name in AMOUNTS}


@pytest.mark.parametrize("question", ["5km", "5 km", "5 KM run"])
def test_unit_is_found_with_and_without_a_space(tmp_path: Path, question: str) -> None:
    table = Index(str(tmp_path))
    said = {"one": "A 5km run.", "two": "A run of 5 km.", "other": "Some km away."}
    fill(table, *(spoken(f"audio/{name}.mp3", text) for name, text in said.items()))
    table.maintain()
    hits = ask(Searcher(table, lambda _model: ThemeEncoder()), question, Mode.TEXT).hits
    assert {hit.media_key for hit in hits if not hit.weak} == {"audio/one.mp3", "audio/two.mp3"}


@pytest.mark.parametrize(
    ("language", "question", "said", "frequent"),
    [
        ("en", "900", "nine hundred sheep", ("Nine, nine, nine.", "Hundred, hundred, hundred.")),
        ("en", "900 sheep", "nine hundred sheep", ("Nine sheep, sheep.", "Hundred sheep, sheep.")),
        ("en", "five million", "5 million sheep", ("Five, five, five.", "Million, million, million.")),
        ("fr", "80", "quatre-vingts moutons", ("Quatre, quatre, quatre.", "Vingts, vingts, vingts.")),
        ("it", "5.000.000", "5 milioni di pecore", ("Cinque, 5, 5.", "Milioni, milioni.")),
        ("en", "5km", "5 km of sheep", ("5, 5, five.", "Km, km, km.")),
    ],
)
def test_number_is_found_among_many_with_one_of_its_words(
    tmp_path: Path, language: str, question: str, said: str, frequent: tuple[str, str]
) -> None:
    table = Index(str(tmp_path))
    texts = {f"audio/{at} {number}.mp3": text for at, text in enumerate(frequent) for number in range(30)}
    long = " ".join(["so it went on"] * 8)
    texts["audio/there.mp3"] = f"{long} with {said} {long}."
    fill(table, *(spoken(key, text, language=language) for key, text in texts.items()))
    table.maintain()
    hit = ask(Searcher(table, lambda _model: ThemeEncoder()), question, Mode.TEXT).hits[0]
    assert (hit.media_key, hit.weak) == ("audio/there.mp3", False)


SPELLINGS = {
    "tr": ("İstanbul çok güzel.", ["istanbul", "ISTANBUL", "İstanbul", '"istanbul cok"', "istanbul guzel", "istan"]),
    "ar": (
        "ذهبت إلى المَدْرَسَةِ الكبيرة.",
        ["مدرسة", "المدرسة", "مَدْرَسَةٌ", "المَدْرَسَة", '"المدرسة الكبيرة"', "كبيرة"],
    ),
    "he": ("הוא אמר שָׁלוֹם.", ["שלום", '"אמר שלום"', "שָׁלוֹם"]),
    "ru": ("Зелёная ёлка стояла.", ["елка", "зеленая", '"зеленая елка"', "ЁЛКА"]),
    "el": ("Ήρεμη ήταν θάλασσα.", ["θαλασσα", '"ηταν θαλασσα"', "ΘΑΛΑΣΣΑ"]),
    "id": ("Mereka membaca banyak.", ["baca", "dibaca"]),
    "de": ("Die Straße war lang.", ["strasse", "STRASSE", '"strasse war"']),
}


@pytest.fixture(scope="module")
def spellings(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    table = Index(str(tmp_path_factory.mktemp("spellings")))
    fill(table, *(spoken(f"audio/{code}.mp3", said, language=code) for code, (said, _) in SPELLINGS.items()))
    table.maintain()
    return Searcher(table, lambda _model: ThemeEncoder())


@pytest.mark.parametrize(("code", "question"), [(code, one) for code, (_, asked) in SPELLINGS.items() for one in asked])
def test_word_is_found_in_spellings_and_with_prefixes(spellings: Searcher, code: str, question: str) -> None:
    hit = ask(spellings, question, Mode.TEXT).hits[0]
    assert hit.media_key == f"audio/{code}.mp3"
    assert hit.weak is (question == "istan")


def test_spellings_that_the_index_has_as_one_are_not_looked_up() -> None:
    made = build([pl.DataFrame({"text": ["Café cafe CAFÉ Straße strasse"], "language": ["fr"]})], 1)
    assert forms_of(parse_query("cafe strasse"), made).looked_up == {}


def test_quoted_words_are_not_taken_in_other_forms(archive: Searcher) -> None:
    assert {hit.media_key for hit in ask(archive, '"silver compass"').hits} == {"audio/en/compass.mp3"}


def test_new_rows_are_found_before_the_vocabulary_knows_them(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, spoken("audio/a.mp3", "A silver compass."))
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    table.maintain()
    fill(table, spoken("audio/b.mp3", "Two brass sextants."))
    assert ask(searcher, "sextants", Mode.TEXT).hits[0].media_key == "audio/b.mp3"
    table.maintain()
    table.forget()
    assert ask(searcher, "sextant", Mode.TEXT).hits[0].media_key == "audio/b.mp3"


def test_damaged_vocabulary_is_replaced(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    fill(table, spoken("audio/a.mp3", "A silver compass."))
    table.maintain()
    (file,) = (tmp_path / "words").glob("*.parquet")
    file.write_bytes(b"damaged")
    table.forget()
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert ask(searcher, "compass").hits
    table.maintain()
    assert file.read_bytes() != b"damaged"


def test_other_forms_do_not_crowd_out_the_word_as_typed(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    typed = [spoken(f"audio/typed{number}.mp3", f"We saw the harbour {number}.") for number in range(60)]
    others = [spoken(f"audio/other{number}.mp3", f"We saw the harbours {number}.") for number in range(26)]
    fill(table, *typed, *others)
    table.maintain()
    hits = ask(Searcher(table, lambda _model: ThemeEncoder()), "harbour", Mode.TEXT).hits
    assert {hit.media_key.startswith("audio/typed") for hit in hits} == {True}


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.TEXT])
def test_scattered_words_as_typed_come_before_other_forms(tmp_path: Path, mode: Mode) -> None:
    table = Index(str(tmp_path))
    said = {"typed": "The harbour had one old lamp.", "forms": "All harbours lamps."}
    fill(table, *(spoken(f"audio/{name}.mp3", text) for name, text in said.items()))
    table.maintain()
    hits = ask(Searcher(table, lambda _model: ThemeEncoder()), "harbour lamp", mode).hits
    assert [hit.media_key for hit in hits] == ["audio/typed.mp3", "audio/forms.mp3"]


def test_forms_count_in_passages_of_their_language_only(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    said = {
        "de/plan": ("de", "Der Plan der Reise."),
        "en/plan": ("en", "She made a plan ticket by ticket."),
        "en/plane": ("en", "The plane was late and no ticket was sold."),
    }
    fill(table, *(spoken(f"audio/{name}.mp3", text, language=code) for name, (code, text) in said.items()))
    table.maintain()
    hits = ask(Searcher(table, lambda _model: ThemeEncoder()), "plane ticket", Mode.TEXT).hits
    assert [(hit.media_key, hit.weak) for hit in hits[:2]] == [
        ("audio/en/plane.mp3", False),
        ("audio/en/plan.mp3", True),
    ]


def test_inflections_are_the_most_frequent_ones() -> None:
    said = "walks " + "walked " * 3 + "walking " * 2
    made = build([pl.DataFrame({"text": [said, "Walk walker"], "language": ["en", None]})], 1)
    assert made.inflections("walk") == {"en": ["walked", "walking", "walks"]}


def test_completion_finds_a_passage_but_counts_as_weak(archive: Searcher) -> None:
    hit = ask(archive, "transcri", Mode.TEXT).hits[0]
    assert (hit.media_key, hit.weak, hit.matches) == ("audio/en/other.mp3", True, ())


def test_misspelt_word_is_found_under_a_filter_that_excludes_it(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    english, spanish = spoken("audio/en.mp3", "A silver compass."), spoken("audio/es.mp3", "Un compas.", language="es")
    fill(table, english, spanish)
    table.maintain()
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    (hit,) = ask(searcher, "compas", Mode.TEXT, languages=("en",)).hits
    assert [hit.text[a:b] for a, b in hit.matches] == ["compass"]
    assert not hit.weak


def test_english_word_is_not_a_number_of_another_language(tmp_path: Path) -> None:
    table = Index(str(tmp_path))
    said = {"en/a": "The 11 men came.", "en/b": "Otto slept.", "es/c": "Son once hombres.", "it/d": "Otto uomini."}
    fill(table, *(spoken(f"audio/{name}.mp3", text, language=name[:2]) for name, text in said.items()))
    table.maintain()
    searcher = Searcher(table, lambda _model: ThemeEncoder())
    assert {hit.media_key for hit in ask(searcher, "once", Mode.TEXT).hits} == {"audio/es/c.mp3"}


@pytest.mark.parametrize(
    ("version", "rows", "now_s", "current"),
    [(7, 500, 1e9, True), (8, 1019, 50.0, True), (8, 1030, 50.0, False), (8, 970, 50.0, False), (8, 1000, 1e6, False)],
)
def test_vocabulary_serves_until_many_rows_are_new(version: int, rows: int, now_s: float, *, current: bool) -> None:
    assert Vocabulary(version=7, rows=1000, made_s=0.0).is_current(version, rows, now_s) is current


def test_numbers_of_known_words_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    passages = pl.DataFrame({"text": ["nine lamps", "nove"], "language": ["en", "it"]})
    before = build([passages], 1)
    parsed: list[str] = []
    monkeypatch.setattr(words_of_table, "_values", lambda word, _languages: parsed.append(word))
    after = build([passages, pl.DataFrame({"text": ["ten nove"], "language": ["en"]})], 2, before)
    assert sorted(parsed) == ["nove", "ten"]
    assert after.number_words([9]) == ["nine"]
    assert after.rows == 3


def test_signs_of_unspaced_scripts_count_beside_numbers() -> None:
    text = "ทุ่ง 5"
    forms = Forms(numerals=read_question(text, ("th",), lambda _word, _language: True))
    assert QuestionWords(parse_query(text), {}, forms).evidence(text, "th")[2] is Evidence.AS_TYPED


SMALL_WORDS = {
    "de": "ein eins eine und komma null erste",
    "en": "one a and point zero first second half o",
    "es": "un uno una y coma cero primero",
    "fr": "un une et virgule zéro premier",
    "it": "un uno una e virgola zero primo",
    "nl": "een en komma nul eerste",
    "pt": "um uma e vírgula zero primeiro",
}


@given(st.sampled_from(sorted(SMALL_WORDS)), st.data())
def test_only_small_numbers_are_said_without_number_words(language: str, data: st.DataObject) -> None:
    others = ("twenty", "5km", "3rd", "zwei", "mille", "sea", "ice")
    said = st.lists(st.sampled_from((*SMALL_WORDS[language].split(), *others)), max_size=6)
    text = " ".join(data.draw(said))
    found = [number.value for number in numbers(text, list(tokens(text)), language)]
    assert may_hold_numbers(text, language) or all(value < SMALLEST for value in found)
