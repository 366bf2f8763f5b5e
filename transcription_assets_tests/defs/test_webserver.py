"""A page of another site in the same browser can neither change nor read anything in the Dagster UI."""

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from playwright.sync_api import Browser

from transcription_assets_tests.demo import ROOT
from transcription_assets_tests.web.browser import browsing

REBOUND = "rebound.example"
"""Host name of the attacker that resolves to this machine (DNS rebinding)."""

ATTACK = """
async ([target, webSocket]) => {
  const change = (by) => `mutation {setConcurrencyLimit(concurrencyKey: "${by}", limit: 1)}`;
  const get = (by) => `${target}/graphql?query=${encodeURIComponent(change(by))}`;
  const settled = (element, address) => new Promise((resolve) => {
    element.onload = element.onerror = () => resolve();
    element.src = address;
    document.body.append(element);
  });
  const tried = async (work) => { try { return await work(); } catch (error) { return ''; } };
  await tried(() => fetch(get('fetch'), {mode: 'no-cors'}));
  await settled(new Image(), get('img'));
  await settled(document.createElement('script'), get('script'));
  await settled(document.createElement('iframe'), get('iframe'));
  const text = {'content-type': 'text/plain'};
  await tried(() => fetch(get('post'), {method: 'POST', mode: 'no-cors', headers: text}));
  await tried(() => fetch(`${target}/graphql`, {
    method: 'POST', mode: 'no-cors', headers: {'content-type': 'text/plain; application/json'},
    body: JSON.stringify({query: change('simple')}),
  }));
  await tried(() => fetch(`${target}/graphql`, {
    method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify({query: change('json')}),
  }));
  await tried(() => fetch(`${target}/report_asset_materialization/stolen`, {method: 'POST', mode: 'no-cors'}));
  await new Promise((resolve) => {
    const frame = document.createElement('iframe');
    frame.name = 'answer';
    document.body.append(frame);
    const form = document.createElement('form');
    Object.assign(form, {method: 'POST', action: get('form'), enctype: 'text/plain', target: 'answer'});
    document.body.append(form);
    frame.onload = () => resolve();
    form.submit();
  });
  const read = await tried(async () => (await fetch(`${target}/graphql?query={version}`)).text());
  const subscribed = await new Promise((resolve) => {
    const opened = new WebSocket(webSocket, 'graphql-ws');
    opened.onopen = () => resolve(true);
    opened.onerror = () => resolve(false);
  });
  return {read: read.includes('version') && read.includes('data'), subscribed};
}
"""


OWN = """
async () => {
  const query = 'mutation {setConcurrencyLimit(concurrencyKey: "own", limit: 1)}';
  const headers = {'content-type': 'application/json'};
  const answer = await fetch('/graphql', {method: 'POST', headers, body: JSON.stringify({query})});
  const subscribed = await new Promise((resolve) => {
    const opened = new WebSocket(`ws://${location.host}/graphql`, 'graphql-ws');
    opened.onopen = () => resolve(true);
    opened.onerror = () => resolve(false);
  });
  return {changed: answer.status, subscribed};
}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A webserver in its own process, without a code location."""

    port: int
    home: Path
    process: "subprocess.Popen[bytes]"

    def changes(self) -> set[str]:
        """Return the names of the attacks that changed something."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            stolen = instance.get_latest_materialization_event(dg.AssetKey("stolen"))
            return set(instance.event_log_storage.get_concurrency_keys()) | ({"report"} if stolen else set())


@contextmanager
def serving(module: str, home: Path) -> Iterator[Server]:
    """Run the webserver of this module on a free port."""
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", module, "--empty-workspace", "--port", str(port)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(home)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        while not answers(port):
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.2)
        yield Server(port, home, process)
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("transcription_assets.defs.webserver", tmp_path_factory.mktemp("guarded") / "home") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing.started(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as browser:
        yield browser


class EmptyPage(BaseHTTPRequestHandler):
    """Serve an empty page of the attacker."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>somebody else</title><body></body>")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name of the base class
        """Suppress the log."""


@pytest.fixture(scope="module")
def foreign_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def attack(browser: Browser, page_at: str, host: str) -> dict[str, bool]:
    """Try every attack on `host` from the page at `page_at` and return whether it could read and subscribe."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(page_at)
        result: dict[str, bool] = page.evaluate(ATTACK, [f"http://{host}", f"ws://{host}/graphql"])
        return result
    finally:
        context.close()


@pytest.mark.parametrize("origin", ["127.0.0.1", "localhost", REBOUND])
def test_page_of_another_origin_cannot_change_or_read(
    browser: Browser, guarded: Server, foreign_port: int, origin: str
) -> None:
    result = attack(browser, f"http://{origin}:{foreign_port}/", f"127.0.0.1:{guarded.port}")
    assert guarded.changes() == set()
    assert result == {"read": False, "subscribed": False}


def test_page_with_a_rebound_name_cannot_change_or_read(browser: Browser, guarded: Server) -> None:
    """The browser sees the same origin, so that only the host name reveals the attack."""
    rebound = f"{REBOUND}:{guarded.port}"
    result = attack(browser, f"http://{rebound}/server_info", rebound)
    assert guarded.changes() == set()
    assert result == {"read": False, "subscribed": False}


def test_attack_succeeds_on_the_unguarded_webserver(browser: Browser, foreign_port: int, tmp_path: Path) -> None:
    with serving("dagster_webserver", tmp_path / "home") as server:
        result = attack(browser, f"http://localhost:{foreign_port}/", f"127.0.0.1:{server.port}")
        assert server.changes() >= {"fetch", "img", "script", "post", "form", "simple"}
        assert result["subscribed"]


def test_own_page_can_change_and_subscribe(browser: Browser, guarded: Server) -> None:
    """The UI itself is opened in test_daemon.py."""
    with browsing.opening(browser, f"http://localhost:{guarded.port}") as opened:
        page = opened("/server_info")
        assert page.evaluate(OWN) == {"changed": 200, "subscribed": True}
    assert guarded.changes() == {"own"}
