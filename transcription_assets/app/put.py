"""Which recordings people mean, and what they are called in the store."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from transcription_assets.failures import PermanentFailure
from transcription_assets.keys import AUDIO_SUFFIXES, is_media


def found(paths: Sequence[Path], into: str) -> dict[str, Path]:
    """Name in the store -> file, for these files and for all recordings in these folders.

    Sound goes to `audio/`, all else to `video/`, there below `into`; what is in a folder keeps its place in it. What is
    no recording by its suffix is left out: `PATH/*` takes notes and texts along.
    """
    if ".." in into.split("/"):
        raise PermanentFailure(f"{into}: would leave the inbox")
    names: dict[str, Path] = {}
    for path in paths:
        for file, place in _recordings(path):
            name = "/".join(part for part in (_inbox(file), into.strip("/"), place) if part)
            if names.setdefault(name, file) != file:
                raise PermanentFailure(
                    f"{names[name]} and {file} would both become {name}; put them --into two folders"
                )
    return names


def left_out(paths: Sequence[Path]) -> list[Path]:
    """Files that somebody named and that are no recordings; what else lies in a folder needs no word."""
    return [path for path in paths if path.is_file() and not is_media(path.name)]


def _recordings(path: Path) -> Iterator[tuple[Path, str]]:
    top = path.parent if path.is_file() else path
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file() and is_media(file.name):
            yield file, file.relative_to(top).as_posix()


def _inbox(file: Path) -> str:
    return "audio" if file.suffix.lower() in AUDIO_SUFFIXES else "video"
