"""Citations of a reply: none that was invented survives, and every sentence that is left has one."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.answers.citations import (
    MOST_CHARACTERS,
    MOST_SENTENCES,
    CheckedReply,
    CitedSentence,
    checked,
)

PIECES = st.sampled_from(
    [
        "It was blue",
        " ",
        ".",
        "!",
        "\n",
        "- ",
        "[1]",
        "[2]",
        "[99]",
        "[1, 7]",
        "[0]",
        "[]",
        "【3】",
        "[-1]",
        "[²]",
        "。",
        "是",
        "[1",
    ]
)
replies = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=40).map("".join))


@given(replies, st.integers(0, 12))
def test_no_invented_citation_survives(reply: str, passages: int) -> None:
    found = checked(reply, passages)
    for sentence in found.sentences:
        assert sentence.cites, "each sentence that is left has a citation"
        assert all(1 <= number <= passages for number in sentence.cites)
        assert len(set(sentence.cites)) == len(sentence.cites)
        assert not re.search(r"\[\d+\]|【\d+】", sentence.text), "numbers of passages mean nothing to readers"


@given(
    st.lists(st.tuples(st.sampled_from(["It was blue", "Ada said so", "3.5 m fell"]), st.integers(1, 9)), max_size=8)
)
def test_valid_sentences_are_all_left(said: list[tuple[str, int]]) -> None:
    reply = " ".join(f"{text} [{number}]." for text, number in said)
    assert checked(reply, 9).sentences == tuple(CitedSentence(f"{text}.", (number,)) for text, number in said)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("It was blue [1]. It was red [2].", [("It was blue.", (1,)), ("It was red.", (2,))]),
        ("It was blue. [1] It was red. [2]", [("It was blue.", (1,)), ("It was red.", (2,))]),
        ("It was blue [1][2].", [("It was blue.", (1, 2))]),
        ("It was blue [1, 2; 1].", [("It was blue.", (1, 2))]),
        ("[1] It was blue.", [("It was blue.", (1,))]),
        ("- It was blue [1]\n- It was red [2]", [("It was blue", (1,)), ("It was red", (2,))]),
        ("それは青い。[1]それは赤い。[2]", [("それは青い。", (1,)), ("それは赤い。", (2,))]),
        ('He said "blue." [1]', [('He said "blue."', (1,))]),
        ("<think>Maybe [2]. Or not.</think>It was blue [1].", [("It was blue.", (1,))]),
        ("<b>It was</b> blue [1].", [("<b>It was</b> blue.", (1,))]),
        ("It was blue 【1】.", [("It was blue.", (1,))]),
        ("It was blue 【1†source】\uff3b2\uff3d.", [("It was blue.", (1, 2))]),
        ("It was blue [1-3].", [("It was blue.", (1, 2, 3))]),
        ("**It** was `blue` [1].", [("It was blue.", (1,))]),
        ("Dr. Smith was blue [1].", [("Dr. Smith was blue.", (1,))]),
        ("[1] It was blue. [2] It was red.", [("It was blue.", (1,)), ("It was red.", (2,))]),
        ("It was blue [1] and, I say, red.", [("It was blue", (1,))]),
        ("It was blue [1] and it was red [9].", [("It was blue", (1,))]),
        ("มันเป็นสีฟ้า [1] มันเป็นสีแดง", [("มันเป็นสีฟ้า", (1,))]),
        ("It was blue [1].<think>Or was it [2]?", [("It was blue.", (1,))]),
    ],
    ids=[
        "before",
        "after",
        "adjacent",
        "list",
        "leading",
        "lines",
        "japanese",
        "quoted",
        "reasoning",
        "html",
        "brackets",
        "forms",
        "range",
        "markdown",
        "title",
        "leading-each",
        "text-after",
        "invented-after",
        "thai",
        "reasoning-open",
    ],
)
def test_citations_belong_to_their_sentence(reply: str, expected: list[tuple[str, tuple[int, ...]]]) -> None:
    assert [(item.text, item.cites) for item in checked(reply, 3).sentences] == expected


def test_sentences_without_valid_citation_are_dropped() -> None:
    found = checked("It was blue [1]. I know that. It was red [7]. It was green [2, 8].", 2)
    assert [item.text for item in found.sentences] == ["It was blue.", "It was green."]
    assert (found.dropped, found.invented) == (2, 2)


@pytest.mark.parametrize("reply", ["NO ANSWER [1]", "no answer.", "**NO ANSWER**"], ids=["cited", "small", "bold"])
def test_refusals_are_recognised(reply: str) -> None:
    assert checked(reply, 3) == CheckedReply(is_refusal=True)


def test_last_sentence_of_a_cut_reply_is_dropped() -> None:
    found = checked("It was blue [1]. It was re", 1, is_cut=True)
    assert [item.text for item in found.sentences] == ["It was blue."]
    assert checked("It was blue [1].", 1, is_cut=True).sentences == ()


@pytest.mark.parametrize("unit", [".", " ", "[", "[1", "1,", "[1,", '"', "-", " -", "<think>", "*", "[ "])
def test_repetition_takes_no_quadratic_time(unit: str) -> None:
    reply = "It was" + unit * (MOST_CHARACTERS // len(unit)) + "x"
    started = time.process_time()
    checked(reply, 3)
    assert time.process_time() - started < 5.0


def test_long_replies_are_cut() -> None:
    assert checked("word " * MOST_CHARACTERS + "[1].", 1).sentences == ()
    assert len(checked("Yes [1]. " * 500, 1).sentences) == MOST_SENTENCES
