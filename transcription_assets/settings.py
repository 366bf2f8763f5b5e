"""All environment variables that the project reads, with their descriptions and bounds.

`TRANSCRIPTION_STORE`, `TRANSCRIPTION_DEVICE` and so on. A value out of bounds and an unknown name are refused when the
definitions load or a command starts. The table in docs/reference/settings.md repeats this class; a test compares them.
"""

import difflib
import os
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from transcription_assets.domain.hosts import host_name
from transcription_assets.errors import PermanentFailure
from transcription_assets.models import default_folder

PREFIX = "TRANSCRIPTION_"
SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Suffixes of the variables that Kubernetes adds to every pod for each Service of its namespace."""
RENAMED = {"SEARCH_DOUBTFUL": "SEARCH_LOW_CONFIDENCE"}
"""Earlier names of settings."""
LauncherName = Literal["subprocess", "in_process", "kubernetes", "nebius"]
VARIABLES = r"^([A-Za-z_]\w*=[^,]*(,[A-Za-z_]\w*=[^,]*)*)?$"
SECRETS = r"^([A-Za-z_]\w*=[a-z0-9-]+(@[a-z0-9-]+)?(,[A-Za-z_]\w*=[a-z0-9-]+(@[a-z0-9-]+)?)*)?$"
SERVICE_URL = r"^(https?://[^\s/?#@\\]+([/?#]\S*)?)?$"
"""Without a name or password before the host: they would be displayed in messages."""
LABELS = r"^([\w./-]+=[\w.-]*(,[\w./-]+=[\w.-]*)*)?$"


def _networks(text: str) -> str:
    for part in split(text):
        ip_network(part)
    return text


def _hosts(text: str) -> str:
    for part in split(text):
        if not host_name(part):
            raise ValueError(f"{part!r} is not a host name")
    return text


def split(text: str) -> tuple[str, ...]:
    """Split a list separated by commas."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


