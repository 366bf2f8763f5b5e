"""Failures below the search table: each has the right type, and no hint suggests deleting data."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from transcription_assets.errors import (
    PermanentFailure,
    Refused,
    StoreAway,
    StoreFull,
    TranscriptionError,
    TransientFailure,
)
from transcription_assets.search import index_errors
from transcription_assets.search.index import Index
from transcription_assets.search.index_errors import FilesGone
from transcription_assets.search.tables import Tables
from transcription_assets_tests.search.test_writers import SHARED, rows

WRITES: dict[str, Callable[[Index], object]] = {
    "replace": lambda table: table.replace(rows("video/b.mp4", "1"), ["video/b.mp4"]),
    "remove": lambda table: table.remove([SHARED]),
    "maintain": lambda table: table.maintain(),
    "other table": lambda table: table.replace(rows("video/b.mp4", "1", model="other"), ["video/b.mp4"]),
}
NOBODY = 65_534


def kind_of(text: str, raised: type[Exception] = RuntimeError) -> type[TranscriptionError]:
    with pytest.raises(TranscriptionError) as failure, index_errors.translate_lancedb_errors("lancedb"):
        raise raised(text)
    assert "delete" not in str(failure.value)
    assert ".rs" not in str(failure.value)
    return failure.type


WHERE = ", /root/.cargo/registry/src/x-1/lance-file-13.0.0/src/writer/structural.rs:258:9"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"lance error: LanceError(IO): No space left on device (os error 28){WHERE}", StoreFull),
        (f"LanceError(IO): Generic LocalFileSystem error: Disk quota exceeded (os error 122){WHERE}", StoreFull),
        (
            f'LanceError(IO): Read-only file system (os error 30) at path "/a/_transactions/.tmp"{WHERE}',
            TransientFailure,
        ),
        (f"LanceError(IO): Permission denied (os error 13){WHERE}", Refused),
        (
            f"lance error: Too many concurrent writers. Attempted 5 times, but failed on retry_timeout{WHERE}",
            TransientFailure,
        ),
        (f"lance error: Commit conflict for version 7: other transaction{WHERE}", TransientFailure),
        ("Generic S3 error: Server returned non-2xx status code: 403 Forbidden: <?xml?><Error><Code>x</Code>", Refused),
        ("Failed to connect to namespace: IO { inner: Status { status: 403, body: None } }", Refused),
        ("Error performing GET http://h/a?X-Amz-Security-Token=1 in 1s - error sending request", StoreAway),
        ("Server returned non-2xx status code: 503 Service Unavailable: ", StoreAway),
        (f"LanceError(IO): Object at location a/_versions/1.manifest not found{WHERE}", FilesGone),
        (f"LanceError(IO): the magic number does not match{WHERE}", PermanentFailure),
    ],
)
def test_lancedb_messages_map_to_error_types(text: str, kind: type[TranscriptionError]) -> None:
    assert kind_of(text) is kind
    assert kind_of(text, ValueError) is kind


def in_a_child(uri: Path, name: str, prelude: str) -> str:
    """Write in a process that `prelude` restricts; return the name of the failure type."""
    command = [sys.executable, "-m", __name__, str(uri), name, prelude]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


@pytest.mark.parametrize("name", WRITES)
def test_file_size_limit_is_store_full_and_leaves_table_usable(tmp_path: Path, name: str) -> None:
    Index(str(tmp_path)).replace(rows(SHARED, "1"), [SHARED])
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))"
    assert in_a_child(tmp_path, name, limit) == "StoreFull"
    WRITES[name](Index(str(tmp_path)))


@pytest.mark.parametrize("name", WRITES)
def test_read_only_folder_is_refused_until_it_is_writable(tmp_path: Path, name: str) -> None:
    table = tmp_path / "lancedb"
    Index(str(table)).replace(rows(SHARED, "1"), [SHARED])
    folders = [path for path in (table, *table.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == os.geteuid():
            above.chmod(above.stat().st_mode | 0o055)
    nobody = f"import os; os.setuid({NOBODY})" if os.geteuid() == 0 else ""
    assert in_a_child(table, name, nobody) == "Refused"
    for folder in folders:
        folder.chmod(0o755)
    WRITES[name](Index(str(table)))


@pytest.mark.parametrize("read", [lambda tables: tables.names(""), Tables.pointer], ids=["names", "pointer"])
def test_reading_a_missing_folder_does_not_create_it(tmp_path: Path, read: Callable[[Tables], object]) -> None:
    table = Index(str(tmp_path / "lancedb"))
    assert (table.snapshot(), table.count(), table.recordings(), table.status()) == (None, 0, set(), [])
    assert table.row_counts(["video/a.mp4"]) == {}
    assert not read(table._tables)  # noqa: SLF001 -- used by all methods
    assert not (tmp_path / "lancedb").exists()


if __name__ == "__main__":
    import lancedb  # noqa: F401 -- import it before the process loses access to its files

    opened = Index(sys.argv[1])
    opened.count()
    exec(sys.argv[3])  # noqa: S102 -- of this module
    try:
        WRITES[sys.argv[2]](opened)
    except TranscriptionError as error:
        print(type(error).__name__)  # noqa: T201 -- for the parent
    else:
        print("none")  # noqa: T201
