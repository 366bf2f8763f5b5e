"""Install a layer of requirements/ into the environment of the Python that runs this: `python tools/install.py LAYER`.

Every file is checked against the hashes in the lock files. uv installs them: from PATH, otherwise pip installs it into
the environment first, as pip alone takes several times as long. pip does all of it where uv cannot be had or fails, and
where it is configured with an index or a proxy, which uv would ignore.

`--editable` installs the project itself as well. `TORCH_INDEX` (the URL of an index of CPU builds) replaces PyPI for
torch, whose PyPI build for Linux needs several gigabytes of CUDA libraries.
"""

import argparse
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
WITHOUT_TORCH = ("base", "build", "image-gpu", "image-bucket", "tools", "uv")
PIP = (sys.executable, "-m", "pip")
PIP_INSTALL = (*PIP, "install", "--quiet", "--disable-pip-version-check")
PIP_ONLY = ("index-url", "no-index", "proxy")
"""Settings of pip that say where files must come from, and that uv does not read."""


@cache
def installer() -> tuple[str, ...]:
    """Return the command that installs into this environment."""
    if is_pip_configured():
        return PIP_INSTALL
    found = shutil.which("uv", path=os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent))))
    if not found:
        lock = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", str(LOCKS / "uv.txt"))
        subprocess.run([*PIP_INSTALL, *lock], check=False, stderr=subprocess.DEVNULL)
        found = shutil.which("uv", path=str(Path(sys.executable).parent))
    if not found:
        return PIP_INSTALL
    # As pip does: with PYTHONDONTWRITEBYTECODE each process would otherwise compile all that it imports.
    return (found, "pip", "install", "--quiet", "--compile-bytecode", "--python", sys.executable)


def is_pip_configured() -> bool:
    """Return whether pip's files or variables say where files must come from."""
    listed = subprocess.run([*PIP, "config", "list"], check=False, capture_output=True, text=True).stdout
    return any(line.partition("=")[0].rpartition(".")[2] in PIP_ONLY for line in listed.splitlines())


def environment() -> dict[str, str]:
    """Return the environment with pip's folders of wheels and its certificates set for uv as well."""
    folders = os.environ.get("PIP_FIND_LINKS", "").split()
    of_pip = {"UV_FIND_LINKS": ",".join(folders), "SSL_CERT_FILE": os.environ.get("PIP_CERT", "")}
    return {name: value for name, value in of_pip.items() if value} | os.environ


def install(*options: str, by_pip: bool = False) -> None:
    """Install without dependency resolution: the lock files are complete.

    Raises:
        subprocess.CalledProcessError: the installer failed.

    """
    for command in (PIP_INSTALL,) if by_pip else dict.fromkeys((installer(), PIP_INSTALL)):
        done = subprocess.run([*command, "--no-deps", *options], check=False, cwd=ROOT, env=environment())
        if done.returncode == 0:
            return
    done.check_returncode()


def install_locks(*names: str, options: Sequence[str] = (), by_pip: bool = False) -> None:
    """Install the locked wheels, each with one of its locked hashes.

    Raises:
        subprocess.CalledProcessError: the installer failed.

    """
    files = [argument for name in names for argument in ("--requirement", str(LOCKS / f"{name}.txt"))]
    install("--require-hashes", "--only-binary", ":all:", *options, *files, by_pip=by_pip)


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
            # uv (0.13) finds no hash for a build with a local version, such as 2.13.0+cpu.
            install_locks("torch", options=local, by_pip=True)
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
