"""The command line as people and scripts use it: exit codes, one-line errors, JSON."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets import settings
from transcription_assets.cli import process as working
from transcription_assets.cli.main import main
from transcription_assets.cli.search import CONTEXT, around
from transcription_assets.domain import media_keys as keys
from transcription_assets.embedding import Weights
from transcription_assets.errors import TransientFailure
from transcription_assets.evaluation.calibration import Calibration
from transcription_assets.models.catalogue import CATALOGUE
from transcription_assets.search.index import Index
from transcription_assets.search.query import HighlightPart
from transcription_assets.storage import Store, temporary
from transcription_assets.wiring import Services
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain, sentences
from transcription_assets_tests.demo import WIZARD
from transcription_assets_tests.fakes import HashEncoder

Command = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an empty store with its inboxes, configured by environment variables."""
    for name, _, _ in settings.table():
        if name not in {"TRANSCRIPTION_MODELS_DIR", "TRANSCRIPTION_FFMPEG"}:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRANSCRIPTION_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("TRANSCRIPTION_SETTLE_S", "0")
    monkeypatch.setenv("COLUMNS", "500")
    (tmp_path / "store/video").mkdir(parents=True)
    (tmp_path / "store/audio").mkdir()
    return tmp_path / "store"


@pytest.fixture
def command(store: Path) -> Command:
    """Return a function that runs a command in this process and asserts that no stack trace is printed."""
    assert store

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    return run


def test_process_removes_folders_of_a_killed_process(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / f"tmp/{temporary.PREFIX}left"
    left.mkdir(parents=True)
    (left / temporary.LOCK).touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert command("process").exit_code == 0
    assert not left.exists()


def test_empty_inbox_is_a_success_and_its_path_is_printed(command: Command, store: Path) -> None:
    result = command("process")
    assert result.exit_code == 0
    assert str(store / "video") in result.output


def test_bad_recordings_exit_with_code_1_and_a_reason_each(command: Command, store: Path) -> None:
    (store / "video/garbage.mp4").write_bytes(b"nothing of the kind" * 100)
    (store / "video/empty.mkv").touch()
    recordings.video_without_audio(store / "video/mute.mp4", 1.0)
    (store / "video/notes.txt").touch()
    result = command("process")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    for name, reason in {
        "video/garbage.mp4": "Invalid data",
        "video/empty.mkv": "0 bytes",
        "video/mute.mp4": "no audio stream",
    }.items():
        assert any(name in line and reason in line for line in lines), name
    assert "3 failed" in result.output
    assert "ignored 1 file (unsupported extension)" in result.output


def test_missing_named_recording_is_reported_as_not_found(command: Command) -> None:
    result = command("process", "video/nowhere.mp4")
    assert result.exit_code == 1
    assert "video/nowhere.mp4" in result.output
    assert isinstance(result.exception, SystemExit)


def test_path_traversal_in_a_name_is_refused(command: Command) -> None:
    result = command("process", "video/../../secret.mp4")
    assert result.exit_code == 1
    assert "video/../../secret.mp4" in result.output


def test_named_recording_is_processed_while_others_are_copied(
    command: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSCRIPTION_SETTLE_S", "3600")
    (store / "video/big.mp4").write_bytes(b"the first of many")
    (store / "video/empty.mkv").touch()
    result = command("process", "video/empty.mkv")
    assert result.exit_code == 1
    assert "0 bytes" in result.output
    assert "big.mp4" not in result.output


def test_growing_recording_is_skipped_with_exit_code_3(
    command: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSCRIPTION_SETTLE_S", "60")
    growing = store / "video/big.mp4"
    growing.write_bytes(b"the first of many")
    waited: list[float] = []

    def copied_on(seconds: float) -> None:
        waited.append(seconds)
        growing.write_bytes(b"the first and the second of many")

    monkeypatch.setattr(working.time, "sleep", copied_on)
    result = command("process")
    assert (result.exit_code, waited) == (3, [60.0])
    assert "still being copied" in result.output
    assert "video/big.mp4" in result.output


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRANSCRIPTION_BEAM_SIZE", "0"),
        ("TRANSCRIPTION_DEVICE", "tpu"),
        ("TRANSCRIPTION_STORE", "ftp://somewhere"),
        ("TRANSCRIPTION_FFMPEG", "/nowhere/ffmpeg"),
        ("TRANSCRIPTION_WHISPER_MODEL", "nonsense"),
    ],
)
def test_invalid_setting_is_reported_by_name_or_value(
    command: Command, store: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    recordings.tone(store / "audio/a.wav", 1.0)
    monkeypatch.setenv(variable, value)
    result = command("process")
    assert result.exit_code == 1
    assert value in result.output or variable in result.output


def test_store_that_is_a_file_is_an_error(command: Command, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "file").touch()
    monkeypatch.setenv("TRANSCRIPTION_STORE", str(store / "file"))
    result = command("process")
    assert result.exit_code == 1
    assert "error:" in result.output
    assert str(store / "file") in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["search"],
        ["search", "x", "--limit", "0"],
        ["search", "x", "--like", "audio/a.wav", "0"],
        ["models", "pull", "?"],
    ],
)
def test_invalid_arguments_exit_with_code_2(command: Command, arguments: list[str]) -> None:
    result = command(*arguments)
    assert result.exit_code == 2
    assert "Error:" in result.output


