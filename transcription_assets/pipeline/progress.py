"""How much of a recording is decoded while its transcript is made, read from the store."""

from collections import defaultdict
from contextlib import suppress

from transcription_assets.domain import media_keys
from transcription_assets.errors import TranscriptionError
from transcription_assets.pipeline import shard_status, window_plan
from transcription_assets.pipeline.checkpoints import Checkpoints, WindowId, windows_in
from transcription_assets.storage import Store

MOST_SHARDS = 100
"""Statuses that are read at most."""


def decoded_share(store: Store, key: str, sound: str) -> float:
    """Return the share of a recording whose windows are decoded, from 0 to 1; `sound` is the digest of its audio.

    Windows that workers decode now count with the share that their statuses tell.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    plan = window_plan.load(store, key, sound)
    if plan is None:
        return 0.0
    lengths = {
        (channel, number): window.length
        for channel, windows in enumerate(plan.channels)
        for number, window in enumerate(windows)
    }
    total = sum(lengths.values())
    if not total:
        return 0.0
    version, current = _current(store, key)
    present = Checkpoints(store, key, version).present() if version else _most_recent(store, key)
    done = sum(length for window, length in lengths.items() if window in present)
    partly = sum(
        share * lengths[window] for window, share in current.items() if window in lengths and window not in present
    )
    return min(1.0, (done + partly) / total)


def _current(store: Store, key: str) -> tuple[str, dict[WindowId, float]]:
    """Return the version that workers decode now ("" if none does), and the share of each of their windows."""
    version, shares = "", dict[WindowId, float]()
    for path in [path for path in store.list(media_keys.work()) if "/shard-" in path][:MOST_SHARDS]:
        with suppress(TranscriptionError):  # the batch ended meanwhile
            status = shard_status.load(store, path)
            if status is None or status.step != "transcript" or key not in status.versions:
                continue
            version = status.versions[key]
            shares |= {(channel, number): status.share for of, channel, number in status.current if of == key}
    return version, shares


def _most_recent(store: Store, key: str) -> set[WindowId]:
    """Return the windows that have a checkpoint of the version that has most, as that of the next run is unknown."""
    found = defaultdict[str, list[str]](list)
    for path in store.list(media_keys.checkpoints(key)):
        found[path.rpartition("/")[0]].append(path)
    return max(map(windows_in, found.values()), key=len, default=set())
