from itertools import pairwise

import pytest
from hypothesis import given, settings

from transcription_assets.domain.text import SENTENCE_S, ends_clause, sentence_runs, spoken_words, whole_words
from transcription_assets.domain.transcript import Word
from transcription_assets_tests import strategies
from transcription_assets_tests.strategies import letters, segment


def pieces(*texts: str) -> list[Word]:
    return [Word(i, i + 1, text, 0.9) for i, text in enumerate(texts)]


def whole(*texts: str) -> list[str]:
    return [word.word for word in whole_words(pieces(*texts))]


def sentences(text: str) -> list[str]:
    runs = sentence_runs(whole_words(pieces(*(f" {token}" for token in text.split()))))
    return ["".join(word.word for word in run).strip() for run in runs]


def test_a_number_split_into_two_tokens_is_joined() -> None:
    assert whole(" It", " is", " 3", ".5", "%", " more") == [" It", " is", " 3.5%", " more"]


def test_a_joined_word_spans_its_tokens_at_the_lower_probability() -> None:
    joined = whole_words([Word(1, 2, " 3", 0.9), Word(2, 3, ".5", 0.4)])
    assert joined == [Word(1, 3, " 3.5", 0.4)]


def test_french_punctuation_stays_with_its_word() -> None:
    assert whole(" Bonjour", " !", " «", " oui", " »") == [" Bonjour !", " « oui »"]


def test_a_lone_dash_does_not_start_a_line() -> None:
    assert whole(" so", " –", " then") == [" so –", " then"]


def test_japanese_punctuation_stays_with_its_word() -> None:
    assert whole("今日", "は", "。", "「", "明日", "」", "OK", "です") == [
        "今日",
        "は。",
        "「明日」",
        "OK",
        "です",
    ]


def test_a_thai_vowel_sign_stays_with_its_consonant() -> None:
    assert whole("น", "ี", "เ", "ทย") == ["นี", "เทย"]


@pytest.mark.parametrize(
    "text",
    [
        "ความ|สำเร็จ|ของ|ประเทศไทย|ใน|ปี|นี้",
        "ພາສາ|ລາວ|ເປັນ|ພາສາ|ທາງການ",
        "ភាសាខ្មែរ|ជា|ភាសាផ្លូវការ",
        "မြန်မာဘာသာ|စကား|သည်",
        "明天|可能|会|下雨，|所以|你|最好|带|一把|伞。",  # noqa: RUF001
        "今日|は|ちょっと|晴れ、|明日|は|雨|です。",
    ],
)
def test_tokens_without_spaces_become_dictionary_words(text: str) -> None:
    words = text.split("|")
    spoken = "".join(words)
    assert whole(*spoken) == words
    assert whole(spoken) == words
    assert whole(*(spoken[at : at + 3] for at in range(0, len(spoken), 3))) == words


def test_a_word_inside_a_token_has_a_proportional_duration() -> None:
    piece = Word(10.0, 12.8, "ភាសាខ្មែរជាភាសាផ្លូវការ", 0.9)
    spoken = whole_words([piece])
    assert [(word.start, word.end) for word in spoken] == [(10.0, 11.096), (11.096, 11.339), (11.339, 12.8)]


def test_a_pause_ends_a_word_that_the_dictionary_would_join() -> None:
    assert [word.word for word in whole_words([Word(0, 1, "ประเทศ", 1), Word(9, 10, "ไทย", 1)])] == ["ประเทศ", "ไทย"]
    assert [word.word for word in whole_words([Word(0, 1, "今日", 1), Word(9, 10, "。", 1)])] == ["今日。"]


def test_a_newline_or_control_character_in_a_word_becomes_a_space() -> None:
    assert whole(" a\nb", "\r\n", "", " c\x00\x85d") == [" a", " b", " c", " d"]


def test_segments_without_a_leading_space_do_not_join_two_words() -> None:
    spoken = spoken_words([segment("", 0, 1, pieces("one")), segment("", 1, 2, pieces("two"))])
    assert [word.word for word in spoken] == [" one", " two"]


def test_a_segment_without_word_times_divides_its_duration() -> None:
    spoken = spoken_words([segment("one threes 今日", 10, 20, [])])
    assert [word.word for word in spoken] == [" one", " threes", " 今日"]
    assert [word.start for word in spoken] == [10.0, 12.857, 17.857]
    assert spoken[-1].end == 20.0


def test_abbreviations_initials_and_ordinals_end_no_sentence() -> None:
    assert sentences("Dr. Smith and J. Doe met Mrs. Roe. They talked.") == [
        "Dr. Smith and J. Doe met Mrs. Roe.",
        "They talked.",
    ]
    assert sentences("In the U.S. Senate, e.g. today, at 3 p.m. sharp.") == [
        "In the U.S. Senate, e.g. today, at 3 p.m. sharp."
    ]
    assert sentences("Am 3. Oktober kam er. Das war 1999. Dann nicht.") == [
        "Am 3. Oktober kam er.",
        "Das war 1999.",
        "Dann nicht.",
    ]


def test_quoted_full_stops_end_sentences_but_ellipses_do_not() -> None:
    assert sentences('"Go." He went... and came. „Gut.“ Sie ging!') == [
        '"Go."',
        "He went... and came.",
        "„Gut.“",
        "Sie ging!",
    ]


def test_scripts_without_spaces_end_sentences_at_their_punctuation() -> None:
    runs = sentence_runs(whole_words(pieces("今日", "は", "。", "明日", "？", "你", "好", "！")))  # noqa: RUF001
    assert ["".join(word.word for word in run) for run in runs] == ["今日は。", "明日？", "你好！"]  # noqa: RUF001


def test_a_long_pause_ends_a_sentence_without_a_full_stop() -> None:
    runs = sentence_runs([Word(0, 1, " so", 1), Word(2.4, 3, " then", 1), Word(4.6, 5, " next", 1)])
    assert [len(run) for run in runs] == [2, 1]


def test_a_long_sentence_is_split_at_a_comma() -> None:
    spoken = pieces(*(" well," if i == 20 else " and" for i in range(60)))
    assert [len(run) for run in sentence_runs(spoken)] == [21, 25, 14]


def test_a_comma_before_a_closing_quotation_mark_ends_a_clause() -> None:
    assert ends_clause(" so,”")
    assert ends_clause(" done.")
    assert not ends_clause(" so")
    assert not ends_clause("”")


@given(strategies.segments())
@settings(max_examples=150, deadline=None)
def test_no_word_is_lost_duplicated_or_reordered(segments: tuple) -> None:
    spoken = spoken_words(segments)
    said = "".join("".join(word.word for word in item.words) or item.text for item in segments)
    assert letters("".join(word.word for word in spoken)) == letters(said)
    assert all(a.start <= a.end <= b.start <= b.end for a, b in pairwise(spoken))
    assert whole_words(spoken) == spoken, "joining words is idempotent"


@given(strategies.words())
@settings(max_examples=150, deadline=None)
def test_sentences_contain_every_word_once_and_are_bounded(words: list[Word]) -> None:
    spoken = whole_words(words)
    runs = sentence_runs(spoken)
    assert [word for run in runs for word in run] == spoken
    assert all(run[-1].end - run[0].start <= SENTENCE_S or len(run) == 1 for run in runs)