@pytest.mark.parametrize(
    "arguments", [["--help"], ["process", "-h"], ["search", "-h"], ["models", "-h"], ["doctor", "-h"]]
)
def test_every_command_has_help(command: Command, arguments: list[str]) -> None:
    assert command(*arguments).exit_code == 0


def test_search_in_an_empty_archive_needs_no_model(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSCRIPTION_MODELS_DIR", str(tmp_path / "nothing"))
    result = command("search", "anything")
    assert result.exit_code == 0
    assert "nothing is indexed yet" in result.output


def test_models_list_shows_missing_models(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSCRIPTION_MODELS_DIR", str(tmp_path / "nothing"))
    result = command("models", "list")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    for name in CATALOGUE:
        assert any(line.split()[:1] == [name] and "not installed" in line for line in lines), name


def test_doctor_reports_missing_parts_with_hints_and_code_1(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSCRIPTION_MODELS_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("TRANSCRIPTION_FFMPEG", "/nowhere/ffmpeg")
    result = command("doctor")
    assert result.exit_code == 1
    wrong = [line for line in result.output.splitlines() if line.startswith("wrong")]
    assert len(wrong) == 3
    assert "/nowhere/ffmpeg" in wrong[0]
    assert "models pull" in wrong[1]
    assert "models pull" in wrong[2]


@pytest.mark.models
def test_doctor_reports_nothing_on_a_complete_machine(command: Command) -> None:
    result = command("doctor")
    assert result.exit_code == 0, result.output
    assert "wrong" not in result.output


def process(*arguments: str, **changed: str) -> "subprocess.CompletedProcess[str]":
    """Run the installed program in its own process with its output in a pipe, as a script does."""
    program = Path(sys.executable).with_name("transcription-assets")
    return subprocess.run(
        [program, *arguments], env=os.environ | changed, capture_output=True, text=True, check=False, timeout=200
    )


@pytest.mark.models
def test_file_with_an_unusual_name_is_processed_and_found(
    command: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSCRIPTION_WHISPER_MODEL", "tiny.en")
    # The default encoder takes 10 s of CPU to import in each process, most of it for PyTorch.
    monkeypatch.setenv("TRANSCRIPTION_ENCODER_MODEL", "universal-sentence-encoder-multilingual")
    empty = command("search", "--json", "anything")
    assert (empty.exit_code, empty.stdout.strip()) == (0, "[]"), empty.output

    name = "video/The [wizard], part 1: 100% true.mp4"
    recordings.make(store / name, "-i", str(WIZARD), "-t", "11.5", "-c", "copy")
    (store / "video/broken.mp4").write_bytes(b"nothing")
    done = process("process")
    assert done.returncode == 1, "one of the two is broken"
    assert "1 done, 0 unchanged, 1 failed" in done.stdout
    assert "Traceback" not in done.stderr

    (store / "video/broken.mp4").unlink()
    again = command("process")
    assert again.exit_code == 0
    assert "0 done, 1 unchanged, 0 failed" in again.output

    answer = process("search", "--json", "--limit", "1", "he lit forty lamps with a word")
    assert answer.returncode == 0, answer.stderr
    (moment,) = json.loads(answer.stdout)
    assert {"media_key", "start", "end", "text", "score", "url"} <= set(moment)
    assert moment["media_key"] == "video/The %5Bwizard%5D%2C part 1: 100%25 true.mp4"
    assert moment["start"] == pytest.approx(5.29, abs=2.0)
    assert 0 < moment["start"] < moment["end"] <= 12
    assert "lamps" in moment["text"]
    assert 0 < moment["score"] <= 1
    path, _, second = moment["url"].partition("#t=")
    assert float(second) == pytest.approx(moment["start"], abs=0.01)
    assert path == (store / name).as_uri()
    shutil.rmtree(store)


@pytest.mark.models
@pytest.mark.parametrize("arguments", [["search", "anything"], ["doctor"]])
def test_damaged_search_table_is_reported_with_a_hint(command: Command, store: Path, arguments: list[str]) -> None:
    versions = store / "lancedb/passages.lance/_versions"
    versions.mkdir(parents=True)
    (versions / "1.manifest").write_bytes(b"garbage")
    result = command(*arguments)
    assert result.exit_code == 1
    assert "index rebuild" in result.output
    assert "delete" not in result.output


def test_unreadable_record_does_not_hide_a_result(
    command: Command, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Services, "encoder", HashEncoder())
    place = Store.open(str(store))
    media_keys = [f"audio/{name}.wav" for name in "abc"]
    for number, key in enumerate(media_keys):
        place.put_media(key, recordings.tone(tmp_path / f"{number}.wav", 5.0, rate=8_000, frequency=440.0 + number))
    Chain(place).run(*media_keys)
    for key, record in zip(media_keys, (keys.video_record, keys.audio_record), strict=False):
        path = store / record(key)
        path.unlink()
        path.mkdir()
    answer = command("search", "--json", sentences(5)[0])
    assert answer.exit_code == 0, answer.output
    urls = {moment["media_key"]: moment["url"].partition("#")[0] for moment in json.loads(answer.stdout)}
    assert urls == {key: (store / key).as_uri() for key in media_keys}


def test_result_without_a_link_is_still_returned(
    command: Command, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_store: Store, key: str) -> str:
        raise TransientFailure(f"{key}: no answer")

    monkeypatch.setattr(Services, "encoder", HashEncoder())
    place = Store.open(str(store))
    place.put_media("audio/a.wav", recordings.tone(tmp_path / "a.wav", 5.0, rate=8_000))
    Chain(place).run("audio/a.wav")
    monkeypatch.setattr("transcription_assets.pipeline.playback.link", failing)
    (moment,) = json.loads(command("search", "--json", sentences(5)[0]).stdout)
    assert (moment["media_key"], moment["url"]) == ("audio/a.wav", "")
    assert command("search", sentences(5)[0]).exit_code == 0


@pytest.fixture
def three_talks(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the keys of three processed recordings; the encoder is a fake without a profile."""
    monkeypatch.setattr(Services, "encoder", HashEncoder())
    place = Store.open(str(store))
    media_keys = [f"audio/{name}.wav" for name in "abc"]
    for number, key in enumerate(media_keys):
        place.put_media(key, recordings.tone(tmp_path / f"{number}.wav", 5.0, rate=8_000, frequency=440.0 + number))
    Chain(place).run(*media_keys)
    return media_keys


def test_moments_like_another_are_of_other_passages(command: Command, three_talks: list[str]) -> None:
    answer = command("search", "--json", "--like", three_talks[0], "1.0")
    assert answer.exit_code == 0, answer.output
    assert {moment["media_key"] for moment in json.loads(answer.stdout)} == set(three_talks[1:])
    answer = command("search", "--json", "--in", three_talks[2], "--like", three_talks[0], "1.0")
    assert {moment["media_key"] for moment in json.loads(answer.stdout)} == {three_talks[2]}


def test_rebuild_measures_the_weights_of_an_unknown_encoder_once(
    command: Command, store: Path, three_talks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def measuring(encoder: HashEncoder, _passage_s: float) -> Calibration:
        measured.append(str(encoder.model))
        return Calibration(str(encoder.model), Weights(words=0.1), 0.9, 0.8, 1)

    monkeypatch.setattr("transcription_assets.evaluation.calibration.calibrate", measuring)
    for _ in range(2):
        assert command("index", "rebuild").exit_code == 0
    assert measured == [str(HashEncoder().model)]
    place = Store.open(str(store))
    assert Index(place.lancedb_uri, place.lancedb_options).calibrated(measured[0]) == Weights(words=0.1)
    assert len(three_talks) == 3


@pytest.mark.models
def test_empty_query_returns_no_results(command: Command) -> None:
    result = command("search", "--json", "  ")
    assert result.exit_code == 0
    answer: Any = json.loads(result.stdout)
    assert answer == []


@given(st.text(), st.text(min_size=1, max_size=20), st.text())
def test_result_is_its_sentence_with_limited_context(before: str, sentence: str, after: str) -> None:
    ahead, middle, behind = apart(around(before + sentence + after, (len(before), len(before) + len(sentence))))
    assert middle == sentence
    assert before.endswith(ahead.removeprefix("… ")) or before == ahead
    assert after.startswith(behind.removesuffix(" …")) or after == behind
    assert max(len(ahead), len(behind)) <= CONTEXT + 2


def test_context_of_a_result_is_truncated_between_words() -> None:
    words = "word " * 100
    ahead, _, behind = apart(around(f"{words}said {words}", (500, 504)))
    assert ahead.startswith("… word word")
    assert behind.endswith("word …")
    thai = "ความสำเร็จ" * 40
    ahead, _, behind = apart(around(thai, (200, 210)))
    assert ahead.removeprefix("… ").startswith(("ความ", "สำเร็จ"))
    assert behind.removesuffix(" …").endswith(("ความ", "สำเร็จ"))
    assert apart(around("言" * 400, (200, 201)))[0] == "… " + "言" * CONTEXT


def test_matches_outside_the_sentence_are_highlighted() -> None:
    found = around("The wizard slept. A wizard woke.", (18, 32), [(4, 10), (20, 26)])
    assert [(part.text, part.sentence) for part in found if part.match] == [("wizard", False), ("wizard", True)]


def apart(found: list[HighlightPart]) -> tuple[str, str, str]:
    """Return the text before the sentence, the sentence, and the text after it."""
    places = [number for number, part in enumerate(found) if part.sentence]
    if not places:
        return text_of(found), "", ""
    first, last = places[0], places[-1] + 1
    return text_of(found[:first]), text_of(found[first:last]), text_of(found[last:])


def text_of(found: list[HighlightPart]) -> str:
    return "".join(part.text for part in found)
