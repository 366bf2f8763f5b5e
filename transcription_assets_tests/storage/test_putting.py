"""Recordings put into a folder are complete or absent, despite concurrent writers and failures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from transcription_assets.errors import StoreFull, TranscriptionError
from transcription_assets.storage import Store, temporary
from transcription_assets_tests.stores import listed

SIZE = 16 << 20


def others(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "video").iterdir())


def test_concurrent_puts_of_one_name_never_mix_files(folder: Path, tmp_path: Path) -> None:
    store = Store.open(str(folder))
    sources = [tmp_path / letter for letter in "ab"]
    for source in sources:
        source.write_bytes(source.name.encode() * SIZE)
    whole = {source.read_bytes() for source in sources}
    started = [
        subprocess.Popen([sys.executable, "-m", __name__, str(folder), str(source)], stdin=subprocess.PIPE)
        for source in sources
    ]
    for process in started:
        process.communicate(b"go\n")
    assert [process.returncode for process in started] == [0, 0]
    assert (folder / "video/a.mp4").read_bytes() in whole
    assert others(folder) == ["a.mp4"]
    assert listed(store) == ["video/a.mp4"]


def test_failed_write_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    Store.open(str(folder))
    source = tmp_path / "a"
    source.write_bytes(b"x" * SIZE)
    code = f"""
import resource
from pathlib import Path
from transcription_assets.errors import StoreFull
from transcription_assets.storage import Store
store = Store.open({str(folder)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    store.put_media('video/a.mp4', Path({str(source)!r}))
except StoreFull:
    raise SystemExit(3)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 3
    assert others(folder) == []


def test_unreadable_source_leaves_the_old_recording(folder: Path, tmp_path: Path) -> None:
    store = Store.open(str(folder))
    (folder / "video/a.mp4").write_bytes(b"old")
    with pytest.raises(TranscriptionError):
        store.put_media("video/a.mp4", tmp_path)  # a folder cannot be read
    assert others(folder) == ["a.mp4"]
    assert (folder / "video/a.mp4").read_bytes() == b"old"


def test_only_parts_of_dead_writers_are_deleted(folder: Path, tmp_path: Path) -> None:
    store = Store.open(str(folder))
    (tmp_path / "a").write_bytes(b"whole")
    abandoned = folder / "video/.0123456789abcdef.part#1"
    abandoned.write_bytes(b"half")
    with temporary.published(folder / "video/living.mp4") as living:
        store.put_media("video/a.mp4", tmp_path / "a")
        assert Path(living.name).exists()
        assert not abandoned.exists()
        living.write(b"more")
    assert others(folder) == ["a.mp4", "living.mp4"]


def test_longest_possible_name_can_be_put(folder: Path, tmp_path: Path) -> None:
    store = Store.open(str(folder))
    (tmp_path / "a").write_bytes(b"x")
    name = "n" * 251 + ".mp4"
    store.put_media(f"video/{name}", tmp_path / "a")
    assert others(folder) == [name]


def test_full_disk_is_store_full_for_obstore_and_os_errors() -> None:
    from transcription_assets.storage.errors import to_failure

    told = "Generic LocalFileSystem error: Unable to copy data to file: No space left on device (os error 28)\n\nDebug"
    for error in (OSError(28, os.strerror(28)), ValueError(told)):
        found = to_failure(error, "a.json")
        assert isinstance(found, StoreFull)
        assert "free" in found.hint


if __name__ == "__main__":
    target = Store.open(sys.argv[1])
    sys.stdin.readline()
    for _ in range(3):
        target.put_media("video/a.mp4", Path(sys.argv[2]))
