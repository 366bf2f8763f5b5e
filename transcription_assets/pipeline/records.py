"""The JSON record beside an artefact, which says from which object it was made. It is written last and removed first.

So an artefact without a record is incomplete (its step was killed), and is made again.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

from transcription_assets.errors import NotFound, TransientFailure
from transcription_assets.storage import MediaObject, Store

Record = TypeVar("Record")
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def load(store: Store, path: str, kind: type[Record], version: str) -> Record | None:
    """Return the record; None if there is none, it is damaged, or another release wrote it.

    Every field is checked against its type, as the file may hold any JSON.

    Raises:
        TranscriptionError: the store refuses or does not answer.

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
    """Return the cached adapter of a record's type; creating one takes a millisecond."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def write(store: Store, path: str, document: Mapping[str, Any]) -> None:
    """Write the record, which makes the artefact valid.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    store.write(path, json.dumps(document, ensure_ascii=False, indent=1).encode())


def require_unchanged(store: Store, source: MediaObject) -> None:
    """Check that the recording is still the version that was read, so that two versions never mix.

    Raises:
        TransientFailure: the recording was replaced, or the store does not answer.
        NotFound: the recording is gone.

    """
    if store.stat(source.key).etag != source.etag:
        raise TransientFailure(f"{source.key}: replaced during reading; materialise it again", key=source.key)
