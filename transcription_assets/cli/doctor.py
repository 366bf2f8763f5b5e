"""Checks of this machine's installation: what is missing or wrong, and how to fix it."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from transcription_assets import media, models
from transcription_assets.embedding.profiles import profile
from transcription_assets.errors import PermanentFailure, TranscriptionError
from transcription_assets.search.index import Index
from transcription_assets.settings import Database, Settings
from transcription_assets.speech import resolve_compute_type, resolve_device
from transcription_assets.speech.service import ALIAS
from transcription_assets.storage import Store
from transcription_assets.wiring import READER_MODEL, locate_installed
from transcription_assets.worker_wiring import SpeechSettings, build_engine

MULTILINGUAL = "universal-sentence-encoder-multilingual"
"""Encoder recommended for archives in other languages than English."""
LOW_DISK_BYTES = 2_000_000_000
DATABASE_ANSWERS_S = 10
_WEIGHTS = "Does the pod mount the claim transcription-models, and did the Job fill-models succeed?"
IN_A_POD = {
    "speech model": _WEIGHTS,
    "encoder model": _WEIGHTS,
    "slide model": _WEIGHTS,
    "store": "See Secret transcription-secrets for the keys, ConfigMap transcription-settings for the rest.",
    "database": "See Secret dagster-postgresql-secret for the password, ConfigMap transcription-settings for the rest.",
}
"""Hints for problems that are fixed in the cluster instead of on the machine."""
NO_GPU = (
    "not checked: this pod has no GPU, as expected unless it is the pod of a step. If a step's pod reports this, its "
    "node does not run NVIDIA's device plugin"
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Result of one check."""

    name: str
    healthy: bool
    detail: str


def examine(settings: Settings) -> Iterator[Diagnosis]:
    """Check everything that a run needs; the only change is that a missing store is created.

    A failed check is reported as a `Diagnosis`; nothing is raised.
    """
    in_a_pod = settings.executor == "k8s"
    checks: dict[str, Callable[[], str]] = {
        "ffmpeg": lambda: _ffmpeg(settings),
        **_speech_check(settings),
        "encoder model": lambda: _encoder(settings),
        "device": lambda: _device(settings),
        "store": lambda: _store(settings),
        "search table": lambda: _table(settings),
        "dagster": lambda: _dagster(webserver=not in_a_pod),
    }
    if settings.slides:
        checks["slide model"] = lambda: _model(READER_MODEL, "ocr", settings.models_dir)
    if (database := Database()).host:
        checks["database"] = lambda: _database(database)
    failed = set()
    for name, check in checks.items():
        if name == "search table" and "store" in failed:
            continue  # it would report the same problem again
        diagnosis = _run_check(name, check)
        if not diagnosis.healthy:
            failed.add(name)
        yield _with_hint(diagnosis) if in_a_pod else diagnosis


def _with_hint(diagnosis: Diagnosis) -> Diagnosis:
    """Append the hint for the cluster, if there is one."""
    if diagnosis.healthy or diagnosis.name not in IN_A_POD:
        return diagnosis
    stop = "" if diagnosis.detail.endswith((".", "?")) else "."
    return replace(diagnosis, detail=f"{diagnosis.detail}{stop} {IN_A_POD[diagnosis.name]}")


def _run_check(name: str, check: Callable[[], str]) -> Diagnosis:
    try:
        return Diagnosis(name, healthy=True, detail=check())
    except TranscriptionError as error:
        return Diagnosis(name, healthy=False, detail=str(error))
    except ModuleNotFoundError as error:
        return Diagnosis(name, healthy=False, detail=f"{error.name} is not installed; only needed in other images")
    except Exception as error:  # noqa: BLE001 -- the doctor reports what is broken, whatever it is
        return Diagnosis(name, healthy=False, detail=f"{type(error).__name__}: {error}")


def _ffmpeg(settings: Settings) -> str:
    path = media.find_ffmpeg(settings.ffmpeg)
    banner = subprocess.run([path, "-version"], capture_output=True, text=True, check=True, timeout=30).stdout
    return f"{banner.splitlines()[0].partition(' Copyright')[0]} ({path})"


def _model(name: str, kind: str, folder: Path) -> str:
    located = models.locate(name, kind, folder)
    problems = models.verify(name, kind, folder)
    if problems:
        raise TranscriptionError(f"{name}: {'; '.join(problems)}. Run `transcription-assets models pull`")
    return f"{located.name} at revision {located.revision[:12]}, digests verified ({located.path})"


