"""Which recordings people mean, and what they are called in the store."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from transcription_assets.failures import PermanentFailure
from transcription_assets.keys import AUDIO_SUFFIXES, is_media


def found(paths: Sequence[Path], into: str, link_roots: Sequence[Path] = ()) -> dict[str, Path]:
    """Name in the store -> file, for these files and for all recordings in these folders.

    Sound goes to `audio/`, all else to `video/`, there below `into`; what is in a folder keeps its place in it. What is
    no recording by its suffix is left out: `PATH/*` takes notes and texts along. So are links in a folder that lead
    neither into it nor into one of `link_roots`.
    """
    if ".." in into.split("/"):
        raise PermanentFailure(f"{into}: would leave the inbox")
    names: dict[str, Path] = {}
    for path in paths:
        for file, place in _recordings(path, link_roots):
            name = "/".join(part for part in (_inbox(file), into.strip("/"), place) if part)
            if names.setdefault(name, file) != file:
                raise PermanentFailure(
                    f"{names[name]} and {file} would both become {name}; put them --into two folders"
                )
    return names


def left_out(paths: Sequence[Path], link_roots: Sequence[Path] = ()) -> list[Path]:
    """Named files that are no recordings, and links that are not followed; other files in folders need no word."""
    named = [path for path in paths if path.is_file() and not is_media(path.name)]
    folders = [path for path in paths if path.is_dir()]
    return named + [file for path in folders for file in _media(path) if not _is_inside(file, path, link_roots)]


def _recordings(path: Path, link_roots: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        if is_media(path.name):
            yield path, path.name
        return
    for file in _media(path):
        if _is_inside(file, path, link_roots):
            yield file, file.relative_to(path).as_posix()


def _media(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if is_media(file.name) and file.is_file()]


def _is_inside(file: Path, folder: Path, link_roots: Sequence[Path]) -> bool:
    return any(file.resolve().is_relative_to(root.resolve()) for root in (folder, *link_roots))


def _inbox(file: Path) -> str:
    return "audio" if file.suffix.lower() in AUDIO_SUFFIXES else "video"
