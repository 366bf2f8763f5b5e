"""The LanceDB tables of a folder or bucket: opening, creating, concurrent writes, maintenance, state, pointer file."""

import json
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError

from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.search.index_errors import RAISED, are_files_gone, is_lost_race, translate_lancedb_errors
from transcription_assets.search.schema import PACKED
from transcription_assets.storage import temporary
from transcription_assets.storage.errors import error_text

if TYPE_CHECKING:
    import pyarrow as pa
    from obstore.store import ObjectStore


VECTOR_INDEX_ROWS = 20_000
"""Below this number of rows a scan of all vectors takes milliseconds, and an index only costs."""
KEEP_VERSIONS = timedelta(hours=1)
"""Readers that opened an older version can use it for this long."""
ATTEMPTS = 10
"""Attempts for one write, each after LanceDB's own retries, with growing pauses: 40 s in all on average."""
LOCK_S = 60.0
LONGEST_PAUSE_S = 16.0
POINTER = "serving.json"

Result = TypeVar("Result")
log = logging.getLogger(__name__)


def run_coroutine(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on LanceDB's own event loop, which survives a fork, and return its result."""
    from lancedb.background_loop import LOOP

    done: Result = LOOP.run(work)  # type: ignore[no-untyped-call]  # it has no types
    return done


def is_searchable(table: Any) -> bool:
    """Return whether the table has a card for each row; without it a table must be rebuilt (decision 19)."""
    return not {"card", PACKED}.isdisjoint(table.schema.names)


class Tables:
    """The folder or `s3://…` of the tables, with the pointer file that records which of them is served.

    LanceDB's own exceptions (`errors.RAISED`) pass through all methods; `Index` translates them.
    """

    def __init__(self, uri: str, options: dict[str, str]) -> None:
        self.uri = uri
        self._options = options
        self._opened: dict[str, Any] = {}
        self._readers: Any = None

    @cached_property
    def _connection(self) -> Any:
        import lancedb

        # Every read checks for the newest version; data of an unchanged version stays in memory.
        return lancedb.connect(self.uri, storage_options=self._options or None, read_consistency_interval=timedelta(0))

    def names(self, prefix: str) -> list[str]:
        """Return the names of the tables with this prefix, sorted."""
        if self._is_missing:
            return []
        return sorted(name for name in self._connection.list_tables().tables if name.startswith(prefix))

    def newest(self, name: str) -> Any:
        """Open the newest version of a table; None if there is none."""
        if self._is_missing:
            return None
        try:
            return self._connection.open_table(name)
        except ValueError as error:
            if "not found" not in str(error):  # LanceDB 0.40 raises a plain ValueError for a missing table
                raise
        return None

    def open_cached(self, name: str) -> Any:
        """Return the table from the cache of open tables; None if there is none."""
        table = self._opened.get(name)
        if table is None:
            table = self.newest(name)
            if table is not None:
                self._opened[name] = table
        return table

    def open_async(self, name: str, version: int) -> Any:
        """Open the table at this version for use in coroutines."""

        async def opened() -> Any:
            import lancedb

            if self._readers is None:
                self._readers = await lancedb.connect_async(self.uri, storage_options=self._options or None)
            table = await self._readers.open_table(name)
            await table.checkout(version)
            return table

        return run_coroutine(opened())

    def forget(self) -> None:
        """Clear the cache of open tables."""
        self._opened.clear()
        self._readers = None

    def drop(self, name: str) -> None:
        """Delete a table with all its versions."""
        self._connection.drop_table(name, ignore_missing=True)
        self._opened.pop(name, None)

    def create(self, name: str, schema: "pa.Schema") -> None:
        """Create an empty table unless another process does so at the same time; index its column `text` if it has one.

        LanceDB's `create_table` writes an empty version over a table that appeared after its own check (0.40), and the
        rows of others are lost. So the table is created in a temporary folder, and its manifest is written only if none
        exists.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        import lancedb

        with temporary.folder() as folder:
            lancedb.connect(folder).create_table(name, schema=schema)
            (manifest,) = folder.rglob("*.manifest")
            path = str(manifest.relative_to(folder))
            is_first = self.put_new(path, manifest.read_bytes())
        if is_first and "text" in schema.names:
            # Without this index LanceDB splits text at spaces only and keeps accents: some words would not be found.
            self._create_index(name, "text", _word_index())

    def put_new(self, path: str, content: bytes) -> bool:
        """Write a file of the folder if none exists; return False if another process was first.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        with translate_lancedb_errors(self.uri):
            try:
                obstore.put(self._files, path, content, mode="create")
            except (AlreadyExistsError, PreconditionError):
                log.info("%s: another process created %s", self.uri, path)
                return False
        return True

    def put(self, path: str, content: bytes) -> None:
        """Write a file of the folder, also over an existing one.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        with translate_lancedb_errors(self.uri):
            obstore.put(self._files, path, content)

    def get(self, path: str, known_etag: str | None = None) -> tuple[bytes | None, str | None]:
        """Return the content of a file of the folder and its ETag.

        The content is None if there is no file, or if the file still has the ETag `known_etag`.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        if self._is_missing:
            return None, None
        with translate_lancedb_errors(self.uri):
            try:
                etag = obstore.head(self._files, path)["e_tag"]
                if etag is not None and etag == known_etag:
                    return None, etag
                found = obstore.get(self._files, path)
                return bytes(found.bytes()), found.meta["e_tag"]
            except (NotFoundError, FileNotFoundError):
                return None, None

    def delete(self, path: str) -> None:
        """Delete a file of the folder, if it exists.

        Raises:
            TranscriptionError: the store refuses or does not answer.

        """
        with translate_lancedb_errors(self.uri), suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._files, path)

    def pointer(self) -> dict[str, str]:
        """Return the content of the pointer file, empty if there is none.

        Raises:
            PermanentFailure: the file is damaged.
            TranscriptionError: the store refuses or does not answer.

        """
        return self._pointer()[0]

    def change_pointer(self, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        """Replace the content of the pointer file by `change(content)` and return the new content.

        `change` is called again if another process wrote first, so that no change is lost. It must have no side
        effects.

        Raises:
            TransientFailure: others kept changing the file, or the store does not answer.
            PermanentFailure: the file is damaged, or the store refuses.

        """
        current = self.pointer()
        if change(current) == current:
            return current
        for attempt in range(ATTEMPTS):
            with self._pointer_lock():
                before, etag = self._pointer()
                after = change(before)
                if after == before or self._put_pointer(after, etag):
                    return after
            time.sleep(_pause(attempt))
        raise TransientFailure(f"{self.uri}: too many concurrent changes of {POINTER}; try again", hint="try again")

    def _pointer(self) -> tuple[dict[str, str], str | None]:
        """Return the content of the pointer file and its ETag, which is None if there is no file."""
        if self._is_missing:
            return {}, None
        with translate_lancedb_errors(self.uri):
            try:
                found = obstore.get(self._files, POINTER)
                content = json.loads(bytes(found.bytes()))
            except (NotFoundError, FileNotFoundError):
                return {}, None
            except (json.JSONDecodeError, UnicodeDecodeError):
                content = None
        if not isinstance(content, dict):
            raise PermanentFailure(
                f"{self.uri}/{POINTER} is damaged: remove it, and run `transcription-assets index switch TABLE`",
                hint="remove it, and run `transcription-assets index switch TABLE`",
            )
        return content, found.meta["e_tag"]

    def _put_pointer(self, pointer: dict[str, str], etag: str | None) -> bool:
        """Write the pointer file; return False if it has changed since `etag` was read."""
        content = json.dumps(pointer, indent=1).encode()
        if etag is None:
            return self.put_new(POINTER, content)
        with translate_lancedb_errors(self.uri):
            try:
                # Local folders have no conditional writes: there the lock excludes others.
                obstore.put(self._files, POINTER, content, mode="overwrite" if self._is_local else {"e_tag": etag})
            except PreconditionError:
                return False
        return True

    @contextmanager
    def _pointer_lock(self) -> Iterator[None]:
        """Hold the lock on the pointer file of a local folder; a bucket has conditional writes by ETag instead."""
        if not self._is_local:
            yield
            return
        from filelock import FileLock, Timeout

        with translate_lancedb_errors(self.uri):
            Path(self.uri).mkdir(parents=True, exist_ok=True)
            try:
                lock = FileLock(f"{self.uri}/{POINTER}.lock").acquire(timeout=LOCK_S)
            except Timeout:
                raise TransientFailure(
                    f"{self.uri}: {POINTER} is locked by another process; try again", hint="try again"
                ) from None
        with lock:
            yield

    def retry_write(self, name: str, write: Callable[[Any], Result]) -> Result:
        """Call `write` with the newest version of the table; retry lost races after LanceDB's own ten retries.

        `write` gets None if there is no such table, for example because another process has just dropped it.
        A write whose files were removed by the clean-up of another process is repeated, too.

        Raises:
            TransientFailure: others kept writing at the same time.

        """
        for attempt in range(ATTEMPTS):
            try:
                # Opened again for each attempt: a table object that has lost a race stays at its version and loses
                # again.
                return write(self.newest(name))
            except RAISED as error:
                is_last = attempt == ATTEMPTS - 1
                if not is_lost_race(error) and (is_last or not are_files_gone(error)):
                    raise
                lost = error_text(error)
            log.info("concurrent write to the search table, attempt %s of %s: %s", attempt + 1, ATTEMPTS, lost)
            time.sleep(_pause(attempt))
        raise TransientFailure(f"too many concurrent writes to the search table: {lost}; try again", hint="try again")

    def maintain(self, name: str) -> None:
        """Build the indexes that pay, add new rows to them, compact, and drop old versions, without blocking readers.

        Rows that are not in an index yet are scanned by each search, so all rows can be found at any time.

        Raises:
            TransientFailure: others kept writing at the same time.

        """
        table = self.newest(name)
        if table is None or not is_searchable(table):
            return  # dropped meanwhile by the maintenance of another process, or not searched any more
        rows = int(table.count_rows())
        indexed = {column for item in table.list_indices() if _is_complete(item) for column in item.columns}
        for column, config in _indexes_for(rows):
            if column not in indexed and column in table.schema.names:  # those of earlier columns have no kind
                self._create_index(name, column, config)
        self.retry_write(name, lambda table: table is None or table.optimize(cleanup_older_than=KEEP_VERSIONS))

    def _create_index(self, name: str, column: str, config: Any) -> None:
        self.retry_write(name, lambda table: table is None or table.create_index(column, config=config))

    @property
    def _is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def _is_missing(self) -> bool:
        """True if the local folder does not exist. Readers must not create it, as a connection of LanceDB would."""
        return self._is_local and not Path(self.uri).is_dir()

    @cached_property
    def _files(self) -> "ObjectStore":
        """The folder as an object store, for files outside the tables."""
        from obstore.store import LocalStore, S3Store

        if self._is_local:
            return LocalStore(self.uri, mkdir=True)
        options = dict(self._options)
        allow_http = options.pop("allow_http", "false") == "true"
        # Not `from_url`: it does not accept `aws_endpoint_url_s3` (obstore 0.12).
        bucket, _, prefix = self.uri.partition("://")[2].partition("/")
        return S3Store(bucket, prefix=prefix, config=options, client_options={"allow_http": allow_http})  # type: ignore[arg-type]


def _pause(attempt: int) -> float:
    """Return the seconds before the next attempt: growing, and random so that processes do not collide again."""
    return random.uniform(0.0, min(LONGEST_PAUSE_S, 0.25 * 2**attempt))  # noqa: S311 -- no secret


def _word_index() -> Any:
    """Return the full-text index of words in any script.

    It has no stemming, which is specific to one language, and no stop words, so that "to be or not to be" can be found
    as a phrase; frequent words are left out of questions instead. Words of any length are indexed: LanceDB's default of
    40 bytes is 20 Cyrillic letters, or 13 of scripts such as Georgian.
    """
    from lancedb.index import FTS

    return FTS(
        with_position=True, base_tokenizer="icu/split", max_token_length=None, stem=False, remove_stop_words=False
    )


def _is_complete(index: Any) -> bool:
    """Return whether an index has all words; those of earlier versions lack long ones. True for other indexes."""
    return (index.index_details or {}).get("max_token_length") is None


def _indexes_for(rows: int) -> list[tuple[str, Any]]:
    """Return the indexes that pay for so many rows: words first, then filters, then vectors."""
    from lancedb.index import Bitmap, BTree, IvfRq, LabelList

    if not rows:
        return []
    indexes: list[tuple[str, Any]] = [("text", _word_index())]
    if rows >= VECTOR_INDEX_ROWS:
        indexes += [("media_key", BTree()), ("language", Bitmap()), ("recorded", BTree()), ("duration_s", BTree())]
        indexes += [("kind", Bitmap()), ("speakers", LabelList()), ("vector", IvfRq(distance_type="dot"))]
    return indexes


@dataclass(frozen=True, slots=True)
class IndexState:
    """State of the served table after maintenance, and the name of the one under construction ("" if none)."""

    rows: int
    recordings: int
    fragments: int
    version: int
    vector_index: bool
    table: str = ""
    building: str = ""


@dataclass(frozen=True, slots=True)
class VersionState:
    """State of one table: its recipe, its size, and how many recordings of the served table it lacks.

    It is `refused` if a user has switched away from it: it is not served again by itself.
    """

    table: str
    role: str
    embedding_model: str
    recipe: str
    rows: int
    recordings: int
    missing: int
    indexes: tuple[str, ...]
    refused: bool = False
