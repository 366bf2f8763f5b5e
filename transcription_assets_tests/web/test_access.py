"""Access to the site: tokens, host names, proxies and rate limits."""

import re
from collections.abc import Sequence

import httpx2
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from transcription_assets.settings import Settings
from transcription_assets.storage import Store
from transcription_assets.web.access import COOKIE
from transcription_assets.web.archive import Archive
from transcription_assets.web.server import build
from transcription_assets_tests import served
from transcription_assets_tests.served import TALK

TOKEN = "a token that nobody guesses"


def test_requests_without_the_token_are_refused(store: Store) -> None:
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


def test_browser_signs_in_and_returns_to_the_requested_page(store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN), accept="text/html") as page:
        sent = page.get("/?q=a%20b")
        assert sent.headers["location"] == "/sign-in?next=%2F%3Fq%3Da%2520b"
        assert not shows_alert(page.get("/sign-in").text)
        refused = page.post("/sign-in", data={"token": "wrong", "next": "/"})
        assert (refused.status_code, shows_alert(refused.text)) == (401, True)
        assert page.get("/").status_code == 303
        opened = page.post("/sign-in", data={"token": TOKEN, "next": "/?q=a%20b"})
        assert (opened.status_code, opened.headers["location"]) == (303, "/?q=a%20b")
        cookie = opened.headers["set-cookie"]
        assert TOKEN not in cookie
        assert {"httponly", "samesite=lax"} <= {part.strip().lower() for part in cookie.split(";")}
        assert page.get("/?q=a").status_code == 200


def shows_alert(text: str) -> bool:
    (attributes,) = re.findall(r'<p [^>]*role="alert"([^>]*)>', text)
    return "hidden" not in attributes


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""]
)
def test_sign_in_never_redirects_to_another_site(store: Store, elsewhere: str) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        assert page.post("/sign-in", data={"token": TOKEN, "next": elsewhere}).headers["location"] == "/"


