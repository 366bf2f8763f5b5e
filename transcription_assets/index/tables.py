"""One search table in LanceDB: opened, made, written by many at once, kept in good order."""

import json
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError

from transcription_assets.failures import PermanentFailure, TransientFailure
from transcription_assets.index.errors import RAISED, is_lost_race, translated
from transcription_assets.storage.errors import said

if TYPE_CHECKING:
    import pyarrow as pa
    from obstore.store import ObjectStore

VECTOR_INDEX_ROWS = 20_000
"""Below this a scan of all vectors answers in milliseconds, and an index only costs."""
KEEP_VERSIONS = timedelta(hours=1)
"""A reader that opened an older version finishes in peace."""
ATTEMPTS = 10
"""At one write, each after LanceDB has lost several races in a row itself; with growing pauses, 40 s in the mean."""
LOCK_S = 60.0
LONGEST_PAUSE_S = 16.0
POINTER = "serving.json"

Result = TypeVar("Result")
log = logging.getLogger(__name__)


def awaited(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine, on LanceDB's own event loop: it survives a fork, which a loop of ours would not."""
    from lancedb.background_loop import LOOP

    done: Result = LOOP.run(work)  # type: ignore[no-untyped-call]  # it has no types
    return done


def has_cards(table: Any) -> bool:
    """Whether the table has the columns of now (decision 19); one that has not is never searched."""
    return "card" in table.schema.names


class Tables:
    """The folder of the tables, a path or `s3://…`, and the little file that says which of them is served."""

    def __init__(self, uri: str, options: dict[str, str]) -> None:
        self.uri = uri
        self._options = options
        self._opened: dict[str, Any] = {}
        self._readers: Any = None

    @cached_property
    def _connection(self) -> Any:
        import lancedb

        # Every look is at the newest version; what was read of it before stays in memory.
        return lancedb.connect(self.uri, storage_options=self._options or None, read_consistency_interval=timedelta(0))

    def names(self) -> list[str]:
        """Of all tables that are there."""
        if self._is_missing:
            return []
        return sorted(self._connection.list_tables().tables)

    def newest(self, name: str) -> Any:
        """The table, opened anew, or None where there is none."""
        if self._is_missing:
            return None
        try:
            return self._connection.open_table(name)
        except ValueError as error:
            if "not found" not in str(error):
                raise
        return None

    def held(self, name: str) -> Any:
        """The table, opened once for many looks, or None where there is none."""
        table = self._opened.get(name)
        if table is None:
            table = self.newest(name)
            if table is not None:
                self._opened[name] = table
        return table

    def reading(self, name: str, version: int) -> Any:
        """The table at this version, for coroutines."""

        async def opened() -> Any:
            import lancedb

            if self._readers is None:
                self._readers = await lancedb.connect_async(self.uri, storage_options=self._options or None)
            table = await self._readers.open_table(name)
            await table.checkout(version)
            return table

        return awaited(opened())

    def forget(self) -> None:
        """Open tables anew at the next look."""
        self._opened.clear()
        self._readers = None

    def drop(self, name: str) -> None:
        """Delete a table with all its versions."""
        self._connection.drop_table(name, ignore_missing=True)
        self._opened.pop(name, None)

    def make(self, name: str, schema: "pa.Schema") -> None:
        """Make the table, empty, unless another process made it in this moment.

        LanceDB's own `create_table` writes an empty version over a table that appeared after it had looked (0.40), and
        the rows of others are gone. So an empty table is made aside, and its manifest put where none is yet.
        """
        import lancedb

        with TemporaryDirectory() as folder:
            lancedb.connect(folder).create_table(name, schema=schema)
            (manifest,) = Path(folder).rglob("*.manifest")
            path = str(manifest.relative_to(folder))
            is_first = self.put_new(path, manifest.read_bytes())
        if is_first:
            # Without this index LanceDB cuts texts at spaces only, and keeps accents: some words could not be found.
            self._indexed(name, "text", _of_words())

    def put_new(self, path: str, content: bytes) -> bool:
        """Write a file of the folder where none is; False where another process was first."""
        with translated(self.uri):
            try:
                obstore.put(self._files, path, content, mode="create")
            except (AlreadyExistsError, PreconditionError):
                log.info("%s: another process made %s", self.uri, path)
                return False
        return True

    def pointer(self) -> dict[str, str]:
        """What the little file says; empty where there is none."""
        return self._pointer()[0]

    def point(self, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        """Replace what the little file says by what `change` makes of it; return what it says then.

        `change` is called again where another process was first, so that nobody's change is undone. It must not do
        anything else.

        Raises:
            TransientFailure: others kept changing it, or the store does not answer.

        """
        known = self.pointer()
        if change(known) == known:
            return known
        for attempt in range(ATTEMPTS):
            with self._one_at_a_time():
                before, etag = self._pointer()
                after = change(before)
                if after == before or self._put_pointer(after, etag):
                    return after
            time.sleep(_pause(attempt))
        raise TransientFailure(f"{self.uri}: others keep changing {POINTER}", hint="try again")

    def _pointer(self) -> tuple[dict[str, str], str | None]:
        """What the little file says, and its etag; None where there is no file."""
        if self._is_missing:
            return {}, None
        with translated(self.uri):
            try:
                found = obstore.get(self._files, POINTER)
                said = json.loads(bytes(found.bytes()))
            except (NotFoundError, FileNotFoundError):
                return {}, None
            except (json.JSONDecodeError, UnicodeDecodeError):
                said = None
        if not isinstance(said, dict):
            raise PermanentFailure(
                f"{self.uri}/{POINTER} is damaged: remove it, and run `transcription-assets index switch TABLE`",
                hint="remove it, and run `transcription-assets index switch TABLE`",
            )
        return said, found.meta["e_tag"]

    def _put_pointer(self, said: dict[str, str], etag: str | None) -> bool:
        """Write the little file unless it is another one by now."""
        content = json.dumps(said, indent=1).encode()
        if etag is None:
            return self.put_new(POINTER, content)
        with translated(self.uri):
            try:
                # A folder knows no conditions: there the lock keeps others away.
                obstore.put(self._files, POINTER, content, mode="overwrite" if self._is_local else {"e_tag": etag})
            except PreconditionError:
                return False
        return True

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Hold the lock on the little file of a folder; in a bucket its etag decides."""
        if not self._is_local:
            yield
            return
        from filelock import FileLock, Timeout

        with translated(self.uri):
            Path(self.uri).mkdir(parents=True, exist_ok=True)
            try:
                lock = FileLock(f"{self.uri}/{POINTER}.lock").acquire(timeout=LOCK_S)
            except Timeout:
                raise TransientFailure(f"{self.uri}: others keep {POINTER} locked", hint="try again") from None
        with lock:
            yield

    def written(self, name: str, write: Callable[[Any], Result]) -> Result:
        """Write to the newest version; LanceDB tries again ten times itself where others are first, then we do."""
        for attempt in range(ATTEMPTS):
            try:
                # Opened anew: one that has lost a race stays at the version that it knows, and loses again.
                return write(self.newest(name))
            except RAISED as error:
                if not is_lost_race(error):
                    raise
                lost = said(error)
            log.info("others write to the search table, attempt %s of %s: %s", attempt + 1, ATTEMPTS, lost)
            time.sleep(_pause(attempt))
        raise TransientFailure(f"others keep writing to the search table: {lost}", hint="try again")

    def cared_for(self, name: str) -> None:
        """Build the indexes that pay, take new rows into them, compact, and drop old versions; readers go on reading.

        Rows that an index does not hold yet are scanned by each search, so they are found all the time.
        """
        table = self.newest(name)
        if table is None or not has_cards(table):
            return  # dropped in this moment by another who cares for them, or not searched any more
        rows = int(table.count_rows())
        there = {column for item in table.list_indices() for column in item.columns}
        for column, config in _worthwhile(rows):
            if column not in there:
                self._indexed(name, column, config)
        self.written(name, lambda table: table.optimize(cleanup_older_than=KEEP_VERSIONS))

    def _indexed(self, name: str, column: str, config: Any) -> None:
        self.written(name, lambda table: table.create_index(column, config=config))

    @property
    def _is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def _is_missing(self) -> bool:
        """Whether there is no folder yet. Nobody who only reads makes it, as a connection of LanceDB would."""
        return self._is_local and not Path(self.uri).is_dir()

    @cached_property
    def _files(self) -> "ObjectStore":
        """The folder, without LanceDB."""
        from obstore.store import LocalStore, S3Store

        if self._is_local:
            return LocalStore(self.uri, mkdir=True)
        options = dict(self._options)
        allow_http = options.pop("allow_http", "false") == "true"
        # Not `from_url`: obstore 0.12 does not know `aws_endpoint_url_s3` there.
        bucket, _, prefix = self.uri.partition("://")[2].partition("/")
        return S3Store(bucket, prefix=prefix, config=options, client_options={"allow_http": allow_http})  # type: ignore[arg-type]


def _pause(attempt: int) -> float:
    """Seconds before the next attempt: longer each time, and random, so that those who collided do not meet again."""
    return random.uniform(0.0, min(LONGEST_PAUSE_S, 0.25 * 2**attempt))  # noqa: S311 -- no secret


def _of_words() -> Any:
    """Words as they are spoken, in any script.

    No stemming, which is of one language, and no stop words, so that "to be or not to be" can be found as a phrase;
    frequent words are left out of questions instead.
    """
    from lancedb.index import FTS

    return FTS(with_position=True, base_tokenizer="icu/split", stem=False, remove_stop_words=False)


def _worthwhile(rows: int) -> list[tuple[str, Any]]:
    """The indexes that pay for so many rows: words first, then filters, then vectors."""
    from lancedb.index import Bitmap, BTree, IvfRq, LabelList

    if not rows:
        return []
    wanted: list[tuple[str, Any]] = [("text", _of_words())]
    if rows >= VECTOR_INDEX_ROWS:
        wanted += [("media_key", BTree()), ("language", Bitmap()), ("recorded", BTree()), ("duration_s", BTree())]
        wanted += [("speakers", LabelList()), ("vector", IvfRq(distance_type="dot"))]
    return wanted
