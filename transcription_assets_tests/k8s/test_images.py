"""Container images: rules for the Dockerfile, and packages that the GPU image omits."""

import re
import subprocess
import sys

import pytest

from transcription_assets_tests.demo import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = {found[2]: found[1] for found in re.finditer(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}
SHIPPED = ("cpu", "cpu-models", "gpu", "gpu-models", "bucket")
BODIES = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))


def lines_of(stage: str) -> str:
    """Return the lines of a stage, after those of its parent stages."""
    parent = STAGES[stage]
    return (lines_of(parent) if parent in STAGES else "") + BODIES[stage]


@pytest.mark.parametrize("target", SHIPPED)
def test_no_image_runs_as_root(target: str) -> None:
    users = re.findall(r"^USER (\S+)$", lines_of(target), re.MULTILINE)
    assert users[-1] == "10001:10001"


@pytest.mark.parametrize("target", SHIPPED)
def test_no_image_has_an_entrypoint(target: str) -> None:
    assert "ENTRYPOINT" not in lines_of(target)


def test_default_build_target_is_the_cpu_image() -> None:
    assert list(STAGES)[-1] == "cpu"


def test_base_images_are_pinned_build_arguments() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert base.partition(":")[2] not in ("", "latest")
    assert all(parent in STAGES or parent == "${BASE}" for parent in STAGES.values())


def test_images_install_only_locked_packages() -> None:
    assert "tools/install.py" in DOCKERFILE
    for command in re.findall(r"pip install [^&\n]*", DOCKERFILE):
        assert {"--no-deps", "--no-build-isolation"} <= set(command.split()), command


def test_gpu_image_installs_only_the_base_layer() -> None:
    base, product = ((ROOT / f"requirements/{name}.txt").read_text() for name in ("base", "product"))
    for name in ("dagster-webserver", "lancedb", "sentence-transformers"):
        assert re.search(rf"^{name}==", product, re.MULTILINE)
        assert not re.search(rf"^{name}==", base, re.MULTILINE)
    assert "python3 tools/install.py base &&" in lines_of("gpu-dependencies")


def test_definitions_and_speech_load_with_only_the_gpu_packages() -> None:
    absent = ("dagster_webserver", "lancedb", "pyarrow", "sentence_transformers", "torch", "transformers", "sklearn")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import transcription_assets.definitions, faster_whisper, ctranslate2"
    )
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={"PATH": "/usr/bin", "TRANSCRIPTION_EXECUTOR": "k8s", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert not told.returncode, told.stderr
