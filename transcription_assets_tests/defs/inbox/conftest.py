"""An inbox in a bucket, the sensor that looks into it as the daemon makes it, and a server of queues."""

from collections.abc import Iterator

import dagster as dg
import pytest

from transcription_assets.storage import Store
from transcription_assets_tests import seaweed
from transcription_assets_tests.defs.inbox import sqs_server
from transcription_assets_tests.defs.inbox.archive import Archive
from transcription_assets_tests.defs.inbox.ticks import Daemon


@pytest.fixture
def archive(s3_account: seaweed.S3Server) -> Archive:
    """A new inbox in the bucket."""
    return Archive(s3_account)


@pytest.fixture
def daemon(archive: Archive) -> Iterator[Daemon]:
    """What carries out the ticks over that inbox."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Daemon(Store.open(f"s3://{archive.bucket}/{archive.prefix}"), instance)


@pytest.fixture(scope="session")
def sqs() -> Iterator[sqs_server.SqsServer]:
    """One server of queues for all tests that ask for it."""
    pytest.importorskip("moto.server")
    with sqs_server.serve() as server:
        yield server
