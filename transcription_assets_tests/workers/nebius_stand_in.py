"""STAND-IN for Nebius: a gRPC server that speaks the job service of the SDK and runs each job as a local process.

The real service was not reached. Messages and method names are the SDK's own; what the service writes into the details
of a state, and when it takes a preemptible machine away, are assumptions.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import grpc
from nebius.api.nebius.ai.v1 import (
    CancelJobRequest,
    CreateJobRequest,
    DeleteJobRequest,
    GetJobByNameRequest,
    GetJobRequest,
    Job,
    JobInstanceStatus,
    JobSpec,
    JobStateDetails,
    JobStatus,
    ListJobsRequest,
    ListJobsResponse,
)
from nebius.api.nebius.common.v1 import Operation, ResourceMetadata
from nebius.api.nebius.compute.v1 import InstanceStatus
from nebius.base.options import INSECURE
from nebius.base.resolver import Constant
from nebius.sdk import SDK

from transcription_assets.workers.nebius_service import CHANNEL_OPTIONS, USER_AGENT

STAGES = ("PROVISIONING", "STARTING", "IMAGE_PULLING")
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "ERROR")
SERVICE = "nebius.ai.v1.JobService"
WORKER = (sys.executable, "-m", "transcription_assets_tests.workers.scripted_worker")
SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
"""A worker that decodes nothing and never ends."""
METHODS: Mapping[str, Any] = {
    "Create": CreateJobRequest,
    "Get": GetJobRequest,
    "GetByName": GetJobByNameRequest,
    "List": ListJobsRequest,
    "Cancel": CancelJobRequest,
    "Delete": DeleteJobRequest,
}


@dataclass(eq=False)
class LocalJob:
    """A job, and its process once it runs."""

    identifier: str
    metadata: ResourceMetadata
    spec: JobSpec
    state: str = STAGES[0]
    code: str = ""
    message: str = ""
    machine: str = "RUNNING"
    started: datetime | None = None
    finished: datetime | None = None
    popen: "subprocess.Popen[bytes] | None" = None

    def end(self, state: str, code: str = "", message: str = "") -> None:
        if self.state not in FINAL:
            self.finished = datetime.now(UTC)
            self.state, self.code, self.message = state, code, message

    def kill(self) -> None:
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()

    @property
    def shown(self) -> Job:
        instance = JobInstanceStatus(compute_instance_state=InstanceStatus.InstanceState[self.machine])
        status = JobStatus(
            state=JobStatus.State[self.state],
            state_details=JobStateDetails(code=self.code, message=self.message),
            instances=[instance],
        )
        if self.started:
            status.started_at = self.started
        if self.finished:
            status.finished_at = self.finished
        return Job(metadata=self.metadata, spec=self.spec, status=status)


@dataclass(eq=False)
class NebiusStandIn:
    """The service; `command` is what each image runs, `secrets` are values of secrets by their ID.

    A job stays for ever in the stage `stuck`; `image_fails` lets every pull fail; the machines of the first `preempt`
    jobs are taken away as soon as their process runs. `errors` are codes with which calls of a method fail, first in
    first out.
    """

    command: tuple[str, ...]
    secrets: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    stuck: str = ""
    image_fails: bool = False
    preempt: int = 0
    errors: dict[str, list[grpc.StatusCode]] = field(default_factory=dict)
    jobs: dict[str, LocalJob] = field(default_factory=dict)
    created: list[JobSpec] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    address: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def connect(self) -> SDK:
        return SDK(
            resolver=Constant(self.address),
            options=[*CHANNEL_OPTIONS, (INSECURE, True)],
            credentials="token of the test",
            user_agent_prefix=USER_AGENT,
            parent_id="project-test",
        )

    @property
    def running(self) -> list[LocalJob]:
        return [job for job in self.jobs.values() if job.popen is not None and job.popen.poll() is None]

    def end(self) -> None:
        """End all jobs; one whose machine is still being provisioned does not start."""
        with self._lock:
            for job in self.jobs.values():
                job.end("CANCELLED")
                job.kill()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        return {name: self._handler(name, request) for name, request in METHODS.items()}

    def _handler(self, name: str, request: Any) -> grpc.RpcMethodHandler:
        work = cast("Callable[[Any, grpc.ServicerContext], Any]", getattr(self, f"_{name.lower()}"))

        def handle(message: Any, context: grpc.ServicerContext) -> Any:
            self.calls.append(name)
            self.tokens.add(str(dict(context.invocation_metadata()).get("authorization")))
            if self.errors.get(name):
                context.abort(self.errors[name].pop(0), "a fault of the test")
            with self._lock:
                return work(message, context)

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=request.FromString, response_serializer=lambda item: item.SerializeToString()
        )

    def _create(self, request: CreateJobRequest, context: grpc.ServicerContext) -> Operation:
        if any(job.metadata.name == request.metadata.name for job in self.jobs.values()):
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "the name is taken")
        identifier = f"aijob-{len(self.created)}"
        metadata = ResourceMetadata(
            id=identifier,
            parent_id=request.metadata.parent_id,
            name=request.metadata.name,
            labels=dict(request.metadata.labels),
        )
        job = self.jobs[identifier] = LocalJob(identifier, metadata, request.spec)
        preempted = len(self.created) < self.preempt
        self.created.append(request.spec)
        threading.Thread(target=self._run, args=(job, preempted), daemon=True).start()
        return Operation(id=f"operation-{identifier}", resource_id=identifier)

    def _get(self, request: GetJobRequest, context: grpc.ServicerContext) -> Job:
        return self._found(request.id, context).shown

    def _getbyname(self, request: GetJobByNameRequest, context: grpc.ServicerContext) -> Job:
        found = next((job.identifier for job in self.jobs.values() if job.metadata.name == request.name), "")
        return self._found(found, context).shown

    def _list(self, request: ListJobsRequest, _context: grpc.ServicerContext) -> ListJobsResponse:
        """Return one job a page."""
        jobs, first = list(self.jobs.values()), int(request.page_token or 0)
        following = str(first + 1) if first + 1 < len(jobs) else ""
        return ListJobsResponse(items=[job.shown for job in jobs[first : first + 1]], next_page_token=following)

    def _cancel(self, request: CancelJobRequest, context: grpc.ServicerContext) -> Operation:
        job = self._found(request.id, context)
        job.end("CANCELLED")
        job.kill()
        return Operation(id="operation-cancel", resource_id=job.identifier)

    def _delete(self, request: DeleteJobRequest, context: grpc.ServicerContext) -> Operation:
        job = self._found(request.id, context)
        job.end("CANCELLED")
        job.kill()
        del self.jobs[job.identifier]
        return Operation(id="operation-delete", resource_id=job.identifier)

    def _found(self, identifier: str, context: grpc.ServicerContext) -> LocalJob:
        if identifier not in self.jobs:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such job")
        return self.jobs[identifier]

    def _run(self, job: LocalJob, preempted: bool) -> None:  # noqa: FBT001 -- the target of a thread
        for stage in STAGES:
            if job.state in FINAL:
                return
            job.state = stage
            if stage == self.stuck:
                return
            time.sleep(0.05)
        if self.image_fails:
            job.end("FAILED", "ImagePullFailed", "cannot pull the image: manifest unknown")
            return
        with self._lock:
            if job.state in FINAL:
                return
            job.started = datetime.now(UTC)
            job.popen = subprocess.Popen(
                [*self.command, *shlex.split(job.spec.args)],
                env={**_inherited(), **self.variables, **self._environment(job.spec)},
                stdout=subprocess.DEVNULL,
            )
            job.state = "RUNNING"
        if preempted:
            job.machine = "STOPPED"
            job.popen.send_signal(signal.SIGKILL)
        code = job.popen.wait()
        if preempted:
            job.end("FAILED", "InstanceStopped", "the instance was stopped")
        elif code:
            job.end("FAILED", "Failed", f"Container exited with code {code if code > 0 else 128 - code}")
        else:
            job.end("COMPLETED")

    def _environment(self, spec: JobSpec) -> dict[str, str]:
        return {
            item.name: self.secrets[item.mysterybox_secret.secret_id]
            if item.mysterybox_secret.secret_id
            else item.value
            for item in spec.environment_variables
        }


def _inherited() -> dict[str, str]:
    """Return what a process needs of this machine; a job has no other variables than its own."""
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "HOME") if name in os.environ}


@contextmanager
def serve(command: tuple[str, ...] = WORKER, **faults: Any) -> Iterator[NebiusStandIn]:
    """Serve on a free port; no process of a job is left afterwards."""
    service = NebiusStandIn(command, **faults)
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, service.handlers()),))
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield service
    finally:
        server.stop(None).wait()
        service.end()
