"""Tests of the launcher protocol that every launcher must pass: derive a class from `LauncherTests`.

Workers are real processes with a FAKE engine, started by the launcher in a place that the fixture `place` prepares.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from transcription_assets.pipeline import audio, window_plan
from transcription_assets.pipeline.decoding import DecodeRequest
from transcription_assets.speech import windowing
from transcription_assets.storage import Store
from transcription_assets.workers.launcher import Launched, Launcher, Phase, ShardState
from transcription_assets.workers.manifest import Manifest, ManifestRecording
from transcription_assets.workers.worker import speech_settings
from transcription_assets_tests import waiting
from transcription_assets_tests.chain import script
from transcription_assets_tests.fakes import ScriptedEngine
from transcription_assets_tests.workers.batch import WORKER, extracted


class Place(Protocol):
    """Where a launcher starts workers."""

    def launcher(self, most: int, command: tuple[str, ...], **environment: str) -> Launcher:
        """Return a launcher of at most `most` workers, which run `command` with these variables."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """A manifest with a shard for each recording, and what its workers have in common."""

    store: Store
    manifest: Manifest
    requests: tuple[DecodeRequest, ...]
    command: tuple[str, ...]

    def is_done(self, shard: int) -> bool:
        return not self.requests[shard].missing(self.store)


def work(
    store: Store, marker: Path, *seconds: int, changed: int = -1, beam_size: int = 0, identifier: str = "1" * 32
) -> Work:
    """Return work with a recording for each length; the audio of number `changed` is not that of the manifest."""
    batch = extracted(store, *seconds)
    engine = ScriptedEngine(script())
    plans = [window_plan.load(store, key, audio.load(store, key).sha256) for key in batch.keys]
    requests = tuple(DecodeRequest(key, "1", plan) for key, plan in zip(batch.keys, plans, strict=True) if plan)
    settings = speech_settings(engine)
    if beam_size:
        settings["options"]["beam_size"] = beam_size
    manifest = Manifest(
        identifier=identifier,
        owner="run",
        stage="transcript",
        settings=settings,
        recordings=tuple(
            ManifestRecording(request.key, request.version, "0" * 64 if number == changed else request.plan.sound)
            for number, request in enumerate(requests)
        ),
        shards=tuple(tuple(((request.key, *window),) for window in request.lengths) for request in requests),
        created=time.time(),
    )
    manifest.write(store)
    return Work(store, manifest, requests, (*WORKER, str(marker)))


def processes(marker: str) -> list[int]:
    """Return the processes of this machine with `marker` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def watched(
    launched: Launched, until: Callable[[Mapping[int, ShardState]], bool], also: Callable[[], None] = lambda: None
) -> Mapping[int, ShardState]:
    """Watch the shards until a condition holds; return their states."""
    states = launched.states()

    def holds() -> bool:
        nonlocal states
        launched.wait()
        states = launched.states()
        also()
        return until(states)

    waiting.until("what the test waits for", holds, lambda: states)
    return states


def all_final(states: Mapping[int, ShardState]) -> bool:
    return all(state.is_final for state in states.values())


class LauncherTests:
    """The tests; a derived class overrides the fixture `place`."""

    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
        """Return an empty store; recordings are cut into windows of ten seconds."""
        monkeypatch.setattr(windowing, "WINDOW_S", 10.0)
        return Store.open(str(tmp_path / "store"))

    @pytest.fixture
    def place(self) -> Place:
        """Return where the launcher starts workers."""
        raise NotImplementedError

    def test_every_shard_ends(self, place: Place, store: Store, tmp_path: Path) -> None:
        given = work(store, tmp_path, 5, 25)
        launcher = place.launcher(2, given.command)
        launcher.prepare(store)
        with launcher.launch(store, given.manifest) as launched:
            states = watched(launched, all_final)
        launcher.close()
        assert {shard: state.phase for shard, state in states.items()} == {0: Phase.ENDED, 1: Phase.ENDED}
        assert all(map(given.is_done, range(2)))
        done = {shard: sorted(status.done) for shard, status in launched.statuses().items()}
        wanted = {n: sorted(w for group in shard for w in group) for n, shard in enumerate(given.manifest.shards)}
        assert done == wanted
        assert not any(status.current for status in launched.statuses().values())
        assert not processes(str(tmp_path))

    def test_more_shards_than_workers_are_done_in_turn(self, place: Place, store: Store, tmp_path: Path) -> None:
        given = work(store, tmp_path, 5, 6, 7)
        launcher = place.launcher(1, given.command)
        seen: list[int] = []
        with launcher.launch(store, given.manifest) as launched:
            states = watched(
                launched,
                all_final,
                lambda: seen.append(sum(state.phase is Phase.RUNNING for state in launched.states().values())),
            )
        launcher.close()
        assert {state.phase for state in states.values()} == {Phase.ENDED}
        assert max(seen) <= 1

    def test_dead_worker_is_told_and_others_end(self, place: Place, store: Store, tmp_path: Path) -> None:
        given = work(store, tmp_path, 5, 6)
        launcher = place.launcher(2, given.command, POISON="6")
        with launcher.launch(store, given.manifest) as launched:
            states = watched(launched, all_final)
        launcher.close()
        assert [states[shard].phase for shard in range(2)] == [Phase.ENDED, Phase.DIED]
        assert states[1].reason
        status = launched.statuses()[1]
        assert [key for key, _, _ in status.current] == [given.requests[1].key], "the suspect"

    def test_failed_recording_is_a_normal_end(self, place: Place, store: Store, tmp_path: Path) -> None:
        given = work(store, tmp_path, 5, changed=0)
        launcher = place.launcher(1, given.command)
        with launcher.launch(store, given.manifest) as launched:
            states = watched(launched, all_final)
        launcher.close()
        assert states[0].phase is Phase.ENDED
        status = launched.statuses()[0]
        assert set(status.failed) == {given.requests[0].key}

    def test_worker_with_other_settings_is_refused(self, place: Place, store: Store, tmp_path: Path) -> None:
        given = work(store, tmp_path, 5, beam_size=17)
        launcher = place.launcher(1, given.command)
        with launcher.launch(store, given.manifest) as launched:
            states = watched(launched, all_final)
        launcher.close()
        assert states[0].phase is Phase.REFUSED
        assert states[0].reason

    def test_leaving_the_context_ends_all_workers(self, place: Place, store: Store, tmp_path: Path) -> None:
        given = work(store, tmp_path, 5, 6, 7)
        launcher = place.launcher(2, given.command, DECODE_S="600")
        with launcher.launch(store, given.manifest) as launched:
            watched(launched, lambda _states: len(store.list("work/")) == 3)  # the manifest, and the status of two
            assert [state.phase for state in launched.states().values()].count(Phase.RUNNING) == 2
            watched(launched, lambda _states: len(launched.statuses()) == 2)
            assert all(status.current for status in launched.statuses().values())
            assert processes(str(tmp_path))
        assert not processes(str(tmp_path))
        launcher.close()
