"""Static files of the site: script modules, caching and compression."""

import gzip
import re
from pathlib import Path, PurePosixPath

import pytest
from fastapi.testclient import TestClient

from transcription_assets_tests import served

FOLDER = Path(str(served.server.__file__)).parent / "static"
SERVED = sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".html")


def imported(script: str) -> set[str]:
    at_once = re.findall(r'^(?:import|export)\b[^;]*?\bfrom "\./([^"]+)"', script, re.MULTILINE)
    return {*at_once, *re.findall(r'\bimport\("\./([^"]+)"\)', script)}


def test_every_module_is_reached_by_imports(page: TestClient) -> None:
    found, waiting = set[str](), {"page.js"}
    while waiting:
        name = waiting.pop()
        answer = page.get(f"/static/{name}")
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/javascript"), name
        found.add(name)
        waiting |= imported(answer.text) - found
    assert found == {name for name in SERVED if PurePosixPath(name).suffix == ".js"}


def test_page_preloads_every_module_but_late_ones(page: TestClient) -> None:
    text = page.get("/library").text
    assert set(re.findall(r'<link rel="modulepreload" href="/static/([^"]+)">', text)) == {
        name for name in SERVED if PurePosixPath(name).suffix == ".js"
    } - {"ask.js", "transfer.js", "upload.js"}
    assert re.findall(r'<script type="module" src="([^"]+)">', text) == ["/static/page.js"]
    assert text.count("<script") == 1


@pytest.mark.parametrize("name", SERVED)
def test_static_file_is_revalidated_by_its_etag(page: TestClient, name: str) -> None:
    answer = page.get(f"/static/{name}")
    assert answer.headers["cache-control"] == "private, no-cache"
    etag = answer.headers["etag"]
    again = page.get(f"/static/{name}", headers={"if-none-match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert page.get(f"/static/{name}", headers={"if-none-match": '"another"'}).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_static_file_has_the_accepted_encoding(page: TestClient, encoding: str) -> None:
    with page.stream("GET", "/static/page.js", headers={"accept-encoding": encoding}) as answer:
        data = b"".join(answer.iter_raw())
    assert answer.headers.get("content-encoding", "identity") == encoding
    assert (gzip.decompress(data) if encoding == "gzip" else data) == (FOLDER / "page.js").read_bytes()


@pytest.mark.parametrize("name", ["page.html", "sign-in.html", "none.js", "..%2fpages.py", "%2e%2e/pages.py"])
def test_other_files_are_not_served(page: TestClient, name: str) -> None:
    assert page.get(f"/static/{name}").status_code == 404
