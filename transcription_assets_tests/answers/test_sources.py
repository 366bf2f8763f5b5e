"""Sources of an answer: within the budget, fenced as data, and with the second that supports a sentence."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.answers import prompt
from transcription_assets.answers.sources import (
    BYTES_PER_TOKEN,
    MOST_BYTES_EACH,
    Source,
    is_repeated,
    queries,
    source,
    support,
    within_budget,
)
from transcription_assets.domain.passages import Sentence
from transcription_assets.search.query import Hit


def hit(start: float = 10.0, key: str = "audio/a.wav", text: str = "It was blue.", kind: str = "speech") -> Hit:
    return Hit(
        media_key=key,
        recording="A talk",
        start=start,
        end=start + 5,
        text=text,
        sentence=(0, len(text)),
        matches=(),
        context_start=start - 5,
        context_end=start + 10,
        score=0.9,
        weak=False,
        language="en",
        speaker=None,
        recorded=None,
        duration_s=60.0,
        kind=kind,
    )


def said(*texts: str) -> list[Sentence]:
    return [Sentence(5.0 * number, 5.0 * number + 4, text, "Ada") for number, text in enumerate(texts)]


def test_question_is_divided_into_queries() -> None:
    found = queries("What did the wizard hide, and where did Ada buy the silver compass?")
    assert found[0].startswith("What did")
    assert "where did Ada buy the silver compass" in found
    assert queries("wizard") == ["wizard"]
    assert queries("  ") == []


@given(st.text(max_size=300))
def test_any_text_has_few_queries(text: str) -> None:
    found = queries(text)
    assert len(found) <= 4
    assert all(item.strip() for item in found)


def test_moment_with_the_same_text_is_not_used_twice() -> None:
    assert is_repeated(hit(12.0), [hit(10.0)])
    assert not is_repeated(hit(60.0), [hit(10.0)])
    assert not is_repeated(hit(12.0, key="audio/b.wav"), [hit(10.0)])


def test_source_has_the_nearest_sentences() -> None:
    long = ["x" * 900] * 7
    found = source(hit(15.0), said(*long))
    assert [item.start for item in found.sentences] == [10.0, 15.0]
    assert found.size <= MOST_BYTES_EACH


def test_slide_is_a_source_by_its_own_text() -> None:
    found = source(hit(kind="slide", text="Alle due di notte"), said("Something else."))
    assert [item.text for item in found.sentences] == ["Alle due di notte"]


@given(st.lists(st.text(max_size=3000), min_size=1, max_size=20), st.integers(200, 2000))
def test_sources_stay_within_the_budget(texts: list[str], most_tokens: int) -> None:
    found = within_budget((source(hit(), said(text)) for text in texts), most_tokens)
    assert found
    assert len(found) == 1 or sum(item.size for item in found) <= most_tokens * BYTES_PER_TOKEN
    assert all(item.size <= MOST_BYTES_EACH for item in found)


def test_citation_has_the_second_of_what_it_says() -> None:
    cited = Source(hit(5.0), tuple(said("The bees moved.", "It was blue.", "The compass was made of silver.")))
    assert support(cited, "A silver compass was found.") == (cited.sentences[2], 10.0)


@pytest.mark.parametrize(("best_s", "second", "number"), [(6.5, 6.5, 1), (9.5, 10.0, 2)], ids=["inside", "between"])
def test_citation_of_nothing_alike_is_what_is_said_there(best_s: float, second: float, number: int) -> None:
    cited = Source(hit(best_s), tuple(said("The bees moved.", "It was blue.", "Compass.")))
    assert support(cited, "Nothing like it.") == (cited.sentences[number], second)


@given(st.lists(st.text(max_size=200), min_size=1, max_size=5), st.text(max_size=100))
def test_no_recording_can_end_its_passage(texts: list[str], question: str) -> None:
    sources = [source(hit(), said(text)) for text in texts]
    _, user = prompt.messages(question, sources, "FENCE")
    passages, _, rest = user["content"].rpartition(f"--- end of passage [{len(sources)}] FENCE")
    assert passages.count("FENCE") == 2 * len(sources) - 1
    assert rest.startswith("\n\nQuestion: ")
    numbers = [int(number) for number in re.findall(r"\[(\d+)\]", passages)]
    assert sorted({*numbers}) == list(range(1, len(sources) + 1)), "only ours, none of a recording"


def test_fence_is_random() -> None:
    contents = {prompt.messages("why?", [source(hit(), said("Blue."))])[0]["content"] for _ in range(5)}
    assert len(contents) == 5


@pytest.mark.parametrize("text", ["see [1] and [2, 3]", "【4】", "[ 5 ]"])
def test_recordings_contain_no_citations(text: str) -> None:
    _, user = prompt.messages("why?", [source(hit(), said(text))], "FENCE")
    assert not re.search(r"\[\s*[2-5]|【", user["content"])


def test_prompt_names_speakers_and_times() -> None:
    _, user = prompt.messages("why?", [source(hit(70.0), said("Blue.", "Red."))], "FENCE")
    assert "A talk, at 1:10" in user["content"]
    assert user["content"].count("Ada: ") == 1
