"""Who may read, and how often."""

import pytest

from transcription_assets.app.serve.archive import Archive
from transcription_assets.storage import Store
from transcription_assets_tests import served
from transcription_assets_tests.served import TALK

TOKEN = "a token that nobody guesses"


def test_without_the_token_nothing_is_read(store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        for address in (
            "/api/search?q=a",
            "/api/media",
            f"/media/{served.of(TALK)}",
            f"/posters/{served.of(TALK)}",
            "/api/openapi.json",
        ):
            assert page.get(address).status_code == 401
            assert page.get(address, headers={"authorization": "Bearer wrong"}).status_code == 401
            assert page.get(address, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert page.get("/healthz").status_code == 200
        assert page.get("/static/page.css").status_code == 200


def test_a_browser_is_asked_for_the_token_and_goes_on_where_it_wanted(store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN), accept="text/html") as page:
        sent = page.get("/?q=a%20b")
        assert sent.headers["location"] == "/sign-in?next=%2F%3Fq%3Da%2520b"
        assert "That is not" in page.post("/sign-in", data={"token": "wrong", "next": "/"}).text
        assert page.get("/").status_code == 303
        opened = page.post("/sign-in", data={"token": TOKEN, "next": "/?q=a%20b"})
        assert (opened.status_code, opened.headers["location"]) == (303, "/?q=a%20b")
        cookie = opened.headers["set-cookie"]
        assert TOKEN not in cookie
        assert {"httponly", "samesite=lax"} <= {part.strip().lower() for part in cookie.split(";")}
        assert page.get("/?q=a").status_code == 200


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_signing_in_never_leads_to_another_site(store: Store, elsewhere: str) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        assert page.post("/sign-in", data={"token": TOKEN, "next": elsewhere}).headers["location"] == "/"


def test_a_form_that_is_no_form_is_not_the_token(store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        for body in (b"", b"\xff\xfe", b"token=" + b"a" * 100_000, b"&" * 4000):
            assert page.post("/sign-in", content=body).status_code == 401


def test_who_comes_past_the_proxy_is_refused(store: Store) -> None:
    with served.client(served.archive(store, serve_user_header="X-Forwarded-Email")) as page:
        assert page.get("/api/media").status_code == 401
        assert page.get("/", headers={"accept": "text/html"}).status_code == 401
        assert page.get("/api/media", headers={"x-forwarded-email": "ruth@example.org"}).status_code == 200


def test_a_foreign_name_that_points_to_localhost_reads_nothing(archive: Archive) -> None:
    with served.client(archive) as page:
        assert page.get("/api/media", headers={"host": "evil.example:8000"}).status_code == 400
        for name in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert page.get("/api/media", headers={"host": name}).status_code == 200
    with served.client(archive, host="0.0.0.0") as page:  # noqa: S104 -- nothing is bound
        assert page.get("/api/media", headers={"host": "archive.example"}).status_code == 200


def test_who_asks_too_often_waits_and_the_others_do_not(store: Store) -> None:
    limited = served.archive(store, serve_searches_per_minute=3, serve_user_header="x-user")
    with served.client(limited) as page:
        asked = [page.get("/api/search?q=a", headers={"x-user": "eager"}) for _ in range(4)]
        assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
        assert 0 < int(asked[3].headers["retry-after"]) <= 20
        assert page.get("/api/search?q=a", headers={"x-user": "calm"}).status_code == 200
        assert page.get("/healthz").status_code == 200
