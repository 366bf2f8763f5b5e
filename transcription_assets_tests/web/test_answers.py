"""`POST /api/ask`: answers with citations, with a FAKE language model; off unless it is set."""

from collections.abc import Iterator
from typing import Any

import pytest

from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure
from transcription_assets.storage import Store
from transcription_assets.web import body_limit
from transcription_assets_tests import served
from transcription_assets_tests.answers.language_model import FakeLanguageModel, language_model

QUESTION = {"q": "sentence 1 of 10 seconds"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("archive")
    made = Store.open(str(folder / "store"))
    served.fill(made, folder)
    return made


@pytest.fixture
def model() -> Iterator[FakeLanguageModel]:
    with language_model() as made:
        made.reply = "<b>Sentence 1</b> was said [1]. I made this up [99]."
        yield made


def settings(model: FakeLanguageModel, **others: Any) -> dict[str, Any]:
    return {"ask_url": model.url, "ask_model": "tiny"} | others


def test_answer_links_to_the_second(store: Store, model: FakeLanguageModel) -> None:
    with served.client(served.archive(store, **settings(model))) as asking:
        found = asking.post("/api/ask", json=QUESTION | {"prefix": "video/talks/"})
    assert found.status_code == 200
    reply = found.json()
    assert reply["sentences"] == [{"text": "<b>Sentence 1</b> was said.", "cites": [1]}]
    (citation,) = reply["citations"]
    assert (citation["key"], citation["start"]) == (media_keys.encode(served.TALK), 5.0)
    assert citation["url"].startswith("/watch/video/talks/")
    assert (reply["dropped"], reply["reason"], reply["model"]) == (1, "", "tiny")


def test_without_a_model_nothing_is_asked(store: Store) -> None:
    with served.client(served.archive(store)) as asking:
        assert asking.post("/api/ask", json=QUESTION).status_code == 404
        assert "data-ask" not in asking.get("/").text


def test_page_offers_answers_if_a_model_is_set(store: Store, model: FakeLanguageModel) -> None:
    with served.client(served.archive(store, **settings(model))) as asking:
        assert "<body data-ask>" in asking.get("/").text


def test_model_without_a_name_fails_at_the_start(store: Store) -> None:
    archive = served.archive(store, ask_url="http://127.0.0.1:9/v1")
    with pytest.raises(PermanentFailure), served.client(archive):
        pass


def test_other_sites_cannot_ask(store: Store, model: FakeLanguageModel) -> None:
    with served.client(served.archive(store, **settings(model))) as asking:
        refused = asking.post("/api/ask", json=QUESTION, headers={"origin": "https://evil.example"})
    assert refused.status_code == 403
    assert model.asked == []


def test_asking_needs_the_token_to_read_only(store: Store, model: FakeLanguageModel) -> None:
    token = "a token of 24 characters"
    with served.client(served.archive(store, **settings(model, serve_token=token))) as asking:
        assert asking.post("/api/ask", json=QUESTION).status_code == 401
        headers = {"authorization": f"Bearer {token}"}
        assert asking.post("/api/ask", json=QUESTION, headers=headers).status_code == 200


def test_questions_have_a_rate_limit_of_their_own(store: Store, model: FakeLanguageModel) -> None:
    with served.client(served.archive(store, **settings(model, ask_per_minute=1))) as asking:
        statuses = [asking.post("/api/ask", json={"q": "zebra"}).status_code for _ in range(3)]
        assert asking.get("/api/search", params={"q": "zebra"}).status_code == 200
    assert 429 in statuses


@pytest.mark.parametrize(
    "question",
    [{}, {"q": ""}, {"q": "x" * 1001}, {"q": "a", "since": "yesterday"}, {"q": 3}, []],
    ids=["none", "empty", "long", "day", "number", "list"],
)
def test_invalid_questions_are_refused(store: Store, model: FakeLanguageModel, question: object) -> None:
    with served.client(served.archive(store, **settings(model))) as asking:
        assert asking.post("/api/ask", json=question).status_code == 422
    assert model.asked == []


@pytest.mark.parametrize("in_blocks", [False, True], ids=["stated-length", "chunked"])
def test_questions_of_any_size_are_not_read(store: Store, model: FakeLanguageModel, *, in_blocks: bool) -> None:
    blocks = [b"{" + b" " * body_limit.MOST_BYTES, b" " * body_limit.MOST_BYTES]
    content = iter(blocks) if in_blocks else b"".join(blocks)
    with served.client(served.archive(store, **settings(model))) as asking:
        refused = asking.post("/api/ask", content=content, headers={"content-type": "application/json"})
    assert refused.status_code == 413
    assert model.asked == []


def test_model_that_is_away_is_an_error_of_the_service(store: Store) -> None:
    archive = served.archive(store, ask_url="http://127.0.0.1:9/v1", ask_model="tiny", ask_timeout_s=2.0)
    with served.client(archive) as asking:
        failed = asking.post("/api/ask", json=QUESTION)
    assert failed.status_code == 503
    assert failed.headers["retry-after"]
    assert "127.0.0.1" not in failed.text, "the URL of the service is for the log only"
