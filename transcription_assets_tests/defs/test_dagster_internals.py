"""Private names of Dagster are taken in one module, for the versions that it names."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from transcription_assets import definitions
from transcription_assets.defs import dagster_internals

PRIVATE = re.compile(r"^\s*(from|import) (dagster\._|dagster_shared)", re.MULTILINE)


@pytest.mark.parametrize("package", dagster_internals.HOLDS_FOR)
def test_installed_versions_are_those_tried(package: str) -> None:
    assert version(package) == dagster_internals.HOLDS_FOR[package]


def test_no_other_module_imports_private_modules() -> None:
    root = Path(definitions.__file__).parent
    found = {path.name for path in root.rglob("*.py") if PRIVATE.search(path.read_text(encoding="utf-8"))}
    assert found == {"dagster_internals.py"}
