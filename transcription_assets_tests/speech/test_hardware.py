"""Threads, workers and GPUs, without loading a model."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets.speech import Hardware, Whisper


def test_a_container_with_one_core_uses_one_thread() -> None:
    given = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    told = "from transcription_assets.speech import Hardware; found = Hardware('cpu')"
    asked = f"{given}; {told}; print(found.at_once, found.threads_each)"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1", "1"]


@given(st.integers(1, 64), st.integers(0, 64))
def test_all_workers_together_use_at_most_the_given_threads(threads: int, workers: int) -> None:
    hardware = Hardware("cpu", cpu_threads=threads, workers=workers)
    assert hardware.at_once == (workers or threads)
    assert hardware.at_once * hardware.threads_each <= max(threads, workers)


@pytest.mark.parametrize("devices", [(0,), (0, 2, 3)])
def test_each_named_gpu_decodes_batches_concurrently(devices: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def load(_path: str, **how: object) -> SimpleNamespace:
        """Fake loader: no GPU is used."""
        asked.update(how)
        return SimpleNamespace(model=SimpleNamespace(is_multilingual=True), supported_languages=["en"])

    monkeypatch.setattr("faster_whisper.WhisperModel", load)
    hardware = Hardware("cuda", devices=devices)
    Whisper(Path(), name="scripted", revision="1", hardware=hardware).load()
    assert (asked["device"], asked["device_index"], asked["compute_type"]) == ("cuda", list(devices), "float16")
    assert hardware.at_once == len(devices)
