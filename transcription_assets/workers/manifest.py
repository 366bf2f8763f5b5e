"""The manifest of a batch (`work/<id>/manifest.json`): the windows to work on, in groups, and the groups of each shard.

It is all that a worker needs besides the store, the weights and its settings.
"""

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Self, get_args

from pydantic import TypeAdapter

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.pipeline.shard_status import WindowRef
from transcription_assets.storage import Store

VERSION = "2"

log = logging.getLogger(__name__)

Stage = Literal["audio", "transcript", "embeddings"]
"""The step that workers do: `audio` and `embeddings` for whole recordings, `transcript` for windows."""
HEARTBEAT_S = 10.0
"""Seconds between two heartbeats of a coordinator, and between two looks of its workers."""
MISSED_BEATS = 4
"""Looks at an unchanged heartbeat after which a worker ends: after about 50 s, with the look that reads it first."""
STAGES: Sequence[Stage] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class ManifestRecording:
    """A recording to work on; `version` identifies its input and options, see `WorkRequest`.

    To decode it, a worker also needs `sound`, the SHA-256 of the extracted audio, and the `vocabulary` to expect.
    """

    key: str
    version: str
    sound: str = ""
    vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The work of a batch; `shards[n]` are the groups of windows that worker n works on, one after another.

    `owner` identifies the run, `created` is Unix time in seconds. The results depend on `settings`, so a worker of the
    `stage` with others refuses the work. Words also depend on `parallel` (see `Engine.decode`), which every worker
    takes from here, so they are the same for any number of workers.
    """

    identifier: str
    owner: str
    stage: Stage
    settings: dict[str, Any]
    recordings: tuple[ManifestRecording, ...]
    shards: tuple[tuple[tuple[WindowRef, ...], ...], ...]
    created: float
    parallel: int = 0
    version: str = VERSION

    def write(self, store: Store) -> None:
        """Write the manifest.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        store.write(_path(self.identifier), json.dumps(asdict(self), ensure_ascii=False).encode())


_ADAPTER = TypeAdapter(Manifest)


def load(store: Store, identifier: str) -> Manifest:
    """Return a manifest.

    Raises:
        PermanentFailure: it does not exist (its run may have ended), is damaged, or is of another release.
        TranscriptionError: the store refuses or does not answer.

    """
    try:
        document = json.loads(store.read(_path(identifier)))
    except NotFound as error:
        raise PermanentFailure(f"there is no manifest {identifier} in {store.url}: its run may have ended") from error
    except ValueError as error:
        raise PermanentFailure(f"the manifest {identifier} is damaged: start its run again") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise PermanentFailure(
            f"the manifest {identifier} is of another release: run the same release in the worker and in its run"
        )
    try:
        return _ADAPTER.validate_python(document)
    except ValueError as error:
        raise PermanentFailure(f"the manifest {identifier} is damaged: start its run again") from error


Shards = list[list[Sequence[WindowRef]]]
"""Groups of windows by shard."""


def shards(groups: Sequence[Sequence[WindowRef]], lengths: Sequence[float], shard_s: float, most: int) -> Shards:
    """Distribute groups of windows over shards of about equal length, in order.

    Args:
        groups: Groups of windows that are decoded together; none is divided, so the words do not depend on the shards.
        lengths: Length of each group in seconds of audio.
        shard_s: Seconds of audio in a shard at least, if there are several; 0 = as many shards as `most` allows.
        most: Maximum number of shards.

    """
    # Recordings whose length is not known yet count as equally long.
    lengths = lengths if sum(lengths) else [1.0] * len(groups)
    wanted = max(1, int(sum(lengths) / shard_s)) if shard_s else most
    count = min(most, len(groups), wanted)
    made: Shards = [[] for _ in range(count)]
    before = 0.0
    for group, length in zip(groups, lengths, strict=True):
        middle = before + length / 2
        made[min(count - 1, int(middle * count / sum(lengths)))].append(group)
        before += length
    return [shard for shard in made if shard]


class Heartbeat:
    """Writes a count beside the manifest every HEARTBEAT_S, so that workers notice the end of their coordinator."""

    def __init__(self, store: Store, identifier: str) -> None:
        self._store = store
        self._path = _heartbeat_path(identifier)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="coordinator heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Start the heartbeat."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the heartbeat."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        count = 0
        while True:
            try:
                self._store.write(self._path, str(count).encode())
            except Exception as error:  # noqa: BLE001 -- without a heartbeat all workers would leave
                log.warning("the heartbeat %s cannot be written: %s", self._path, error)
            if self._ended.wait(HEARTBEAT_S):
                return
            count += 1


def heartbeat(store: Store, identifier: str) -> str:
    """Return the last heartbeat of the coordinator; it changes every HEARTBEAT_S while that is alive.

    Raises:
        NotFound: there is none.
        TranscriptionError: the store refuses or does not answer.

    """
    return store.read(_heartbeat_path(identifier)).decode(errors="replace")


def _heartbeat_path(identifier: str) -> str:
    return f"{media_keys.work(identifier)}coordinator.txt"


def _path(identifier: str) -> str:
    return f"{media_keys.work(identifier)}manifest.json"
