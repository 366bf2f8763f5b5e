"""The sensor `events`: a recording that fails in a run is told once, however often the step was tried."""

from collections.abc import Iterator

import dagster as dg
import pytest

from transcription_assets.defs.events import events
from transcription_assets.defs.resources import StoreResource
from transcription_assets.errors import TransientFailure
from transcription_assets.events.catalogue import InvalidEvents
from transcription_assets_tests.defs.breaking import BAD
from transcription_assets_tests.events.receiver import SECRET_TEXT, Receiver, receiving
from transcription_assets_tests.graph_runs import Graph


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def told(graph: Graph, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """The graph with a webhook, and a channel of people at the same server."""
    monkeypatch.setenv("TRANSCRIPTION_EVENT_NETWORKS", "127.0.0.1")
    monkeypatch.setenv("TRANSCRIPTION_EVENT_SECRETS", f"hook={SECRET_TEXT}")
    monkeypatch.setenv("TRANSCRIPTION_EVENT_CHANNELS", receiver.address.replace("http:", "mail=json:"))
    catalogue = f'[hook]\nkind = "webhook"\nurl = "{receiver.url}"\n[mail]\nkind = "channel"\n'
    graph.store.write("events.toml", catalogue.encode())
    return graph


def tick(graph: Graph) -> dg.SkipReason:
    resources = {"store": StoreResource(url=graph.store.url)}
    with dg.build_sensor_context(instance=graph.instance, resources=resources) as context:
        result = events(context)
    assert isinstance(result, dg.SkipReason)
    return result


def test_a_failed_recording_is_told_once(told: Graph, receiver: Receiver) -> None:
    pytest.importorskip("apprise")
    batch = told.drop(1, BAD)
    told.engine.failures[BAD] = [TransientFailure("no GPU")] * 9
    for _ in range(2):
        told.run(batch)
        tick(told)
    signed = [each for each in receiver.taken if "webhook-signature" in each.headers]
    messages = [each for each in receiver.taken if "webhook-signature" not in each.headers]
    assert sorted((each.event["type"], each.event["subject"]) for each in signed) == [
        ("recording.done", batch[0]),
        ("recording.failed", batch[1]),
    ]
    assert len(messages) == 1
    assert batch[1] in messages[0].event["title"]


def test_an_invalid_catalogue_fails_the_tick(told: Graph) -> None:
    told.store.write("events.toml", b"[hook]\nkind = 'pigeon'")
    with pytest.raises(InvalidEvents):
        tick(told)


def test_a_store_without_receivers_is_skipped(graph: Graph) -> None:
    assert "events.toml" in (tick(graph).skip_message or "")
