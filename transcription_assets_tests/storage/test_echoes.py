"""A store that refuses and echoes the signed request: no method of the store or the index repeats the echo."""

import inspect
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transcription_assets.embedding import Weights
from transcription_assets.errors import Refused, TranscriptionError
from transcription_assets.search import retrieval
from transcription_assets.search.filters import Filters
from transcription_assets.search.index import Index
from transcription_assets.search.query import parse_query
from transcription_assets.storage import Store, errors
from transcription_assets_tests import fault_proxy, seaweed
from transcription_assets_tests.fault_proxy import Answer, FaultProxy
from transcription_assets_tests.search.test_writers import SHARED, rows

ECHOED = ("Signature=", "Credential=", "x-amz-", "X-Amz-", "AWS4-HMAC", "CanonicalRequest", "Debug source", ".rs:")
KEY = "video/a.mp4"
EVERY = "GET HEAD PUT POST DELETE"
NONE = Filters()

STORE: dict[str, Callable[[Store, Path], object]] = {
    "list_media": lambda store, _: store.list_media(),
    "list_done": lambda store, _: store.list_done(),
    "stat": lambda store, _: store.stat(KEY),
    "move_when_done": lambda store, _: store.move_when_done(KEY, "1"),
    "media_url": lambda store, _: store.media_url(KEY),
    "read_media": lambda store, _: store.read_media(KEY, 0, 1),
    "public_url": lambda store, _: store.public_url(KEY),
    "playable_url": lambda store, _: store.playable_url(KEY),
    "put_media": lambda store, file: store.put_media(KEY, file),
    "exists": lambda store, _: store.exists("a.json"),
    "read": lambda store, _: store.read("a.json"),
    "read_small": lambda store, _: store.read_small("video/vocabulary.txt", 100),
    "fetch": lambda store, file: store.fetch("a.json", file.with_name("target")),
    "write": lambda store, _: store.write("a.json", b"{}"),
    "write_new": lambda store, _: store.write_new("a.json", b"{}"),
    "upload": lambda store, file: store.upload("a.json", file),
    "delete": lambda store, _: store.delete("a.json"),
    "delete_below": lambda store, _: store.delete_below("transcripts/"),
    "list": lambda store, _: store.list("transcripts/"),
    "last_modified": lambda store, _: store.last_modified("a.json"),
    "oldest_first": lambda store, _: store.oldest_first("catalog/"),
    "version": lambda store, _: store.version("a.json"),
    "versions": lambda store, _: store.versions("transcripts/"),
}
LOCAL = {"open", "artefact_url", "playable_artefact_url", "readable_url"}
"""These send no request to the store; `open` has its own test."""

INDEX: dict[str, Callable[[Index, retrieval.Snapshot], object]] = {
    "replace": lambda index, _: index.replace(rows(SHARED, "2"), [SHARED]),
    "holds": lambda index, _: index.holds(rows(SHARED, "2"), SHARED),
    "remove": lambda index, _: index.remove([SHARED]),
    "snapshot": lambda index, _: index.snapshot(),
    "search_vectors": lambda index, pinned: index.search_vectors(pinned, np.ones(4, np.float32), NONE, 3),
    "search_words": lambda index, pinned: index.search_words(pinned, parse_query("something else"), NONE, 3),
    "search_typed": lambda index, pinned: index.search_typed(pinned, parse_query("something else"), NONE, 3),
    "search_similar_words": lambda index, pinned: index.search_similar_words(pinned, ["something"], NONE, 3),
    "has_word": lambda index, pinned: index.has_word(pinned, "something", NONE),
    "passages_at": lambda index, pinned: index.passages_at(pinned, SHARED, 1.0),
    "read": lambda index, pinned: index.read(pinned, [0, 1]),
    "vocabulary": lambda index, pinned: index.vocabulary(pinned),
    "calibrated": lambda index, _: index.calibrated("model@1"),
    "calibrate": lambda index, _: index.calibrate("model@1", Weights()),
    "facets": lambda index, _: index.facets(),
    "recordings": lambda index, _: index.recordings(),
    "rows": lambda index, _: index.rows(SHARED),
    "row_counts": lambda index, _: index.row_counts([SHARED]),
    "count": lambda index, _: index.count(),
    "dimension": lambda index, _: index.dimension(),
    "passage_schema": lambda index, _: index.passage_schema(["id"]),
    "passages": lambda index, _: list(index.passages(["id"])),
    "maintain": lambda index, _: index.maintain(),
    "status": lambda index, _: index.status(),
    "switch": lambda index, _: index.switch("passages_0"),
    "accept": lambda index, _: index.accept("passages_0"),
}


