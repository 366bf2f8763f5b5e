"""Output of the commands in pipes and in terminals of various widths."""

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from transcription_assets.cli import terminal
from transcription_assets.cli.main import main
from transcription_assets.embedding.profiles import PROFILES
from transcription_assets.models.catalogue import CATALOGUE

NAMES = {*CATALOGUE, *PROFILES}
PROGRAM = Path(sys.executable).with_name("transcription-assets")
LONG = f"video/{'a very long name ' * 20}[part 1] :bee:.mp4"


# One process prints the list at all widths, because importing the program takes longer than the list.
SHOW = """
import fcntl, struct, sys, termios
from transcription_assets.cli.main import main

for columns in map(int, sys.argv[1:]):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    main(["models", "list"], standalone_mode=False)
    print("\f", flush=True)
"""


def in_terminals(*columns: int) -> list[str]:
    """Return the output of `models list` at each terminal width, before the terminal wraps lines."""
    ours, its = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    with subprocess.Popen(
        [sys.executable, "-c", SHOW, *map(str, columns)],
        env=environment | {"TERM": "xterm"},
        stdin=its,
        stdout=its,
        stderr=its,
    ) as process:
        os.close(its)
        said = bytearray()
        with suppress(OSError):  # EIO: the program has ended
            while block := os.read(ours, 65_536):
                said += block
        os.close(ours)
    assert process.returncode == 0, said
    return click.unstyle(said.decode()).split("\f")[:-1]


def first_words(output: str) -> list[str]:
    return [line.split()[0] for line in output.splitlines() if line.strip()]


@pytest.fixture
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRANSCRIPTION_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def test_table_in_a_pipe_has_one_line_per_row(no_models: Path) -> None:
    listing = subprocess.run(
        [PROGRAM, "models", "list"], env=os.environ | {"COLUMNS": "20"}, capture_output=True, text=True, check=True
    )
    headings = ["model", str(no_models), "encoder"]
    assert sorted(first_words(listing.stdout)) == sorted([*NAMES, *headings])


def test_names_are_not_truncated_at_any_terminal_width(no_models: Path) -> None:
    narrowest, narrow, wide = in_terminals(1, 60, 300)
    for said in (narrowest, narrow, wide):
        assert {word for line in said.splitlines() for word in line.split()} >= {*NAMES, str(no_models)}
    rows = {line.split()[0]: line for line in wide.splitlines() if len(line.split()) > 1}
    assert all({"installed", "tested"} & {*rows[name].split()} for name in NAMES), "each row fits in one line"
    assert max(NAMES, key=len) in narrow.splitlines(), "no row fits: one line per cell"


@pytest.mark.parametrize("columns", ["10", "80"])
def test_lines_in_a_pipe_are_neither_wrapped_nor_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")  # `less -R` is a pipe
    terminal.shown.print(terminal.plain(LONG))
    terminal.print_table(("name", "number"), [(terminal.plain(LONG), "1"), ("short", "2")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == LONG
    assert [click.unstyle(line).split()[-1] for line in lines[1:]] == ["number", "1", "2"]
    assert lines[2].startswith(LONG)


def commands(group: click.Group, path: Sequence[str] = ()) -> list[tuple[list[str], click.Group]]:
    """Return every command group with its path of names."""
    found = [([*path], group)]
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += commands(command, [*path, name])
    return found


@pytest.mark.parametrize(("path", "group"), commands(main), ids=str)
def test_command_descriptions_in_help_are_not_truncated(
    monkeypatch: pytest.MonkeyPatch, path: list[str], group: click.Group
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    said = " ".join(CliRunner().invoke(main, [*path, "--help"]).output.split())
    for command in group.commands.values():
        assert command.help
        assert " ".join(command.help.partition("\n\n")[0].split()) in said
