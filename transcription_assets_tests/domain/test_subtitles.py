import html
import re
import subprocess
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import imageio_ffmpeg
import pysubs2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transcription_assets.domain import line_breaks
from transcription_assets.domain.subtitles import COLUMNS, Cue, cues, to_srt, to_vtt
from transcription_assets.domain.text import spoken_words, whole_words
from transcription_assets.domain.transcript import Media, Segment, SpeechModel, Transcript, Word
from transcription_assets_tests import strategies
from transcription_assets_tests.strategies import letters, segment

WORD_JOINER = "\N{WORD JOINER}"
SPEECH = (
    "Good evening. We went to the old town in May, and then, after a very long journey by train through "
    "the mountains, we came home. Nobody had expected us so early in the year."
)


def transcript(*segments: Segment, duration: float = 3600.0) -> Transcript:
    return Transcript(
        filename="a.mp4",
        language="en",
        language_probability=1.0,
        duration=duration,
        segments=segments,
        media=Media("video/a.mp4", "e"),
        model=SpeechModel("base", "r", "int8", "faster-whisper"),
    )


def spoken(text: str, start: float = 0.0, end: float = 10.0) -> list[Word]:
    return spoken_words([segment(text, start, end)])


def texts(laid_out: list[Cue]) -> list[str]:
    return [cue.text for cue in laid_out]


def read_vtt(written: str) -> list[tuple[int, int, str]]:
    parsed = pysubs2.SSAFile.from_string(written, format_="vtt", keep_html_tags=True)
    return [(e.start, e.end, html.unescape(e.text.replace(r"\N", "\n"))) for e in parsed]


def read_srt(written: str) -> list[tuple[int, int, str]]:
    parsed = pysubs2.SSAFile.from_string(written, format_="srt")
    return [(e.start, e.end, e.text.replace(r"\N", "\n").replace(WORD_JOINER, "")) for e in parsed]


def expected(source: Transcript) -> list[tuple[int, int, str]]:
    laid_out = cues(spoken_words(source.segments), duration=source.duration)
    return [(round(c.start * 1000), round(c.end * 1000), c.text) for c in laid_out]


# Layout of words in subtitles


def test_no_words_give_no_subtitles() -> None:
    assert cues([]) == []
    assert cues([Word(0, 1, " \n", 0.5)]) == []


def test_breaks_prefer_sentence_ends_then_commas() -> None:
    assert texts(cues(spoken(SPEECH, 0.0, 16.0))) == [
        "Good evening.",
        "We went to the old town in May, and then,",
        "after a very long journey by train\nthrough the mountains, we came home.",
        "Nobody had expected us\nso early in the year.",
    ]


def test_text_that_fits_one_line_stays_on_one_line() -> None:
    assert texts(cues(spoken("This sentence has forty-two columns exactly."[:42], 0.0, 4.0))) == [
        "This sentence has forty-two columns exactl"
    ]


def test_a_full_line_of_42_columns_is_allowed() -> None:
    first, second = "A" * 41, f"{'b' * 9}, {'C' * 31}"
    assert texts(cues(spoken(f"{first} {second}", 0.0, 6.0))) == [f"{first}\n{second}"]


def test_two_quick_answers_share_a_subtitle() -> None:
    quick = spoken("Yes.", 0.0, 0.3) + spoken("No.", 0.4, 0.7) + spoken("But we never asked.", 0.8, 2.5)
    assert texts(cues(quick)) == ["Yes. No. But we never asked."]


def test_an_answer_after_a_silence_has_its_own_subtitle() -> None:
    lone = cues(spoken("Are you there?", 0.0, 2.0) + spoken("Yes.", 8.0, 8.2) + spoken("Good to know.", 20.0, 22.0))
    assert [(c.start, c.end, c.text) for c in lone[1:2]] == [(8.0, 8.833, "Yes.")]


def test_fast_speech_stays_on_screen_long_enough_to_be_read() -> None:
    [cue] = cues(spoken("Thirty-four columns in one second.", 0.0, 1.0))
    assert (cue.start, cue.end) == (0.0, 2.0)


def test_an_extended_subtitle_ends_two_frames_before_the_next() -> None:
    first, second = cues(
        spoken("This was said far too fast to be read.", 0.0, 1.1) + spoken("Indeed it was.", 2.0, 4.0)
    )
    assert (first.end, second.start) == (1.92, 2.0)


