"""Metadata in the Dagster UI, which hides Markdown of 1000 characters or more behind a link."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.defs import metadata
from transcription_assets.domain.transcript import Media, Segment, SpeechModel, Transcript, Word

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400)


def transcript(
    *texts: str, spoken: tuple[tuple[float, float], ...] = ((1.0, 2.0),), duration: float = 48.0
) -> Transcript:
    words = tuple(Word(start, end, " word", 0.9) for start, end in spoken)
    segments = tuple(
        Segment(number, words[0].start, words[-1].end, text, words if not number else (), -0.1, 0.0, 1.0)
        for number, text in enumerate(texts)
    )
    return Transcript(
        "a.mp4", "en", 1.0, duration, segments, Media("video/a.mp4", '"1"'), SpeechModel("base", "1", "int8", "test")
    )


@given(st.lists(TEXTS, min_size=1, max_size=20))
def test_excerpt_is_shorter_than_the_inline_limit(texts: list[str]) -> None:
    excerpt = metadata.excerpt(transcript(*texts))
    assert len(excerpt.encode("utf-16-le")) // 2 < metadata.INLINE_LIMIT


def test_very_long_sentence_is_truncated() -> None:
    excerpt = metadata.excerpt(transcript("word " * 1000))
    assert excerpt.startswith("`0:01` word word")
    assert excerpt.endswith("…")


@pytest.mark.parametrize("said", ["*stars*", "_under_", "[a](http://b)", "# one", "`tick`", "a~~b~~", "<b>", "&lt;"])
def test_excerpt_escapes_markdown(said: str) -> None:
    line = metadata.excerpt(transcript(said)).removeprefix("`0:01` ")
    assert line != said


def test_timeline_shows_words_in_place_and_lists_long_pauses() -> None:
    bar, _, pauses = metadata.timeline(transcript("word", spoken=((0.0, 2.0), (24.0, 24.1)))).partition("\n\n")
    slots = bar.strip("`").split()[1]
    assert slots == "██" + "·" * 22 + "▁" + "·" * 23
    assert pauses == "longest without words: 0:02–0:24 (22 s), 0:24–0:48 (24 s)"


def test_pause_needs_silence_on_both_channels() -> None:
    """Words of two channels can overlap."""
    shown_text = metadata.timeline(transcript("word", spoken=((0.0, 20.0), (2.0, 3.0), (20.0, 30.0))))
    assert shown_text.endswith("longest without words: 0:30–0:48 (18 s)")


def test_recording_without_speech_has_a_timeline_and_an_excerpt() -> None:
    silent = dataclasses.replace(transcript("x"), segments=())
    assert metadata.timeline(silent) == "no words"
    assert "No speech" in metadata.excerpt(silent)
