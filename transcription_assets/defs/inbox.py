"""What is in the inbox now: all of it by a listing, or the objects that notifications name, looked at one by one."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial

import polars as pl

from transcription_assets import catalog, events, keys
from transcription_assets.failures import NotFound, PermanentFailure, TranscriptionError
from transcription_assets.sqs import Message
from transcription_assets.storage import MediaObject, Store

log = logging.getLogger(__name__)

AT_ONCE = 10  # boto3 keeps so many connections


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What was seen, what is known of the same recordings, and whether that is all there is.

    `ignored` counts what is no recording, `unread` what could not be looked at.
    """

    frame: pl.DataFrame
    known: pl.DataFrame
    complete: bool
    ignored: int = 0
    unread: int = 0


def everything(place: Store, known: pl.DataFrame) -> Look:
    """A listing, complete unless a link in it leads nowhere.

    What left the inbox because it is done is not looked for in it.
    Put into the inbox once more it is new, though a bucket gives the same content the same etag.
    """
    listing = place.list_media()
    again = catalog.rewritten(listing.frame, known)
    if not (again.is_empty() and catalog.difference(listing.frame, known).gone.is_empty()):
        done = place.list_done()
        done = pl.concat([done.join(listing.frame, on="key", how="anti"), done.join(again, on="key", how="semi")])
        known = known.join(done, on="key", how="anti")
    return Look(listing.frame, known, listing.unread == 0, listing.ignored, listing.unread)


def notified(place: Store, known: pl.DataFrame, messages: Sequence[Message]) -> tuple[Look, list[Message]]:
    """The recordings that these messages name, as they are now; and the messages that have served.

    A message has served when all that it names is known as it is now, or gone, or nothing of ours. The others are
    left in the queue and come again, until the cursor that knows their recordings is stored.
    """
    named = [_named(place, message) for message in messages]
    wanted = sorted({key for each in named for key in each})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(wanted, pool.map(partial(_looked_at, place), wanted), strict=True))
    rows = [astuple(each) for each in found.values() if isinstance(each, MediaObject)]
    unread = {key for key, each in found.items() if isinstance(each, TranscriptionError)}
    frame = pl.DataFrame(rows, catalog.SCHEMA, orient="row")
    known_of_them = known.filter(pl.col("key").is_in([key for key in wanted if key not in unread]))
    unknown = frame.join(known, on=["key", "etag"], how="anti")["key"]
    open_keys = unread.union(unknown)
    served = [message for message, each in zip(messages, named, strict=True) if open_keys.isdisjoint(each)]
    return Look(frame, known_of_them, complete=False, unread=len(unread)), served


def _named(place: Store, message: Message) -> list[str]:
    """The media keys of the recordings in the inboxes that the message names."""
    if place.is_local:
        raise PermanentFailure(
            f"{place.url}: a folder has no event notifications; unset TRANSCRIPTION_INBOX_QUEUE, or give an s3:// store"
        )
    bucket, _, prefix = place.url.removeprefix("s3://").partition("/")
    names = events.names(message.body, bucket, prefix)
    return [keys.encode(name) for name in names if name.startswith(keys.INBOXES) and keys.is_media(name)]


def _looked_at(place: Store, key: str) -> MediaObject | TranscriptionError | None:
    """The recording; None where it is gone; the failure where it cannot be looked at: one never hides the others."""
    try:
        return place.stat(key)
    except NotFound:
        return None
    except TranscriptionError as error:
        log.warning("%s; the message that names it comes again", error)
        return error
