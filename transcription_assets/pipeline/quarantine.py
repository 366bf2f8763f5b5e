"""Quarantine of recordings that kill the process that works on them (out of memory, a crash in a native library).

A killed process cannot say what it died of, but the status of its shard can. Each recording that was in hand then is a
suspect: it is tried after all others, and alone. A recording whose process dies twice alone at the same window fails
with that reason, until the recording, the settings, the release or the memory changes, or a person retries it. A window
that is done clears the record, so that random kills never add up.
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.pipeline import records, shard_status
from transcription_assets.pipeline.checkpoints import Checkpoints
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.storage import Store

VERSION = "1"
MOST_DEATHS = 2
"""Deaths alone at the same window after which a recording fails."""
MOST_PROCESSES = 20
ABANDONED_S = 86_400.0


class WorkerDied(PermanentFailure):
    """The process that worked on this recording died more than once."""


@dataclass(frozen=True, slots=True)
class Deaths:
    """Processes that died while they worked on a recording; `alone` counts those that had it alone, by window.

    `applies_to` is the version of the recording and the options, with the release and the memory. `processes` are
    those that were counted, so that no death is counted twice.
    """

    applies_to: str
    alone: dict[str, int]
    processes: tuple[str, ...]
    reason: str
    step: str = "transcript"
    version: str = VERSION

    @property
    def is_final(self) -> bool:
        """True if the recording must not be tried again."""
        return any(count >= MOST_DEATHS for count in self.alone.values())

    def error(self, key: str) -> WorkerDied:
        """Return the failure of the recording."""
        hint = f"give it more memory, or run `transcription-assets retry {key}`"
        return WorkerDied(
            f"{key}: the process that worked on it alone died {max(self.alone.values())} times ({self.reason}); {hint}",
            key=key,
            step=self.step,
            hint=hint,
        )


def load(store: Store, versions: Mapping[str, str]) -> dict[str, Deaths]:
    """Return the records of these recordings, given by media key with their versions, that still apply.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    present = set(store.list("deaths/"))
    wanted = (key for key in versions if media_keys.deaths(key) in present)
    found = {key: records.load(store, media_keys.deaths(key), Deaths, VERSION) for key in wanted}
    return {key: deaths for key, deaths in found.items() if deaths and deaths.applies_to == _applies_to(versions[key])}


def record(store: Store, status: ShardStatus, reason: str) -> bool:
    """Record that the process of this status died; return False if what it worked on is stored.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    process = f"{status.host}:{status.pid}:{status.started}"
    windows: dict[str, tuple[int, int]] = {}
    for key, channel, number in status.current:
        version = status.versions.get(key, "")
        if status.step != "transcript" or (channel, number) not in Checkpoints(store, key, version).present():
            windows.setdefault(key, (channel, number))
    before = load(store, status.versions)
    for key, (channel, number) in windows.items():
        known = before.get(key)
        if known is not None and process in known.processes:
            continue
        alone = dict(known.alone) if known else {}
        window = f"{channel}-{number}"
        alone[window] = alone.get(window, 0) + int(len(windows) == 1)
        processes = (*(known.processes if known else ()), process)[-MOST_PROCESSES:]
        deaths = Deaths(_applies_to(status.versions.get(key, "")), alone, processes, reason, status.step)
        store.write(media_keys.deaths(key), json.dumps(asdict(deaths)).encode())
    return bool(windows)


def lift(store: Store, *keys: str) -> None:
    """Forget the deaths of these recordings.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    present = set(store.list("deaths/"))
    store.delete(*present.intersection(map(media_keys.deaths, keys)))


def recover(store: Store, owner: str) -> None:
    """Record the deaths of processes that left their status behind, and delete what belonged to them.

    `owner` identifies the run that calls it: its earlier processes are dead for certain.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    folders: dict[str, list[str]] = {}
    for path in store.list(media_keys.work()):
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    for folder, paths in folders.items():
        states = [shard_status.load(store, path) for path in paths if "/shard-" in path]
        known = [status for status in states if status is not None]
        if any(status.is_alive(owner) for status in known) or (not known and not _is_abandoned(store, folder)):
            continue
        for status in known:
            if status.current:
                record(store, status, "it was killed, perhaps because memory ran out")
        shard_status.remove(store, folder)


def _is_abandoned(store: Store, folder: str) -> bool:
    """Return whether a manifest that no worker has begun is older than a day, so that its run must have ended."""
    try:
        created = json.loads(store.read(f"{folder}/manifest.json"))["created"]
        return time.time() - float(created) > ABANDONED_S
    except NotFound:
        return False
    except (ValueError, KeyError, TypeError):
        return True  # of another release


def environment() -> str:
    """Return the release and the memory that this process may use, in whole GiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return f"{metadata.version('transcription_assets')}|{round(memory / (1 << 30))} GiB"


def _applies_to(version: str) -> str:
    return f"{version}|{environment()}"
