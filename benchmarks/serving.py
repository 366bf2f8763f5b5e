"""Load test of the search page with 64 concurrent clients for a minute: no request fails.

python -m benchmarks.serving [--store FOLDER] [--clients 64] [--seconds 60]

The server runs in a separate process, with requests over sockets; each client sends the next one after each response.
"""

import argparse
import asyncio
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from benchmarks import recordings
from benchmarks.machine import ROOT, describe, environment, measured
from benchmarks.search import QUESTIONS

PROGRAM = Path(sys.executable).parent / "transcription-assets"
READY_S = 120
READY = ("ready\n", "alive\n")
RANGE = 1_000_000
"""Bytes of a recording in one range request, like those of a player."""
LATEST = 100_000
"""Upper bound of the first byte of a range: every demo video is longer."""


@dataclass(slots=True)
class Tally:
    """Milliseconds of each response by kind of request, and counts of errors."""

    times: dict[str, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="a store that holds the processed demo recordings already")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    chosen = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as place:
        store = chosen.store or Path(place)
        if chosen.store is None:
            shutil.copytree(recordings.DEMO, store / "video")
            measured([PROGRAM, "process"], {"TRANSCRIPTION_STORE": str(store)})
        with served(store) as (address, _):
            started = time.monotonic()
            tally = asyncio.run(_asked(address, chosen.clients, chosen.seconds))
            took_s = time.monotonic() - started
    return _report(tally, took_s, chosen.clients)


@contextmanager
def served(store: Path, probe: str = "/readyz") -> Iterator[tuple[str, int]]:
    """Run a server with very high rate limits, and yield its address and process when the probe succeeds."""
    settings = {"TRANSCRIPTION_STORE": str(store), "TRANSCRIPTION_SERVE_SEARCHES_PER_MINUTE": "100000"}
    with subprocess.Popen(
        [str(PROGRAM), "serve", "--port", "0"],
        env=environment(settings | {"PYTHONUNBUFFERED": "1"}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, "the server did not start"
            deadline = time.monotonic() + READY_S
            while httpx2.get(f"{found[0]}{probe}", timeout=30).text not in READY:
                assert time.monotonic() < deadline, "the server did not become ready"
                time.sleep(0.5)
            yield found[0], server.pid
        finally:
            server.terminate()


async def _asked(address: str, clients: int, seconds: float) -> Tally:
    tally = Tally()
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=address, timeout=60, limits=limits) as http:
        listed = (await http.get("/api/media")).json()["recordings"]
        media_keys = [item["key"] for item in listed]
        deadline = time.monotonic() + seconds
        await asyncio.gather(
            *(_ask(http, media_keys, random.Random(number), deadline, tally) for number in range(clients))  # noqa: S311
        )
    return tally


async def _ask(
    http: httpx2.AsyncClient, media_keys: list[str], chance: random.Random, deadline: float, tally: Tally
) -> None:
    """Send a user's requests without pauses: a question, then the recording, its words and a part of its video."""
    while time.monotonic() < deadline:
        key = chance.choice(media_keys)
        first = chance.randrange(LATEST)
        for kind, path, headers in (
            ("search", httpx2.URL("/api/search", params={"q": chance.choice(list(QUESTIONS))}), {}),
            ("page", f"/watch/{key}", {}),
            ("recording", f"/api/media/{key}", {}),
            ("words", f"/api/media/{key}/words", {}),
            ("film", f"/media/{key}", {"range": f"bytes={first}-{first + RANGE - 1}"}),
            ("library", "/api/media", {}),
        ):
            started = time.perf_counter()
            try:
                answer = await http.get(path, headers=headers)
            except httpx2.HTTPError as error:
                tally.errors[type(error).__name__] += 1
            else:
                tally.times.setdefault(kind, []).append((time.perf_counter() - started) * 1000)
                if not answer.is_success:
                    tally.errors[f"{kind}: {answer.status_code}"] += 1


def _report(tally: Tally, took_s: float, clients: int) -> int:
    everything = [each for times in tally.times.values() for each in times]
    for kind, times in [*tally.times.items(), ("all", everything)]:
        centiles = statistics.quantiles(times, n=100)
        print(
            f"{kind:10} {len(times):6} answers, {len(times) / took_s:6.1f} a second,"
            f" p50 {centiles[49]:6.0f} ms, p99 {centiles[98]:6.0f} ms"
        )
    failed = sum(tally.errors.values())
    print(f"{clients} clients, {took_s:.0f} s: {failed} errors {dict(tally.errors)}; the bar is 0")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
