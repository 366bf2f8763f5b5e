"""Low confidence, repairs and the language of a chunk. Uses a fake careful decoder."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets.speech import SAMPLE_RATE
from transcription_assets.speech.decoder import Chunk, Decoded
from transcription_assets.speech.fallback import checked
from transcription_assets.speech.languages import Probabilities, along, choose, mixed, others, shares, spoken, suspects
from transcription_assets.speech.quality import (
    Repetition,
    find_leaked,
    fits_voices,
    is_loop,
    low_confidence_reason,
    repetition,
    tokens,
    turns,
    word_count,
)

TEXT = " It rained all day and we stayed in the old house by the sea"
LOOP = " and so on" * 30


def segment(text: str = TEXT, seconds: float = 10.0, **changes: float) -> Segment:
    tokens = text.split()
    step = seconds / max(1, len(tokens))
    words = tuple(Word(i * step, (i + 1) * step, f" {token}", 0.9) for i, token in enumerate(tokens))
    made = Segment(0, 0.0, seconds, text, words, -0.2, 0.1, 1.5, language="en", language_probability=0.95)
    return replace(made, **changes)  # type: ignore[arg-type]


def chunk(seconds: float = 10.0, *vocabulary: str) -> Chunk:
    halves = (Region(0.0, seconds / 2 - 0.5), Region(seconds / 2 + 0.5, seconds))
    return Chunk(np.zeros(int(seconds * SAMPLE_RATE), np.float32), halves, vocabulary)


@dataclass
class Careful:
    """Fake sequential decoder: answers by language, or `pieces` for chunks shorter than 9 s."""

    answers: dict[str, list[Segment]] = field(default_factory=dict)
    pieces: list[Segment] = field(default_factory=list)
    asked: list[tuple[float, str, tuple[str, ...]]] = field(default_factory=list)

    def __call__(self, part: Chunk, language: str) -> list[Segment]:
        self.asked.append((round(part.length, 1), language, part.vocabulary))
        return self.pieces if part.length < 9 else self.answers.get(language, [])


def decoded(made: Segment) -> Decoded:
    return Decoded(made, [("en", 0.55), ("de", 0.4), ("nn", 0.02)])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"compression_ratio": 2.5}, "loop"),
        ({"text": LOOP}, "loop"),
        ({"avg_logprob": -1.1}, "guess"),
        ({"avg_logprob": -0.8, "language_probability": 0.3}, "language"),
        ({"text": " word" + "".join(f" w{n}" for n in range(90))}, "too many words"),
        ({"text": " Yes."}, "too few words"),
    ],
)
def test_each_kind_of_low_confidence_has_its_reason(changes: dict[str, float], reason: str) -> None:
    assert low_confidence_reason(segment(**changes), 10.0) == reason


def test_short_answers_and_short_repetitions_are_accepted() -> None:
    assert not low_confidence_reason(segment(" Yes.", 1.0), 1.0)
    assert not is_loop("no no no no no no")
    assert is_loop("thank you " * 5)
    assert not is_loop(TEXT)


def test_words_are_counted_in_scripts_without_spaces() -> None:
    assert word_count("three little words") == 3
    assert word_count("今日は晴れです") == pytest.approx(7 / 3)


def test_a_leaked_vocabulary_is_found_but_a_spoken_name_is_not() -> None:
    names = ["ComfyUI", "Kubernetes", "LanceDB"]
    assert find_leaked("ComfyUI, Kubernetes, LanceDB", names)
    assert not find_leaked("Open your ComfyUI folder and start Kubernetes.", names)
    assert find_leaked("ComfyUI ComfyUI ComfyUI", ["ComfyUI"])
    assert not find_leaked("Open your ComfyUI folder.", ["ComfyUI"])
    assert not find_leaked("anything", [])
    assert find_leaked("LanceDB, ComfyUI, Kubernetes, LanceDB", names)
    assert find_leaked("We saw ComfyUI, Kubernetes, LanceDB.", names)


@pytest.mark.parametrize("hint", [["ComfyUI"], ["Ruth Bader"], ["ComfyUI", "LanceDB"]])
def test_a_segment_with_only_the_vocabulary_has_leaked(hint: list[str]) -> None:
    """A cough decoded with the hint `ComfyUI` gives `ComfyUI`, which the search would find."""
    assert find_leaked(", ".join(hint), hint)
    assert find_leaked(f"{hint[-1]}.", hint)
    assert not find_leaked(f"We met {hint[0]} there.", hint)


def test_a_spoken_vocabulary_phrase_is_not_a_leak() -> None:
    """A phrase of three words in the vocabulary must not mark every passage that contains it."""
    phrases = ("International Monetary Fund", "Ruth Bader Ginsburg")
    said = segment(" The International Monetary Fund has met in the old house by the sea")
    careful = Careful()
    assert checked(decoded(said), chunk(10.0, *phrases), careful, may_change_language=False) == [said]
    assert careful.asked == []
    assert find_leaked("International Monetary Fund, Ruth Bader Ginsburg", phrases)


def test_text_confirmed_without_the_vocabulary_is_trusted() -> None:
    names = ("ComfyUI", "Kubernetes", "LanceDB")
    said = segment(" We talk about ComfyUI, Kubernetes, LanceDB and the sea")
    [kept] = checked(decoded(said), chunk(10.0, *names), Careful({"en": [said]}), may_change_language=False)
    assert (kept.text, kept.low_confidence, kept.repaired) == (said.text, "", True)


def test_a_good_segment_is_not_decoded_again() -> None:
    careful = Careful()
    assert checked(decoded(segment()), chunk(), careful, may_change_language=True) == [segment()]
    assert careful.asked == []


def test_a_loop_is_replaced_by_the_careful_result_and_marked() -> None:
    [repaired] = checked(decoded(segment(LOOP)), chunk(), Careful({"en": [segment()]}), may_change_language=True)
    assert (repaired.text, repaired.repaired, repaired.low_confidence) == (TEXT, True, "")


def test_a_chunk_in_another_language_is_repaired_in_that_language() -> None:
    careful = Careful({"en": [segment(LOOP)], "de": [segment()]})
    [repaired] = checked(decoded(segment(LOOP)), chunk(), careful, may_change_language=True)
    assert (repaired.text, repaired.language, repaired.language_probability) == (TEXT, "de", 0.4)


def test_uncertain_words_are_kept_if_other_languages_find_none() -> None:
    careful = Careful({"en": [segment(avg_logprob=-1.1)]})
    [kept] = checked(decoded(segment(avg_logprob=-1.2)), chunk(), careful, may_change_language=True)
    assert (kept.text, kept.low_confidence) == (TEXT, "guess")


def test_a_fixed_language_is_not_changed_by_a_repair() -> None:
    careful = Careful({"en": [segment(LOOP)], "de": [segment()]})
    checked(decoded(segment(LOOP)), chunk(), careful, may_change_language=False)
    assert {language for _, language, _ in careful.asked} == {"en"}


def test_a_segment_that_stays_bad_is_decoded_in_pieces() -> None:
    careful = Careful({"en": [segment(LOOP)]}, pieces=[segment(" It rained all day long", 4.5)])
    found = checked(decoded(segment(LOOP)), chunk(), careful, may_change_language=False)
    assert [item.low_confidence for item in found] == ["", ""]
    assert found[1].words[0].start == pytest.approx(5.5)


def test_a_segment_that_cannot_be_repaired_is_kept_and_marked() -> None:
    careful = Careful({"en": [segment(avg_logprob=-1.4)]}, pieces=[segment(avg_logprob=-1.5)])
    found = checked(decoded(segment(avg_logprob=-1.2)), chunk(), careful, may_change_language=False)
    assert [(item.text, item.low_confidence) for item in found] == [(TEXT, "guess")]


def test_a_loop_without_a_careful_result_is_dropped() -> None:
    assert checked(decoded(segment(LOOP)), chunk(), Careful(), may_change_language=False) == []


def test_a_guess_without_speech_is_dropped_without_a_retry() -> None:
    careful = Careful()
    made_up = segment(" Thank you.", avg_logprob=-1.2, no_speech_prob=0.9)
    assert checked(decoded(made_up), chunk(), careful, may_change_language=True) == []
    assert careful.asked == []


def test_dots_and_music_notes_are_not_words() -> None:
    for written in (" ...", " ♪♪"):
        assert checked(decoded(segment(written, 1.0)), chunk(1.0), Careful(), may_change_language=False) == []


def test_a_leaked_vocabulary_is_omitted_from_the_retry() -> None:
    names = ("ComfyUI", "Kubernetes", "LanceDB")
    careful = Careful({"en": [segment()]})
    [repaired] = checked(
        decoded(segment(" ComfyUI, Kubernetes, LanceDB")), chunk(10.0, *names), careful, may_change_language=False
    )
    assert repaired.text == TEXT
    assert careful.asked[0][2] == ()


def test_a_voiced_region_without_words_is_decoded_separately() -> None:
    half = replace(segment(" It rained all day", 4.0), end=4.0)
    careful = Careful(pieces=[segment(" and we stayed in", 4.0)])
    found = checked(decoded(half), chunk(), careful, may_change_language=False)
    assert [item.text for item in found] == [" It rained all day", " and we stayed in"]
    assert found[1].repaired
    assert found[1].start >= 5.5


def test_words_with_wrong_times_are_not_duplicated() -> None:
    """All words are present, but the aligner placed those of ten seconds into the first four."""
    squeezed = replace(segment(" It rained all day and we stayed in", 4.0), end=4.0)
    careful = Careful(pieces=[segment(" and we stayed in", 4.0)])
    assert checked(decoded(squeezed), chunk(), careful, may_change_language=False) == [squeezed]


def test_short_chunks_take_a_language_of_the_recording() -> None:
    own = [("cy", 0.6), ("en", 0.3), ("de", 0.1)]
    assert choose(own, {"en", "de"}, alone=True) == ("cy", 0.6)
    assert choose(own, {"en", "de"}, alone=False) == ("en", 0.3)
    assert choose(own, set(), alone=False) == ("cy", 0.6)
    assert choose([("cy", 0.4), ("de", 0.3)], {"de"}, alone=True) == ("de", 0.3), (
        "an uncertain chunk takes a language of the recording"
    )


def test_a_mixed_chunk_gets_a_language_per_region() -> None:
    assert mixed([("en", 0.95), ("it", 0.05)]) == []
    among = mixed([("it", 0.51), ("en", 0.42), ("la", 0.03)])
    assert among == ["it", "en"]
    told = [[("en", 0.99), ("it", 0.0)], [("ja", 0.4), ("en", 0.2)], [("it", 0.98)], [("ja", 0.9)], [("en", 0.6)]]
    assert along(told, among, [2.0] * 5) == ["en", "en", "it", "it", "en"]
    assert along([[("ja", 0.9)]], among, [2.0]) == ["it"]


@pytest.mark.parametrize(("seconds", "spoken"), [(0.9, "en"), (3.0, "it")])
def test_an_interjection_does_not_change_the_language(seconds: float, spoken: str) -> None:
    english = [("en", 0.97), ("it", 0.01)]
    told = [english, [("it", 0.98), ("en", 0.01)], english]
    assert along(told, ["en", "it"], [4.0, seconds, 4.0]) == ["en", spoken, "en"]
    assert along(told[1:], ["en", "it"], [seconds, 4.0]) == [spoken, "en"]
    assert along(told[:2], ["en", "it"], [4.0, seconds]) == ["en", spoken]


@pytest.mark.parametrize(
    ("runner_up", "slices", "asked"),
    [
        (0.03, [(0, [("es", 0.9)]), (1, [("en", 0.95)])], [1]),
        (0.03, [(0, [("la", 0.4), ("es", 0.2)]), (2, [("es", 0.6), ("en", 0.4)])], [0]),
        (0.03, [(0, [("es", 0.9)]), (1, [("es", 0.6), ("en", 0.4)])], []),
        (0.03, [(0, [("la", 0.4)]), (0, [("es", 0.8)])], []),
        (0.001, [(0, [("la", 0.4)])], []),
    ],
)
def test_regions_of_another_language_are_checked_again(
    runner_up: float, slices: list[tuple[int, Probabilities]], asked: list[int]
) -> None:
    assert suspects([("es", 0.96), ("en", runner_up)], slices) == asked


def test_a_confident_reply_of_some_seconds_keeps_its_language() -> None:
    own = [("en", 0.97), ("de", 0.02)]
    assert choose(own, {"de"}, alone=False, voiced_s=4.0) == ("en", 0.97)
    assert choose(own, {"de"}, alone=False, voiced_s=0.8) == ("de", 0.02)


GREETINGS = " Good morning." * 8


@dataclass
class Pieces:
    """Fake fast decoder: every piece of the chunk gives the same text."""

    text: str
    changes: dict[str, float] = field(default_factory=dict)

    def __call__(self, parts: Sequence[Chunk], _language: str) -> list[Segment]:
        return [segment(self.text, part.length, **self.changes) for part in parts]


def unlike(seconds: float = 12.0) -> Chunk:
    """Return a chunk with voiced regions of different lengths, separated by pauses."""
    edges = [0.0, 0.5, 3.5, 4.0, 4.7, 7.7, 8.3, 10.4, seconds + 0.3]
    voices = tuple(Region(start, end - 0.3) for start, end in pairwise(edges) if end - start > 0.3)
    return Chunk(np.zeros(int(seconds * SAMPLE_RATE), np.float32), voices)


def test_a_phrase_with_one_region_per_repetition_is_speech() -> None:
    voices = tuple(Region(1.5 * at, 1.5 * at + 0.9) for at in range(8))
    chunk = Chunk(np.zeros(12 * SAMPLE_RATE, np.float32), voices)
    said = segment(GREETINGS, 12.0, compression_ratio=4.0)
    careful = Careful()
    [kept] = checked(decoded(said), chunk, careful, may_change_language=False)
    assert (kept.text, kept.low_confidence) == (GREETINGS, "")
    assert careful.asked == []


def test_a_phrase_repeated_in_every_piece_is_speech() -> None:
    said = segment(GREETINGS, 12.0, compression_ratio=4.0)
    careful = Careful()
    [kept] = checked(
        decoded(said), unlike(), careful, may_change_language=False, in_pieces=Pieces(" Good morning." * 2)
    )
    assert (kept.text, kept.low_confidence) == (GREETINGS, "")
    assert careful.asked == []


@pytest.mark.parametrize(
    ("lengths", "fits"),
    [
        ([0.9] * 8, True),
        ([0.9, 1.0, 0.8, 0.9, 1.1, 0.9, 0.8], True),
        ([0.9] * 3, False),
        ([0.9] * 20, False),
        ([0.5, 3.0, 0.4, 2.2, 0.6, 3.1, 0.4, 1.9], False),
        ([4.0] * 8, False),
        ([0.2] * 8, False),
        ([], False),
    ],
)
def test_repetitions_fit_the_same_number_of_similar_regions(lengths: list[float], fits: bool) -> None:  # noqa: FBT001 -- a parameter
    assert fits_voices(Repetition(("good", "morning"), 8, 0, 16), lengths) is fits


@pytest.mark.parametrize(
    "pieces",
    [
        Pieces(" It rained"),
        Pieces(""),
        Pieces(" Good morning.", {"no_speech_prob": 0.8}),
        Pieces(" Good morning.", {"avg_logprob": -1.3}),
        Pieces(" Good morning." * 20),
    ],
)
def test_a_phrase_not_found_in_the_pieces_is_a_loop(pieces: Pieces) -> None:
    looped = segment(GREETINGS, 12.0, compression_ratio=4.0)
    careful = Careful({"en": [looped]})
    found = checked(decoded(looped), unlike(), careful, may_change_language=False, in_pieces=pieces)
    assert {item.low_confidence for item in found} == {"loop"}


def test_too_many_repetitions_are_replaced_by_the_pieces() -> None:
    looped = segment(" Good morning." * 40, 12.0, compression_ratio=9.0)
    found = checked(
        decoded(looped), unlike(), Careful(), may_change_language=False, in_pieces=Pieces(" Good morning." * 2)
    )
    assert {item.text for item in found} == {" Good morning." * 2}
    assert {item.low_confidence for item in found} == {""}
    assert len(found) * 2 < 20


VERSE = " And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country."


@dataclass
class Halves:
    """Fake fast decoder: each piece gives the next half of the text."""

    text: str

    def __call__(self, parts: Sequence[Chunk], _language: str) -> list[Segment]:
        said = self.text.split()
        step = -(-len(said) // len(parts))
        runs = [" ".join(said[at * step :][:step]) for at in range(len(parts))]
        return [segment(run, part.length) for run, part in zip(runs, parts, strict=True)]


def test_a_sentence_spoken_twice_is_speech() -> None:
    twice = segment(VERSE * 2, 22.0, compression_ratio=2.6)
    careful = Careful()
    [kept] = checked(decoded(twice), chunk(22.0), careful, may_change_language=False, in_pieces=Halves(VERSE * 2))
    assert (kept.text, kept.low_confidence) == (VERSE * 2, "")
    assert careful.asked == []


@pytest.mark.parametrize("pieces", [Halves(VERSE), Pieces(""), Pieces(" It rained")])
def test_a_sentence_that_the_pieces_lack_is_a_loop(pieces: Halves | Pieces) -> None:
    twice = segment(VERSE * 2, 22.0, compression_ratio=2.6)
    careful = Careful({"en": [twice]})
    found = checked(decoded(twice), chunk(22.0), careful, may_change_language=False, in_pieces=pieces)
    assert {item.low_confidence for item in found} == {"loop"}


def test_repetitions_are_counted_wherever_they_begin() -> None:
    assert repetition(tokens("Well, good morning." + GREETINGS)) == Repetition(("good", "morning"), 9, 1, 19)
    assert repetition(tokens(TEXT)) is None
    assert turns("Good morning! Good evening. Good morning.", ("good", "morning")) == 2


def test_a_language_of_a_few_seconds_is_not_a_main_language() -> None:
    votes = {"en": 90.0, "de": 30.0, "nn": 2.0}
    assert spoken(votes) == {"en", "de"}
    assert list(shares(votes)) == ["en", "de", "nn"]
    assert shares({}) == {}
    assert others([("en", 0.5), ("de", 0.3), ("nl", 0.15), ("sv", 0.05)], "en") == [("de", 0.3), ("nl", 0.15)]
