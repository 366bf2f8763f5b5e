"""Commit subjects: what the hook and `make check` accept."""

import subprocess
import sys
from pathlib import Path

import pytest

from transcription_assets_tests.demo import ROOT


def accepts(message: str, folder: Path) -> bool:
    file = folder / "message"
    file.write_text(message, encoding="utf-8")
    script = [sys.executable, str(ROOT / "tools/subjects.py"), str(file)]
    return subprocess.run(script, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "message",
    [
        "Add a check",
        "A" * 72,
        "\n# a comment\nAdd a check\n\nwith a reason.\n",
        "Merge branch 'x'",
        "fixup! Add a check",
    ],
)
def test_good_subjects_are_accepted(message: str, tmp_path: Path) -> None:
    assert accepts(message, tmp_path)


@pytest.mark.parametrize("message", ["", "add a check", "Add a check.", "A" * 73, "# only a comment"])
def test_bad_subjects_are_rejected(message: str, tmp_path: Path) -> None:
    assert not accepts(message, tmp_path)