def test_a_short_gap_between_subtitles_is_reduced_to_two_frames() -> None:
    first, second = cues(spoken("Slow words.", 0.0, 3.0) + spoken("More slow words.", 3.4, 6.0))
    assert (first.end, second.start) == (3.32, 3.4)


def test_no_subtitle_extends_past_the_end_of_the_medium() -> None:
    [cue] = cues(spoken("Thirty-four columns in one second.", 0.0, 1.0), duration=1.5)
    assert cue.end == 1.5


def test_slow_speech_is_split_after_at_most_seven_seconds() -> None:
    slow = cues(spoken("One word after another comes slowly", 0.0, 12.0))
    assert texts(slow) == ["One word after", "another comes slowly"]


def test_a_word_stretched_over_a_silence_has_a_bounded_duration() -> None:
    [cue] = cues([Word(1.0, 60.0, " Hello.", 0.3)])
    assert (cue.start, cue.end) == (1.0, 8.0)


def test_chinese_is_two_columns_wide_and_no_line_starts_with_comma() -> None:
    chinese = spoken_words([segment("明天可能会下雨,所以你最好带一把伞," * 3 + "她说。", 0.0, 9.0, [])])
    lines = [line for text in texts(cues(chinese)) for line in text.split("\n")]
    assert max(map(len, lines)) <= COLUMNS // 2 + 3
    assert not any(line[0] in "，,。" for line in lines)  # noqa: RUF001


LONG_TEXTS = {
    "th": "ความสำเร็จของประเทศไทยในปีนี้เกิดขึ้นจากความร่วมมือของประชาชนทุกคนที่ทำงานหนักมาตลอดทั้งปี",
    "ja": "ファッションショーがちょっと行われたっけ、ねぇ、きっとすごーく楽しかったんじゃないかなぁと思ってしまった",
    "zh": "明天可能会下雨，所以你最好带一把伞，否则你的新衣服一定会被淋湿的，到时候可不要怪我没有提醒过你",  # noqa: RUF001
    "km": "ភាសាខ្មែរជាភាសាផ្លូវការរបស់ប្រទេសកម្ពុជាហើយមានអ្នកនិយាយជាច្រើនលាននាក់នៅក្នុងពិភពលោក",
    "lo": "ພາສາລາວເປັນພາສາທາງການຂອງສາທາລະນະລັດປະຊາທິປະໄຕປະຊາຊົນລາວແລະມີຜູ້ເວົ້າຫຼາຍລ້ານຄົນ",
    "my": "မြန်မာဘာသာစကားသည်မြန်မာနိုင်ငံ၏ရုံးသုံးဘာသာစကားဖြစ်ပြီးလူအများကပြောဆိုကြသည်",
}


@pytest.mark.parametrize("language", LONG_TEXTS)
def test_lines_without_spaces_break_between_words_and_fit(language: str) -> None:
    from icu4py.breakers import WordBreaker

    said = LONG_TEXTS[language]
    lines = [line for text in texts(cues(spoken_words([segment(said, 0.0, 9.0, [])]))) for line in text.split("\n")]
    ends = list(accumulate(map(len, lines)))
    assert "".join(lines) == said
    assert len(lines) > 1
    assert set(ends) <= set(accumulate(map(len, WordBreaker(said, language))))
    assert all(columns(line) <= COLUMNS for line in lines)
    assert not any(line[0] in "ァィゥェォッャュョぁぃぅぇぉっゃゅょー、。，" for line in lines)  # noqa: RUF001


def test_a_wide_run_of_katakana_is_cut_within_the_limit() -> None:
    said = "アカサタナハマヤラワ" * 4 + "ー"
    lines = [line for text in texts(cues(spoken_words([segment(said, 0.0, 6.0, [])]))) for line in text.split("\n")]
    assert "".join(lines) == said
    assert all(columns(line) <= COLUMNS for line in lines)
    assert not any(line.startswith("ー") for line in lines)


ATOMS = [
    *"ความสำเร็จประเทศไทยファッションがっーは、。「」明天下雨កម្ពុជាမြန်မာພາສາ한국어אבגدرس",
    "👩‍👩‍👧",
    "🇩🇪",
    "👍🏽",
    "e\u0301",
    "葛\U000e0100",
]