class Settings(BaseSettings):
    """All settings; the defaults suit a laptop."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    store: str = Field(
        "store", min_length=1, description="Folder or `s3://bucket/prefix` of all recordings and results."
    )
    link_roots: str = Field(
        "",
        pattern=r"^(/[^:]*(:/[^:]*)*)?$",
        description="Folders, joined by `:`, into which links in an inbox may lead. Links to any other folder "
        "outside the store are not followed.",
    )
    models_dir: Path = Field(default_folder(), description="Folder of the model weights.")
    ffmpeg: str = Field("", description="Path of ffmpeg; empty = from PATH, else from the wheel imageio-ffmpeg.")

    whisper_model: str = Field(
        "base",
        min_length=1,
        description="Speech model: `base`, `tiny.en`, a Hub name `owner/name[@revision]`, or a folder.",
    )
    engine: Literal["whisper", "openai"] = Field(
        "whisper",
        description="What recognises speech: `whisper` = `TRANSCRIPTION_WHISPER_MODEL` on this machine; `openai` = the "
        "service at `TRANSCRIPTION_SPEECH_URL`.",
    )
    speech_url: str = Field(
        "",
        pattern=SERVICE_URL,
        description="With `openai`: base URL of a speech service with the OpenAI protocol (`https://host/v1`), which "
        "then gets the sound of all recordings.",
    )
    speech_model: str = Field("whisper-1", min_length=1, description="With `openai`: the model of the service.")
    speech_key: SecretStr = Field(SecretStr(""), description="API key of the speech service; never displayed.")
    speech_requests: int = Field(
        4, ge=1, le=256, description="With `openai`: concurrent requests, of up to 30 s of audio each."
    )
    speech_timeout_s: float = Field(
        120.0, ge=1, le=3600, description="With `openai`: seconds for one response; then the request is repeated."
    )
    encoder_model: str = Field(
        "all-MiniLM-L6-v2",
        min_length=1,
        description="Sentence encoder: `all-MiniLM-L6-v2` (English), `universal-sentence-encoder-multilingual`, a Hub"
        " name `owner/name[@revision]`, or a folder.",
    )
    embedding_url: str = Field(
        "",
        pattern=SERVICE_URL,
        description="Base URL of an embedding service with the OpenAI protocol (`https://host/v1`), which then "
        "encodes texts with `TRANSCRIPTION_ENCODER_MODEL`: texts leave the machine. Empty = the encoder"
        " runs in this process.",
    )
    embedding_key: SecretStr = Field(SecretStr(""), description="API key of the embedding service; never displayed.")
    embedding_dollars: float = Field(
        0.0, ge=0, le=1000, description="Price of the embedding service for a million tokens ($), for the cost report."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` uses a GPU if there is one.")
    compute_type: Literal["auto", "int8", "int8_float16", "float16", "bfloat16", "float32"] = Field(
        "auto", description="Precision of Whisper's computation; `auto` = int8 on a CPU, float16 on a GPU."
    )
    device_index: str = Field(
        "0",
        pattern=r"^\d+(,\d+)*$",
        description="Indexes of the GPUs to use in parallel, such as `0,1`; ignored without a GPU.",
    )
    cpu_threads: int = Field(
        0, ge=0, le=256, description="Threads of the speech model in total; 0 = all cores available to the process."
    )
    workers: int = Field(
        0,
        ge=0,
        le=64,
        description="Batches decoded in parallel, which share the threads; 0 = one per core, or one per GPU.",
    )
    language: str = Field(
        "",
        pattern=r"^([a-z]{2,3})?$",
        description="Language code of all recordings; empty = the language is detected, and detected again where it"
        " changes.",
    )
    task: Literal["transcribe", "translate"] = Field(
        "transcribe", description="`translate` writes the transcript in English, whatever language is spoken."
    )
    speakers: Literal["mixed", "channels", "voices", "auto"] = Field(
        "mixed",
        description="Who speaks: `mixed` = unknown; `channels` = the two channels of a stereo recording are two "
        "speakers and are decoded separately; `voices` = speakers are told apart by their voices; `auto` = the same, "
        "without a name for the only voice of a recording.",
    )
    speakers_min: int = Field(
        0, ge=0, le=100, description="With `voices` or `auto`: least number of speakers of a recording; 0 = any."
    )
    speakers_max: int = Field(
        0,
        ge=0,
        le=100,
        description="With `voices` or `auto`: most speakers of a recording; 0 = any. `<file>.speakers.json` beside a "
        "recording replaces both bounds.",
    )
    diariser: Literal["local", "pyannote"] = Field(
        "local",
        description="What tells voices apart: `local` = the included networks; `pyannote` = pyannote.audio, with the "
        "extra `pyannote` and an accepted licence of its weights on the Hub.",
    )
    slides: bool = Field(
        default=False,
        description="Whether the text that recordings show (slides, screens) is read, searchable and displayed.",
    )
    audio_tracks: str = Field(
        "auto",
        pattern=r"^(auto|first|all|[1-9]\d?)$",
        description="Audio tracks to transcribe, mixed: `auto` (those with speech; of dubbed versions and second "
        "mixes only the first), `first`, `all`, or the number of one, from 1.",
    )
    beam_size: int = Field(
        5,
        ge=1,
        le=20,
        description="Beam size of the decoder for chunks with a low confidence at first: 1 is faster, 5 slightly "
        "more accurate.",
    )
    batch_size: int = Field(
        0, ge=0, le=128, description="Chunks of up to 30 s that are decoded together; 0 = as many as fit into memory."
    )
    passage_s: float = Field(
        30.0, ge=5, le=300, description="Target length of a searchable passage in seconds of speech."
    )
    search_low_confidence: bool = Field(default=False, description="Whether words of low confidence are searchable.")

    source_networks: Annotated[str, AfterValidator(_networks)] = Field(
        "",
        description="Addresses or networks, separated by commas, from which sources may download besides public "
        "addresses, such as `10.1.2.0/24`; empty = public addresses only.",
    )
    source_max_gb: float = Field(
        10.0, gt=0, le=10_000, description="Maximum size of a recording that a source downloads, in gigabytes."
    )
    source_timeout_s: float = Field(
        3600.0,
        ge=1,
        le=604_800,
        description="Seconds after which a download of a source is interrupted; the next attempt continues it.",
    )
    downloads_dir: Path = Field(
        Path.home() / ".cache" / "transcription_assets" / "downloads",
        description="Folder of incomplete downloads, which later attempts continue.",
    )

    event_networks: Annotated[str, AfterValidator(_networks)] = Field(
        "",
        description="Addresses or networks, separated by commas, of servers that get events (`events.toml`) besides "
        "public addresses, such as `10.1.2.0/24`; empty = public addresses only.",
    )
    event_secrets: SecretStr = Field(
        SecretStr(""),
        description="Secrets that sign events, `receiver=whsec_…` separated by spaces; a receiver with two of them "
        "gets two signatures, so that its secret can be replaced; never displayed.",
    )
    event_channels: SecretStr = Field(
        SecretStr(""),
        description="Addresses of people who get messages about events, `receiver=URL` of apprise, separated by "
        "spaces; never displayed.",
    )
    upload_max_gb: float = Field(
        10.0, gt=0, le=5_000, description="Maximum size of a recording that is uploaded through the page, in gigabytes."
    )
    upload_spool_gb: float = Field(
        50.0, gt=0, le=100_000, description="Maximum size of all unfinished uploads to a store, in gigabytes."
    )
    upload_max_unfinished: int = Field(
        100, ge=1, le=10_000, description="Maximum number of unfinished uploads to a store."
    )
    upload_expire_hours: float = Field(
        24.0, ge=0.01, le=8_760, description="Hours without progress after which an unfinished upload is deleted."
    )
    uploads_dir: Path = Field(
        Path.home() / ".cache" / "transcription_assets" / "uploads",
        description="Folder of unfinished uploads, on the disk of the page. If it is on that of a local store, a "
        "finished upload is moved instead of copied.",
    )

    settle_s: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="Seconds without a change after which a file in a local inbox counts as complete.",
    )
    sensor_interval_s: int = Field(15, ge=5, le=3600, description="Seconds between two ticks of the inbox sensor.")
    sensor_max_adds: int = Field(300, ge=1, le=2000, description="Maximum number of new recordings per tick.")
    sensor_max_runs: int = Field(
        100,
        ge=1,
        le=1000,
        description="Maximum number of queued and active runs; above it the sensor requests no more.",
    )
    inbox_queue: str = Field(
        "",
        pattern=SERVICE_URL,
        description="URL of an SQS queue with the bucket's event notifications; empty = every tick lists the whole "
        "inbox.",
    )
    list_every_s: int = Field(
        3600,
        ge=60,
        le=604_800,
        description="With a queue: seconds between two complete listings, which find changes without a notification.",
    )
    run_max_files: int = Field(20, ge=1, le=500, description="Maximum number of recordings in one run.")
    run_max_gb: float = Field(
        20.0,
        gt=0,
        le=10_000,
        description="Maximum gigabytes of recordings in one run; a proxy for their duration, which is unknown "
        "before `video`.",
    )
    remove_gone: bool = Field(
        default=False,
        description="Whether recordings deleted from the inbox are removed from the search too (partition, "
        "artefacts, rows).",
    )
    remove_max_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Maximum share of all recordings that one tick may remove (always at least one recording). "
        "Above it, and if the inbox is empty, nothing is removed.",
    )
    done_prefix: bool = Field(
        default=False,
        description="Whether a processed recording is moved from the inbox to `DONE_video/` or `DONE_audio/`, where"
        " it replaces an older one of the same name; its partition and its search results stay.",
    )
    longest_hours: float = Field(
        48.0, gt=0, le=1_000, description="Maximum duration of a recording in hours; a longer one fails in `audio`."
    )
    decode_floor_s: float = Field(
        120.0, ge=1, le=86_400, description="Time limit of ffmpeg for one recording in seconds: this constant, plus …"
    )
    decode_per_second: float = Field(0.5, ge=0, le=100, description="… this factor times the recording's duration.")
    launcher: LauncherName = Field(
        "subprocess",
        description="Where speech is decoded: `subprocess` = in worker processes of the same machine, so that a "
        "recording that exhausts the memory does not stop the others; `in_process` = in the process of "
        "the step; `kubernetes` = in pods of their own, for steps that are pods; `nebius` = in "
        "serverless jobs of Nebius.",
    )
    audio_launcher: LauncherName = Field(
        "in_process", description="Where audio is extracted; values as of `TRANSCRIPTION_LAUNCHER`."
    )
    embeddings_launcher: LauncherName = Field(
        "in_process", description="Where passages are encoded; values as of `TRANSCRIPTION_LAUNCHER`."
    )
    worker_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Number of worker processes that work in parallel; those that decode share the cores or the GPUs.",
    )
    shard_s: float = Field(
        600.0,
        ge=60,
        le=360_000,
        description="Minimum seconds of audio in one shard, the unit of work of a worker that runs elsewhere.",
    )
    disk_gib: float = Field(
        0.0,
        ge=0,
        le=100_000,
        description="Temporary disk for one recording in GiB; 0 = no limit. Pods have the limit of their size.",
    )
    executor: Literal["in_process", "multiprocess", "k8s"] = Field(
        "in_process",
        description="How the steps of a run are executed. `in_process` loads each model once per run; `k8s` runs "
        "each step in its own pod.",
    )
    encoder_device: Literal["same", "auto", "cpu", "cuda"] = Field(
        "same",
        description="Device of the sentence encoder; `same` = `TRANSCRIPTION_DEVICE`. `cuda` on Kubernetes needs an"
        " image with a CUDA build of torch.",
    )
    k8s_service_account: str = Field(
        "", pattern=r"^[a-z0-9.-]*$", description="Service account of step pods; empty = that of the run's pod."
    )
    k8s_coordinator_account: str = Field(
        "",
        pattern=r"^[a-z0-9.-]*$",
        description="With `TRANSCRIPTION_LAUNCHER=kubernetes`: service account of the transcript step, which creates"
        " Jobs; empty = that of the run.",
    )
    k8s_workers: int = Field(
        4,
        ge=1,
        le=1000,
        description="With `TRANSCRIPTION_LAUNCHER=kubernetes`: pods that decode at once for one run. The pool `gpu`"
        " bounds the number of runs that have such pods.",
    )
    k8s_gpu_image: str = Field("", description="Image of pods with a GPU; empty = that of the run's pod.")
    k8s_gpu_node_selector: str = Field(
        "",
        pattern=LABELS,
        description="Labels of nodes for GPU steps, `key=value,key=value`; empty = any node with a GPU.",
    )
    k8s_cpu_node_selector: str = Field(
        "", pattern=LABELS, description="Labels of nodes for the other steps; empty = any node without taints."
    )
    k8s_spot: bool = Field(
        default=False,
        description="Whether GPU nodes are spot nodes: their taints are tolerated, and the cost report uses a lower"
        " price.",
    )
    k8s_scale: float = Field(
        1.0,
        ge=0.05,
        le=16,
        description="Factor for the CPU, memory and disk requests of every pod. Above 1 the nodes must be larger "
        "too, also those with a GPU; below 1 suits a small cluster.",
    )
    k8s_start_limit_s: float = Field(
        900.0,
        ge=5,
        le=86_400,
        description="Seconds within which a pod must start; otherwise its step fails with the reason.",
    )
    step_floor_s: float = Field(
        3600.0,
        ge=60,
        le=604_800,
        description="Deadline of a step's pod in seconds from its placement on a node: this constant, plus …",
    )
    step_per_second: float = Field(
        4.0, ge=0, le=1000, description="… this factor times the duration of its recordings."
    )

    nebius_image: str = Field("", description="Image of the jobs; `TRANSCRIPTION_LAUNCHER=nebius` needs it.")
    nebius_platform: str = Field(
        "", pattern=r"^[a-z0-9-]*$", description="Platform of the jobs, as in `gpu-l40s-a` or `cpu-d3`; needed."
    )
    nebius_preset: str = Field(
        "", pattern=r"^[a-z0-9-]*$", description="Preset of the platform, as in `1gpu-8vcpu-32gb`; needed."
    )
    nebius_cpu_platform: str = Field(
        "",
        pattern=r"^[a-z0-9-]*$",
        description="Platform of jobs that extract audio; empty = that of all jobs, with its preset and price.",
    )
    nebius_cpu_preset: str = Field("", pattern=r"^[a-z0-9-]*$", description="Preset of that platform.")
    nebius_cpu_dollars_per_hour: float = Field(0.0, ge=0, le=1000, description="Price of such a job an hour.")
    nebius_project: str = Field(
        "", pattern=r"^[a-z0-9-]*$", description="ID of the project of the jobs; empty = that of the credentials."
    )
    nebius_subnet: str = Field(
        "", pattern=r"^[a-z0-9-]*$", description="ID of the subnet of the jobs; empty = the default of the project."
    )
    nebius_disk_gib: int = Field(100, ge=10, le=4096, description="Disk of a job, in GiB.")
    nebius_preemptible: bool = Field(
        default=False,
        description="Whether jobs run on preemptible machines at the spot price; what one loses is decoded again.",
    )
    nebius_jobs: int = Field(4, ge=1, le=64, description="Jobs of one batch at once.")
    nebius_provision_limit_s: float = Field(
        1200.0, ge=1, le=86_400, description="A job that has no machine after so many seconds is given up."
    )
    nebius_pull_limit_s: float = Field(
        900.0, ge=1, le=86_400, description="A job that pulls its image for longer is given up."
    )
    nebius_timeout_s: float = Field(
        7200.0,
        ge=60,
        le=604_800,
        description="Time limit of a job from its start; what it has decoded by then stays.",
    )
    nebius_dollars_per_hour: float = Field(
        0.0, ge=0, le=1000, description="Price of a job an hour, for the cost in the log."
    )
    nebius_keep_failed: bool = Field(
        default=False, description="Whether jobs that failed are kept, with their logs, until a person deletes them."
    )
    nebius_registry_secret: str = Field(
        "",
        pattern=r"^[a-z0-9-]*$",
        description="ID of a version of a secret with `REGISTRY_USERNAME` and `REGISTRY_PASSWORD`, for a private"
        " image.",
    )
    nebius_credentials_file: str = Field(
        "",
        description="Credentials file of a service account that may manage jobs; empty = `NEBIUS_IAM_TOKEN`, else the"
        " profile of the command `nebius`.",
    )
    nebius_models_dir: str = Field("/opt/models", min_length=1, description="Where the image has its weights.")
    nebius_environment: str = Field(
        "",
        pattern=VARIABLES,
        description="More variables of the jobs, `NAME=value,NAME=value`, such as `AWS_REGION`; whoever may see a job"
        " reads them, so none may be a secret.",
    )
    nebius_secrets: str = Field(
        "",
        pattern=SECRETS,
        description="Variables of the jobs whose values are secrets of MysteryBox, `NAME=secret-id` or"
        " `NAME=secret-id@version-id`, separated by commas.",
    )

    asr_token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token (the API key of clients) of `asr-server`; empty = access without authentication.",
    )
    asr_requests: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Maximum number of requests of `asr-server` that are uploaded, wait or are transcribed at the same "
        "time; more are rejected with status 429.",
    )
    asr_max_mb: float = Field(
        500.0, gt=0, le=100_000, description="Maximum size of an upload to `asr-server`, in megabytes."
    )
    asr_longest_s: float = Field(
        4 * 3600.0, gt=0, le=3_600_000, description="Maximum duration of a recording for `asr-server`, in seconds."
    )
    asr_timeout_s: float = Field(
        1800.0,
        ge=1,
        le=86_400,
        description="Seconds after which a request to `asr-server` fails, from its first byte on.",
    )

    dagster_hosts: Annotated[str, AfterValidator(_hosts)] = Field(
        "",
        description="Host names, separated by commas, under which Dagster's UI is served besides `localhost`, such "
        "as `dagster.example.com`.",
    )
    serve_token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token for the search page and its API (the page asks for it); empty = access without "
        "authentication.",
    )
    serve_user_header: str = Field(
        "",
        pattern=r"^[A-Za-z0-9-]*$",
        description="Header in which an authenticating proxy sends the user name, such as `X-Forwarded-Email`; "
        "requests without it are rejected. Only safe if the port cannot be reached except through the "
        "proxy.",
    )
    serve_write_token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token that allows reading and changes through the search page and its API, such as names "
        "of speakers; empty = nobody may change anything there, except `TRANSCRIPTION_SERVE_WRITERS`.",
    )
    serve_writers: str = Field(
        "",
        description="Users who may make changes, separated by commas, by their names in "
        "`TRANSCRIPTION_SERVE_USER_HEADER`.",
    )
    serve_hosts: Annotated[str, AfterValidator(_hosts)] = Field(
        "",
        description="Host names, separated by commas, under which the search page is served besides `localhost`, "
        "such as `search.example.com`. Required with `TRANSCRIPTION_SERVE_USER_HEADER`.",
    )
    serve_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "",
        description="Addresses or networks, separated by commas, of trusted proxies, whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are used, such as `127.0.0.1,10.0.0.0/8`; empty = none.",
    )
    serve_searches_per_minute: int = Field(
        120,
        ge=1,
        le=100_000,
        description="Maximum searches per client and minute; ten times as many of all other requests.",
    )
    serve_timeout_s: float = Field(20.0, ge=1, le=600, description="Seconds after which a request fails.")
    ask_url: str = Field(
        "",
        pattern=SERVICE_URL,
        description="Base URL of a language model with the OpenAI protocol (`https://host/v1`), which then answers"
        " questions: the question and the passages that match it leave the machine. Empty = no answers.",
    )
    ask_model: str = Field("", max_length=200, description="Name of that model, such as `llama3.2`.")
    ask_key: SecretStr = Field(SecretStr(""), description="API key of the language model; never displayed.")
    ask_tokens: int = Field(
        3000,
        ge=200,
        le=100_000,
        description="Maximum tokens (estimated) of the passages that are sent with a question.",
    )
    ask_per_minute: int = Field(
        10, ge=1, le=100_000, description="Maximum questions per client and minute that the search page answers."
    )
    ask_timeout_s: float = Field(60.0, ge=1, le=600, description="Seconds within which the language model must answer.")

    @property
    def link_folders(self) -> tuple[Path, ...]:
        """Folders of `link_roots`."""
        return folders(self.link_roots)

    @property
    def source_allowed(self) -> tuple[str, ...]:
        """The networks of `source_networks`."""
        return split(self.source_networks)

    @property
    def event_allowed(self) -> tuple[str, ...]:
        """The networks of `event_networks`."""
        return split(self.event_networks)

    @property
    def proxies(self) -> tuple[str, ...]:
        """The networks of `serve_proxies`."""
        return split(self.serve_proxies)

    @property
    def encodes_on(self) -> str:
        """Device of the sentence encoder."""
        return self.device if self.encoder_device == "same" else self.encoder_device

    @property
    def finds_voices(self) -> bool:
        """True if speakers are told apart by their voices."""
        return self.speakers in ("voices", "auto")


class Database(BaseSettings):
    """Connection to Dagster's Postgres, if one is used; the cluster's dagster.yaml reads the same variables."""

    model_config = SettingsConfigDict(env_prefix="DAGSTER_PG_", extra="ignore", frozen=True)

    host: str = Field("", description="Empty = Dagster keeps its runs in SQLite.")
    username: str = ""
    password: SecretStr = SecretStr("")
    db: str = ""


class OwnPod(BaseSettings):
    """The identity of this pod; the executor sets name and namespace for the coordinator of workers."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    pod_name: str = ""
    pod_namespace: str = ""
    hostname: str = ""
    kubernetes_service_host: str = Field("", description="Set in every pod.")
    kubeconfig: str = Field("", description="How to reach the API server from outside of a pod.")

    @property
    def name(self) -> str:
        """Name of the pod, which is also its host name unless that is too long."""
        return self.pod_name or self.hostname