def _speech_check(settings: Settings) -> Mapping[str, Callable[[], str]]:
    """Return the check of the speech model, or of the service that is used instead."""
    if settings.engine == "openai":
        return {"speech service": lambda: _speech_service(settings)}
    return {"speech model": lambda: _model(settings.whisper_model, "speech", settings.models_dir)}


def _speech_service(settings: Settings) -> str:
    build_engine(locate_installed(settings), SpeechSettings.of(settings), settings.speech_key).load()
    answers = f"{settings.speech_model} of the service at {settings.speech_url} answers"
    if settings.speech_model == ALIAS:
        answers += (
            f"; {ALIAS} stands for any model of a server: if that changes, transcripts are not outdated."
            " Set TRANSCRIPTION_SPEECH_MODEL to the name of its model"
        )
    return answers


def _encoder(settings: Settings) -> str:
    if settings.embedding_url:
        return f"{settings.encoder_model} of the service at {settings.embedding_url}"
    return _model(settings.encoder_model, "encoder", settings.models_dir)


def _device(settings: Settings) -> str:
    device = resolve_device(settings.device)
    if device == "cuda":
        import ctranslate2

        if not ctranslate2.get_cuda_device_count():
            if settings.executor == "k8s":
                return NO_GPU
            raise TranscriptionError(
                "TRANSCRIPTION_DEVICE=cuda, but no GPU is visible: install its driver, or set TRANSCRIPTION_DEVICE=auto"
            )
        try:
            ctypes.CDLL("libcublas.so.12")
        except OSError as error:
            raise TranscriptionError(f"cuBLAS 12 is missing: pip install nvidia-cublas-cu12 ({error})") from error
    return f"{device}, {resolve_compute_type(settings.compute_type, device)}"


def _store(settings: Settings) -> str:
    store = Store.open(settings.store, link_roots=settings.link_folders)
    listing = store.list_media()
    try:
        store.write("catalog/doctor", b"written by transcription-assets doctor")
        store.delete("catalog/doctor")
    except TranscriptionError as error:
        raise PermanentFailure(f"{store.url} can be read but not written: {error}") from error
    detail = f"{store.url}: readable and writable, {listing.frame.height} recordings"
    if store.is_local and (free := shutil.disk_usage(store.url).free) < LOW_DISK_BYTES:
        raise TranscriptionError(f"{detail}, but only {free / 1e9:.1f} GB of disk are free; free some space")
    return detail


def _table(settings: Settings) -> str:
    store = Store.open(settings.store)
    table = Index(store.lancedb_uri, store.lancedb_options)
    rows = table.count()
    if not rows:
        return "empty: no recording has been processed yet"
    return f"{rows} passages{language_hint(settings.encoder_model, table.facets().languages)}"


def language_hint(encoder: str, recordings: Mapping[str, int]) -> str:
    """Return what to do if an English encoder is used for an archive with other languages, "" if there is nothing."""
    others = {language: count for language, count in recordings.items() if language != "en"}
    if not profile(encoder).english_only or not others:
        return ""
    found = ", ".join(f"{count} in {language}" for language, count in others.items())
    return (
        f"; {encoder} understands English only, but there are recordings {found}: they are found by words, not by "
        f"meaning or from another language. Set TRANSCRIPTION_ENCODER_MODEL={MULTILINGUAL}, and run `models pull` and "
        f"`index rebuild`"
    )


def _dagster(*, webserver: bool) -> str:
    try:
        return f"{version('dagster')}, webserver {version('dagster-webserver')}" if webserver else version("dagster")
    except PackageNotFoundError as error:
        raise TranscriptionError(f"{error.name} is not installed: run `make install`") from error


def _database(database: Database) -> str:
    import psycopg2

    address = f"{database.username}@{database.host}/{database.db}"
    try:
        connection = psycopg2.connect(
            host=database.host,
            user=database.username,
            password=database.password.get_secret_value(),
            dbname=database.db,
            connect_timeout=DATABASE_ANSWERS_S,
        )
    except psycopg2.OperationalError as error:
        raise TranscriptionError(f"{address}: {' '.join(str(error).split())}") from error
    connection.close()
    return f"{address}: connected"
