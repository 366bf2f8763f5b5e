"""The manifest of a batch (`work/<id>/manifest.json`): the windows to decode, in groups, and the groups of each shard.

It is all that a worker needs besides the store, the weights and its settings.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import SpeechModel
from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.pipeline.shard_status import WindowRef
from transcription_assets.speech.recognition import WindowJob
from transcription_assets.storage import Store

VERSION = "2"


@dataclass(frozen=True, slots=True)
class ManifestRecording:
    """A recording to decode, see `DecodeRequest`; `sound` is the SHA-256 of the extracted audio."""

    key: str
    version: str
    sound: str
    vocabulary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The work of a batch; `shards[n]` are the groups of windows that worker n decodes, one after another.

    `owner` identifies the run, `created` is Unix time in seconds. The words depend on `model` and `options`, so a
    worker with others refuses the work; they also depend on `parallel` (see `Engine.decode`), which every worker takes
    from here, so they are the same for any number of workers.
    """

    identifier: str
    owner: str
    model: SpeechModel
    options: dict[str, Any]
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


def shards(groups: Sequence[Sequence[WindowJob]], shard_s: float, most: int) -> list[list[Sequence[WindowJob]]]:
    """Distribute groups of windows over shards of about equal length, in order.

    Args:
        groups: Groups of windows that are decoded together; none is divided, so the words do not depend on the shards.
        shard_s: Seconds of audio in a shard at least, if there are several; 0 = as many shards as `most` allows.
        most: Maximum number of shards.

    """
    lengths = [sum(job.plan.length for job in group) for group in groups]
    wanted = max(1, int(sum(lengths) / shard_s)) if shard_s else most
    count = min(most, len(groups), wanted)
    made: list[list[Sequence[WindowJob]]] = [[] for _ in range(count)]
    before = 0.0
    for group, length in zip(groups, lengths, strict=True):
        middle = before + length / 2
        made[min(count - 1, int(middle * count / sum(lengths)))].append(group)
        before += length
    return [shard for shard in made if shard]


def _path(identifier: str) -> str:
    return f"{media_keys.work(identifier)}manifest.json"
