import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcription_assets.domain.transcript import (
    Media,
    Segment,
    Speech,
    SpeechModel,
    Timing,
    Transcript,
    Word,
    from_json,
    normalise_segments,
)
from transcription_assets.speech import windows
from transcription_assets_tests import strategies
from transcription_assets_tests.strategies import segment


def transcript(*segments: Segment, filename: str = "video/a.mp4") -> Transcript:
    return Transcript(
        filename=filename,
        language="en",
        language_probability=0.98,
        duration=12.5,
        segments=segments,
        media=Media("video/a.mp4", '"5f-1"'),
        model=SpeechModel("base", "ebe41f7", "int8", "faster-whisper"),
        options={"beam_size": 5, "temperatures": [0.0, 0.2], "vad": {"threshold": 0.5}, "prompt": None},
        speech=Speech(10.0, 9.0, 0.7),
        timing=Timing(0.5, 12.5),
    )


HELLO = segment("Hello there, مرحبا 👋.", 0.0, 4.0)


def test_a_transcript_round_trips_through_json() -> None:
    original = transcript(HELLO, segment("No words here", 4.0, 6.0, []))
    assert from_json(original.to_json()) == original


@given(strategies.segments())
@settings(max_examples=100, deadline=None)
def test_arbitrary_segments_round_trip_through_json(segments: tuple[Segment, ...]) -> None:
    original = transcript(*normalise_segments(segments, 100.0))
    assert from_json(original.to_json()) == original


def test_a_file_name_that_is_not_utf8_round_trips() -> None:
    original = transcript(HELLO, filename=b"video/caf\xe9.mp4".decode("utf-8", "surrogateescape"))
    assert from_json(original.to_json()) == original


def test_the_json_contains_the_text_and_derived_figures() -> None:
    document = json.loads(transcript(HELLO, segment("Bye.", 4.0, 5.0)).to_json())
    assert document["schema_version"] == 2
    assert document["text"] == "Hello there, مرحبا 👋.\nBye."
    assert document["no_speech"] is False
    assert document["timing"]["rtfx"] == 25.0
    assert document["segments"][0]["words"][0] == {
        "start": 0.0,
        "end": 1.0,
        "word": " Hello",
        "probability": 0.9,
    }


def test_the_json_is_utf8_without_escapes() -> None:
    assert "مرحبا 👋".encode() in transcript(HELLO).to_json()


def test_a_newer_schema_version_is_refused() -> None:
    newer = transcript(HELLO).to_json().replace(b'"schema_version": 2', b'"schema_version": 3')
    with pytest.raises(ValueError, match="schema_version 3"):
        from_json(newer)


def test_schema_version_1_is_read() -> None:
    unsure = replace(segment("Bye.", 4.0, 5.0), low_confidence="loop")
    speech = Speech(2.0, 1.0, 1.0, gaps=((1.0, 2.0),), hallucinations=((4.0, 5.0),))
    original = replace(transcript(HELLO, unsure), speech=speech)
    document = original.to_json().decode()
    for new, old in (
        ('"schema_version": 2', '"schema_version": 1'),
        ('"low_confidence"', '"doubt"'),
        ('"gaps"', '"holes"'),
        ('"hallucinations"', '"inventions"'),
    ):
        assert new in document
        document = document.replace(new, old)
    assert from_json(document.encode()) == original


