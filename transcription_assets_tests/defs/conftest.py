"""The asset graph on a real Dagster instance; only the models are fakes."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from transcription_assets_tests.graph_runs import Graph


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """Return the graph with retry delays of zero; the policy still decides on retries."""
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda _policy, _attempt: 0.0)
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        yield Graph(tmp_path / "store", instance)
