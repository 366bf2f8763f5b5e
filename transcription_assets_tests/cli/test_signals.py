"""`process` and `put` ended by signals: exit code and output, and the clean-up of temporary folders and files."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import pytest

from transcription_assets.storage import temporary
from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import assert_gone, script

REAL = recordings.wheel_ffmpeg()


def started(tmp_path: Path, *prefix: str) -> subprocess.Popen[str]:
    """Start `process` on one recording, with a FAKE ffmpeg script that never finishes an extraction."""
    (tmp_path / "store/audio").mkdir(parents=True, exist_ok=True)
    (tmp_path / "tmp").mkdir(exist_ok=True)
    recordings.tone(tmp_path / "store/audio/a.wav", 1.0)
    body = f'case "$*" in *" flac "*) echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 300;; esac'
    fake = script(tmp_path / "fake-ffmpeg", f'{body}; exec {REAL} "$@"')
    environment = os.environ | {
        "TRANSCRIPTION_STORE": str(tmp_path / "store"),
        "TRANSCRIPTION_FFMPEG": fake,
        "TRANSCRIPTION_SETTLE_S": "0",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    command = [*prefix, sys.executable, "-c", "from transcription_assets.cli.main import main; main()", "process"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def decoder_of(process: subprocess.Popen[str], tmp_path: Path) -> int:
    """Wait until the extraction has started and return its process ID."""
    while not (tmp_path / "pid").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return int((tmp_path / "pid").read_text())


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_signals_end_process_with_a_summary_and_clean_up(
    number: signal.Signals, exit_code: int, tmp_path: Path
) -> None:
    process = started(tmp_path)
    decoder = decoder_of(process, tmp_path)
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == exit_code
    assert "0 done, 0 unchanged, 0 failed" in out
    assert not list((tmp_path / "tmp").iterdir())
    assert_gone(decoder)


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_signals_end_put_without_a_part_of_a_file(number: signal.Signals, exit_code: int, tmp_path: Path) -> None:
    with (tmp_path / "long.wav").open("wb") as file:
        file.truncate(4 << 30)  # sparse: the signal arrives while it is copied
    command = [sys.executable, "-c", "from transcription_assets.cli.main import main; main()", "put"]
    environment = os.environ | {"TRANSCRIPTION_STORE": str(tmp_path / "store")}
    process = subprocess.Popen([*command, str(tmp_path / "long.wav")], env=environment, stderr=subprocess.PIPE)
    while not list(tmp_path.glob("store/audio/.*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == exit_code
    assert not list((tmp_path / "store/audio").iterdir())


def test_process_under_nohup_ignores_sighup(tmp_path: Path) -> None:
    process = started(tmp_path, "nohup")
    decoder_of(process, tmp_path)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 143


def test_folders_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    process = started(tmp_path)
    decoder_of(process, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert list((tmp_path / "tmp").glob(f"{temporary.PREFIX}*"))
    temporary.clear_abandoned(tmp_path / "tmp")
    assert not list((tmp_path / "tmp").iterdir())


def test_folder_in_use_is_kept(tmp_path: Path) -> None:
    used, unlocked, strange = (tmp_path / f"{temporary.PREFIX}{name}" for name in ("used", "unlocked", "strange"))
    for folder in (used, unlocked):
        folder.mkdir()
    strange.symlink_to(tmp_path)
    with (used / temporary.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        temporary.clear_abandoned(tmp_path)
        assert all(path.exists() for path in (used, unlocked, strange))


def test_folder_removed_before_it_is_locked_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process cleans up between the creation of the lock file and the lock."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lock, overtaken = fcntl.flock, []

    def flock(file: IO[str], how: int) -> None:
        if not overtaken:
            overtaken.append(Path(file.name).parent)
            temporary.clear_abandoned.__wrapped__(tmp_path)
        lock(file, how)

    temporary.clear_abandoned(tmp_path)
    monkeypatch.setattr(fcntl, "flock", flock)
    with temporary.folder() as made:
        (made / "a").write_bytes(b"a")
        assert overtaken != [made]
        temporary.clear_abandoned.__wrapped__(tmp_path)
        assert made.exists()
    assert not list(tmp_path.iterdir())


def test_abandoned_folder_is_locked_during_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is about to lock the folder waits, and then finds that it is gone."""
    left = tmp_path / f"{temporary.PREFIX}left"
    left.mkdir()
    (left / temporary.LOCK).touch()
    remove = shutil.rmtree

    def rmtree(folder: Path, **how: Any) -> None:
        with (left / temporary.LOCK).open("w") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(folder, **how)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    temporary.clear_abandoned(tmp_path)
    assert not left.exists()


def test_folders_are_kept_on_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_file: IO[str], _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", flock)
    with temporary.folder() as made:
        temporary.clear_abandoned.__wrapped__(tmp_path)
        assert made.exists()
    assert not made.exists()


def test_an_old_folder_without_a_lock_is_removed(tmp_path: Path) -> None:
    """Its process was killed before it made the lock file."""
    old = tmp_path / f"{temporary.PREFIX}old"
    old.mkdir()
    os.utime(old, (0, 0))
    temporary.clear_abandoned(tmp_path)
    assert not old.exists()


def test_folders_are_removed_before_a_sudden_exit(tmp_path: Path) -> None:
    code = """
import os
from contextlib import suppress
from transcription_assets.storage import temporary
with temporary.folder() as folder:
    (folder / "a").write_bytes(b"a")
    temporary.end()
    with suppress(SystemExit), temporary.folder():
        os._exit(1)
    os._exit(0)
"""
    variables = os.environ | {"TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=variables, check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []
