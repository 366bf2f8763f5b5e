"""`/metrics` for Prometheus: recordings by state, age of the backlog, failures, steps, sources, events, requests."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl
from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from transcription_assets.costs.usage import PARTS, STEPS, Usage
from transcription_assets.errors import KINDS, TranscriptionError
from transcription_assets.events import occurrences, outbox
from transcription_assets.pipeline.usage_journal import UsageReader
from transcription_assets.sources import catalogue, ledger
from transcription_assets.sources.ledger import Ledger, Status
from transcription_assets.storage import Store
from transcription_assets.web.cache import Cached
from transcription_assets.web.library import Library, Overview
from transcription_assets.web.middleware import App, Message, Receive, Scope, Send
from transcription_assets.web.schemas import State
from transcription_assets.web.thread_pool import ThreadPool

FRESH_S = 15.0
"""Seconds for which figures of the store are reused: the usual interval of a scrape."""
OLDEST_S = 90.0
"""Age up to which figures are reported while new ones are read, so that a scrape need not wait for the store."""
PATHS = (
    "/api/search",
    "/api/facets",
    "/api/media",
    "/api/ask",
    "/api/uploads",
    "/mcp",
    "/media",
    "/sound",
    "/posters",
    "/metrics",
)
"""Labels of requests: the first of these with which a path begins, else `other`, so that their number is bounded."""
BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 20.0)
STATUSES: tuple[Status, ...] = ("landed", "waiting", "failed")


@dataclass(frozen=True, slots=True)
class EventFigures:
    """Events that were not delivered: `lag_s` is the age of the oldest in seconds; counts are by receiver."""

    lag_s: float
    waiting: Mapping[str, int]
    dead: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """Figures of the store at one time.

    `oldest` is when the oldest unfinished recording was put into the store, None if all are done or failed. `failures`
    counts failed recordings by step, kind, and whether a retry may help. `usage` is what the steps used since the
    first entry of the journal, None until all of it has been read. `events` is None if nobody receives any.
    """

    recordings: Mapping[State, int]
    oldest: datetime | None
    passages: int
    failures: Mapping[tuple[str, str, bool], int]
    sources: Mapping[str, Ledger] = field(default_factory=dict)
    usage: Usage | None = None
    events: EventFigures | None = None


def figures(
    overview: Overview,
    sources: Mapping[str, Ledger],
    usage: Usage | None = None,
    undelivered: EventFigures | None = None,
) -> StoreFigures:
    """Return the figures of an overview of the library, states of the sources, use of the steps, and events."""
    frame = overview.frame
    unfinished = frame.filter(pl.col("state").is_in(["waiting", "working"]))
    failures = Counter((note.step, note.kind, note.transient) for note in overview.notes.values())
    oldest = unfinished["last_modified"].min() if unfinished.height else None
    return StoreFigures(
        recordings=overview.counts,
        oldest=oldest if isinstance(oldest, datetime) else None,
        passages=int(frame["passages"].sum()),
        failures=failures,
        sources=sources,
        usage=usage,
        events=undelivered,
    )


class _StoreCollector(Collector):
    """Collector of figures of the store; without any it reports nothing but that the store failed."""

    def __init__(self, found: StoreFigures | None) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        found = self._found
        readable = GaugeMetricFamily("transcription_store_readable", "1 if the last reading of the store succeeded.")
        readable.add_metric([], float(found is not None))
        yield readable
        if found is not None:
            yield from _recordings(found)
            yield from _sources(found.sources)
            yield from _steps(found.usage or {})
            yield from _events(found.events or EventFigures(0.0, {}, {}))


def _recordings(found: StoreFigures) -> Iterable[Metric]:
    states = GaugeMetricFamily("transcription_recordings", "Recordings by state.", labels=["state"])
    for state, count in found.recordings.items():
        states.add_metric([state], count)
    yield states
    waits = max(0.0, time.time() - found.oldest.timestamp()) if found.oldest else 0.0
    yield GaugeMetricFamily(
        "transcription_backlog_age_seconds", "Age of the oldest recording that is neither done nor failed.", waits
    )
    yield GaugeMetricFamily("transcription_passages", "Searchable passages.", found.passages)
    labels = ["step", "kind", "transient"]
    failures = GaugeMetricFamily("transcription_failures", "Failed recordings.", labels=labels)
    # Zeros, as an alert on a rise needs a sample from before the first failure.
    none = {(step, kind, transient): 0 for step in STEPS for kind, transient in KINDS.items()}
    for (step, kind, transient), count in {**none, **found.failures}.items():
        failures.add_metric([step, kind, str(transient).lower()], count)
    yield failures


def _steps(usage: Usage) -> Iterable[Metric]:
    def counter(name: str, text: str, *more: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"transcription_step_{name}", text, labels=["step", *more])

    recordings = counter("recordings", "New results of a step.")
    audio = counter("audio_seconds", "Audio of the new results of a step.")
    parts = counter("seconds", "Time of a step: queue, start of its process, loading of models, computation.", "part")
    cpu = counter("cpu_seconds", "Time for which cores were reserved, in pods only.")
    gpu = counter("gpu_seconds", "Time for which GPUs were reserved or, on one machine, used.")
    workers = counter("worker_seconds", "Time for which workers held machines of their own.")
    dollars = counter("cost_dollars", "Cost by list prices.")
    failures = counter("failures", "Failed attempts by kind.", "kind")
    for step, used in usage.items():
        recordings.add_metric([step], used.recordings)
        audio.add_metric([step], used.audio_s)
        for part in PARTS:
            parts.add_metric([step, part.removesuffix("_s")], getattr(used, part))
        cpu.add_metric([step], used.cpu_s)
        gpu.add_metric([step], used.gpu_s)
        workers.add_metric([step], used.worker_s)
        dollars.add_metric([step], used.usd)
        for kind, count in used.failures.items():
            failures.add_metric([step, kind], count)
    yield from (recordings, audio, parts, cpu, gpu, workers, dollars, failures)


def _sources(states: Mapping[str, Ledger]) -> Iterable[Metric]:
    items = GaugeMetricFamily("transcription_source_items", "Items of a source.", labels=["source", "status"])
    pending = GaugeMetricFamily("transcription_source_pending", "Items that wait for a fetch.", labels=["source"])
    failing = GaugeMetricFamily("transcription_source_failing", "1 if the last look failed.", labels=["source"])
    looked = GaugeMetricFamily("transcription_source_last_look", "Time of the last look (Unix).", labels=["source"])
    for name, state in states.items():
        for status in STATUSES:
            items.add_metric([name, status], state.count(status))
        pending.add_metric([name], state.pending)
        failing.add_metric([name], float(bool(state.error)))
        if state.last_listing:
            looked.add_metric([name], state.last_listing.timestamp())
    yield from (items, pending, failing, looked)


def _events(found: EventFigures) -> Iterable[Metric]:
    yield GaugeMetricFamily(
        "transcription_event_lag_seconds", "Age of the oldest event that a server has not got.", found.lag_s
    )
    waiting = GaugeMetricFamily("transcription_events_waiting", "Events to be delivered.", labels=["receiver"])
    dead = GaugeMetricFamily("transcription_events_dead", "Events that were given up.", labels=["receiver"])
    for family, counts in ((waiting, found.waiting), (dead, found.dead)):
        for receiver, count in counts.items():
            family.add_metric([receiver], count)
    yield from (waiting, dead)


def _rendered(found: StoreFigures | None) -> bytes:
    """Return the figures in the format of Prometheus; each are rendered once, however often they are scraped."""
    registry = CollectorRegistry()
    registry.register(_StoreCollector(found))
    return generate_latest(registry)


class Metrics:
    """The metrics of one server."""

    def __init__(self, library: Library) -> None:
        self._registry = CollectorRegistry()
        self._rendered: tuple[StoreFigures | None, bytes] = None, _rendered(None)
        self._requests = Histogram(
            "transcription_request_seconds",
            "Time until the end of a response, by the beginning of the path and the status.",
            ["path", "status"],
            registry=self._registry,
            buckets=BUCKETS,
        )
        self._overview = library.overview
        usage = UsageReader(lambda: library.archive.store)

        def current() -> StoreFigures:
            store = library.archive.store
            return figures(library.overview.get(), _ledgers(store), usage.read(), _undelivered(store))

        self._figures = Cached(current, FRESH_S)

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count a response."""
        label = next((known for known in PATHS if path == known or path.startswith(f"{known}/")), "other")
        self._requests.labels(label, str(status)).observe(seconds)

    async def _current(self, workers: ThreadPool) -> StoreFigures | None:
        """Return the figures; None if the store could not be read at the last attempt.

        Figures of at most OLDEST_S are returned at once, and new ones read in the background; older ones are returned
        if new ones take longer than the cache waits.
        """
        if (recent := self._figures.recent(OLDEST_S)) and not self._overview.failed:
            return recent
        try:
            # The first figures may take long, and hold no thread; later ones at most the time that the cache waits.
            await workers.within(self._figures.any)
            found = await workers.run(self._figures.get)
        except TranscriptionError:
            return None
        return None if self._figures.failed or self._overview.failed else found

    def router(self, workers: ThreadPool) -> APIRouter:
        """Return the route `/metrics`."""
        routes = APIRouter(include_in_schema=False)

        @routes.get("/metrics")
        async def metrics() -> Response:
            found = await self._current(workers)
            if found is not self._rendered[0]:
                self._rendered = found, _rendered(found)
            return Response(self._rendered[1] + generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

        return routes


def _ledgers(store: Store) -> Mapping[str, Ledger]:
    """Return the states of the sources, with an error if they cannot be read; an invalid catalogue has none."""
    try:
        names = list(catalogue.load(store))
    except TranscriptionError:
        return {}
    found: dict[str, Ledger] = {}
    for name in names:
        try:
            found[name] = ledger.load(store, name)
        except TranscriptionError as error:
            found[name] = Ledger(error=str(error))
    return found


def _undelivered(store: Store) -> EventFigures | None:
    """Return what was not delivered; None if the store has no receivers of events."""
    if not store.exists(occurrences.CATALOGUE):
        return None
    return EventFigures(outbox.lag(store), outbox.pending(store), outbox.dead(store))


@dataclass(frozen=True, slots=True)
class Timed:
    """Middleware that measures each response."""

    app: App
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count its response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sent)
        finally:
            self.metrics.observe(scope["path"], status, time.perf_counter() - started)
