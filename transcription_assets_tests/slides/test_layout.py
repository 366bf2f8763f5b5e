"""Reading order and paragraphs, from lines at scripted places."""

from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.slides.layout import MOST_CHARACTERS, letters, text_of
from transcription_assets.slides.reader import Box, Line


def line(text: str, left: float, top: float, width: float = 200, height: float = 20) -> Line:
    return Line(text, 1.0, Box(left, top, left + width, top + height))


def column(text: str, left: float) -> Line:
    return Line(text, 1.0, Box(left, 0, left + 30, 300), vertical=True)


def test_wrapped_lines_are_one_paragraph() -> None:
    assert text_of([line("is a map", 0, 25), line("The dance", 0, 0)]) == "The dance is a map"


def test_list_items_are_paragraphs_of_their_own() -> None:
    assert text_of([line("Six hours", 0, 0), line("One oven", 0, 25), line("3 loaves", 0, 50)]) == (
        "Six hours\nOne oven\n3 loaves"
    )


def test_a_heading_is_apart_from_smaller_lines() -> None:
    assert text_of([line("heading", 0, 0, height=60), line("under it", 0, 65)]) == "heading\nunder it"


def test_two_columns_are_read_one_after_the_other() -> None:
    lines = [line("Left", 0, 0), line("right", 400, 0), line("goes on", 0, 25), line("too", 400, 25)]
    assert text_of(lines) == "Left goes on\nright too"


def test_parts_of_a_line_are_joined() -> None:
    assert text_of([line("world", 210, 2), line("hello", 0, 0)]) == "hello world"


def test_vertical_text_is_read_from_right_to_left() -> None:
    assert text_of([column("三", 0), column("一", 100), column("二", 50)]) == "一\n二\n三"


def test_vertical_text_follows_the_rest() -> None:
    assert text_of([column("axis", 0), line("Title", 100, 0)]) == "Title\naxis"


def test_unspaced_scripts_are_joined_without_spaces() -> None:
    assert text_of([line("夜の", 0, 0), line("パン", 0, 25)]) == "夜のパン"


def test_ten_thousand_words_are_cut_between_words() -> None:
    lines = [line("seven letters " * 10, 0, 25.0 * row, width=900) for row in range(1000)]
    text = text_of(lines)
    assert MOST_CHARACTERS - 20 < len(text) <= MOST_CHARACTERS
    assert text.split()[-1] in {"seven", "letters"}


def test_control_characters_do_not_reach_the_text() -> None:
    assert text_of([line("a\u202eb\x1b[31m\nc", 0, 0)]) == "ab[31mc"


def test_letters_count_words_and_not_marks() -> None:
    assert letters("– 3 Bäume, 三!") == 7


_PLACES = st.builds(
    line,
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.floats(0, 1280),
    st.floats(0, 720),
    st.floats(1, 1280),
    st.floats(1, 720),
)


@given(st.lists(_PLACES, max_size=12))
def test_every_word_is_kept_whatever_the_places(lines: list[Line]) -> None:
    expected = sorted("".join(text_of([one]).split()) for one in lines)
    assert sorted("".join(text_of(lines).split())) == sorted("".join(expected))
