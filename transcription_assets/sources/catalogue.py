"""`sources.toml` of the store: one table for each source of recordings, validated when it is read."""

import tomllib
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from transcription_assets.errors import NotFound
from transcription_assets.sources.feeds import MOST_ITEMS
from transcription_assets.storage import Store
from transcription_assets.toml_catalogue import InvalidCatalogue, Url, parse_tables

PATH = "sources.toml"
MOST_BYTES = 1 << 20

Kind = Literal["feed", "http", "link", "store"]
Backfill = Annotated[int, Field(ge=0, le=MOST_ITEMS)]


class _Entry(BaseModel):
    """Fields of every source. Its recordings land in `audio/<name>/` and `video/<name>/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    every_hours: Annotated[float, Field(ge=0.1, le=8_784)] = 1.0
    quota_gb: Annotated[float, Field(gt=0, le=1_000_000)] = 100.0
    licence: Annotated[str, Field(max_length=500)] = ""


class FeedSource(_Entry):
    """A podcast feed (RSS, Atom); of the items of the first listing the newest `backfill` are fetched."""

    kind: Literal["feed"]
    url: Url
    backfill: Backfill = 10


class LinkSource(_Entry):
    """A page, playlist or channel that yt-dlp knows; its first `backfill` entries are fetched, and later ones."""

    kind: Literal["link"]
    url: Url
    backfill: Backfill = 10


class HttpSource(_Entry):
    """One recording at a URL."""

    kind: Literal["http"]
    url: Url
    title: Annotated[str, Field(max_length=500)] = ""
    recorded: date | None = None
    page: Url | None = None


class StoreSource(_Entry):
    """All recordings below another bucket or prefix (`s3://bucket/prefix`), or below a folder of a link root."""

    kind: Literal["store"]
    url: Annotated[str, Field(pattern=r"^(s3://[^/]+.*|/.*)$")]


Source = FeedSource | LinkSource | HttpSource | StoreSource
_SOURCE: TypeAdapter[Source] = TypeAdapter(Annotated[Source, Field(discriminator="kind")])


class InvalidSources(InvalidCatalogue):
    """`sources.toml` is invalid."""

    guide = "docs/how-to/feeds-and-links.md"


def load(store: Store) -> dict[str, Source]:
    """Return the sources by name; empty if the store has no `sources.toml`.

    Raises:
        InvalidSources: the file is invalid; no source is used then.
        TranscriptionError: the file is too large, or the store denies access or does not answer.

    """
    try:
        data = store.read_small(PATH, MOST_BYTES)
    except NotFound:
        return {}
    return parse(data, f"{store.url}/{PATH}")


def parse(data: bytes, location: str) -> dict[str, Source]:
    """Return the sources of a file by name.

    Raises:
        InvalidSources: it is not TOML, or a source has a wrong name, an unknown or missing field, or a wrong value.

    """
    try:
        tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidSources(location, {"": str(error)}) from error
    sources, reasons = parse_tables(tables, _SOURCE)
    if reasons:
        raise InvalidSources(location, reasons)
    return sources
