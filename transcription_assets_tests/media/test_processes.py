"""Choice of the ffmpeg, its time limit, and the end of its processes. Many tests use a fake script."""

import signal
import subprocess
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets import media
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.media import ffmpeg_process
from transcription_assets_tests import recordings
from transcription_assets_tests.media.calls import assert_gone, extract, probe, samples, script


def test_ffmpeg_on_the_path_is_preferred_to_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = script(tmp_path / "ffmpeg", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert media.find_ffmpeg() == own


def test_the_wheel_is_used_if_there_is_no_ffmpeg_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert media.find_ffmpeg() == recordings.wheel_ffmpeg()


def test_a_missing_configured_ffmpeg_is_an_error() -> None:
    with pytest.raises(PermanentFailure, match="/opt/nowhere/ffmpeg") as caught:
        media.find_ffmpeg("/opt/nowhere/ffmpeg")
    assert caught.value.hint


def test_a_missing_ffmpeg_is_named_in_the_error(tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.wav")
    with pytest.raises(PermanentFailure, match="/gone/ffmpeg"):
        probe(recording, str(tmp_path / "gone" / "ffmpeg"))


def test_endless_ffmpeg_messages_take_bounded_memory(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", "yes '[error] a complaint of many' | head -c 50000000 >&2; exit 1")
    tracemalloc.start()
    try:
        with pytest.raises(PermanentFailure, match="a complaint of many") as caught:
            probe(tmp_path / "a.mp4", fake)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 500
    assert peak < 15_000_000


@given(st.lists(st.binary(max_size=50)), st.integers(0, 3))
def test_output_is_collected_from_pieces_of_any_size(pieces: list[bytes], times: int) -> None:
    printed = ffmpeg_process.Printed()
    for piece in pieces * times:
        printed.feed(piece)
    assert bytes(printed) == b"".join(pieces * times)


@pytest.mark.parametrize("call", ["probe", "extract", "poster"])
def test_a_hanging_ffmpeg_is_killed_with_its_children(call: str, tmp_path: Path) -> None:
    pids, target = tmp_path / "pids", tmp_path / "a.out"
    fake = script(tmp_path / "fake-ffmpeg", f"sleep 300 & echo $$ $! > {pids}; : > {target}; wait")
    begin = time.monotonic()
    if call == "poster":
        assert not media.poster("/in.mp4", target, ffmpeg=fake, limit_s=2.0, at=0.0, width=640).taken
    else:
        with pytest.raises(PermanentFailure, match=r"^talks/a.mp4: .* 2 s"):
            probe("/in.mp4", fake, limit_s=2.0) if call == "probe" else extract("/in.mp4", target, fake, limit_s=2.0)
    assert time.monotonic() - begin < 60
    for pid in pids.read_text().split():
        assert_gone(int(pid))
    assert call == "probe" or not target.exists()


def test_an_ffmpeg_that_only_closes_its_pipes_is_killed(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", f"echo $$ > {tmp_path}/pid; exec >&- 2>&-; sleep 300; true")
    with pytest.raises(PermanentFailure, match=r"^talks/a.mp4: .* 2 s"):
        probe("/in.mp4", fake, limit_s=2.0)
    assert_gone(int((tmp_path / "pid").read_text()))


def test_an_orphaned_child_does_not_block_the_caller(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", f"sleep 300 & echo $! > {tmp_path}/pid; exit 1")
    with pytest.raises(PermanentFailure):
        probe("/in.mp4", fake, limit_s=2.0)
    assert_gone(int((tmp_path / "pid").read_text()))


def test_a_crash_of_ffmpeg_is_a_permanent_failure(tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", "echo '[error] overread of 12' >&2; kill -SEGV $$")
    with pytest.raises(PermanentFailure, match=r"^talks/a.mp4: .*SIGSEGV.*overread of 12"):
        probe("/in.mp4", fake)
    with pytest.raises(PermanentFailure, match="SIGSEGV"):
        samples("/in.mp4", fake)


INTERRUPTED = "echo '[info] Exiting normally, received signal 15.' >&2; exit 255"


def test_exit_code_255_is_a_permanent_failure(tmp_path: Path) -> None:
    recording = recordings.tone(tmp_path / "a.wav")
    fake = script(tmp_path / "fake-ffmpeg", "echo '[error] Operation not permitted' >&2; exit 255")
    with pytest.raises(PermanentFailure):
        probe(recording, fake)


@pytest.mark.parametrize("how", ["kill -KILL $$", "kill -TERM $$", INTERRUPTED])
def test_an_ffmpeg_killed_from_outside_is_a_transient_failure(how: str, tmp_path: Path) -> None:
    fake = script(tmp_path / "fake-ffmpeg", how)
    with pytest.raises(TransientFailure, match=r"SIGKILL|SIGTERM"):
        extract("/in.mp4", tmp_path / "a.flac", fake)


def test_a_stalled_ffmpeg_does_not_block_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media.decoding, "_STALL_S", 2.0)
    fake = script(tmp_path / "fake-ffmpeg", f"echo $$ > {tmp_path}/pid; head -c 32000 /dev/zero; sleep 300; true")
    blocks = media.read_samples("/in.flac", ffmpeg=fake)
    assert len(next(blocks)) == 16_000
    with pytest.raises(PermanentFailure, match=" 2 s"):
        next(blocks)
    assert_gone(int((tmp_path / "pid").read_text()))


def test_an_interrupted_extraction_leaves_no_process(tmp_path: Path, spawned: list[subprocess.Popen[bytes]]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # More than fits into a pipe: the signal arrives during a read, not while the process is being started.
    fake = script(tmp_path / "fake-ffmpeg", "head -c 200000 /dev/zero; kill -ALRM $PPID; sleep 300; true")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            extract("/in.mp4", tmp_path / "a.flac", fake)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [done.returncode for done in spawned] == [-signal.SIGKILL]


@given(st.none() | st.floats(0, 1e6), st.integers(0, 10**12), st.floats(0, 1e4), st.floats(0, 10))
def test_the_time_limit_has_a_minimum_and_grows_with_length(
    duration: float | None, size: int, floor_s: float, per_second: float
) -> None:
    limit = media.decode_limit(duration, size, floor_s=floor_s, per_second=per_second)
    assert limit >= floor_s
    assert media.decode_limit(duration, size + 10**9, floor_s=floor_s, per_second=per_second) >= limit
    if duration is not None:
        assert media.decode_limit(duration + 60, size, floor_s=floor_s, per_second=per_second) >= limit


def test_the_time_limit_without_a_duration_depends_on_the_size() -> None:
    hour_of_speech = 4_000 * 3_600
    assert media.decode_limit(None, hour_of_speech, floor_s=60, per_second=0.5) == 60 + 1_800


class Ended(BaseException):
    """Raised by the handler of a signal."""


def test_signal_while_a_process_starts_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler runs between two bytecodes, so also before `Popen` has returned the process."""
    pids = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            pids.append(self.pid)
            signal.raise_signal(signal.SIGTERM)

    def end(_number: int, _frame: object) -> None:
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(ffmpeg_process.subprocess, "Popen", Interrupted)
            with pytest.raises(Ended), ffmpeg_process.started(["sleep", "600"]):
                pytest.fail("the block must not begin")
        assert signal.getsignal(signal.SIGTERM) is end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert_gone(pids[0])
