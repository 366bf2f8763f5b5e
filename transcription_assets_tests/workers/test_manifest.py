"""Shards of a manifest, and manifests that cannot be used."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.errors import PermanentFailure
from transcription_assets.storage import Store
from transcription_assets.workers import manifest as manifests
from transcription_assets.workers.manifest import Manifest, ManifestRecording
from transcription_assets.workers.worker import speech_settings
from transcription_assets_tests.fakes import ScriptedEngine


@given(
    st.lists(st.floats(0.1, 700.0), min_size=1, max_size=40),
    st.floats(60.0, 4000.0),
    st.integers(1, 12),
)
def test_shards_hold_every_group_once_and_in_order(lengths: list[float], shard_s: float, most: int) -> None:
    groups = [[("audio/a.wav", 0, number)] for number in range(len(lengths))]
    made = manifests.shards(groups, lengths, shard_s, most)
    assert [group for shard in made for group in shard] == groups
    assert 1 <= len(made) <= most
    assert all(made)
    longest = max(sum(lengths[group[0][2]] for group in shard) for shard in made)
    assert longest <= sum(lengths) / min(most, max(1, int(sum(lengths) / shard_s)), len(lengths)) + max(lengths)


@pytest.mark.parametrize("shard_s", [0.0, 600.0])
def test_recordings_of_unknown_length_are_distributed(shard_s: float) -> None:
    groups = [[(f"audio/{number}.wav", 0, 0)] for number in range(4)]
    made = manifests.shards(groups, [0.0] * 4, shard_s, 2)
    assert [group for shard in made for group in shard] == groups
    assert len(made) == (1 if shard_s else 2)


def manifest() -> Manifest:
    recording = ManifestRecording("audio/a.wav", "1", "sound", ("Ada",))
    shards = (((("audio/a.wav", 0, 0), ("audio/a.wav", 0, 1)),), ((("audio/a.wav", 0, 2),),))
    return Manifest("id", "run", "transcript", speech_settings(ScriptedEngine()), (recording,), shards, 1.5)


def test_manifest_round_trips_through_the_store(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    manifest().write(store)
    assert manifests.load(store, "id") == manifest()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"version": "0"}', b'{"version": "2"}'])
def test_damaged_or_foreign_manifest_is_a_permanent_failure(tmp_path: Path, damage: bytes) -> None:
    store = Store.open(str(tmp_path))
    with pytest.raises(PermanentFailure):
        manifests.load(store, "id")
    store.write("work/id/manifest.json", damage)
    with pytest.raises(PermanentFailure):
        manifests.load(store, "id")