@pytest.mark.parametrize("damage", [b"", b"null", b"[]", b'"text"', b"{}", b'{"schema_version": 1}', b"[" * 100_000])
def test_a_damaged_transcript_is_a_value_error(damage: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the class is the contract
        from_json(damage)


@pytest.mark.parametrize("damage", [b"", b"null", b"[]", b"{}", b'{"start": 0}'])
def test_a_damaged_window_is_a_value_error(damage: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- the class is the contract
        windows.from_json(damage)


def test_a_silent_recording_is_marked_and_covered() -> None:
    silent = replace(transcript(), speech=Speech(0.0, 0.0, 0.0), timing=Timing(0.0, 0.0))
    assert silent.no_speech
    assert silent.text == ""
    assert silent.words == ()
    assert silent.speech.coverage == 1.0
    assert silent.timing.rtfx == 0.0


def test_a_gap_in_the_transcript_is_not_silence() -> None:
    unheard = replace(transcript(), speech=Speech(6.0, 0.0, 6.0, gaps=((2.0, 8.0),)))
    assert not unheard.no_speech


def test_words_of_all_segments_are_in_order() -> None:
    spoken = transcript(segment("a b", 0, 2), segment("", 2, 3, []), segment("c", 3, 4)).words
    assert [word.word for word in spoken] == [" a", " b", " c"]


def test_an_overlapping_word_starts_where_the_previous_one_ends() -> None:
    overlapping = segment("a b", 0.0, 2.0, [Word(0.0, 1.04, " a", 0.912345), Word(0.98, 2.0, " b", 0.9)])
    [settled] = normalise_segments([overlapping], 10.0)
    assert settled.words == (Word(0.0, 1.04, " a", 0.9123), Word(1.04, 2.0, " b", 0.9))


def test_segments_are_sorted_numbered_trimmed_and_not_blank() -> None:
    late, blank, early = segment(" late ", 5, 6), segment("  ", 2, 3), segment("early", 0, 1)
    settled = normalise_segments([late, blank, early], 10.0)
    assert [(item.id, item.text) for item in settled] == [(0, "early"), (1, "late")]


def test_a_repaired_segment_stays_marked() -> None:
    assert normalise_segments([replace(HELLO, repaired=True)], 10.0)[0].repaired


def test_the_last_word_does_not_end_after_the_medium_by_rounding() -> None:
    [settled] = normalise_segments([segment("end", 1.0, 2.0, [Word(1.0, 2.0, " end", 0.9)])], 1.2346)
    assert settled.end == settled.words[-1].end <= 1.2346


def test_times_are_rounded_to_milliseconds() -> None:
    [settled] = normalise_segments([segment("end", 1.0, 2.0, [Word(1.23456, 1.98765, " end", 0.9)])], 9.0)
    assert (settled.start, settled.end) == (1.235, 1.988)


def test_a_nan_time_does_not_affect_the_following_words() -> None:
    nan = float("nan")
    [settled] = normalise_segments(
        [segment("a b", 1.0, 3.0, [Word(1.0, nan, " a", 0.9), Word(2.0, 3.0, " b", 0.9)])], 9.0
    )
    assert [(word.start, word.end) for word in settled.words] == [(1.0, 1.0), (2.0, 3.0)]


wild_times = st.floats(-5.0, 120.0)
wild_words = st.lists(st.builds(Word, wild_times, wild_times, strategies.texts, st.floats(0.0, 1.0)), max_size=8)
wild_segments = st.lists(
    st.builds(segment, st.sampled_from(["said", " said ", "", " "]), wild_times, wild_times, wild_words),
    max_size=8,
)


@given(wild_segments, st.floats(0.0, 100.0))
@settings(max_examples=200, deadline=None)
def test_times_never_decrease_and_stay_inside_medium_and_segment(segments: list[Segment], duration: float) -> None:
    settled = normalise_segments(segments, duration)
    assert [item.id for item in settled] == list(range(len(settled)))
    assert len(settled) == sum(bool(item.text.strip()) for item in segments)
    times = [0.0]
    for item in settled:
        inner = [time for word in item.words for time in (word.start, word.end)]
        times += [item.start, *inner, item.end]
    times.append(duration)
    assert all(before <= after for before, after in pairwise(times))


@given(wild_segments, st.integers(0, 100_000).map(lambda ms: ms / 1000))
@settings(max_examples=100, deadline=None)
def test_normalising_keeps_every_word_and_is_idempotent(segments: list[Segment], duration: float) -> None:
    settled = normalise_segments(segments, duration)
    kept = sorted((s for s in segments if s.text.strip()), key=lambda item: item.start)
    assert [w.word for s in settled for w in s.words] == [w.word for s in kept for w in s.words]
    assert normalise_segments(settled, duration) == settled
