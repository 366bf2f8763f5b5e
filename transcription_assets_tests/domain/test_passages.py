from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from transcription_assets.domain.passages import Passage, cut_passages, cut_sentences
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets_tests import strategies
from transcription_assets_tests.strategies import letters, segment


def talk(sentence_count: int, seconds: float = 5.0) -> list[Segment]:
    return [
        segment(f"Sentence number{i} is here.", i * seconds, (i + 1) * seconds, number=i) for i in range(sentence_count)
    ]


def test_a_recording_without_speech_has_no_passages() -> None:
    assert cut_sentences([]) == []
    assert cut_passages([]) == []
    assert cut_passages([segment("", 0, 5, [Word(0, 5, " ", 0.1)])]) == []


def test_a_sentence_split_over_two_segments_is_joined() -> None:
    spoken = cut_sentences([segment("The mountain is", 0, 2), segment("very high. We climbed.", 2, 5)])
    assert [item.text for item in spoken] == ["The mountain is very high.", "We climbed."]
    assert (spoken[0].start, spoken[0].end, spoken[1].end) == (0.0, 3.5, 5.0)


def test_passages_last_about_30_s_and_overlap_by_one_sentence() -> None:
    passages = cut_passages(talk(20))
    assert [(p.start, p.end) for p in passages] == [(0, 30), (25, 55), (50, 80), (75, 100)]
    assert passages[1].sentences[0] == passages[0].sentences[-1]
    assert passages[0].text.startswith("Sentence number0 is here. Sentence number1 is here.")


def test_passages_do_not_overlap_if_the_overlap_is_zero() -> None:
    assert [(p.start, p.end) for p in cut_passages(talk(12), overlap_s=0)] == [(0, 30), (30, 60)]


def test_a_whole_passage_is_never_repeated_in_the_next_one() -> None:
    assert [(p.start, p.end) for p in cut_passages(talk(3), target_s=5)] == [(0, 5), (5, 10), (10, 15)]


def test_a_passage_exceeds_the_target_if_that_is_closer_to_it() -> None:
    assert [(p.start, p.end) for p in cut_passages(talk(4, seconds=18))] == [(0, 36), (36, 72)]


def test_no_passage_or_overlap_spans_a_long_silence() -> None:
    passages = cut_passages([segment("Before the music.", 0, 2), segment("After the music.", 600, 602)])
    assert [(p.start, p.end) for p in passages] == [(0, 2), (600, 602)]


def test_japanese_sentences_are_joined_without_spaces() -> None:
    [passage] = cut_passages([segment("今日は晴れ。明日は雨。", 0, 5, []), segment("そうです。", 5, 7, [])])
    assert passage.text == "今日は晴れ。明日は雨。そうです。"
    assert len(passage.sentences) == 3


def test_an_hour_without_punctuation_gives_bounded_passages() -> None:
    passages = cut_passages([segment(" ".join(["and"] * 7200), 0, 3600)])
    assert max(p.end - p.start for p in passages) <= 60
    assert passages[-1].end == 3600


def check(passages: list[Passage], target_s: float, overlap_s: float) -> None:
    assert [p.index for p in passages] == list(range(len(passages)))
    for passage in passages:
        assert passage.start == passage.sentences[0].start <= passage.end == passage.sentences[-1].end
        longest = max(item.end - item.start for item in passage.sentences)
        assert passage.end - passage.start <= max(2 * target_s, overlap_s + longest) + 1e-6
        assert letters(passage.text) == letters("".join(item.text for item in passage.sentences))
    for before, after in pairwise(passages):
        assert before.start <= after.start
        assert before.end <= after.end
        assert set(after.sentences) - set(before.sentences), "each passage adds at least one sentence"
        assert before.end - after.start <= overlap_s + 1e-6


@given(strategies.segments(), st.sampled_from([5.0, 30.0, 60.0]), st.sampled_from([0.0, 4.0, 8.0]))
@settings(max_examples=150, deadline=None)
def test_passages_contain_all_sentences_in_order_and_are_bounded(
    segments: tuple[Segment, ...], target_s: float, overlap_s: float
) -> None:
    passages = cut_passages(segments, target_s=target_s, overlap_s=overlap_s)
    spoken = cut_sentences(segments)
    assert list(dict.fromkeys(id_ for p in passages for id_ in map(_place, p.sentences))) == list(
        dict.fromkeys(map(_place, spoken))
    )
    check(passages, target_s, overlap_s)
    assert passages == cut_passages(list(segments), target_s=target_s, overlap_s=overlap_s), "the ids are deterministic"


def _place(sentence: object) -> str:
    return repr(sentence)


@given(strategies.segments())
@settings(max_examples=100, deadline=None)
def test_sentences_keep_every_letter_and_are_in_time_order(segments: tuple[Segment, ...]) -> None:
    spoken = cut_sentences(segments)
    said = "".join("".join(word.word for word in item.words) or item.text for item in segments)
    assert letters("".join(item.text for item in spoken)) == letters(said)
    assert all(a.start <= a.end <= b.start for a, b in pairwise(spoken))
    assert all(item.text == item.text.strip() != "" for item in spoken)