def folders(joined: str) -> tuple[Path, ...]:
    """Split the value of `TRANSCRIPTION_LINK_ROOTS`."""
    return tuple(Path(folder) for folder in joined.split(":") if folder)


class InvalidSettings(PermanentFailure):
    """Unknown variables, or variables with invalid values.

    Attributes:
        reasons: The error of each variable, by its name.
        nearest: The most similar setting for each unknown variable, empty if there is none.

    """

    def __init__(self, reasons: Mapping[str, str], nearest: Mapping[str, str]) -> None:
        details = "; ".join(f"{name}{reason}" for name, reason in reasons.items())
        hint = "see docs/reference/settings.md for all settings and their bounds"
        super().__init__(f"invalid settings: {details}; {hint}", hint=hint)
        self.reasons = dict(reasons)
        self.nearest = dict(nearest)


def load() -> Settings:
    """Read the settings of this process from its environment.

    Raises:
        InvalidSettings: A variable that begins with `TRANSCRIPTION_` is unknown, or its value is out of bounds.

    """
    nearest = unknown(os.environ)
    reasons = {
        name: f" is not a setting{f', did you mean {similar}?' if similar else ''}" for name, similar in nearest.items()
    }
    try:
        loaded = Settings()
    except ValidationError as error:
        for item in error.errors():
            reasons[f"{PREFIX}{'.'.join(map(str, item['loc'])).upper()}"] = (
                f"={_displayed(item['input'])}: {item['msg']}"
            )
        raise InvalidSettings(reasons, nearest) from error
    if nearest:
        raise InvalidSettings(reasons, nearest)
    return loaded


