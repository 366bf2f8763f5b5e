"""Recordings as the API and the pages show them: titles, links, pages of the library, and details."""

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

import polars as pl

from transcription_assets.domain import media_keys
from transcription_assets.domain.text import printable
from transcription_assets.errors import TranscriptionError
from transcription_assets.pipeline.failure_notes import FailureNote
from transcription_assets.pipeline.playback import plays_itself
from transcription_assets.pipeline.progress import decoded_share
from transcription_assets.storage import MediaObject
from transcription_assets.web.library import Library, Overview, each, remember, unreadable
from transcription_assets.web.schemas import (
    Links,
    RecordingDetails,
    RecordingOrigin,
    RecordingPage,
    RecordingSummary,
    State,
)

KINDS = ("json", "txt", "srt", "vtt")
PROGRESS_S = 3.0


def title(key: str, known: str = "") -> str:
    """Return a title: `The last train` for `video/talks/the-last_train.mp4`; a name without words is not changed.

    A `known` title counts unless it is the name of the file.
    """
    name = printable(media_keys.decode(key).rpartition("/")[2])
    stem = name.rpartition(".")[0]
    if known and known != stem:
        return printable(known)
    words = re.sub(r"[-_\s]+", " ", stem).strip() if " " not in stem else stem.strip()
    return f"{words[:1].upper()}{words[1:]}" if words else name


def folder(key: str) -> str:
    """Return the folder below the inbox: `talks` for `video/talks/a.mp4`."""
    return printable(media_keys.decode(key).partition("/")[2].rpartition("/")[0])


def path(*parts: str) -> str:
    """Return the percent-encoded URL path of these parts, joined by slashes; slashes in a part are preserved."""
    return "/".join(quote(part, safe="/", errors="surrogatepass") for part in parts)


def watch(key: str, second: float | None = None) -> str:
    """Return the URL path of the page that plays a recording, from `second` on if it is given."""
    return path("/watch", key) + ("" if second is None else f"?t={second:.2f}")


def page(library: Library, *, state: State | None, name: str, offset: int, limit: int) -> RecordingPage:
    """Return a page of the recordings, newest first; `name` is a literal part of the key, in any case of letters.

    Raises:
        TranscriptionError: the store cannot be opened or read.

    """
    overview = library.overview.get()
    frame = overview.frame
    if state:
        frame = frame.filter(pl.col("state") == state)
    if name.strip():
        frame = frame.filter(pl.col("key").str.to_lowercase().str.contains(name.strip().lower(), literal=True))
    rows = list(frame.slice(offset, limit).iter_rows(named=True))
    recordings = [
        RecordingSummary(**summary) for summary in each(lambda row: _summary(library, overview.notes, row), rows)
    ]
    return RecordingPage(recordings=recordings, total=frame.height, counts=overview.counts)


def one(library: Library, key: str, *, with_progress: bool = True) -> RecordingDetails:
    """Return one recording; its progress takes many requests to the store.

    Raises:
        NotFound: there is no recording of this key.
        TranscriptionError: the store cannot be opened or read.

    """
    source = library.archive.media(key)
    overview = library.overview.get()
    found = overview.frame.filter(pl.col("key") == key)
    row = found.row(0, named=True) if found.height else _new_row(overview, source)
    summary = _summary(library, overview.notes, row)
    plays = _plays(library, key, row["media_etag"] or row["etag"])
    known = library.origin(key, row["media_etag"] or row["etag"])
    came_from = RecordingOrigin.model_validate(known) if known else None
    links = _links(key, summary["poster"], has_slides=library.archive.settings.slides)
    is_decoding = with_progress and summary["step"] == "transcript"
    progress = _progress(library, key, row["media_etag"] or row["etag"]) if is_decoding else None
    return RecordingDetails(**summary, plays=plays, links=links, origin=came_from, progress=progress)


def _progress(library: Library, key: str, etag: str) -> float | None:
    """Return the share of a recording that is decoded, of the last PROGRESS_S seconds; None if it is unknown now."""
    known = library.progress.get((key, etag))
    if known and time.monotonic() - known[0] < PROGRESS_S:
        return known[1]
    share = None
    with suppress(TranscriptionError):
        sound = library.sound(key, etag)
        share = round(decoded_share(library.archive.store, key, sound.sha256), 4) if sound else 0.0
    remember(library.progress, (key, etag), (time.monotonic(), share))
    return share


def _plays(library: Library, key: str, etag: str) -> Literal["recording", "sound"]:
    """Return which file to play: the recording, unless browsers are known to play it differently (`plays_itself`)."""
    with suppress(TranscriptionError):
        probed, sound = library.details(key, etag), library.sound(key, etag)
        if probed and sound and not plays_itself(probed.probe, sound):
            return "sound"
    return "recording"


def _new_row(overview: Overview, source: MediaObject) -> dict[str, Any]:
    """Return the row of a recording that is newer than the overview."""
    row: dict[str, Any] = dict.fromkeys(overview.frame.columns)
    current = {"key": source.key, "etag": source.etag, "size": source.size, "last_modified": source.last_modified}
    return row | current | {"state": "waiting", "passages": 0, "language": "", "silence": ""}


def _summary(library: Library, notes: Mapping[str, FailureNote], row: Mapping[str, Any]) -> dict[str, Any]:
    key, etag, state = row["key"], row["etag"], row["state"]
    note = notes.get(key)
    probed, sound, step, named = None, None, note.step if note else "", ""
    try:
        known = library.origin(key, row["media_etag"] or etag)
        named = known.title if known else ""
        probed, sound = library.details(key, row["media_etag"] or etag), library.sound(key, row["media_etag"] or etag)
        if not note and state != "done":
            step = library.artefacts(key, etag).next_step
    except TranscriptionError as error:
        if state != "done":
            note = note or unreadable(etag, error)
            state, step = "failed", note.step
    has_picture = bool(probed and probed.has_poster)
    return {
        "key": key,
        "title": printable(named or (probed.probe.title if probed else "")) or title(key),
        "folder": folder(key),
        "state": state,
        "step": step,
        "reason": note.reason if note else "",
        "transient": bool(note and note.transient),
        "failed_at": _time(note.at) if note else None,
        "duration": sound.duration if sound else probed.probe.promised_s if probed else None,
        "has_picture": bool(probed and probed.probe.video_codec),
        "language": row["language"],
        "passages": row["passages"],
        "silence": row["silence"] if state == "done" else "",
        "size": row["size"],
        "modified": row["last_modified"],
        "poster": path("/posters", key) if has_picture else "",
        "url": watch(key),
    }


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def slide_picture(key: str, number: int) -> str:
    """Return the URL path of the thumbnail of a slide."""
    return path("/slides", key, f"{number}.webp")


def _links(key: str, poster: str, *, has_slides: bool) -> Links:
    base = f"/api/media/{key}"
    return Links(
        media=path("/media", key),
        sound=path("/sound", key),
        poster=poster,
        words=path(base, "words"),
        slides=path(base, "slides") if has_slides else "",
        speakers=path(base, "speakers"),
        transcripts={kind: path(base, f"transcript.{kind}") for kind in KINDS},
    )
