"""Selection of the recordings for `put`, and their names in the store."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from transcription_assets.domain.media_keys import AUDIO_SUFFIXES, is_media
from transcription_assets.errors import PermanentFailure


def select(paths: Sequence[Path], into: str, link_roots: Sequence[Path] = ()) -> dict[str, Path]:
    """Return name in the store -> file, for these files and all recordings in these folders.

    Audio goes to `audio/`, everything else to `video/`, each below `into`; files of a folder keep their relative path.
    Files with other suffixes are left out, as `PATH/*` includes notes and texts. So are links in a folder that lead
    neither into it nor into one of `link_roots`.

    Raises:
        PermanentFailure: `into` leaves the inbox, or two files would have the same name.

    """
    if ".." in into.split("/"):
        raise PermanentFailure(f"--into {into}: the folder is outside the inbox")
    names: dict[str, Path] = {}
    for path in paths:
        for file, place in _recordings(path, link_roots):
            name = "/".join(part for part in (_inbox(file), into.strip("/"), place) if part)
            if names.setdefault(name, file) != file:
                raise PermanentFailure(
                    f"{names[name]} and {file} would both become {name}; put them into different folders with --into"
                )
    return names


def ignored(paths: Sequence[Path], link_roots: Sequence[Path] = ()) -> list[Path]:
    """Return the given files that are not recordings, and the links that are not followed.

    Other files in folders are not listed.
    """
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
