"""The current content of the inbox: from a complete listing, or from the objects that bucket notifications name."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial

import polars as pl

from transcription_assets.defs.inbox.queue import Message, object_names
from transcription_assets.domain import inbox_diff, media_keys
from transcription_assets.errors import NotFound, PermanentFailure, TranscriptionError
from transcription_assets.storage import MediaObject, Store

log = logging.getLogger(__name__)

PARALLEL_REQUESTS = 10  # size of boto3's connection pool


@dataclass(frozen=True, slots=True, eq=False)
class InboxView:
    """The observed recordings, the known state to compare them with, and whether that is the complete inbox.

    `ignored` counts files that are not recordings, `unread` those whose state could not be read.
    """

    frame: pl.DataFrame
    known: pl.DataFrame
    complete: bool
    ignored: int = 0
    unread: int = 0


def list_inbox(store: Store, known: pl.DataFrame) -> InboxView:
    """List the whole inbox; the result is complete unless it contains a broken link.

    Recordings that were moved to `DONE_` are left out of the known state, so that they do not count as gone. If one of
    them was put into the inbox again it counts as new, although a bucket gives the same content the same ETag.

    Raises:
        TranscriptionError: The inbox cannot be listed.

    """
    listing = store.list_media()
    rewritten = inbox_diff.find_rewritten(listing.frame, known)
    if not (rewritten.is_empty() and inbox_diff.compare(listing.frame, known).gone.is_empty()):
        done = store.list_done()
        done = pl.concat([done.join(listing.frame, on="key", how="anti"), done.join(rewritten, on="key", how="semi")])
        known = known.join(done, on="key", how="anti")
    return InboxView(listing.frame, known, listing.unread == 0, listing.ignored, listing.unread)


def read_notifications(
    store: Store, known: pl.DataFrame, messages: Sequence[Message]
) -> tuple[InboxView, list[Message]]:
    """Look up the recordings that these messages name, and return them with the messages that can be deleted.

    A message can be deleted when the current state of every recording that it names is known, or when it names none.
    The others stay in the queue and are received again, until a stored cursor knows their recordings.

    Raises:
        PermanentFailure: The store is a folder, which has no notifications.

    """
    named = [_named(store, message) for message in messages]
    keys = sorted({key for each in named for key in each})
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        found = dict(zip(keys, pool.map(partial(_stat, store), keys), strict=True))
    rows = [astuple(each) for each in found.values() if isinstance(each, MediaObject)]
    unread = {key for key, each in found.items() if isinstance(each, TranscriptionError)}
    frame = pl.DataFrame(rows, inbox_diff.SCHEMA, orient="row")
    known_of_named = known.filter(pl.col("key").is_in([key for key in keys if key not in unread]))
    unknown = frame.join(known, on=["key", "etag"], how="anti")["key"]
    open_keys = unread.union(unknown)
    served = [message for message, each in zip(messages, named, strict=True) if open_keys.isdisjoint(each)]
    return InboxView(frame, known_of_named, complete=False, unread=len(unread)), served


def _named(store: Store, message: Message) -> list[str]:
    """Return the media keys of the recordings in the inboxes that the message names."""
    if store.is_local:
        raise PermanentFailure(
            f"{store.url}: a folder has no event notifications; unset TRANSCRIPTION_INBOX_QUEUE, or use an s3:// store",
            hint="unset TRANSCRIPTION_INBOX_QUEUE, or use an s3:// store",
        )
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    names = object_names(message.body, bucket, prefix)
    return [
        media_keys.encode(name) for name in names if name.startswith(media_keys.INBOXES) and media_keys.is_media(name)
    ]


def _stat(store: Store, key: str) -> MediaObject | TranscriptionError | None:
    """Return the recording, None if it does not exist, or the error, so that one failure does not affect the others."""
    try:
        return store.stat(key)
    except NotFound:
        return None
    except TranscriptionError as error:
        log.warning("%s; the message that names it will be received again", error)
        return error
