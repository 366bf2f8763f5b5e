"""Cost of `/metrics` with 100 000 recordings and a journal of a year: 5 ms for a response of a real server.

python -m benchmarks.metrics [--recordings N] [--keep FOLDER]

Then scrapes at the usual interval, each of which begins to read the store again in the background.
"""

import argparse
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2

from benchmarks import library
from benchmarks.machine import TICK_S, describe
from benchmarks.serving import served
from transcription_assets.costs.usage import STEPS, StepUsage
from transcription_assets.pipeline import usage_journal
from transcription_assets.storage import Store

BAR_S = 0.005
DAYS = 365
ENTRIES = 2_000
"""Entries of today: those of 40 000 recordings, as `process` writes one for 20."""
SCRAPES = 500
EVERY_S = 15.0
ROUNDS = 6
USED = {step: StepUsage(20, 6000.0, 1.0, 2.0, 3.0, 300.0, 0.0, 600.0, 300.0, 0.1, {"StoreAway": 1}) for step in STEPS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="fill this folder, or use it if it is filled")
    chosen = parser.parse_args()
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory() as place:
        root = chosen.keep or Path(place)
        if not (root / "video").exists():
            _fill(root, chosen.recordings)
        with served(root, "/healthz") as (address, server), httpx2.Client(base_url=address, timeout=600.0) as client:
            return _measure(client, server)


def _fill(root: Path, number: int) -> None:
    store = Store.open(str(root))
    library.fill(store, root, number)
    now = datetime.now(UTC)
    for days in range(2, DAYS):
        usage_journal.add(store, USED, now - timedelta(days=days))
    usage_journal.compact(store)
    for _ in range(ENTRIES):
        usage_journal.add(store, USED)


def _measure(client: httpx2.Client, server: int) -> int:
    first_s = _scrape(client)
    while b"transcription_step_recordings_total{" not in client.get("/metrics").content:
        time.sleep(1.0)
    size = len(client.get("/metrics").content)
    cpu, times = _cpu(server), sorted(_scrape(client) for _ in range(SCRAPES))
    cpu_s = (_cpu(server) - cpu) / SCRAPES
    print(f"first scrape {first_s:.1f} s; {size / 1000:.1f} kB")
    print(
        f"{SCRAPES} scrapes: p50 {_ms(times, 0.5)}, p95 {_ms(times, 0.95)}, p99 {_ms(times, 0.99)}; "
        f"{cpu_s * 1000:.2f} ms of CPU each, with what is read in the background",
        flush=True,
    )
    cpu, started, apart = _cpu(server), time.monotonic(), []
    for _ in range(ROUNDS):
        time.sleep(EVERY_S)
        apart.append(_scrape(client))
    share = (_cpu(server) - cpu) / (time.monotonic() - started)
    print(
        f"{ROUNDS} scrapes, one in {EVERY_S:.0f} s: {', '.join(f'{each * 1000:.1f}' for each in apart)} ms; "
        f"the server uses {share:.1%} of a core"
    )
    return int(statistics.median(times) > BAR_S or statistics.median(apart) > BAR_S)


def _scrape(client: httpx2.Client) -> float:
    started = time.perf_counter()
    client.get("/metrics").raise_for_status()
    return time.perf_counter() - started


def _ms(times: list[float], share: float) -> str:
    return f"{times[int(share * (len(times) - 1))] * 1000:.1f} ms"


def _cpu(process: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


if __name__ == "__main__":
    sys.exit(main())
