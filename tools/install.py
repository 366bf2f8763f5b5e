"""Install a layer of requirements/ into the environment of the Python that runs this: `python tools/install.py LAYER`.

Every file is checked against the hashes in the lock files. `uv` is used if it is on PATH, otherwise pip. `--editable`
installs the project itself as well. `TORCH_INDEX` (the URL of an index of CPU builds) replaces PyPI for torch, whose
PyPI build for Linux needs several gigabytes of CUDA libraries.
"""

import argparse
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
WITHOUT_TORCH = ("base", "build", "image-gpu", "image-bucket", "tools")


def installer() -> list[str]:
    """Return the command that installs into this environment."""
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def environment() -> dict[str, str]:
    """Return the environment with pip's wheel folders also set for uv, which does not read pip's settings."""
    folders = os.environ.get("PIP_FIND_LINKS", "").split()
    return {"UV_FIND_LINKS": ",".join(folders)} | os.environ if folders else dict(os.environ)


def install(*options: str) -> None:
    """Install without dependency resolution: the lock files are complete.

    Raises:
        subprocess.CalledProcessError: the installer failed.

    """
    subprocess.run([*installer(), "--no-deps", *options], check=True, cwd=ROOT, env=environment())


def install_locks(*names: str, options: Sequence[str] = ()) -> None:
    """Install the locked wheels, each with one of its locked hashes.

    Raises:
        subprocess.CalledProcessError: the installer failed.

    """
    files = [argument for name in names for argument in ("--requirement", str(LOCKS / f"{name}.txt"))]
    install("--require-hashes", "--only-binary", ":all:", *options, *files)


def install_torch(index: str) -> None:
    """Install one of the locked builds of torch, preferably from a folder in `PIP_FIND_LINKS`.

    Without this, pip would prefer a file whose hash an index lists, and so PyPI's build with CUDA, to one in a folder.

    Raises:
        subprocess.CalledProcessError: the installer failed.

    """
    python = f"-cp{sys.version_info.major}{sys.version_info.minor}-"
    folders = [
        folder
        for folder in os.environ.get("PIP_FIND_LINKS", "").split()
        if any(python in wheel.name for wheel in Path(folder).glob("torch-*.whl"))
    ]
    local = ["--no-index", *(argument for folder in folders for argument in ("--find-links", folder))]
    try:
        if folders and not index:
            install_locks("torch", options=local)
            return
    except subprocess.CalledProcessError:
        print("none of the wheels of torch in PIP_FIND_LINKS is locked; taking PyPI's")
    install_locks("torch", options=["--index-url", index] if index else [])


def torch_needs_cuda() -> bool:
    """Return whether the installed build of torch requires NVIDIA's libraries.

    Raises:
        importlib.metadata.PackageNotFoundError: torch is not installed.

    """
    importlib.invalidate_caches()
    return any(requirement.startswith("nvidia-") for requirement in metadata.requires("torch") or ())


def main() -> None:
    """Install the layer, and torch with the libraries that its build requires.

    Raises:
        subprocess.CalledProcessError: the installer failed.

    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layer", choices=sorted(path.stem for path in LOCKS.glob("*.txt")))
    parser.add_argument("--editable", action="store_true")
    options = parser.parse_args()
    if options.layer not in WITHOUT_TORCH:
        install_torch(os.environ.get("TORCH_INDEX", ""))
        if torch_needs_cuda():
            install_locks("cuda")
    install_locks(*dict.fromkeys(("build", options.layer)))
    if options.editable:
        install("--no-build-isolation", "--editable", ".")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
