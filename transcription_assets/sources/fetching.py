"""Listing the items of a source, and fetching them into the inbox: the same for commands and for Dagster."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx2
from filelock import FileLock, Timeout

from transcription_assets.domain.media_keys import SUFFIXES, encode
from transcription_assets.domain.urls import digest, redacted, with_credentials, without_secrets
from transcription_assets.errors import NotFound, PermanentFailure, TranscriptionError, TransientFailure
from transcription_assets.events import occurrences
from transcription_assets.guarded_http import Network, client
from transcription_assets.pipeline import origin as origins
from transcription_assets.pipeline.origin import Origin
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.sources import decisions, feeds, ledger, names
from transcription_assets.sources.catalogue import FeedSource, HttpSource, LinkSource, Source, StoreSource
from transcription_assets.sources.download import Downloaded, Downloader, forget, get_document
from transcription_assets.sources.feeds import Item
from transcription_assets.sources.ledger import Entry, Ledger, Status
from transcription_assets.sources.links import LinkReader
from transcription_assets.sources.other_stores import OtherStore, name_in_inbox
from transcription_assets.storage import Store

MOST_AT_ONCE = 25
"""Recordings of one fetch: the next fetch continues, so that a run ends, and other sources have their turn."""
FEED_LIMIT_S = 120.0
ABANDONED_S = 7 * 86_400.0
"""Seconds after which a part of a download that nobody continued is deleted."""
KEPT_PARTS = 3
"""Parts of incomplete downloads take at most the space of so many recordings of the maximum size."""
_STEM = re.compile(r"(.+-[0-9a-f]{20})\.")
EVERYTHING = 1 << 62

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SourceLimits:
    """Limits of the operator: networks that may be reached besides public ones, size and time of one download.

    `folder` holds the parts of downloads; `link_roots` are the folders from which sources of kind `store` may copy.
    """

    folder: Path
    networks: tuple[Network, ...] = ()
    most_bytes: int = 10_000_000_000
    limit_s: float = 3600.0
    link_roots: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceListing:
    """Items that a source offers, in the order in which they are fetched; `unchanged` if as in the last listing.

    `other` is the store from which recordings are copied, if the source is one.
    """

    title: str = ""
    items: tuple[Item, ...] = ()
    etag: str = ""
    last_modified: str = ""
    unchanged: bool = False
    other: OtherStore | None = None


@dataclass(slots=True)
class FetchReport:
    """Outcome of one fetch: `landed` are media keys with their origins, `failed` reasons by title or GUID.

    `offered` counts the items of the source, `pending` those that are left for the next fetch; `unchanged` says that
    the source has not changed since the last listing. `stopped` says why the fetch ended early.
    """

    source: str
    offered: int = 0
    landed: dict[str, Origin] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    pending: int = 0
    unchanged: bool = False
    stopped: str = ""
    bytes: int = 0


Announce = Callable[[str], None]


@dataclass
class Fetcher:
    """Fetches recordings of sources into a store. `now` returns the time (UTC)."""

    store: Store
    decoder: MediaDecoder
    limits: SourceLimits
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep

    def list_items(self, source: Source, known: Ledger) -> SourceListing:
        """Return what the source offers now; nothing is downloaded but the list.

        Raises:
            TranscriptionError: the source refuses, does not answer, or is not what its kind says.

        """
        today = self.now().date()
        if isinstance(source, FeedSource):
            return self._list_feed(source, known)
        if isinstance(source, HttpSource):
            page = source.page or without_secrets(source.url)
            item = Item(source.url, source.url, source.title, page, source.recorded)
            return SourceListing(source.title, (item,))
        if isinstance(source, LinkSource):
            title, items = self._links.entries(source.url, source.backfill, today)
            return SourceListing(title, items)
        other = OtherStore.open(source, self.limits.link_roots, self.store.url)
        return SourceListing("", other.items(), other=other)

    def _list_feed(self, source: FeedSource, known: Ledger) -> SourceListing:
        # Without conditions as long as items are left: only an unchanged feed without work may be skipped.
        # Those of another address say nothing about this one.
        is_same = known.backfill == source.backfill and known.url == digest(source.url)
        is_complete = is_same and not (known.pending or known.count("waiting") or known.count("landing"))
        conditions = {"etag": known.etag, "last_modified": known.last_modified} if is_complete else {}
        document = get_document(self._client, source.url, FEED_LIMIT_S, **conditions)
        if document is None:
            return SourceListing(etag=known.etag, last_modified=known.last_modified, unchanged=True)
        try:
            feed = feeds.parse(document.data, document.url, document.content_type, self.now().date())
        except PermanentFailure as error:
            raise PermanentFailure(f"{without_secrets(source.url)}: {error}", hint=error.hint) from error
        return SourceListing(feed.title, feed.items, document.etag, document.last_modified)

    def fetch(self, source: Source, announce: Announce = lambda _line: None, *, again: bool = False) -> FetchReport:
        """List the items of the source, and fetch at most MOST_AT_ONCE recordings that the store has not.

        A recording that fails does not stop the others. With `again`, recordings that failed for good are tried, too.

        Raises:
            TranscriptionError: the source cannot be listed (its state says so, too), or the store fails.

        """
        known = ledger.load(self.store, source.name)
        started = _stamp(self.now())
        try:
            found = self.list_items(source, replace(known, etag="", last_modified="") if again else known)
        except TranscriptionError as error:
            occurrences.record_failure(self.store, "source", source.name, str(error), transient=error.transient)
            ledger.save(self.store, source.name, replace(known, looked=started, error=str(error)))
            raise
        if again:
            known = known.with_entries(_lifted(known, started))
        report = FetchReport(source.name, offered=len(found.items), unchanged=found.unchanged)
        backfill = source.backfill if isinstance(source, FeedSource | LinkSource) else EVERYTHING
        chosen = decisions.plan(found.items, known, backfill, MOST_AT_ONCE, digest(source.url))
        statuses: dict[Status, tuple[Item, ...]] = {"skipped": chosen.skip, "waiting": chosen.lifted}
        state_error, quota_bytes = known.error, source.quota_gb * 1e9
        decided = {
            item.identity: Entry(status, started, guid=digest(item.guid))
            for status, items in statuses.items()
            for item in items
        }
        known = replace(
            known.with_entries(decided),
            looked=started,
            url=digest(source.url),
            error="",
            etag=found.etag,
            last_modified=found.last_modified,
            backfill=backfill,
            pending=chosen.pending + len(chosen.fetch),
        )
        if state_error and not (chosen.fetch and known.size >= quota_bytes):
            occurrences.record_recovery(self.store, "source", source.name)
        # Before the first download: a fetch that is killed must not take the skipped items for new ones later.
        known = ledger.save(self.store, source.name, known)
        for number, item in enumerate(chosen.fetch):
            if known.size >= quota_bytes:
                report.stopped = f"the quota of {source.quota_gb:g} GB is used up; raise `quota_gb` in sources.toml"
                report.pending = chosen.pending + len(chosen.fetch) - number
                break
            known = replace(known, pending=chosen.pending + len(chosen.fetch) - number - 1)
            known = self._attempt(source, found, item, known, report=report, announce=announce)
        else:
            report.pending = chosen.pending
        if report.stopped:
            occurrences.record_failure(self.store, "source", source.name, report.stopped)
            known = ledger.save(
                self.store, source.name, replace(known, pending=0, error=report.stopped, etag="", last_modified="")
            )
        return report

    def _attempt(
        self,
        source: Source,
        found: SourceListing,
        item: Item,
        known: Ledger,
        *,
        report: FetchReport,
        announce: Announce,
    ) -> Ledger:
        """Fetch one recording, and return the ledger with its outcome."""
        is_known = item.identity in known.items
        before = known.items.get(item.identity, Entry("waiting", ""))
        before = replace(before, attempts=before.attempts + 1, guid=digest(item.guid))
        if before.status != "landing":
            # Written before, so that an item whose download kills the process is not tried for ever.
            before = replace(before, status="waiting", at=_stamp(self.now()), title=item.title, reason="interrupted")
            known = ledger.save(self.store, source.name, known.with_entries({item.identity: before}))
        named = item.shown
        try:
            outcome = self._land(source, found, item, before, known)
        except TranscriptionError as error:
            entry = Entry(
                "waiting" if error.transient and before.attempts < decisions.MOST_ATTEMPTS else "failed",
                _stamp(self.now()),
                item.title,
                attempts=before.attempts,
                reason=str(error),
                guid=before.guid,
            )
            if entry.status == "failed":
                name = f"{source.name}/{item.identity}"
                occurrences.record_failure(self.store, "item", name, str(error), title=named, transient=error.transient)
            report.failed[named] = str(error)
            announce(f"failed: {named}: {error}")
        else:
            if outcome is None:
                announce(f"landed for another process: {named}")
                return ledger.save(self.store, source.name, known)
            key, made = outcome
            if is_known:  # it may have been given up before; else no event is made of this
                occurrences.record_recovery(self.store, "item", f"{source.name}/{item.identity}")
            entry = Entry("landed", _stamp(self.now()), made.title, key, made.size, guid=before.guid)
            report.landed[key] = made
            report.bytes += made.size
            announce(f"landed: {key}")
        return ledger.save(self.store, source.name, known.with_entries({item.identity: entry}))

    def _land(
        self, source: Source, found: SourceListing, item: Item, before: Entry, known: Ledger
    ) -> tuple[str, Origin] | None:
        """Download, check and store a recording; return its key and origin, None if it landed for another process.

        Its origin is stored before it, so that no step finds the recording without. A fetch that was killed after that
        finds its recording in the store.
        """
        with self._part(source, item) as part:
            current = ledger.load(self.store, source.name).items.get(item.identity, before)
            if current.status == "landed":
                return None
            if current.status == "landing" and (landed := self._landed_before(current.key, item)):
                return current.key, landed
            described, got = self._obtain(source, found, item, part)
            name = self._checked_name(source, described, got)
            key = encode(name)
            made = self._origin(source, found, described, item.identity, got)
            ledger.save(
                self.store,
                source.name,
                known.with_entries({item.identity: replace(before, status="landing", key=key, at=_stamp(self.now()))}),
            )
            origins.write(self.store, key, made)
            self.store.put_media(name, got.path)
            forget(got.path)
        return key, made

    def _landed_before(self, key: str, item: Item) -> Origin | None:
        try:
            size = self.store.stat(key).size
        except NotFound:
            return None
        made = origins.load(self.store, key)
        return made if made and made.identity == item.identity and made.size == size else None

    def _obtain(self, source: Source, found: SourceListing, item: Item, part: Path) -> tuple[Item, Downloaded]:
        """Download a recording; return what is known of it now, and the file."""
        if found.other:
            return item, found.other.copy(item, part, self.limits.most_bytes)
        if isinstance(source, LinkSource):
            return self._links.download(item, part, self.now().date())
        downloader = Downloader(self._client, self.limits.most_bytes, self.limits.limit_s, self.sleep)
        return item, downloader.download(with_credentials(item.media_url, source.url), part)

    def _checked_name(self, source: Source, item: Item, got: Downloaded) -> str:
        """Return the name in the inbox of a file whose header can be decoded.

        Raises:
            PermanentFailure: it is empty, not a recording, without audio, or of an unknown type.
            TransientFailure: no process can be started.

        """
        stated = names.suffix(item, got.url, got.content_type)
        suffix = got.path.suffix.lower() if isinstance(source, LinkSource) else stated
        self._require_recording(item, got, suffix)
        if isinstance(source, StoreSource):
            return name_in_inbox(source.name, item)
        return names.name(source.name, item, suffix)

    def _require_recording(self, item: Item, got: Downloaded, suffix: str) -> None:
        title = item.shown
        if suffix not in SUFFIXES:
            kind = got.content_type or suffix
            raise PermanentFailure(f"{title}: neither its address nor its type ({kind}) is of a recording")
        self.decoder.probe_file(got.path, title)

    def _origin(self, source: Source, found: SourceListing, item: Item, identity: str, got: Downloaded) -> Origin:
        return Origin(
            source=source.name,
            kind=source.kind,
            identity=identity,
            title="" if isinstance(source, StoreSource) else item.title,  # the tags of a copy say more than its name
            recorded=item.published,
            link=item.link,
            media_url=without_secrets(item.media_url),
            guid=redacted(item.guid),
            source_url=without_secrets(source.url),
            source_title=found.title,
            licence=source.licence or item.licence,
            fetched=_stamp(self.now()),
            size=got.size,
        )

    @contextmanager
    def _part(self, source: Source, item: Item) -> Iterator[Path]:
        """Yield the path of the part of a download, for this process alone; later calls continue it.

        Raises:
            TransientFailure: another process downloads it, or the folder cannot be written.

        """
        folder = self.limits.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _delete_abandoned(folder)
            _trim(folder, KEPT_PARTS * self.limits.most_bytes)
            path = folder / f"{source.name}-{item.identity}.part"
            with FileLock(f"{path}.lock", timeout=0):
                try:
                    yield path
                except TranscriptionError as error:
                    if not error.transient:
                        _delete(path.stem, folder)
                    raise
        except Timeout as error:
            raise TransientFailure(f"{item.shown}: another process downloads it") from error
        except OSError as error:
            raise TransientFailure(f"{folder}: {error.strerror}; see TRANSCRIPTION_DOWNLOADS_DIR") from error

    def _client(self, limit_s: float) -> httpx2.Client:
        return client(self.limits.networks, limit_s)

    @property
    def _links(self) -> LinkReader:
        return LinkReader(self._client, self.limits.most_bytes, self.limits.limit_s)


def _lifted(known: Ledger, at: str) -> dict[str, Entry]:
    """Return the items that failed for good as items to be tried again."""
    failed = {identity: entry for identity, entry in known.items.items() if entry.status == "failed"}
    return {identity: replace(entry, status="waiting", attempts=0, at=at) for identity, entry in failed.items()}


def _stamp(now: datetime) -> str:
    return now.isoformat(timespec="microseconds")


def _delete(stem: str, folder: Path) -> None:
    """Delete all files of a download but its lock."""
    for path in folder.iterdir():
        if path.name.startswith(f"{stem}.") and path.suffix != ".lock":
            path.unlink(missing_ok=True)


def _trim(folder: Path, most_bytes: int) -> None:
    """Delete the oldest parts until all have at most `most_bytes`; those that a process downloads now are kept."""
    found: dict[str, tuple[float, int]] = {}
    for path in folder.iterdir():
        with suppress(OSError):
            stem, status = _STEM.match(path.name), path.stat()
            if stem and path.suffix != ".lock":
                newest, size = found.get(stem[1], (0.0, 0))
                found[stem[1]] = (max(newest, status.st_mtime), size + status.st_size)
    excess = sum(size for _, size in found.values()) - most_bytes
    for name, (_, size) in sorted(found.items(), key=lambda each: each[1]):
        if excess <= 0:
            return
        with suppress(Timeout, OSError), FileLock(folder / f"{name}.part.lock", timeout=0):
            _delete(name, folder)
            excess -= size


def _delete_abandoned(folder: Path) -> None:
    for path in folder.iterdir():
        try:
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()
        except OSError:
            log.debug("%s: in use or gone", path)
