"""Launcher for workers that are serverless jobs of Nebius, one for each shard.

docs/how-to/serverless.md tells how to set it up. The SDK (extra `nebius`) runs its own event loop in a thread of its
own; this module calls it from another one, so that a launcher can be used from inside a running event loop as well.
"""

import re
import shlex
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from transcription_assets.costs.timing import WorkerUse
from transcription_assets.errors import PermanentFailure
from transcription_assets.settings import Settings, split
from transcription_assets.storage import Store
from transcription_assets.workers.manifest import Manifest, Stage
from transcription_assets.workers.nebius_jobs import LaunchedJobs
from transcription_assets.workers.nebius_service import connect, failures

if TYPE_CHECKING:
    from nebius.api.nebius.ai.v1 import JobServiceClient, JobSpec
    from nebius.sdk import SDK

T = TypeVar("T")

COMMAND = "transcription-assets"
POLL_S = 3.0
SECRET_NAME = re.compile("SECRET|PASSWORD|TOKEN|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class NebiusOptions:
    """Parts of a job, see the settings `TRANSCRIPTION_NEBIUS_*`; `secrets` are `ID` or `ID@VERSION` by name."""

    image: str
    platform: str
    preset: str
    project: str = ""
    subnet: str = ""
    disk_gib: int = 100
    preemptible: bool = False
    jobs: int = 4
    provision_limit_s: float = 1200.0
    pull_limit_s: float = 900.0
    timeout_s: float = 7200.0
    dollars_per_hour: float = 0.0
    keep_failed: bool = False
    registry_secret: str = ""
    credentials_file: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, chosen: Settings, stage: Stage) -> "NebiusOptions":
        """Return the options of the settings for jobs of a stage; extraction runs on the CPU platform if one is set.

        Raises:
            PermanentFailure: one that is needed is missing, or a secret is given in clear text.

        """
        kind = "cpu_" if stage == "audio" and chosen.nebius_cpu_platform else ""
        for name in ("image", f"{kind}platform", f"{kind}preset"):
            if not getattr(chosen, f"nebius_{name}"):
                raise PermanentFailure(f"the launcher nebius needs TRANSCRIPTION_NEBIUS_{name.upper()}")
        if stage == "transcript" and chosen.device == "auto":
            raise PermanentFailure(
                "TRANSCRIPTION_LAUNCHER=nebius needs TRANSCRIPTION_DEVICE=cuda or cpu, that of the jobs: `auto` would "
                "be the device of this machine"
            )
        return cls(
            image=chosen.nebius_image,
            platform=getattr(chosen, f"nebius_{kind}platform"),
            preset=getattr(chosen, f"nebius_{kind}preset"),
            project=chosen.nebius_project,
            subnet=chosen.nebius_subnet,
            disk_gib=chosen.nebius_disk_gib,
            preemptible=chosen.nebius_preemptible,
            jobs=chosen.nebius_jobs,
            provision_limit_s=chosen.nebius_provision_limit_s,
            pull_limit_s=chosen.nebius_pull_limit_s,
            timeout_s=chosen.nebius_timeout_s,
            dollars_per_hour=getattr(chosen, f"nebius_{kind}dollars_per_hour"),
            keep_failed=chosen.nebius_keep_failed,
            registry_secret=chosen.nebius_registry_secret,
            credentials_file=chosen.nebius_credentials_file,
            environment={"TRANSCRIPTION_MODELS_DIR": chosen.nebius_models_dir} | _plain(chosen.nebius_environment),
            secrets=_pairs(chosen.nebius_secrets),
        )


def _pairs(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (part.partition("=") for part in split(text))}


def _plain(text: str) -> dict[str, str]:
    """Return variables that may be read by everybody who may read a job.

    Raises:
        PermanentFailure: one looks like a secret.

    """
    found = _pairs(text)
    for name, value in found.items():
        if SECRET_NAME.search(name) or re.search(r"://[^/]*@", value):
            raise PermanentFailure(
                f"{name} in TRANSCRIPTION_NEBIUS_ENVIRONMENT would be readable in every job: put it into a secret, and "
                "its ID into TRANSCRIPTION_NEBIUS_SECRETS"
            )
    return found


