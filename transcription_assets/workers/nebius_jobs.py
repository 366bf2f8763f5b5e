"""The serverless jobs of one manifest: they are created, watched, and ended."""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from transcription_assets.costs.timing import HOUR_S, WorkerUse
from transcription_assets.errors import TranscriptionError, TransientFailure
from transcription_assets.pipeline import shard_status
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.storage import Store
from transcription_assets.workers import nebius_outcomes
from transcription_assets.workers.launcher import Phase, ShardState, stored_statuses
from transcription_assets.workers.manifest import Manifest
from transcription_assets.workers.nebius_service import REQUEST, failures, is_accepted

if TYPE_CHECKING:
    from nebius.api.nebius.ai.v1 import Job

    from transcription_assets.workers.nebius import NebiusLauncher, NebiusOptions

LABEL = "managed-by"
MANAGER = "transcription-assets"
END_S = 120.0
"""Seconds that a cancelled job has to end; afterwards it is left to the service, which has accepted the request."""
SILENT_S = 180.0
"""Seconds without an answer of the service after which a batch fails; its jobs work on meanwhile."""
GRACE_S = 120.0
"""Seconds that the service has to end a job over its time limit before this launcher cancels it."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watch:
    """A job; `since` is when its `stage` was first seen (monotonic clock)."""

    identifier: str
    stage: str = ""
    since: float = 0.0

    def seconds_in(self, stage: str) -> float:
        """Return how long the job has been in this stage."""
        if stage != self.stage:
            self.stage, self.since = stage, time.monotonic()
        return time.monotonic() - self.since


class LaunchedJobs:
    """The shards of one manifest, and the jobs that work on them."""

    def __init__(self, launcher: "NebiusLauncher", store: Store, manifest: Manifest) -> None:
        self._launcher = launcher
        self._store = store
        self._manifest = manifest
        self._waiting = deque(range(len(manifest.shards)))
        self._states = {shard: ShardState(Phase.WAITING) for shard in self._waiting}
        self._active: dict[int, _Watch] = {}
        self._answered = time.monotonic()

    def states(self) -> Mapping[int, ShardState]:
        """Return the state of each shard, after jobs were created for those that waited.

        Raises:
            PermanentFailure: the service refuses a job.
            TransientFailure: the service has not answered for some minutes.

        """
        self._begin()
        for shard, answer in self._launcher.call(self._poll()).items():
            if isinstance(answer, TranscriptionError):
                self._raise_if_silent(answer)
                continue
            self._answered = time.monotonic()
            state, job = self._state(shard, answer), answer
            self._states[shard] = state
            if state.is_final:
                self._finish(shard, state, job)
        return dict(self._states)

    def statuses(self) -> Mapping[int, ShardStatus]:
        """Return the statuses that the jobs have written to the store.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        return stored_statuses(self._store, self._manifest)

    def wait(self) -> None:
        """Return after a few seconds."""
        time.sleep(self._launcher.poll_s)

    def __enter__(self) -> Self:
        """Return the workers."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the jobs that have not ended, wait for that, and delete them."""
        if not (self._active or self._waiting):  # an interrupted call may still create one that waited
            return
        try:
            self._launcher.call(self._end_active())
        except TranscriptionError as failure:  # it must not hide the error that ends the run
            identifiers = ", ".join(watch.identifier for watch in self._active.values())
            log.error("jobs may be left behind (%s): %s", identifiers, failure)  # noqa: TRY400 -- no stack to show

    def end_leftovers(self) -> None:
        """End the jobs that an earlier process of the same run left behind when it was killed.

        Raises:
            TranscriptionError: the service refuses or does not answer.

        """
        if self._manifest.owner:
            self._launcher.call(self._end_leftovers())

    def _begin(self) -> None:
        """Create jobs for shards that wait, as many as may work at once."""
        while self._waiting and len(self._active) < self._launcher.most:
            try:
                self._launcher.call(self._create(self._waiting[0]))
            except TransientFailure as error:
                if not self._active:
                    raise
                log.warning("the job of shard %s has to wait: %s", self._waiting[0], error)
                return

    async def _create(self, shard: int) -> None:
        """Create the job of a shard, or find the one that a request without answer created."""
        from nebius.aio.service_error import RequestError
        from nebius.api.nebius.ai.v1 import CreateJobRequest, GetJobByNameRequest
        from nebius.api.nebius.common.v1 import ResourceMetadata

        launcher, name = self._launcher, f"transcription-{self._manifest.identifier}-{shard}"
        labels = {LABEL: MANAGER, "owner": _label(self._manifest.owner), "manifest": self._manifest.identifier}
        metadata = ResourceMetadata(parent_id=launcher.options.project, name=name, labels=labels)
        spec = launcher.spec(self._store, self._manifest, shard)
        try:
            created = await launcher.service.create(CreateJobRequest(metadata=metadata, spec=spec), **REQUEST)
            identifier = created.resource_id
        except RequestError as error:
            if error.status.code.name != "ALREADY_EXISTS":
                raise
            wanted = GetJobByNameRequest(parent_id=launcher.options.project, name=name)
            identifier = (await launcher.service.get_by_name(wanted, **REQUEST)).metadata.id
        self._active[shard] = _Watch(identifier)
        self._waiting.remove(shard)
        log.info("shard %s: job %s (%s)", shard, identifier, name)

    async def _poll(self) -> dict[int, Any]:
        """Return the job of each active shard, None if it does not exist any more, or the failure of the request."""
        import asyncio

        jobs = await asyncio.gather(*(self._get(watch.identifier) for watch in self._active.values()))
        return dict(zip(self._active, jobs, strict=True))

    async def _get(self, identifier: str) -> "Job | TranscriptionError | None":
        from nebius.aio.service_error import RequestError
        from nebius.api.nebius.ai.v1 import GetJobRequest

        try:
            with failures(f"job {identifier}"):
                return await self._launcher.service.get(GetJobRequest(id=identifier), **REQUEST)
        except TranscriptionError as error:
            cause = error.__cause__
            if isinstance(cause, RequestError) and cause.status.code.name == "NOT_FOUND":
                return None
            return error

    def _raise_if_silent(self, error: TranscriptionError) -> None:
        if not error.transient or time.monotonic() - self._answered > SILENT_S:
            raise error
        log.warning("%s; asked again", error)

    def _state(self, shard: int, job: "Job | None") -> ShardState:
        """Return the state of a shard from its job; a job over the limit of its stage counts as ended."""
        watch, chosen = self._active[shard], self._launcher.options
        if job is None:
            return ShardState(Phase.LOST, f"the job {watch.identifier} was deleted")
        name = job.status.state.name
        if name in nebius_outcomes.FINAL:
            status = shard_status.load(self._store, shard_status.path(self._manifest.identifier, shard))
            return nebius_outcomes.shard_state(_outcome(job, chosen), status)
        stage, phase, limit_s = {
            "IMAGE_PULLING": ("pulling its image", Phase.WAITING, chosen.pull_limit_s),
            "RUNNING": ("running", Phase.RUNNING, chosen.timeout_s + GRACE_S),
            "CANCELLING": ("being cancelled", Phase.RUNNING, END_S),
            "DELETING": ("being deleted", Phase.RUNNING, END_S),
        }.get(name, ("being provisioned", Phase.WAITING, chosen.provision_limit_s))
        if watch.seconds_in(stage) <= limit_s:
            return ShardState(phase)
        reason = f"the job {watch.identifier} was {stage} for more than {limit_s:.0f} s{_details(job)}"
        return ShardState(Phase.DIED if name == "RUNNING" else Phase.LOST, reason)

    def _finish(self, shard: int, state: ShardState, job: "Job | None") -> None:
        """Note what a job cost, and delete it."""
        watch = self._active[shard]
        if job is not None:
            failed = state.phase is not Phase.ENDED
            keep = failed and self._launcher.options.keep_failed
            try:
                self._launcher.call(self._end([watch.identifier], delete=not keep))
            except TranscriptionError as error:  # what it has decoded counts all the same
                log.warning("the job %s is left behind: %s", watch.identifier, error)
            self._account(shard, job)
        del self._active[shard]
        log.log(
            logging.INFO if state.phase is Phase.ENDED else logging.WARNING,
            "shard %s: job %s %s %s",
            shard,
            watch.identifier,
            state.phase.name,
            state.reason,
        )

    def _account(self, shard: int, job: "Job") -> None:
        seconds = worked_s(job.status.started_at, job.status.finished_at)
        usd = seconds / HOUR_S * self._launcher.options.dollars_per_hour
        self._launcher.use += WorkerUse(held_s=seconds, usd=usd)
        log.info("shard %s: job %s worked %.0f s, $%.4f", shard, job.metadata.id, seconds, usd)

    async def _end_active(self) -> None:
        """End the active jobs; it runs after calls that were interrupted, so it sees what they created."""
        self._waiting.clear()
        identifiers = [watch.identifier for watch in self._active.values()]
        await self._end(identifiers)
        for shard, watch in self._active.items():
            log.info("shard %s: job %s cancelled", shard, watch.identifier)
        self._active.clear()

    async def _end_leftovers(self) -> None:
        from nebius.api.nebius.ai.v1 import ListJobsRequest

        owner, found, page = _label(self._manifest.owner), [], ""
        while True:
            request = ListJobsRequest(parent_id=self._launcher.options.project, page_size=100, page_token=page)
            answer = await self._launcher.service.list(request, **REQUEST)
            labels = [(job.metadata.id, dict(job.metadata.labels)) for job in answer.items]
            found += [job for job, of in labels if of.get(LABEL) == MANAGER and of.get("owner") == owner]
            page = answer.next_page_token
            if not page:
                break
        await self._end(found)

    async def _end(self, identifiers: Iterable[str], *, delete: bool = True) -> None:
        """Cancel the jobs that have not ended, wait for that, and delete them."""
        import asyncio

        ends = [self._end_one(identifier, delete=delete) for identifier in identifiers]
        for failure in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure

    async def _end_one(self, identifier: str, *, delete: bool) -> None:
        import asyncio

        from nebius.api.nebius.ai.v1 import CancelJobRequest, DeleteJobRequest

        service, deadline, cancelled = self._launcher.service, time.monotonic() + END_S, False
        while time.monotonic() < deadline:
            job = await self._get(identifier)
            if job is None:
                return
            if not isinstance(job, TranscriptionError):
                if job.status.state.name in nebius_outcomes.FINAL:
                    break
                cancelled = cancelled or await is_accepted(service.cancel(CancelJobRequest(id=identifier), **REQUEST))
            elif not job.transient:
                raise job
            await asyncio.sleep(min(1.0, self._launcher.poll_s))
        if delete and not await is_accepted(service.delete(DeleteJobRequest(id=identifier), **REQUEST)):
            log.warning("the job %s is left behind", identifier)