def methods(kind: type[Any]) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


@pytest.fixture(scope="module")
def proxy(s3_server: seaweed.S3Server) -> Iterator[FaultProxy]:
    with fault_proxy.between(s3_server.endpoint) as standing:
        yield standing


@pytest.fixture(scope="module")
def opened(proxy: FaultProxy, s3_server: seaweed.S3Server) -> Callable[[], Store]:
    url = f"s3://{s3_server.bucket}/echoes"
    return lambda: Store.open(url, s3_session=seaweed.session(), s3_endpoint=proxy.endpoint)


@pytest.fixture(scope="module")
def store(opened: Callable[[], Store]) -> Store:
    made = opened()
    Index(made.lancedb_uri, made.lancedb_options).replace(rows(SHARED, "1"), [SHARED])
    for path in (KEY, "a.json", "transcripts/a.json"):
        made.write(path, b"{}")
    return made


@pytest.fixture(autouse=True)
def unproxied(monkeypatch: pytest.MonkeyPatch, proxy: FaultProxy) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    proxy.behave()


def test_every_public_method_is_covered() -> None:
    assert methods(Store) - LOCAL == set(STORE)
    assert methods(Index) - {"forget"} == set(INDEX)


def refusal(call: Callable[[], object]) -> TranscriptionError | None:
    """Return the failure, asserting that it is a refusal with a hint and without an echo; None if nothing failed."""
    try:
        call()
    except TranscriptionError as error:
        failure = error
    else:
        return None
    assert isinstance(failure, Refused)
    assert failure.hint
    assert not echoed(str(failure))
    assert "\n" not in str(failure)
    assert len(str(failure)) < 1000
    # Logs and Dagster also show the causes of an exception: there must be none.
    told = traceback.TracebackException.from_exception(failure)
    assert told.__cause__ is None
    assert told.__suppress_context__ or told.__context__ is None
    return failure


def echoed(text: str) -> list[str]:
    return [echo for echo in ECHOED if echo in text]


@pytest.mark.parametrize("name", STORE)
def test_store_method_does_not_repeat_echoed_request(
    name: str, store: Store, proxy: FaultProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "transcription_assets")
    (tmp_path / "a").write_bytes(b"x")
    proxy.fail(fault_proxy.ACCESS_DENIED, methods=EVERY)
    failure = refusal(lambda: STORE[name](store, tmp_path / "a"))
    assert failure or not proxy.requests, "the method sent requests but raised no refusal"
    assert not echoed(caplog.text)


@pytest.mark.parametrize("name", INDEX)
@pytest.mark.parametrize("code", ["AccessDenied", "SignatureDoesNotMatch"])
def test_index_method_does_not_repeat_echoed_request(
    name: str, code: str, store: Store, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "transcription_assets")
    index = Index(store.lancedb_uri, store.lancedb_options)
    pinned = index.snapshot()
    assert pinned
    fresh = Index(store.lancedb_uri, store.lancedb_options)
    proxy.behave()
    proxy.fail(Answer(403, code), methods=EVERY)
    failure = refusal(lambda: INDEX[name](fresh, pinned))
    assert failure or not proxy.requests, "the method sent requests but raised no refusal"
    assert not echoed(caplog.text)


def test_failed_open_does_not_repeat_echoed_request(opened: Callable[[], Store], proxy: FaultProxy) -> None:
    proxy.fail(fault_proxy.ACCESS_DENIED, methods=EVERY)
    assert refusal(opened)


@pytest.mark.parametrize("part", ["a", "/a", " /", "a://", "\n "])
def test_long_error_text_is_shortened_quickly(part: str) -> None:
    """The text may contain a name that a visitor chose, and matching a pattern blocks all other threads."""
    started = time.thread_time()
    assert len(errors.error_text(OSError(part * 50_000))) < 1000
    assert time.thread_time() - started < 5
