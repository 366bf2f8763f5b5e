from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Path of a store that does not exist yet."""
    return tmp_path / "store"