def _displayed(value: object) -> str:
    """Return a rejected value for a message, without the password of a URL."""
    return re.sub(r"//[^/]*@", "//***@", repr(value))


def unknown(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the unknown variables with our prefix, each with the most similar setting or an empty string.

    Service links of Kubernetes are left out: for a Service named `transcription-web` every pod of its namespace has
    `TRANSCRIPTION_WEB_PORT`.
    """
    settings = {name.upper() for name in Settings.model_fields}
    services = [name.removesuffix("_SERVICE_HOST") for name in environment if name.endswith("_SERVICE_HOST")]
    suggestions = {}
    for name in environment:
        suffix = name.upper().removeprefix(PREFIX)
        links = any(name.startswith(service) and SERVICE_LINK.fullmatch(name, len(service)) for service in services)
        if name.upper().startswith(PREFIX) and suffix not in settings and not links:
            similar = RENAMED.get(suffix) or next(iter(difflib.get_close_matches(suffix, sorted(settings), n=1)), "")
            suggestions[name] = similar and f"{PREFIX}{similar}"
    return suggestions


def table() -> list[tuple[str, str, str]]:
    """Return (variable, default, description with bounds) of every setting, as in docs/reference/settings.md."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = str(field.default).replace(str(Path.home()), "~")
        rows.append((f"{PREFIX}{name.upper()}", default, f"{field.description or ''}{_bounds(field)}"))
    return rows


def _bounds(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return f" One of {', '.join(f'`{choice}`' for choice in get_args(field.annotation))}."
    signs = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}
    bounds = [
        f"{sign} {getattr(item, kind.__name__.lower()):g}"
        for item in field.metadata
        for kind, sign in signs.items()
        if isinstance(item, kind)
    ]
    return f" {', '.join(bounds)}." if bounds else ""