@dataclass(eq=False)
class NebiusLauncher:
    """Launcher of at most `options.jobs` jobs at once; `environment` holds the settings of the speech model.

    `connect` returns the SDK, by default with the credentials of the SDK's standard environment. `local_store` allows a
    store that is a folder, where a stand-in runs the jobs on this machine.
    """

    options: NebiusOptions
    environment: Mapping[str, str] = field(default_factory=dict)
    connect: "Callable[[], SDK] | None" = None
    local_store: bool = False
    poll_s: float = POLL_S
    use: WorkerUse = field(default_factory=WorkerUse, init=False)
    """Time from the start to the end of all jobs so far, and its price."""
    _thread: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        """Make the thread in which the SDK is called."""
        self._thread = ThreadPoolExecutor(1, "nebius")

    @property
    def most(self) -> int:
        """Maximum number of jobs at once."""
        return self.options.jobs

    def prepare(self, _store: Store) -> None:
        """Connect, without waiting for it."""
        self._thread.submit(lambda: self.sdk)

    def launch(self, store: Store, manifest: Manifest) -> "LaunchedJobs":
        """Return the jobs of a manifest; jobs that an earlier process of the same run left behind are cancelled.

        Raises:
            PermanentFailure: the store is a folder, the extra is not installed, or the service refuses.
            TransientFailure: the service does not answer.

        """
        if not (self.local_store or store.url.startswith("s3://")):
            raise PermanentFailure(f"jobs of Nebius cannot reach {store.url}: TRANSCRIPTION_STORE has to be a bucket")
        launched = LaunchedJobs(self, store, manifest)
        launched.end_leftovers()
        return launched

    def close(self) -> None:
        """Close the SDK."""
        if "sdk" in self.__dict__:
            self._thread.submit(self.sdk.sync_close, 10.0).result()
        self._thread.shutdown()

    @cached_property
    def sdk(self) -> "SDK":
        """The SDK, with an event loop of its own.

        Raises:
            PermanentFailure: the extra is not installed, or there are no credentials.

        """
        with failures("Nebius cannot be reached"):
            return self.connect() if self.connect else connect(self.options.project, self.options.credentials_file)

    @cached_property
    def service(self) -> "JobServiceClient":
        """The client of the service."""
        from nebius.api.nebius.ai.v1 import JobServiceClient

        return JobServiceClient(self.sdk)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop of the SDK; calls follow one another, also after an interrupted one.

        Raises:
            TranscriptionError: the service refuses or does not answer.

        """

        def run() -> T:
            try:
                sdk = self.sdk
            except BaseException:
                work.close()
                raise
            with failures("Nebius"):
                return sdk.run_sync(work)

        return self._thread.submit(run).result()

    def spec(self, store: Store, manifest: Manifest, shard: int) -> "JobSpec":
        """Return the job of a shard; secrets are in it as references only."""
        from nebius.api.nebius.ai.v1 import FollowsSpotPriceSpec, JobSpec, PricingModelSpec
        from nebius.api.nebius.compute.v1 import DiskSpec

        chosen = self.options
        plain = {**self.environment, **chosen.environment, "TRANSCRIPTION_STORE": store.url}
        variables = [JobSpec.EnvironmentVariable(name=name, value=value) for name, value in plain.items()]
        for name, reference in chosen.secrets.items():
            secret, _, version = reference.partition("@")
            found = JobSpec.MysteryBoxSecretRef(secret_id=secret, version_id=version)
            variables.append(JobSpec.EnvironmentVariable(name=name, mysterybox_secret=found))
        spec = JobSpec(
            image=chosen.image,
            container_command=COMMAND,
            args=shlex.join(["work", manifest.identifier, "--shard", str(shard), "--stage", manifest.stage]),
            environment_variables=variables,
            platform=chosen.platform,
            preset=chosen.preset,
            disk=JobSpec.DiskSpec(type=DiskSpec.DiskType.NETWORK_SSD, size_bytes=chosen.disk_gib << 30),
            subnet_id=chosen.subnet,
            preemptible=chosen.preemptible,
            timeout=timedelta(seconds=chosen.timeout_s),
            restart_attempts=0,  # the coordinator decides what is tried again, and apart from what
        )
        if chosen.preemptible:
            spec.pricing_model = PricingModelSpec(follows_spot_price=FollowsSpotPriceSpec())
        if chosen.registry_secret:
            spec.registry_credentials = JobSpec.RegistryCredentials(mysterybox_secret_version=chosen.registry_secret)
        return spec
