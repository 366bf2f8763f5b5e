"""Concurrent writers to one search table: every row is present exactly once."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from transcription_assets.domain.passages import Sentence
from transcription_assets.errors import TransientFailure
from transcription_assets.search import schema, tables
from transcription_assets.search.index import Index
from transcription_assets.search.index_errors import FilesGone, translate_lancedb_errors
from transcription_assets.storage import Store
from transcription_assets_tests import seaweed
from transcription_assets_tests.stores import Case

WRITERS = 8
ROUNDS = 3
PASSAGES = 3
SHARED = "video/shared.mp4"


def rows(key: str, etag: str, count: int = PASSAGES, model: str = "none") -> pl.DataFrame:
    """The passages of one recording."""
    unit = [1.0, 0.0, 0.0, 0.0]
    card = schema.encode_card(
        key, title=key, language="en", recorded=None, duration_s=float(count), sentences=[Sentence(0.0, 1.0, "x")]
    )
    near = schema.encode_vectors(np.array([unit]))
    return pl.DataFrame(
        {
            "id": [f"{key}#{number}" for number in range(count)],
            "kind": ["speech"] * count,
            "media_key": [key] * count,
            "start_s": [float(number) for number in range(count)],
            "end_s": [number + 1.0 for number in range(count)],
            "title": [key] * count,
            "text": [f"{key} {etag} {number}" for number in range(count)],
            "language": ["en"] * count,
            "speakers": [[]] * count,
            "recorded": [None] * count,
            "duration_s": [float(count)] * count,
            "vector": [unit] * count,
            "embedding_model": [model] * count,
            "recipe": [model] * count,
            "media_etag": [etag] * count,
            "card": [card] * count,
            "near": [near] * count,
        },
        schema=schema.polars_schema(len(unit)),
    )


def write(uri: str, options: dict[str, str], writer: int) -> None:
    """Run several embedding runs in sequence, each with an own recording and one that all writers share."""
    table = Index(uri, options)
    for turn in range(ROUNDS):
        own = f"video/{writer}-{turn}.mp4"
        # Each version of the shared recording is shorter than the last: surplus rows must be deleted.
        both = pl.concat([rows(own, "1"), rows(SHARED, f"{writer}-{turn}", PASSAGES - turn)])
        table.replace(both, [own, SHARED])


@pytest.fixture
def ready(case: Case) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that have imported everything and wait for a line on stdin."""
    command = [sys.executable, "-m", __name__, case.store.url]
    started = [
        subprocess.Popen(
            [*command, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | seaweed.OWNER.variables,
        )
        for number in range(WRITERS)
    ]
    try:
        for process in started:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.timeout(1800)  # on a loaded machine many commits conflict, each for half a minute
def test_concurrent_embedding_runs_write_every_row_once(case: Case, ready: list[subprocess.Popen[str]]) -> None:
    # No table exists yet: all writers try to create it.
    for process in ready:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait() for process in ready] == [0] * WRITERS
    table = Index(case.store.lancedb_uri, case.store.lancedb_options)
    own = [f"video/{writer}-{turn}.mp4" for writer in range(WRITERS) for turn in range(ROUNDS)]
    held = table.row_counts([*own, SHARED])
    assert {key: count for (key, _), count in held.items() if key != SHARED} == dict.fromkeys(own, PASSAGES)
    # All rows of the shared recording belong to the last writer.
    ((_, etag), count), *others = [item for item in held.items() if item[0][0] == SHARED]
    assert others == []
    assert count == PASSAGES - int(etag.partition("-")[2])
    assert table.count() == len(own) * PASSAGES + count


def test_concurrent_table_creation_loses_no_rows(tmp_path: Path) -> None:
    for attempt in range(5):
        uri = str(tmp_path / str(attempt))
        together = threading.Barrier(WRITERS)

        def make(writer: int, uri: str = uri, together: threading.Barrier = together) -> None:
            together.wait()
            Index(uri).replace(rows(f"video/{writer}.mp4", "1"), [f"video/{writer}.mp4"])

        threads = [threading.Thread(target=make, args=(writer,)) for writer in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Index(uri).count() == WRITERS * PASSAGES


def test_maintenance_during_writes_loses_no_rows(case: Case) -> None:
    table = Index(case.store.lancedb_uri, case.store.lancedb_options)
    table.replace(rows(SHARED, "1"), [SHARED])
    other = threading.Thread(target=write, args=(case.store.lancedb_uri, case.store.lancedb_options, 0))
    other.start()
    while other.is_alive():
        table.maintain()
    other.join()
    assert table.maintain().rows == ROUNDS * PASSAGES + 1


@pytest.mark.parametrize(
    "lost",
    [
        "lance error: Too many concurrent writers. Attempted 4 times, but failed on retry_timeout of 30.000 seconds.",
        "lance error: Too many concurrent writers. Attempted 5 times",
        "lance error: Commit conflict for version 7",
        "lance error: Retryable commit conflict for version 7",
    ],
)
def test_repeated_commit_conflict_is_a_transient_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    table = Index(str(tmp_path))
    table.replace(rows(SHARED, "1"), [SHARED])
    pauses: list[float] = []
    monkeypatch.setattr(tables.time, "sleep", pauses.append)
    tried = []

    def lose(_newest: object) -> None:
        tried.append(1)
        raise RuntimeError(lost)

    with pytest.raises(TransientFailure):
        tables.Tables(table.uri, {}).retry_write(schema.table_name("none"), lose)
    assert len(tried) == tables.ATTEMPTS
    assert all(0 <= pause <= tables.LONGEST_PAUSE_S for pause in pauses)


FILE_GONE = "lance error: LanceError(IO): Generic N/A error: Wrapped error: Not found: a.lance/_versions/7.manifest"


def test_write_whose_files_are_removed_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables.time, "sleep", lambda _: None)
    failures = [RuntimeError(FILE_GONE), OSError(FILE_GONE)]

    def write(_newest: object) -> str:
        if failures:
            raise failures.pop()
        return "written"

    assert tables.Tables(str(tmp_path), {}).retry_write("none", write) == "written"


def test_files_that_stay_missing_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables.time, "sleep", lambda _: None)

    def fail(_newest: object) -> None:
        raise RuntimeError(FILE_GONE)

    with pytest.raises(FilesGone), translate_lancedb_errors("a"):
        tables.Tables(str(tmp_path), {}).retry_write("none", fail)


if __name__ == "__main__":
    store = Store.open(sys.argv[1])
    import lancedb  # noqa: F401 - import it before all writers start together

    print("ready", flush=True)  # noqa: T201 - what the parent waits for
    sys.stdin.readline()
    write(store.lancedb_uri, store.lancedb_options, int(sys.argv[2]))
