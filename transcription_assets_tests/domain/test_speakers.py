"""Words get the speakers of turns."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.domain.speakers import Turn, segments_of, talk_times, transcript_of
from transcription_assets.domain.transcript import Media, Segment, SpeechModel, Transcript, Word
from transcription_assets_tests.strategies import segment

ADA, BOB = "1", "2"


def said(*words: tuple[float, float, str]) -> Segment:
    whole = segment("x", words[0][0], words[-1][1])
    spoken = tuple(Word(start, end, word, 0.9) for start, end, word in words)
    return replace(whole, text="".join(word.word for word in spoken).strip(), words=spoken)


def transcript(*segments: Segment) -> Transcript:
    return Transcript("a.wav", "en", 1.0, 60.0, segments, Media("audio/a.wav", "1"), SpeechModel("m", "r", "int8", "e"))


QUESTION = said((0.0, 0.4, " Who"), (0.4, 0.9, " is"), (0.9, 1.4, " it?"), (1.8, 2.3, " Me."), (2.3, 2.9, " Ada."))
TURNS = (Turn(0.0, 1.5, BOB), Turn(1.7, 3.0, ADA))


def test_segments_split_where_the_speaker_changes() -> None:
    found = transcript_of(transcript(QUESTION, segment("Then.", 4.0, 5.0)), TURNS).segments
    assert [(item.id, item.speaker, item.text) for item in found] == [
        (0, "Speaker 2", "Who is it?"),
        (1, "Speaker 1", "Me. Ada."),
        (2, "Speaker 1", "Then."),
    ]
    assert [(item.start, item.end) for item in found[:2]] == [(0.0, 1.4), (1.8, 2.9)]


def test_names_replace_labels() -> None:
    first, second = segments_of([QUESTION], TURNS, {ADA: "Ada Lovelace"})
    assert (first.speaker, second.speaker) == ("Speaker 2", "Ada Lovelace")


def test_without_turns_nothing_changes() -> None:
    source = transcript(QUESTION)
    assert transcript_of(source, ()) is source


def test_the_speaker_of_a_channel_stays() -> None:
    (found,) = segments_of([replace(QUESTION, speaker="left")], TURNS)
    assert found == replace(QUESTION, speaker="left", id=0)


def test_a_word_far_from_all_turns_has_no_speaker() -> None:
    (found,) = segments_of([said((30.0, 30.5, " Hm."))], TURNS)
    assert found.speaker == ""


def test_a_word_between_turns_belongs_to_the_nearest() -> None:
    found = segments_of([said((3.2, 3.4, " so"), (3.4, 3.6, " yes."))], TURNS)
    assert [item.speaker for item in found] == ["Speaker 1"]


def test_a_short_insertion_does_not_split_a_sentence() -> None:
    sentence = said((0.0, 1.0, " a"), (1.0, 1.2, " b"), (1.2, 2.0, " c"))
    turns = (Turn(0.0, 1.0, ADA), Turn(1.0, 1.2, BOB), Turn(1.2, 2.0, ADA))
    assert [item.speaker for item in segments_of([sentence], turns)] == ["Speaker 1"]


def test_of_two_at_once_the_longer_one_is_transcribed() -> None:
    turns = (Turn(0.0, 2.9, ADA, overlap=True), Turn(1.0, 1.5, BOB, overlap=True))
    assert [item.speaker for item in segments_of([QUESTION], turns)] == ["Speaker 1"]


def test_a_segment_without_words_gets_the_main_speaker() -> None:
    bare = replace(QUESTION, words=())
    assert [item.speaker for item in segments_of([bare], (Turn(0, 1, BOB), Turn(1, 3, ADA)))] == ["Speaker 1"]


def test_talk_times_are_longest_first() -> None:
    assert talk_times([Turn(0, 1, BOB), Turn(1, 4, ADA), Turn(4, 5, BOB)]) == {ADA: 3.0, BOB: 2.0}


TIMES = st.lists(st.floats(0, 50), min_size=2, max_size=2, unique=True).map(sorted)


@given(st.lists(TIMES, min_size=1, max_size=12), st.lists(st.tuples(TIMES, st.sampled_from("123")), max_size=12))
def test_no_word_is_lost_or_moved(spans: list[list[float]], turns: list[tuple[list[float], str]]) -> None:
    words = [(start, end, f" w{number}") for number, (start, end) in enumerate(sorted(spans))]
    ordered = sorted((Turn(start, end, label) for (start, end), label in turns), key=lambda turn: turn.start)
    found = transcript_of(transcript(said(*words)), ordered)
    assert found.words == transcript(said(*words)).words
    assert [item.id for item in found.segments] == list(range(len(found.segments)))
