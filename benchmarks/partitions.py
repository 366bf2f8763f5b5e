"""Cost of 100 000 partitions in Dagster itself, with SQLite in a new DAGSTER_HOME: adding, listing, the UI's queries.

python -m benchmarks.partitions [PARTITIONS]
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import dagster as dg  # noqa: TID251 -- it measures Dagster

from benchmarks.machine import ROOT, describe
from transcription_assets_tests.seaweed import free_ports

PARTITIONS = 100_000
MATERIALISED = 10_000
A_TICK = 300  # TRANSCRIPTION_SENSOR_MAX_ADDS
SAMPLE = 10
NAME = "recordings"
START_LIMIT_S = 120
QUERIES = {
    "the bar on the asset's page (how many, which ranges are materialised)": """assetPartitionStatuses {
        ... on DefaultPartitionStatuses { materializedPartitions failedPartitions unmaterializedPartitions } }
        partitionStats { numMaterialized numPartitions numFailed }""",
    "the counts alone (the graph)": "partitionStats { numMaterialized numPartitions numFailed }",
    "the names of all partitions": "partitionKeys",
}


def main(count: int) -> None:
    print(describe())
    with tempfile.TemporaryDirectory() as home:
        with dg.DagsterInstance.local_temp(home) as instance:
            _add(instance, count)
            print(f"all names, read by the sensor: {_seconds(lambda: instance.get_dynamic_partitions(NAME)):.2f} s")
            start = time.monotonic()
            for key in instance.get_dynamic_partitions(NAME)[:MATERIALISED]:
                instance.report_runless_asset_event(dg.AssetMaterialization("video", partition=key))
            print(f"{MATERIALISED} of them materialised in {time.monotonic() - start:.0f} s")
        with _webserver(home) as address:
            for what, query in QUERIES.items():
                times = [_asked(address, query) for _ in range(3)]
                print(f"GraphQL, {what}: first {times[0]:.2f} s, then {min(times[1:]):.2f} s")


def _add(instance: dg.DagsterInstance, count: int) -> None:
    """Time the first and last ticks of many, each like the daemon: look up every name, then add all of them."""
    names = [f"video/{n % 365:03}/talk {n:06}.mp4" for n in range(count)]
    ticks = [names[first : first + A_TICK] for first in range(0, count, A_TICK)]
    first, between, last = ticks[:SAMPLE], ticks[SAMPLE:-SAMPLE], ticks[-SAMPLE:]
    early = [_seconds(lambda tick=tick: _as_the_daemon(instance, tick)) for tick in first]  # type: ignore[misc]
    instance.add_dynamic_partitions(NAME, [name for tick in between for name in tick])
    late = [_seconds(lambda tick=tick: _as_the_daemon(instance, tick)) for tick in last]  # type: ignore[misc]
    print(
        f"{A_TICK} partitions added after a tick: median {statistics.median(early):.2f} s in the first {len(early)}, "
        f"{statistics.median(late):.2f} s in the last {len(late)} of {len(ticks)} ticks"
    )


def _as_the_daemon(instance: dg.DagsterInstance, names: list[str]) -> None:
    new = [name for name in names if not instance.has_dynamic_partition(NAME, name)]
    instance.add_dynamic_partitions(NAME, new)


@contextlib.contextmanager
def _webserver(home: str) -> Iterator[str]:
    """Run Dagster's web server with the project's definitions, and yield its address."""
    [port] = free_ports(1)
    command = [sys.executable, "-W", "ignore", "-m", "dagster_webserver", "-w", "workspace.yaml", "-p", str(port)]
    environment = os.environ | {"DAGSTER_HOME": home, "TRANSCRIPTION_STORE": f"{home}/store"}
    address = f"http://127.0.0.1:{port}"
    with (Path(home) / "webserver.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until:
            with contextlib.suppress(URLError, ConnectionError), urlopen(f"{address}/server_info"):  # noqa: S310
                break
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _asked(address: str, fields: str) -> float:
    query = (
        f"""query($key: AssetKeyInput!) {{ assetNodeOrError(assetKey: $key) {{ ... on AssetNode {{ {fields} }} }} }}"""
    )
    body = json.dumps({"query": query, "variables": {"key": {"path": ["video"]}}}).encode()
    start = time.monotonic()
    with urlopen(Request(f"{address}/graphql", body, {"Content-Type": "application/json"})) as answer:  # noqa: S310
        found = json.load(answer)
    elapsed = time.monotonic() - start
    assert "errors" not in found, found
    assert found["data"]["assetNodeOrError"], found
    return elapsed


def _seconds(work: Callable[[], Any]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PARTITIONS)
