"""What the store needs of a folder and of a bucket."""

from datetime import datetime
from typing import NamedTuple, Protocol

from obstore.store import ObjectStore

from transcription_assets.failures import PermanentFailure

LONGEST_ADDITION = ".parquet#1"  # the longest artefact suffix, while it is being written


class Entry(NamedTuple):
    """A file or object by its name below the root."""

    name: str
    etag: str
    size: int
    last_modified: datetime


class Place(Protocol):
    """What a folder and a bucket do differently."""

    url: str
    objects: ObjectStore

    def entries(self, folder: str) -> list[Entry]:
        """Every file or object below a folder; NotFound where there is no such folder on disk."""
        ...

    def entry(self, name: str) -> Entry:
        """One file or object; NotFound where it is gone."""
        ...

    def readable_url(self, name: str) -> str:
        """What ffmpeg opens."""
        ...

    def public_url(self, name: str) -> str:
        """What people are shown."""
        ...

    def lancedb_options(self) -> dict[str, str]:
        """LanceDB's `storage_options`."""
        ...


def check_length(name: str, limit: int, shown: str) -> None:
    """PermanentFailure where a name made from a recording's would be longer than the store allows."""
    if (excess := len(name.encode()) - limit) > 0:
        raise PermanentFailure(
            f"{shown}: too long for the files that are made from it; shorten the name by {excess} bytes"
        )