def test_malformed_cookies_do_not_end_a_session(store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        own = page.post("/sign-in", data={"token": TOKEN}).headers["set-cookie"].partition(";")[0]
        page.cookies.clear()
        for others in ('prefs={"a": [1, 2]}', "a b=1", "x=\x80", '"', "=;;=", f"{COOKIE}2=1"):
            headers = {"cookie": f"{others}; {own}".encode("latin-1")}
            assert page.get("/api/media", headers=headers).status_code == 200, others
        assert page.get("/api/media", headers={"cookie": f"{COOKIE}={TOKEN}"}).status_code == 401


def test_token_may_contain_non_ascii_letters(store: Store) -> None:
    token = "пароль-日本"
    with served.client(served.archive(store, serve_token=token)) as page:
        assert page.get("/api/media", headers={"authorization": f"Bearer {token}".encode()}).status_code == 200
        assert page.get("/api/media", headers={"authorization": "Bearer пароль".encode()}).status_code == 401
        assert page.post("/sign-in", data={"token": token}).status_code == 303


def test_token_is_not_in_responses_or_logs(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        answers = [
            page.post("/sign-in", data={"token": TOKEN, "next": "/library"}),
            page.get("/"),
            page.get("/api/media", headers={"authorization": f"Bearer {TOKEN}"}),
            page.get("/api/openapi.json"),
        ]
    assert all(TOKEN not in f"{answer.headers}{answer.text}" for answer in answers)
    assert TOKEN not in caplog.text


def test_malformed_sign_in_form_is_refused(store: Store) -> None:
    with served.client(served.archive(store, serve_token=TOKEN)) as page:
        for body in (b"", b"\xff\xfe", b"token=" + b"a" * 10_000, b"&" * 4000):
            assert page.post("/sign-in", content=body).status_code == 401
        assert page.post("/sign-in", content=b"token=" + b"a" * 100_000).status_code == 413


def test_request_without_the_user_header_is_refused(store: Store) -> None:
    with served.client(served.archive(store, serve_user_header="X-Forwarded-Email")) as page:
        assert page.get("/api/media").status_code == 401
        assert page.get("/", headers={"accept": "text/html"}).status_code == 401
        assert page.get("/api/media", headers={"x-forwarded-email": "ruth@example.org"}).status_code == 200


def test_foreign_host_name_for_localhost_is_refused(archive: Archive) -> None:
    with served.client(archive) as page:
        assert page.get("/api/media", headers={"host": "evil.example:8000"}).status_code == 400
        for name in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert page.get("/api/media", headers={"host": name}).status_code == 200
    with served.client(archive, host="0.0.0.0") as page:  # noqa: S104 -- nothing is bound
        assert page.get("/api/media", headers={"host": "archive.example"}).status_code == 200


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 -- nothing is bound
def test_user_header_is_refused_under_a_foreign_host_name(store: Store, listens_on: str) -> None:
    """A page whose host name was rebound to this address can send any header."""
    named = served.archive(store, serve_user_header="x-user", serve_hosts="archive.example, other.example:8000")
    with served.client(named, host=listens_on) as page:

        def asked(host: str) -> int:
            return page.get("/api/media", headers={"host": host, "x-user": "ruth"}).status_code

        assert asked("evil.example:8000") == asked("") == 400
        assert [asked(name) for name in ("archive.example", "Other.example:80", "localhost:8000")] == [200] * 3
        assert page.get("/healthz", headers={"host": "10.1.2.3:8000"}).status_code == 200


@pytest.mark.parametrize(("listens_on", "name"), [("192.0.2.7", "192.0.2.7:8000"), ("2001:DB8::7", "[2001:db8::7]:80")])
def test_listening_address_is_an_accepted_host_name(store: Store, listens_on: str, name: str) -> None:
    with served.client(served.archive(store, serve_user_header="x-user"), host=listens_on) as page:
        assert page.get("/api/media", headers={"host": name, "x-user": "ruth"}).status_code == 200


def test_only_configured_hosts_are_accepted(store: Store) -> None:
    named = served.archive(store, serve_token=TOKEN, serve_hosts="archive.example")
    with served.client(named, host="0.0.0.0", authorization=f"Bearer {TOKEN}") as page:  # noqa: S104 -- nothing is bound
        assert page.get("/api/media", headers={"host": "archive.example"}).status_code == 200
        assert page.get("/api/media", headers={"host": "evil.example"}).status_code == 400


def test_rate_limit_ignores_the_user_header(store: Store) -> None:
    limited = served.archive(store, serve_searches_per_minute=3, serve_user_header="x-user")
    with served.client(limited) as page:
        asked = [page.get("/api/search?q=a", headers={"x-user": f"name {number}"}) for number in range(4)]
        assert [answer.status_code for answer in asked] == [200, 200, 200, 429]
        assert 0 < int(asked[3].headers["retry-after"]) <= 20
        assert page.get("/healthz").status_code == 200


def test_rate_limit_behind_a_proxy_is_per_visitor(store: Store) -> None:
    """Uvicorn takes the visitor from the header of a trusted proxy, and of no other client."""
    limited = served.archive(store, serve_searches_per_minute=2)

    def asked(trusted: str, visitors: Sequence[str]) -> list[int]:
        site = ProxyHeadersMiddleware(served.decoded_once(build(limited, "127.0.0.1")), trusted_hosts=trusted)
        with TestClient(site, "http://127.0.0.1", client=("10.0.0.1", 1)) as page:
            return [
                page.get("/api/search?q=a", headers={"x-forwarded-for": visitor}).status_code for visitor in visitors
            ]

    assert asked("10.0.0.1", ["1.1.1.1", "1.1.1.1", "2.2.2.2", "1.1.1.1"]) == [200, 200, 200, 429]
    assert asked("10.0.0.9", ["1.1.1.1", "2.2.2.2", "3.3.3.3"]) == [200, 200, 429]
    assert asked("10.0.0.1", ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db9::1"]) == [200, 200, 429, 200]


@pytest.mark.parametrize(
    ("proxies", "answers"),
    [("", [200, 429, 429]), ("192.0.2.1, 127.0.0.0/24", [200, 200, 429]), ("192.0.2.1", [200, 429, 429])],
)
def test_forwarded_header_is_used_only_from_configured_proxies(
    store: Store, proxies: str, answers: Sequence[int]
) -> None:
    limited = served.archive(store, serve_searches_per_minute=1, serve_proxies=proxies)
    with served.listening(limited) as address:
        for visitor, status in zip(["192.0.2.8", "192.0.2.9", "192.0.2.9"], answers, strict=True):
            answer = httpx2.get(f"{address}/api/search?q=a", headers={"x-forwarded-for": visitor}, timeout=60)
            assert answer.status_code == status


@pytest.mark.parametrize("wrong", ["*", "proxy.example", "10.0.0.1/8", "127.0.0.1 10.0.0.1"])
def test_proxies_must_be_addresses_or_networks(wrong: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(serve_proxies=wrong)
    assert [error["loc"] for error in refused.value.errors()] == [("serve_proxies",)]


def test_token_guesses_are_rate_limited(store: Store) -> None:
    archive = served.archive(store, serve_token=TOKEN, serve_searches_per_minute=20)
    with served.client(archive) as page:
        guesses = [page.get("/api/media", headers={"authorization": f"Bearer {number}"}) for number in range(40)]
        statuses = [answer.status_code for answer in guesses]
        assert statuses[:20] == [401] * 20
        assert 429 in statuses
        assert int(guesses[-1].headers["retry-after"]) > 0
        right = page.get("/api/media", headers={"authorization": f"Bearer {TOKEN}"})
        assert right.status_code == 429, "does not reveal the right token"
        assert page.post("/sign-in", data={"token": TOKEN}).status_code == 303
        assert page.get("/api/media").status_code == 200, "signed in, not limited"


def test_requests_without_a_token_are_limited_too(store: Store) -> None:
    archive = served.archive(store, serve_token=TOKEN, serve_searches_per_minute=2)
    with served.client(archive) as page:
        assert 429 in {page.get("/api/media").status_code for _ in range(40)}
