"""`retry`: recordings that failed because their worker died are tried again."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from transcription_assets.cli.main import main
from transcription_assets.pipeline import quarantine
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.storage import Store
from transcription_assets_tests import recordings

KEY = "audio/a.wav"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("TRANSCRIPTION_STORE", str(tmp_path))
    recordings.tone(tmp_path / KEY, 1.0, rate=8_000)
    return Store.open(str(tmp_path))


def test_retry_lifts_the_quarantine(store: Store) -> None:
    for pid in (1, 2):
        status = ShardStatus("", "a machine", pid, "1", 0.0, ((KEY, 0, 0),), {KEY: "1"})
        assert quarantine.record(store, status, "SIGKILL")
    assert quarantine.load(store, {KEY: "1"})[KEY].is_final
    assert CliRunner().invoke(main, ["retry", KEY]).exit_code == 0
    assert quarantine.load(store, {KEY: "1"}) == {}


@pytest.mark.usefixtures("store")
def test_retry_of_an_unknown_recording_is_an_error() -> None:
    assert CliRunner().invoke(main, ["retry", "audio/b.wav"]).exit_code == 1
