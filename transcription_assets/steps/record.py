"""The small JSON beside an artefact: which object it was made from. It is written last and removed first.

So an artefact whose maker was killed in the middle has no record, and is made again.
"""

import json
from collections.abc import Mapping
from typing import Any

from transcription_assets.failures import NotFound, TransientFailure
from transcription_assets.storage import MediaObject, Store


def read(store: Store, path: str, version: str) -> dict[str, Any] | None:
    """The record, or None where there is none, it is damaged, or another release wrote it."""
    try:
        document: dict[str, Any] = json.loads(store.read(path))
    except (NotFound, ValueError):
        return None
    return document if document.get("version") == version else None


def write(store: Store, path: str, document: Mapping[str, Any]) -> None:
    """Make the artefact valid."""
    store.write(path, json.dumps(document, ensure_ascii=False, indent=1).encode())


def require_unchanged(store: Store, source: MediaObject) -> None:
    """TransientFailure where the recording is not the one that was read any more: two versions never mix."""
    if store.stat(source.key).etag != source.etag:
        raise TransientFailure(f"{source.key} was replaced while it was read; the new version is read next")
