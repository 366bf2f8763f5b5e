"""One library shared by all search tests that do not modify it."""

import pytest

from transcription_assets.search.index import Index
from transcription_assets.search.searcher import Searcher
from transcription_assets_tests.search.talks import SAID, ThemeEncoder, fill


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    table = Index(str(tmp_path_factory.mktemp("tables")))
    fill(table, *SAID)
    table.maintain()
    return Searcher(table, lambda _model: ThemeEncoder())
