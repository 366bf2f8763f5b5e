from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a store can be made; nothing is there."""
    return tmp_path / "store"