def worked_s(started: datetime | None, finished: datetime | None) -> float:
    """Return the seconds that a job worked, up to now if it has not ended; 0.0 if it never began."""
    if started is None or started.timestamp() <= 0:
        return 0.0
    ended = finished if finished is not None and finished.timestamp() > 0 else datetime.now(UTC)
    return max(0.0, ended.timestamp() - started.timestamp())


def _outcome(job: "Job", chosen: "NebiusOptions") -> nebius_outcomes.JobOutcome:
    status = job.status
    seconds = worked_s(status.started_at, status.finished_at)
    return nebius_outcomes.JobOutcome(
        state=status.state.name,
        code=status.state_details.code,
        message=status.state_details.message,
        began=status.started_at is not None and status.started_at.timestamp() > 0,
        over_time=seconds >= chosen.timeout_s,
        machine_taken=chosen.preemptible
        and any(item.compute_instance_state.name in {"STOPPING", "STOPPED", "DELETING"} for item in status.instances),
    )


def _details(job: "Job") -> str:
    text = " ".join(filter(None, (job.status.state_details.code, job.status.state_details.message)))
    return f" ({text})" if text else ""


def _label(owner: str) -> str:
    """Return the owner as a value of a label, which allows few characters."""
    return hashlib.sha256(owner.encode()).hexdigest()[:32]