@given(st.lists(st.sampled_from([*ATOMS, " ", " word"]), max_size=120).map("".join), st.integers(1, 4))
@example("คคค。ำคคค", 1)
@settings(max_examples=200, deadline=None)
def test_no_line_break_splits_a_grapheme_or_dictionary_word(said: str, size: int) -> None:
    from icu4py.breakers import CharacterBreaker

    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    words = [Word(i / 4, i / 4 + 0.2, text, 0.9) for i, text in enumerate(pieces)]
    whole = "".join(word.word for word in whole_words(words))
    lines = [line for text in texts(cues(words)) for line in text.split("\n")]
    clusters = set(accumulate(map(len, CharacterBreaker(whole, "und"))))
    allowed = {0, len(whole), *line_breaks.word_breaks(whole)}
    strict = {0, len(whole), *line_breaks.line_breaks(whole)}
    at = 0
    for line in lines:
        start = whole.index(line, at)
        assert not whole[at:start].strip()
        at = start + len(line)
        assert at in clusters
        assert at in strict
        # Only a word that is wider than a line is split.
        assert at in allowed or columns(line) > COLUMNS - 4
    assert not whole[at:].strip()


def test_a_word_of_200_letters_has_its_own_subtitle() -> None:
    long = "x" * 200
    assert texts(cues(spoken(f"before {long} after", 0.0, 3.0))) == ["before", long, "after"]


def test_words_at_the_same_time_get_subtitles_of_positive_length() -> None:
    heap = [Word(5.0, 5.0, f" word{i:02}", 0.1) for i in range(40)]
    laid_out = cues(heap)
    assert "".join(" " + cue.text.replace("\n", " ") for cue in laid_out) == "".join(w.word for w in heap)
    assert all(cue.end > cue.start for cue in laid_out)


@given(strategies.words())
@settings(max_examples=200, deadline=None)
def test_subtitles_keep_all_words_in_order_and_never_overlap(words: list[Word]) -> None:
    laid_out = cues(words)
    whole = whole_words(words)
    assert letters("".join(texts(laid_out))) == letters("".join(word.word for word in words))
    assert all(0 <= a.start < a.end <= b.start < b.end for a, b in pairwise(laid_out))
    assert all(cue.end - cue.start <= 7.0 + 1e-9 for cue in laid_out)
    assert all(cue.text.strip() for cue in laid_out)
    assert len(laid_out) <= len(whole)


@given(strategies.words())
@settings(max_examples=200, deadline=None)
def test_subtitles_have_at_most_two_lines_that_fit(words: list[Word]) -> None:
    whole = {letters(word.word) for word in whole_words(words)}
    for cue in cues(words):
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(0 < columns(line) <= COLUMNS for line in lines) or letters(cue.text) in whole


def columns(line: str) -> int:
    """Return the width in columns by an independent rule: East Asian text and emoji are wide, marks have no width."""
    marks = r"[\u200b-\u200f\ufeff]"
    return sum(0 if re.match(marks, c) or unicodedata.category(c) == "Mn" else 1 + (c > "\u2e7f") for c in line)


@given(strategies.words())
@settings(max_examples=200, deadline=None)
def test_a_subtitle_starts_with_its_word_and_ends_before_the_next(
    words: list[Word],
) -> None:
    whole = whole_words(words)
    laid_out = cues(words)
    following = [*(cue.start for cue in laid_out[1:]), float("inf")][: len(laid_out)]
    index = 0
    for cue, limit in zip(laid_out, following, strict=True):
        first, held = whole[index], ""
        while letters(held) != letters(cue.text):
            held += whole[index].word
            index += 1
        last = whole[index - 1]
        # Words at the same time are separated by one millisecond each.
        assert first.start - 1e-9 <= cue.start <= first.start + len(laid_out) / 1000
        assert cue.end <= limit
        room = min(last.end, limit - 0.16, cue.start + 7.0)
        assert cue.end >= room - 1e-9, "a subtitle is shown until its last word ends"


# SRT and WebVTT files


def test_a_silent_recording_has_valid_empty_files() -> None:
    assert to_srt(transcript()) == ""
    assert to_vtt(transcript()).strip() == "WEBVTT"
    assert read_vtt(to_vtt(transcript())) == []


def test_srt_and_vtt_have_the_same_text_and_times() -> None:
    source = transcript(segment(SPEECH, 3590.0, 3606.0), duration=3610.0)
    assert read_srt(to_srt(source)) == read_vtt(to_vtt(source)) == expected(source)
    assert "01:00:0" in to_srt(source)


