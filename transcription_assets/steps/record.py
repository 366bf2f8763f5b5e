"""The small JSON beside an artefact: which object it was made from. It is written last and removed first.

So an artefact whose maker was killed in the middle has no record, and is made again.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

from transcription_assets.failures import NotFound, TransientFailure
from transcription_assets.storage import MediaObject, Store

Record = TypeVar("Record")
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def load(store: Store, path: str, kind: type[Record], version: str) -> Record | None:
    """Return the record; None where there is none, it is damaged, or another release wrote it.

    Every field is checked against its type: whatever lies there may be JSON of any shape.
    """
    try:
        document = json.loads(store.read(path))
        if not isinstance(document, dict) or document.get("version") != version:
            return None
        found: Record = _adapter(kind).validate_python(document)
    except (NotFound, ValueError, RecursionError):
        return None
    return found


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """The adapter of a record's type; making one takes a millisecond."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def write(store: Store, path: str, document: Mapping[str, Any]) -> None:
    """Make the artefact valid."""
    store.write(path, json.dumps(document, ensure_ascii=False, indent=1).encode())


def require_unchanged(store: Store, source: MediaObject) -> None:
    """TransientFailure where the recording is not the one that was read any more: two versions never mix."""
    if store.stat(source.key).etag != source.etag:
        raise TransientFailure(f"{source.key} was replaced while it was read; the new version is read next")
