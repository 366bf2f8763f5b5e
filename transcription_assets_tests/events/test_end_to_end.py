"""A broken recording arrives at a webhook and in a message to people once, by the commands of users."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from transcription_assets.cli.main import main
from transcription_assets.events import status
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.events.receiver import SECRET_TEXT, Answer, Receiver, receiving

BROKEN = "audio/broken.wav"


@pytest.fixture
def people() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path, receiver: Receiver, people: Receiver, monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store.open(str(tmp_path / "store"))
    monkeypatch.setenv("TRANSCRIPTION_STORE", made.url)
    monkeypatch.setenv("TRANSCRIPTION_SETTLE_S", "0")
    monkeypatch.setenv("TRANSCRIPTION_LAUNCHER", "in_process")
    monkeypatch.setenv("TRANSCRIPTION_FFMPEG", recordings.wheel_ffmpeg())
    monkeypatch.setenv("TRANSCRIPTION_EVENT_NETWORKS", "127.0.0.1")
    monkeypatch.setenv("TRANSCRIPTION_EVENT_SECRETS", f"hook={SECRET_TEXT}")
    monkeypatch.setenv("TRANSCRIPTION_EVENT_CHANNELS", people.address.replace("http:", "mail=json:"))
    catalogue = f'[hook]\nkind = "webhook"\nurl = "{receiver.url}"\n[mail]\nkind = "channel"\n'
    made.write("events.toml", catalogue.encode())
    (tmp_path / "broken.wav").write_bytes(b"no recording")
    made.put_media(BROKEN, tmp_path / "broken.wav")
    return made


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_broken_recording_is_told_once(store: Store, receiver: Receiver, people: Receiver) -> None:
    pytest.importorskip("apprise")
    for _ in range(2):
        assert call("process").exit_code == 1
        assert call("events", "deliver").exit_code == 0
    (received,) = receiver.taken
    assert received.is_signed()
    assert (received.event["type"], received.event["subject"]) == ("recording.failed", BROKEN)
    assert received.event["data"]["step"] == "video"
    (message,) = people.taken
    assert BROKEN in json.loads(message.body)["title"]
    assert store.list("events/outbox/") + store.list("events/digests/") == []


def test_dead_events_are_listed_and_replayed(store: Store, receiver: Receiver) -> None:
    table = store.read("events.toml").decode().replace("[mail]", "give_up_hours = 0.000001\n[mail]")
    store.write("events.toml", table.encode())
    status.save_status(store, "hook", status.Status(failures=1, failing_since=datetime(2026, 1, 1, tzinfo=UTC)))
    receiver.answer = lambda _request: Answer(500)
    assert call("process").exit_code == 1
    assert call("events", "deliver").exit_code == 1
    assert BROKEN in call("events", "dead").output
    assert call("events", "dead", "unknown").exit_code == 1
    assert "500" in call("events", "list").output
    assert call("events", "test", "hook").exit_code == 1
    receiver.answer = lambda _request: Answer()
    assert call("events", "replay", "hook").exit_code == 0
    assert BROKEN not in call("events", "dead").output
    assert call("events", "test", "hook").exit_code == 0
    assert [each.event["type"] for each in receiver.taken] == ["test"]
    assert call("events", "test", "unknown").exit_code == 1


def test_a_store_without_receivers_says_so(store: Store) -> None:
    store.delete("events.toml")
    for command in ("list", "deliver", "dead"):
        result = call("events", command)
        assert result.exit_code == 0
        assert "events.toml" in result.output + result.stderr
