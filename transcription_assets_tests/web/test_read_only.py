"""The site of a bucket with a key that may only list and read, as in k8s/base/search.yaml."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from transcription_assets.storage import Store
from transcription_assets_tests import seaweed, served


@pytest.fixture(scope="module")
def site(s3_server: seaweed.S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    url = f"s3://{s3_server.bucket}/read-only"

    def opened_by(account: seaweed.Account) -> Store:
        return Store.open(url, s3_session=seaweed.session(account), s3_endpoint=s3_server.endpoint)

    served.fill(opened_by(seaweed.OWNER), tmp_path_factory.mktemp("read-only"))
    with served.client(served.archive(opened_by(seaweed.READER))) as client:
        yield client


def test_read_only_key_can_search(site: TestClient) -> None:
    (hit,) = site.get("/api/search", params={"q": served.SENTENCE, "limit": 1}).json()["moments"]
    assert hit["text"].count(served.SENTENCE)


@pytest.mark.parametrize(
    "address", ["/readyz", "/api/media", f"/api/media/{served.of(served.TALK)}", f"/posters/{served.of(served.TALK)}"]
)
def test_read_only_key_serves_every_view(site: TestClient, address: str) -> None:
    assert site.get(address).status_code == 200


def test_read_only_key_signs_media_links(site: TestClient) -> None:
    answer = site.get(f"/media/{served.of(served.TALK)}")
    assert answer.status_code in (302, 307)
    assert "X-Amz-Signature" in answer.headers["location"]
