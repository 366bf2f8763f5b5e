"""The MCP server, asked by the SDK's own client: in process, over HTTP behind the token, and over stdio."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from transcription_assets.domain import media_keys
from transcription_assets.storage import Store
from transcription_assets.web import assistants
from transcription_assets.web.library import Library
from transcription_assets.web.thread_pool import ThreadPool
from transcription_assets_tests import served
from transcription_assets_tests.served import SENTENCE, TALK

mcp = pytest.importorskip("mcp")
KEY = media_keys.encode(TALK)
TOKEN = "a token of 24 characters"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("archive")
    made = Store.open(str(folder / "store"))
    served.fill(made, folder)
    return made


def ask(connected_to: Any, questions: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        async with mcp.Client(connected_to) as client:
            await questions(client)

    anyio.run(run)


def in_process(store: Store, page: str = "", **settings: Any) -> Any:
    archive = served.archive(store, **settings)
    return assistants.build(archive, Library(archive), ThreadPool(2, 60), page)


async def called(client: Any, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


def test_a_client_finds_the_second(store: Store) -> None:
    async def questions(client: Any) -> None:
        found = await called(client, "search", words=f'"{SENTENCE}"', limit=3, key_prefix="video/talks/")
        (moment, *_) = found["moments"]
        assert (moment["key"], moment["second"], moment["clock"]) == (KEY, 5.0, "0:05")
        assert moment["sentence"].strip() == SENTENCE
        assert moment["link"] == f"https://search.example/watch/{served.of(TALK)}?t=5.00"
        assert moment["speaker"] is None

    ask(in_process(store, "https://search.example/"), questions)


def test_links_lead_to_the_file_without_a_page(store: Store) -> None:
    async def questions(client: Any) -> None:
        (moment, *_) = (await called(client, "search", words=SENTENCE, key_prefix="video/talks/"))["moments"]
        assert moment["link"].startswith("file://")
        assert moment["link"].endswith("#t=5.00")

    ask(in_process(store), questions)


def test_tools_are_read_only_and_described(store: Store) -> None:
    async def questions(client: Any) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "who_said", "read_transcript", "list_recordings"}
        for tool in tools.values():
            assert tool.annotations.read_only_hint
            assert tool.description
            assert tool.output_schema
            assert "ctx" not in tool.input_schema["properties"]

    ask(in_process(store), questions)


def test_a_transcript_is_read_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assistants, "MOST_CHARACTERS", 10)

    async def questions(client: Any) -> None:
        part = await called(client, "read_transcript", key=KEY)
        assert part["paragraphs"][0]["second"] == 0.0
        assert "Sentence 0" in part["paragraphs"][0]["text"]
        nothing = await called(client, "read_transcript", key=KEY, start=1_000)
        assert (nothing["paragraphs"], nothing["next_second"]) == ([], None)

    ask(in_process(store), questions)


def test_recordings_are_listed_with_their_transcripts(store: Store) -> None:
    async def questions(client: Any) -> None:
        listed = await called(client, "list_recordings", name="talk")
        (item,) = listed["recordings"]
        assert (item["key"], item["state"], listed["total"]) == (KEY, "done", 1)
        (content,) = (await client.read_resource(item["transcript"])).contents
        assert SENTENCE in content.text
        templates = (await client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == ["transcript://{+key}"]

    ask(in_process(store), questions)


def test_who_said_counts_unknown_speakers(store: Store) -> None:
    async def questions(client: Any) -> None:
        found = await called(client, "who_said", words=SENTENCE)
        assert found["speakers"] == []
        assert found["of_unknown_speakers"] > 0
        assert found["note"]

    ask(in_process(store), questions)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("read_transcript", {"key": "video/missing.mp4"}),
        ("read_transcript", {"key": "../../etc/passwd"}),
        ("search", {"words": ""}),
        ("search", {"words": "x" * 5_000}),
        ("search", {"words": "x", "limit": 10_000}),
        ("search", {"words": "x", "since": "yesterday"}),
        ("search", {"words": "x", "source": ["a" * 2_000]}),
        ("unknown", {}),
    ],
)
def test_wrong_calls_are_errors_for_the_assistant(tool: str, arguments: dict[str, Any], store: Store) -> None:
    async def questions(client: Any) -> None:
        try:
            result = await client.call_tool(tool, arguments)
        except mcp.MCPError:
            return
        assert result.is_error
        assert "Traceback" not in str(result.content)

    ask(in_process(store), questions)


@pytest.mark.parametrize("address", ["transcript://video/missing.mp4", "transcript://../sources.toml"])
def test_other_resources_are_not_read(address: str, store: Store) -> None:
    async def questions(client: Any) -> None:
        with pytest.raises(mcp.MCPError):
            await client.read_resource(address)

    ask(in_process(store), questions)


@asynccontextmanager
async def over_http(address: str, token: str) -> AsyncIterator[Any]:
    from mcp.client.streamable_http import streamable_http_client

    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx2.AsyncClient(headers=headers) as asking,
        mcp.Client(streamable_http_client(f"{address}/mcp", http_client=asking)) as client,
    ):
        yield client


def test_a_client_finds_the_second_over_http_with_the_token(store: Store) -> None:
    async def questions(address: str) -> None:
        async with over_http(address, TOKEN) as client:
            (moment, *_) = (await called(client, "search", words=SENTENCE, key_prefix="video/talks/"))["moments"]
            assert (moment["key"], moment["second"]) == (KEY, 5.0)
            assert moment["link"] == f"{address}/watch/{served.of(TALK)}?t=5.00"

    # The protocol reads by POST: the token for changes is not needed.
    with served.listening(served.archive(store, serve_token=TOKEN, serve_write_token="another token")) as address:
        anyio.run(questions, address)


HELLO = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Bearer {TOKEN}", "origin": "https://attacker.example"}, 403),
    ],
)
def test_requests_without_access_are_refused(headers: dict[str, str], status: int, store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as asking:
        assert asking.post("/mcp", json=HELLO, headers=headers).status_code == status


def test_foreign_hosts_and_open_streams_are_refused(store: Store) -> None:
    with served.client(served.archive(store)) as asking:
        assert asking.post("/mcp", json=HELLO, headers={"host": "attacker.example"}).status_code == 400
        assert asking.get("/mcp", headers={"accept": "text/event-stream"}).status_code == 405
        assert asking.delete("/mcp").status_code == 405
        assert asking.post("/mcp", content=b"x" * (1 << 20)).status_code in {400, 406, 413, 415}


def test_a_client_starts_the_command(store: Store, tmp_path: Path) -> None:
    """The command itself, with the real settings; the library needs no model."""
    from mcp.client.stdio import StdioServerParameters

    async def questions(client: Any) -> None:
        listed = await called(client, "list_recordings", name="talk")
        assert [item["key"] for item in listed["recordings"]] == [KEY]

    environment = {**os.environ, "TRANSCRIPTION_STORE": store.url, "TRANSCRIPTION_MODELS_DIR": str(tmp_path)}
    command = ["-W", "ignore", "-c", "from transcription_assets.cli.main import main; main()", "mcp"]
    ask(StdioServerParameters(command=sys.executable, args=command, env=environment), questions)
