"""The worker: decodes one shard of a manifest into checkpoints. It needs the store, the weights and its settings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline import shard_status, window_plan
from transcription_assets.pipeline.decoding import DecodeRequest, Group, decode_windows
from transcription_assets.pipeline.shard_status import ShardStatus, StatusWriter, WindowRef
from transcription_assets.speech import Engine
from transcription_assets.storage import Store
from transcription_assets.workers.manifest import Manifest

Groups = tuple[tuple[WindowRef, ...], ...]


class ExitCode(IntEnum):
    """Exit codes of a worker; the two failures are those of sysexits.h (EX_DATAERR, EX_TEMPFAIL)."""

    DONE = 0
    PERMANENT = 65
    TRANSIENT = 75


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker with its engine, which loads once for all shards; `changed` is called when the status changed."""

    store: Store
    engine: Engine
    ffmpeg: str
    changed: Callable[[ShardStatus], None] = field(default=lambda _status: None)

    def run(self, manifest: Manifest, shard: int) -> ExitCode:
        """Decode the windows of a shard that have no checkpoint yet.

        A failure of a recording is in the status of the shard and in the exit code, and does not stop the others.

        Raises:
            PermanentFailure: there is no such shard, or the settings of this worker are not those of the manifest.
            TranscriptionError: the store refuses or does not answer.

        """
        self._require_same_settings(manifest)
        if not 0 <= shard < len(manifest.shards):
            raise PermanentFailure(f"the manifest {manifest.identifier} has no shard {shard}")
        place = shard_status.path(manifest.identifier, shard)
        groups = manifest.shards[shard]
        with StatusWriter(self.store, place, manifest.owner, keep=True, changed=self.changed) as status:
            requests = dict(self._requests(manifest, groups, status))
            left = self._left(requests, groups, status)
            for _ in decode_windows(self.store, requests, self.engine, left, status, parallel=manifest.parallel):
                pass  # the status tells
        failures = status.status.failed.values()
        if not failures:
            return ExitCode.DONE
        return ExitCode.TRANSIENT if any(item.transient for item in failures) else ExitCode.PERMANENT

    def _left(self, requests: Mapping[str, DecodeRequest], groups: Groups, status: StatusWriter) -> list[Group]:
        """Return the windows without a checkpoint, in their groups; the others are done."""
        jobs = {
            shard_status.reference(job): job
            for request in requests.values()
            for job in request.jobs(self.store, self.ffmpeg, request.missing(self.store))
        }
        wanted = [window for group in groups for window in group if window[0] in requests]
        status.finish(*(window for window in wanted if window not in jobs))
        left = [[jobs[window] for window in group if window in jobs] for group in groups]
        return [group for group in left if group]

    def _require_same_settings(self, manifest: Manifest) -> None:
        own, wanted = (self.engine.model, self.engine.options.as_dict()), (manifest.model, manifest.options)
        if own != wanted:
            raise PermanentFailure(
                f"the settings of this worker are not those of the manifest {manifest.identifier}: it has {own}, the "
                f"manifest was made with {wanted}; give both the same TRANSCRIPTION_ variables"
            )

    def _requests(
        self, manifest: Manifest, groups: Groups, status: StatusWriter
    ) -> Iterator[tuple[str, DecodeRequest]]:
        wanted = {key for group in groups for key, _, _ in group}
        for item in manifest.recordings:
            if item.key not in wanted:
                continue
            plan = window_plan.load(self.store, item.key, item.sound)
            if plan is None:
                status.fail(item.key, TransientFailure(f"{item.key}: its extracted audio changed meanwhile; try again"))
                continue
            yield item.key, DecodeRequest(item.key, item.version, plan, item.vocabulary)
