"""Install a layer of requirements/ into the environment of the Python that runs this: `python tools/install.py LAYER`.

Every file is checked against the hashes of the locks. `uv` does the work where it is on PATH, pip elsewhere. With
`--editable` the project itself is installed too. `TORCH_INDEX` (the address of an index of CPU builds) takes torch from
there instead of PyPI, whose build for Linux brings several gigabytes of CUDA.
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
    """Return the environment with pip's folders of wheels named for uv too, which does not look at pip's settings."""
    folders = os.environ.get("PIP_FIND_LINKS", "").split()
    return {"UV_FIND_LINKS": ",".join(folders)} | os.environ if folders else dict(os.environ)


def install(*options: str) -> None:
    """Install without resolving anything: the locks are complete."""
    subprocess.run([*installer(), "--no-deps", *options], check=True, cwd=ROOT, env=environment())


def install_locks(*names: str, options: Sequence[str] = ()) -> None:
    """Install the locked wheels, each with one of its locked hashes."""
    files = [argument for name in names for argument in ("--requirement", str(LOCKS / f"{name}.txt"))]
    install("--require-hashes", "--only-binary", ":all:", *options, *files)


def install_torch(index: str) -> None:
    """Install one of the locked builds of torch, first of all one that lies in a folder of `PIP_FIND_LINKS`.

    Left to itself, pip prefers a file whose hash an index lists, and so PyPI's build with CUDA, to a file in a folder.
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
    """Return whether the installed build of torch asks for NVIDIA's libraries."""
    importlib.invalidate_caches()
    return any(requirement.startswith("nvidia-") for requirement in metadata.requires("torch") or ())


def main() -> None:
    """Install the layer, and torch with what its build needs."""
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
