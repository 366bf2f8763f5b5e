"""Where a recording came from: `origins/<key>.json`, written before a recording of a source or an upload lands."""

from dataclasses import asdict, dataclass
from datetime import date

from transcription_assets.domain import media_keys
from transcription_assets.pipeline import records
from transcription_assets.storage import Store

VERSION = "1"


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of a recording; unknown fields are "".

    `link` is a page about the recording, `media_url` the address of its file, without query (which may hold a token).
    `guid` and `identity` name the item at its source; `recorded` is its day. `fetched` is a time (ISO 8601, UTC),
    `size` is in bytes. Of an upload, `guid` is the name of the file and `uploaded_by` the user whom a proxy signed in.
    """

    source: str
    kind: str
    identity: str
    title: str = ""
    recorded: date | None = None
    link: str = ""
    media_url: str = ""
    guid: str = ""
    source_url: str = ""
    source_title: str = ""
    licence: str = ""
    fetched: str = ""
    size: int = 0
    uploaded_by: str = ""
    version: str = VERSION


def load(store: Store, key: str) -> Origin | None:
    """Return the origin of a recording; None if it was put into the inbox by hand.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return records.load(store, media_keys.origin(key), Origin, VERSION)


def write(store: Store, key: str, origin: Origin) -> None:
    """Write the origin of a recording.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    recorded = origin.recorded.isoformat() if origin.recorded else None
    records.write(store, media_keys.origin(key), asdict(origin) | {"recorded": recorded})