def test_a_segment_without_words_is_shown_at_its_own_time() -> None:
    source = transcript(segment("Nobody knows when which word came.", 4.0, 7.0, []))
    assert read_vtt(to_vtt(source)) == [(4000, 7000, "Nobody knows when which word came.")]


HOSTILE = [
    "say <b>bold</b> and <script>alert(1)</script>",
    "Q&A costs 3 < 4 &amp; 5 > 2",
    "1 --> 2 was said, and then --> --> -->",
    "STYLE\n\nNOTE a newline\r\nin a word",
    "{\\an8} at the top {y:i} and C:\\new\\house \\h",
    "مرحبا بالعالم و שלום עולם",
    "family 👩‍👩‍👧 and flag 🇩🇪",
    "x" * 200,
    "今日は晴れ。明日は雨が降るかもしれないので、傘を持って行ったほうがいい。",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_round_trips_through_both_files(text: str) -> None:
    source = transcript(segment(text, 0.0, 6.0))
    vtt, srt = to_vtt(source), to_srt(source)
    assert [item[2] for item in read_vtt(vtt)] == [item[2] for item in expected(source)]
    assert [item[2] for item in read_srt(srt)] == [item[2] for item in expected(source)]
    assert letters("".join(item[2] for item in read_vtt(vtt))) == letters(text)


@given(strategies.segments())
@settings(max_examples=100, deadline=None)
def test_vtt_text_cannot_be_parsed_as_a_number_or_time_line(
    segments: tuple[Segment, ...],
) -> None:
    source = transcript(*segments, duration=segments[-1].end if segments else 0.0)
    header, *blocks = to_vtt(source).rstrip("\n").split("\n\n")
    assert header == "WEBVTT"
    read = []
    for number, block in enumerate(blocks, start=1):
        name, times, *lines = block.split("\n")
        assert name == str(number)
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}", times)
        assert 1 <= len(lines) <= 2
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", "".join(lines))
        read.append("\n".join(map(html.unescape, lines)))
    assert read == [item[2] for item in expected(source)]


@given(strategies.segments())
@settings(max_examples=100, deadline=None)
def test_an_srt_has_exactly_one_time_line_per_subtitle(segments: tuple[Segment, ...]) -> None:
    source = transcript(*segments)
    written = to_srt(source)
    assert written.count("-->") == len(expected(source))
    assert not re.search(r"<[a-z/]|\{\\", written)
    assert [item[:2] for item in read_srt(written)] == [item[:2] for item in expected(source)]


@pytest.mark.parametrize(("suffix", "write"), [("srt", to_srt), ("vtt", to_vtt)])
def test_ffmpeg_shows_a_spoken_tag_as_text(tmp_path: Path, suffix: str, write: Callable[[Transcript], str]) -> None:
    source = transcript(segment("say <b>bold</b> & 00:00:03,000 --> 4", 0.0, 2.0), segment("and then this", 5.0, 7.0))
    (tmp_path / f"a.{suffix}").write_text(write(source), encoding="utf-8")
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        tmp_path / f"a.{suffix}",
        "-f",
        "srt",
        "-",
    ]
    shown = subprocess.run(command, capture_output=True, check=True, text=True)
    assert shown.stderr == ""
    assert "say <b>bold</b> & 00:00:03,000 --> 4" in shown.stdout.replace(WORD_JOINER, "")
    assert "and then this" in shown.stdout


def test_a_spoken_tag_is_escaped_rather_than_dropped() -> None:
    source = transcript(segment("<b>", 0.0, 1.0))
    assert "&lt;b&gt;" in to_vtt(source)
    assert f"<{WORD_JOINER}b>" in to_srt(source)


def test_no_subtitle_ends_after_the_medium_by_rounding() -> None:
    source = replace(transcript(segment("The end.", 8.0, 9.9996)), duration=9.9996)
    assert read_srt(to_srt(source))[-1][1] <= 9999


def test_markup_in_a_speaker_is_escaped() -> None:
    said = replace(segment("Hello.", 0.0, 1.0), speaker="<i>Ada</i> & {b}")
    written = transcript(said)
    assert "<v &lt;i&gt;Ada&lt;/i&gt; &amp; {b}>Hello." in to_vtt(written)
    assert "<\N{WORD JOINER}i>Ada<\N{WORD JOINER}/i> & {\N{WORD JOINER}b}: Hello." in to_srt(written)
