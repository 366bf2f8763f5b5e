"""The commands of `speakers`, run as a user does, with a FAKE diariser."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from transcription_assets import wiring
from transcription_assets.cli.main import main
from transcription_assets_tests import voices
from transcription_assets_tests.fakes import HashEncoder
from transcription_assets_tests.voices import ADAS, ADAS_ELSEWHERE, all_is_speech

A, B = "audio/10.wav", "audio/20.wav"


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return voices.conversations(tmp_path_factory.mktemp("processed"), {10: ADAS, 20: ADAS_ELSEWHERE})


@pytest.fixture(autouse=True)
def conversations(processed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_is_speech(monkeypatch)
    shutil.copytree(processed, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("TRANSCRIPTION_STORE", str(tmp_path))
    monkeypatch.setenv("TRANSCRIPTION_PASSAGE_S", "5")
    monkeypatch.setattr(wiring.Services, "encoder", HashEncoder())


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, ["speakers", *arguments], input=answer)


def test_a_name_is_given_confirmed_and_forgotten() -> None:
    assert run("name", A, "1", "Ada").exit_code == 0
    assert next(line.split()[1:3] for line in run("list", B).stdout.splitlines()[1:]) == ["Ada?", "suggested"]
    assert run("name", B, "1", "ada").exit_code == 0
    assert next(line.split()[1:3] for line in run("list", B).stdout.splitlines()[1:]) == ["Ada", "confirmed"]
    assert len(run("people").stdout.splitlines()) == 2
    assert run("forget", "Ada", answer="n\n").exit_code == 1
    assert run("forget", "--yes", "Ada").exit_code == 0
    assert run("people").stdout.count("Ada") == 1  # in the advice how to name somebody


def test_two_people_of_one_name_need_an_id() -> None:
    run("name", A, "1", "Ada")
    run("name", "--new", A, "2", "Ada")
    refused = run("name", B, "1", "Ada")
    assert refused.exit_code == 1
    identifier = run("people").stdout.splitlines()[1].split()[-1]
    assert identifier in refused.stderr
    assert run("merge", identifier, run("people").stdout.splitlines()[2].split()[-1]).exit_code == 0
    assert len(run("people").stdout.splitlines()) == 2
    assert run("rename", "Ada", "Ada L.").exit_code == 0
    assert "Ada L." in run("list", A).stdout


def test_statements_can_be_withdrawn_and_applied_again(tmp_path: Path) -> None:
    run("name", A, "1", "Ada")
    assert run("reject", B, "1").exit_code == 0
    assert "Ada" not in run("list", B).stdout
    assert run("clear", A, "1").exit_code == 0
    assert "Ada" not in run("list", A).stdout
    (tmp_path / "transcripts/audio/10.wav.srt").unlink()
    assert run("apply").exit_code == 0
    assert (tmp_path / "transcripts/audio/10.wav.srt").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("name", "audio/none.wav", "1", "Ada"),
        ("name", A, "7", "Ada"),
        ("name", A, "1", "Speaker 3"),
        ("reject", A, "1"),
        ("list", "audio/none.wav"),
        ("rename", "nobody", "Ada"),
    ],
)
def test_what_cannot_be_is_refused_on_one_line(arguments: tuple[str, ...]) -> None:
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
    assert len(run("people").stdout.splitlines()) == 1
