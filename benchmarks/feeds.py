"""First look at a podcast feed of 1000 items: at most 5 s after its download, over a real HTTP server.

python -m benchmarks.feeds [--items N]

Nothing is fetched (`backfill = 0`), so that parsing, the decision and the state of all items are measured. The notes of
the items are as long as those of talkative podcasts (6 KB).
"""

import argparse
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path

from benchmarks.machine import describe
from transcription_assets import media
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.sources import catalogue, ledger
from transcription_assets.sources.fetching import Fetcher, SourceLimits
from transcription_assets.storage import Store

BAR_S = 5.0
ROUNDS = 5
NOTE = "<p>In this episode we talk about <a href='https://example.com/notes'>many things</a> &amp; more.</p>\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1000)
    chosen = parser.parse_args()
    print(describe(), flush=True)
    feed = _feed(chosen.items)
    with tempfile.TemporaryDirectory() as folder, _server(feed) as server:
        url = f"http://127.0.0.1:{server.server_port}/feed"
        source = catalogue.parse(f'[a]\nkind = "feed"\nurl = "{url}"\nbackfill = 0'.encode(), "benchmark")["a"]
        times = [_look(Path(folder) / str(number), source, chosen.items) for number in range(ROUNDS)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    worst = max(times)
    print(
        f"{chosen.items} items, {len(feed) / 1e6:.1f} MB: {statistics.median(times):.2f} s median, {worst:.2f} s worst"
    )
    print(f"peak memory {peak:.0f} MiB; bar {BAR_S:g} s: {'held' if worst <= BAR_S else 'MISSED'}")
    return worst > BAR_S


def _look(folder: Path, source: catalogue.Source, items: int) -> float:
    store = Store.open(str(folder / "store"))
    limits = SourceLimits(folder / "downloads", (ip_network("127.0.0.0/8"),))
    fetcher = Fetcher(store, MediaDecoder(media.find_ffmpeg("")), limits)
    started = time.monotonic()
    report = fetcher.fetch(source)
    took = time.monotonic() - started
    assert (report.offered, ledger.load(store, "a").count("skipped")) == (items, items)
    return took


def _feed(items: int) -> bytes:
    notes = NOTE * (6_000 // len(NOTE))
    now = datetime.now(UTC)
    entries = (
        f"<item><guid isPermaLink='false'>guid-{number}</guid><title>Episode {number}</title>"
        f"<pubDate>{format_datetime(now - timedelta(days=number))}</pubDate><link>https://example.com/{number}</link>"
        f"<description><![CDATA[{notes}]]></description>"
        f"<enclosure url='https://cdn.example.com/{number}.mp3?token=1' length='1' type='audio/mpeg'/></item>"
        for number in range(items)
    )
    return f"<rss version='2.0'><channel><title>Podcast</title>{''.join(entries)}</channel></rss>".encode()


@contextmanager
def _server(feed: bytes) -> Iterator[ThreadingHTTPServer]:
    """Serve the feed on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/rss+xml")
            self.send_header("content-length", str(len(feed)))
            self.end_headers()
            self.wfile.write(feed)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name of the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    raise SystemExit(main())
