"""What is missing or wrong on this machine, and how to mend it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from transcription_assets import media, models
from transcription_assets.failures import PermanentFailure, TranscriptionError
from transcription_assets.index import Index
from transcription_assets.settings import Settings
from transcription_assets.speech import resolve_compute_type, resolve_device
from transcription_assets.storage import Store

LOW_DISK_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at."""

    name: str
    healthy: bool
    says: str


def examine(settings: Settings) -> Iterator[Diagnosis]:
    """Look at everything that a run needs; nothing is changed but an empty store that is made."""
    yield _looked("ffmpeg", lambda: _ffmpeg(settings))
    yield _looked("speech model", lambda: _model(settings.whisper_model, "speech", settings.models_dir))
    yield _looked("encoder model", lambda: _encoder(settings))
    yield _looked("device", lambda: _device(settings))
    yield _looked("store", lambda: _store(settings))
    yield _looked("search table", lambda: _table(settings))
    yield _looked("dagster", _dagster)


def _looked(name: str, look: Callable[[], str]) -> Diagnosis:
    try:
        return Diagnosis(name, healthy=True, says=look())
    except TranscriptionError as error:
        return Diagnosis(name, healthy=False, says=str(error))
    except Exception as error:  # noqa: BLE001 -- the doctor reports what is broken, whatever it is
        return Diagnosis(name, healthy=False, says=f"{type(error).__name__}: {error}")


def _ffmpeg(settings: Settings) -> str:
    found = media.find_ffmpeg(settings.ffmpeg)
    banner = subprocess.run([found, "-version"], capture_output=True, text=True, check=True, timeout=30).stdout
    return f"{banner.splitlines()[0].partition(' Copyright')[0]} ({found})"


def _model(name: str, kind: str, folder: Path) -> str:
    located = models.locate(name, kind, folder)
    wrong = models.verify(name, kind, folder)
    if wrong:
        raise TranscriptionError(f"{name}: {'; '.join(wrong)}. Pull it again: transcription-assets models pull")
    return f"{located.name} at revision {located.revision[:12]}, digests right ({located.path})"


def _encoder(settings: Settings) -> str:
    if settings.embedding_url:
        return f"{settings.encoder_model} of the service at {settings.embedding_url}"
    return _model(settings.encoder_model, "encoder", settings.models_dir)


def _device(settings: Settings) -> str:
    device = resolve_device(settings.device)
    if device == "cuda":
        import ctranslate2

        if not ctranslate2.get_cuda_device_count():
            raise TranscriptionError(
                "TRANSCRIPTION_DEVICE=cuda, but no GPU is visible: install the driver and CUDA libraries, or set auto"
            )
    return f"{device}, {resolve_compute_type(settings.compute_type, device)}"


def _store(settings: Settings) -> str:
    store = Store.open(settings.store)
    listing = store.list_media()
    try:
        store.write("catalog/doctor", b"written by transcription-assets doctor")
        store.delete("catalog/doctor")
    except PermanentFailure as error:
        raise PermanentFailure(f"{store.url} can be read but not written: {error}") from error
    says = f"{store.url}: readable and writable, {listing.frame.height} recordings"
    if store.is_local and (free := shutil.disk_usage(store.url).free) < LOW_DISK_BYTES:
        raise TranscriptionError(f"{says}, but only {free / 1e9:.1f} GB of disk are free: make room")
    return says


def _table(settings: Settings) -> str:
    store = Store.open(settings.store)
    rows = Index(store.lancedb_uri, store.lancedb_options).count()
    return f"{rows} passages" if rows else "empty: nothing was processed yet"


def _dagster() -> str:
    try:
        return f"{version('dagster')}, webserver {version('dagster-webserver')}"
    except PackageNotFoundError as error:
        raise TranscriptionError(f"{error.name} is not installed: make install") from error
