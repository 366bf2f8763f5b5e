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
LABELS = r"^([\w./-]+=[\w.-]*(,[\w./-]+=[\w.-]*)*)?$"


def _networks(text: str) -> str:
    for part in split(text):
        ip_network(part)
    return text


def _hosts(text: str) -> str:
    for part in split(text):
        if not host_name(part):
            raise ValueError(f"{part!r} is not the name of a host")
    return text


def split(text: str) -> tuple[str, ...]:
    """Split a list separated by commas."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


class Settings(BaseSettings):
    """All settings; the defaults suit a laptop."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    store: str = Field("store", min_length=1, description="Folder or `s3://bucket/prefix` that holds everything.")
    link_roots: str = Field(
        "",
        pattern=r"^(/[^:]*(:/[^:]*)*)?$",
        description="Folders, joined by `:`, to which links in an inbox may lead; no other link out of the store is"
        " followed.",
    )
    models_dir: Path = Field(default_folder(), description="Where model weights are kept.")
    ffmpeg: str = Field("", description="Path of ffmpeg; empty = from PATH, else the one that comes with the wheel.")

    whisper_model: str = Field(
        "base",
        min_length=1,
        description="Speech model: `base`, `tiny.en`, a Hub name `owner/name[@revision]`, or a folder.",
    )
    encoder_model: str = Field(
        "all-MiniLM-L6-v2",
        min_length=1,
        description="Sentence encoder: `all-MiniLM-L6-v2`, a Hub name `owner/name[@revision]`, or a folder.",
    )
    embedding_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="Base URL of an embedding service that speaks OpenAI's protocol (`https://host/v1`), which is then"
        " asked for the vectors of `TRANSCRIPTION_ENCODER_MODEL`: texts leave the machine. Empty = the encoder runs"
        " here.",
    )
    embedding_key: SecretStr = Field(SecretStr(""), description="Key of that service; shown nowhere.")
    embedding_dollars: float = Field(
        0.0, ge=0, le=1000, description="What it charges for a million tokens, for the cost figure."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` takes the GPU where there is one.")
    compute_type: Literal["auto", "int8", "int8_float16", "float16", "bfloat16", "float32"] = Field(
        "auto", description="Whisper's arithmetic; `auto` = int8 on a CPU, float16 on a GPU."
    )
    device_index: str = Field(
        "0", pattern=r"^\d+(,\d+)*$", description="Numbers of the GPUs to use at once, as in `0,1`; without one unused."
    )
    cpu_threads: int = Field(0, ge=0, le=256, description="Threads of the speech model in all; 0 = all it may use.")
    workers: int = Field(
        0,
        ge=0,
        le=64,
        description="Batches decoded at once, sharing the threads; 0 = one a core, or one a GPU.",
    )
    language: str = Field(
        "",
        pattern=r"^([a-z]{2,3})?$",
        description="Language code of all recordings; empty = detected, and followed where it changes.",
    )
    task: Literal["transcribe", "translate"] = Field(
        "transcribe", description="`translate` writes down in English what is said in any language."
    )
    speakers: Literal["mixed", "channels"] = Field(
        "mixed", description="`channels`: the two channels of a stereo recording are two speakers, decoded apart."
    )
    audio_tracks: str = Field(
        "auto",
        pattern=r"^(auto|first|all|[1-9]\d?)$",
        description="Audio tracks of a recording that are heard, mixed: `auto` (those on which somebody speaks; of"
        " dubbed versions and second mixes the first), `first`, `all`, or the number of one, from 1.",
    )
    beam_size: int = Field(
        5, ge=1, le=20, description="Beams of the decoder where it is not sure at once: 1 is faster, 5 a little better."
    )
    batch_size: int = Field(
        0, ge=0, le=128, description="Chunks of up to 30 s that are decoded together; 0 = what fits into the memory."
    )
    passage_s: float = Field(30.0, ge=5, le=300, description="Seconds of speech in one searchable passage.")
    search_low_confidence: bool = Field(
        default=False, description="Whether words of low confidence can be found by the search."
    )

    settle_s: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="A file of a local inbox is taken when it has not changed for so many seconds.",
    )
    sensor_interval_s: int = Field(15, ge=5, le=3600, description="Seconds between two looks at the inbox.")
    sensor_max_adds: int = Field(300, ge=1, le=2000, description="New recordings that one look takes at most.")
    sensor_max_runs: int = Field(
        100, ge=1, le=1000, description="Runs that may be queued or working; the sensor asks for no more above it."
    )
    inbox_queue: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="URL of an SQS queue with the bucket's event notifications; empty = every look lists everything.",
    )
    list_every_s: int = Field(
        3600, ge=60, le=604_800, description="With a queue: seconds between two complete listings, which are the truth."
    )
    run_max_files: int = Field(20, ge=1, le=500, description="Recordings in one run.")
    run_max_gb: float = Field(
        20.0,
        gt=0,
        le=10_000,
        description="Gigabytes of recordings in one run; they stand for hours, which only the probe finds out.",
    )
    remove_gone: bool = Field(
        default=False, description="Whether what left the inbox also leaves the search (partition, artefacts, rows)."
    )
    remove_max_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Largest share of all recordings that one look may remove, or a single one; more needs a person,"
        " and so does an inbox that is empty.",
    )
    done_prefix: bool = Field(
        default=False,
        description="Whether a recording leaves the inbox when it is done, for `DONE_video/` or `DONE_audio/`, in place"
        " of an older one of that name; its partition and its name in the search stay.",
    )
    longest_hours: float = Field(
        48.0, gt=0, le=1_000, description="Hours that a recording may last; a longer one fails in `audio`."
    )
    decode_floor_s: float = Field(
        120.0, ge=1, le=86_400, description="Time limit of ffmpeg for one recording: so many seconds, plus …"
    )
    decode_per_second: float = Field(
        0.5, ge=0, le=100, description="… so many seconds for each second that the recording lasts."
    )
    launcher: Literal["subprocess", "in_process", "kubernetes"] = Field(
        "subprocess",
        description="Where speech is decoded: `subprocess` in worker processes of the same machine, so that a recording"
        " that exhausts the memory cannot stop the others; `in_process` in the process of the step; `kubernetes` in"
        " pods of their own, for steps that are pods.",
    )
    worker_processes: int = Field(
        1, ge=1, le=64, description="Worker processes that decode at once; they share the cores or the GPUs."
    )
    shard_s: float = Field(
        600.0, ge=60, le=360_000, description="Seconds of audio for which another worker is used, if several may be."
    )
    executor: Literal["in_process", "multiprocess", "k8s"] = Field(
        "in_process",
        description="How the steps of a run are executed; in_process loads each model once a run, k8s gives each step"
        " a pod of its own.",
    )
    encoder_device: Literal["same", "auto", "cpu", "cuda"] = Field(
        "same",
        description="Where sentences are encoded; `same` as `TRANSCRIPTION_DEVICE`. `cuda` on Kubernetes needs an image"
        " with a torch that knows CUDA.",
    )
    k8s_service_account: str = Field(
        "", pattern=r"^[a-z0-9.-]*$", description="Service account of step pods; empty = that of the run."
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
    k8s_gpu_image: str = Field("", description="Image of pods with a GPU; empty = that of the run.")
    k8s_gpu_node_selector: str = Field(
        "", pattern=LABELS, description="Labels of nodes with a GPU, `key=value,key=value`; empty = any that has one."
    )
    k8s_cpu_node_selector: str = Field(
        "", pattern=LABELS, description="Labels of nodes for the other steps; empty = any node without taints."
    )
    k8s_spot: bool = Field(
        default=False, description="Whether GPU nodes are spot nodes: their taints are tolerated, their price is lower."
    )
    k8s_scale: float = Field(
        1.0,
        ge=0.05,
        le=16,
        description="Factor on CPU, memory and disk of every pod; above 1 the nodes have to be larger too, GPU nodes as"
        " well; less than 1 for a small cluster.",
    )
    k8s_start_limit_s: float = Field(
        900.0, ge=5, le=86_400, description="A pod that does not run after so many seconds fails its step, with why."
    )
    step_floor_s: float = Field(
        3600.0, ge=60, le=604_800, description="Time limit of a step's pod, once it is placed: so many seconds, plus …"
    )
    step_per_second: float = Field(
        4.0, ge=0, le=1000, description="… so many seconds for each second that its recordings last."
    )

    dagster_hosts: Annotated[str, AfterValidator(_hosts)] = Field(
        "",
        description="Names, separated by commas, under which Dagster's UI may be opened besides `localhost`, as in"
        " `dagster.example.com`.",
    )
    serve_token: SecretStr = Field(
        SecretStr(""),
        description="Who knows it may read the search page and its API (bearer token, or asked for by the page); empty"
        " = everybody who reaches the port.",
    )
    serve_user_header: str = Field(
        "",
        pattern=r"^[A-Za-z0-9-]*$",
        description="Header in which a proxy that signs people in names them, such as `X-Forwarded-Email`: who has none"
        " is refused. Only where nobody reaches the port past the proxy.",
    )
    serve_hosts: Annotated[str, AfterValidator(_hosts)] = Field(
        "",
        description="Names, separated by commas, under which the search page may be opened besides `localhost`, as in"
        " `search.example.com`. Needed with `TRANSCRIPTION_SERVE_USER_HEADER`.",
    )
    serve_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "",
        description="Addresses or networks, separated by commas, of proxies whose `X-Forwarded-For` and"
        " `X-Forwarded-Proto` are believed, as in `127.0.0.1,10.0.0.0/8`; empty = nobody's.",
    )
    serve_searches_per_minute: int = Field(
        120, ge=1, le=100_000, description="Searches of one visitor in a minute; of everything else ten times as many."
    )
    serve_timeout_s: float = Field(20.0, ge=1, le=600, description="Seconds after which a request is given up.")

    @property
    def link_folders(self) -> tuple[Path, ...]:
        """Folders of `link_roots`."""
        return folders(self.link_roots)

    @property
    def proxies(self) -> tuple[str, ...]:
        """The networks of `serve_proxies`."""
        return split(self.serve_proxies)

    @property
    def encodes_on(self) -> str:
        """Device of the sentence encoder."""
        return self.device if self.encoder_device == "same" else self.encoder_device


class Database(BaseSettings):
    """Connection to Dagster's Postgres, if one is used; the cluster's dagster.yaml reads the same variables."""

    model_config = SettingsConfigDict(env_prefix="DAGSTER_PG_", extra="ignore", frozen=True)

    host: str = Field("", description="Empty = Dagster keeps its runs in SQLite.")
    username: str = ""
    password: SecretStr = SecretStr("")
    db: str = ""


class OwnPod(BaseSettings):
    """What a pod knows about itself; the executor sets name and namespace for the coordinator of workers."""

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


class WrongSettings(PermanentFailure):
    """Unknown variables, or variables with invalid values.

    Attributes:
        reasons: The error of each variable, by its name.
        nearest: The most similar setting for each unknown variable, empty if there is none.

    """

    def __init__(self, reasons: Mapping[str, str], nearest: Mapping[str, str]) -> None:
        said = "; ".join(f"{name}{reason}" for name, reason in reasons.items())
        super().__init__(f"wrong setting: {said}. docs/reference/settings.md lists all settings with their bounds.")
        self.reasons = dict(reasons)
        self.nearest = dict(nearest)


def load() -> Settings:
    """Read the settings of this process from its environment.

    Raises:
        WrongSettings: A variable that begins with `TRANSCRIPTION_` is unknown, or its value is out of bounds.

    """
    nearest = unknown(os.environ)
    reasons = {
        name: f" is not a setting{f', did you mean {meant}?' if meant else ''}" for name, meant in nearest.items()
    }
    try:
        chosen = Settings()
    except ValidationError as error:
        for item in error.errors():
            reasons[f"{PREFIX}{'.'.join(map(str, item['loc'])).upper()}"] = f"={item['input']!r}: {item['msg']}"
        raise WrongSettings(reasons, nearest) from error
    if nearest:
        raise WrongSettings(reasons, nearest)
    return chosen


def unknown(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the unknown variables with our prefix, each with the most similar setting or an empty string.

    Service links of Kubernetes are left out: for a Service named `transcription-web` every pod of its namespace has
    `TRANSCRIPTION_WEB_PORT`.
    """
    settings = {name.upper() for name in Settings.model_fields}
    services = [name.removesuffix("_SERVICE_HOST") for name in environment if name.endswith("_SERVICE_HOST")]
    found = {}
    for name in environment:
        own = name.upper().removeprefix(PREFIX)
        links = any(name.startswith(service) and SERVICE_LINK.fullmatch(name, len(service)) for service in services)
        if name.upper().startswith(PREFIX) and own not in settings and not links:
            meant = RENAMED.get(own) or next(iter(difflib.get_close_matches(own, sorted(settings), n=1)), "")
            found[name] = meant and f"{PREFIX}{meant}"
    return found


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
