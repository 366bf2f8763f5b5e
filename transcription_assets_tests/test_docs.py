"""Documentation: links resolve, and the reference is complete."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
from fastapi import FastAPI

from transcription_assets import settings
from transcription_assets.cli.main import main
from transcription_assets.definitions import defs
from transcription_assets.domain import media_keys
from transcription_assets.domain.transcript import Segment, Speech, Transcript, Word
from transcription_assets.web import server
from transcription_assets_tests import served
from transcription_assets_tests.demo import ROOT

REFERENCE = ROOT / "docs/reference"
PAGES = sorted([*ROOT.glob("*.md"), *(page for top in ("docs", "k8s", "demo") for page in (ROOT / top).rglob("*.md"))])
CODE = sorted(
    path
    for top in ("transcription_assets", "transcription_assets_tests", "benchmarks", "tools", "k8s")
    for path in (ROOT / top).rglob("*")
    if path.suffix in {".py", ".yaml"}
)
BLOCKS = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)>\s]+)>?\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def reference(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(text)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name, part in command.commands.items():
            yield from commands(part, f"{path} {name}")
    else:
        yield path, command


COMMANDS = dict(commands(main, "transcription-assets"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_anchors_resolve(page: Path) -> None:
    text = BLOCKS.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_pages_named_in_code_and_pages_exist() -> None:
    for path in (*CODE, *PAGES):
        for name in re.findall(r"\bdocs/[\w./-]+\.(?:md|svg|png)\b", path.read_text(encoding="utf-8")):
            if "memory.svg" not in name:  # a file that a benchmark would write
                assert (ROOT / name).exists(), (path, name)


def test_every_page_below_docs_is_linked_from_another() -> None:
    linked = {
        (page.parent / unquote(link).partition("#")[0]).resolve()
        for page in PAGES
        for link in LINK.findall(page.read_text(encoding="utf-8"))
    }
    assert [page for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in linked] == []


@pytest.mark.parametrize("path", COMMANDS)
def test_reference_names_every_command_and_option(path: str) -> None:
    text = reference("commands.md")
    assert f"`{path}`" in text
    for option in COMMANDS[path].params:
        if isinstance(option, click.Option):
            assert re.search(rf"{re.escape(max(option.opts, key=len))}\b", text), option.opts


def test_reference_names_every_check_with_its_asset() -> None:
    specs = {(check.name, check.asset_key.to_user_string()) for check in defs.resolve_asset_graph().asset_check_keys}
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", reference("checks.md"), re.MULTILINE)
    assert set(rows) == specs


def test_reference_names_every_setting_and_pages_name_no_other() -> None:
    known = {name for name, _, _ in settings.table()}
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # may name removed settings
            continue
        named = set(re.findall(r"\bTRANSCRIPTION_[A-Z0-9_]*[A-Z0-9]\b(?!\*)", page.read_text(encoding="utf-8")))
        assert named - known == set(), page
    assert all(f"`{name}`" in reference("settings.md") for name in known)


def test_reference_names_every_field_of_a_transcript() -> None:
    text = reference("files.md")
    for kind in (Transcript, Segment, Speech, Word):
        for item in dataclasses.fields(kind):
            assert f"`{item.name}`" in text, (kind, item.name)


def test_reference_names_every_artefact() -> None:
    text = reference("files.md").replace("`, `.", "` `transcripts/<key>.")
    key = "video/a.mp4"
    for path in (*media_keys.artefacts(key), media_keys.checkpoints(key), media_keys.moved(key)):
        assert f"`{path.replace(key, '<key>')}`" in text, path


def test_reference_names_every_path_of_the_api(tmp_path: Path) -> None:
    app = server.build(served.archive(tmp_path / "store"), "127.0.0.1")
    while not isinstance(app, FastAPI):
        app = app.app  # type: ignore[assignment]
    paths = {re.sub(r":path\}", "}", path) for path in app.openapi()["paths"]}
    assert {path for path in paths if f"`{path}`" not in reference("api.md")} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_named_in_pages_exist(page: Path) -> None:
    for name in re.findall(r"`(\w+/[\w/]+\.py)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (ROOT / "transcription_assets" / name).exists(), name
