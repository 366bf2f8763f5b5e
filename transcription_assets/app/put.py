"""Which recordings people mean, and what they are called in the store."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from transcription_assets.failures import PermanentFailure
from transcription_assets.keys import AUDIO_SUFFIXES, is_media


def found(paths: Sequence[Path], into: str) -> dict[str, Path]:
    """Name in the store -> file, for these files and for all recordings in these folders.

    Sound goes to `audio/`, all else to `video/`, there below `into`; what is in a folder keeps its place in it.
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


def _recordings(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        if not is_media(path.name):
            raise PermanentFailure(f"{path}: not a recording, by its suffix")
        yield path, path.name
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and is_media(file.name):
            yield file, file.relative_to(path).as_posix()


def _inbox(file: Path) -> str:
    return "audio" if file.suffix.lower() in AUDIO_SUFFIXES else "video"
