"""The files beside the tables of an index: the calibrated weights of each model, and the vocabulary of each table."""

import json
import logging
import time
from dataclasses import asdict, dataclass

from transcription_assets.embedding import Weights
from transcription_assets.search import vocabulary as vocabularies
from transcription_assets.search.tables import Tables
from transcription_assets.search.vocabulary import Vocabulary

CALIBRATIONS = "calibrations.json"
CACHED_S = 30.0
"""Seconds for which readers cache the content of these files."""
_NEVER = float("-inf")

log = logging.getLogger(__name__)


class IndexFiles:
    """Calibrations and vocabularies in the folder of the tables, cached for CACHED_S seconds.

    All methods that read or write raise `TranscriptionError` if the store refuses or does not answer.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._vocabularies: dict[str, _CachedVocabulary] = {}
        self._calibrations: tuple[float, dict[str, Weights]] = (_NEVER, {})

    def forget(self) -> None:
        """Clear the caches."""
        self._vocabularies.clear()
        self._calibrations = (_NEVER, {})

    def calibrated(self, model: str) -> Weights | None:
        """Return the weights that were measured for this model, None if there are none."""
        read_at, weights = self._calibrations
        if time.monotonic() - read_at > CACHED_S:
            weights = self._read_calibrations()
            self._calibrations = (time.monotonic(), weights)
        return weights.get(model)

    def calibrate(self, model: str, weights: Weights) -> None:
        """Store the weights of a model, for all who search."""
        calibrations = {**self._read_calibrations(), model: weights}
        document = {name: asdict(found) for name, found in sorted(calibrations.items())}
        self._tables.put(CALIBRATIONS, json.dumps(document, indent=1).encode())
        self._calibrations = (_NEVER, {})

    def vocabulary(self, table: str) -> Vocabulary:
        """Return the vocabulary of a table as of its last maintenance, empty before the first."""
        cached = self._vocabularies.get(table)
        if cached is None or time.monotonic() - cached.read_at > CACHED_S:
            cached = self._vocabularies[table] = self._read_vocabulary(table, cached)
        return cached.vocabulary

    def stored_vocabulary(self, table: str) -> Vocabulary:
        """Return the vocabulary of a table as it is stored now, empty if there is none."""
        return self._read_vocabulary(table, None).vocabulary

    def put_vocabulary(self, table: str, vocabulary: Vocabulary) -> None:
        """Store the vocabulary of a table."""
        self._tables.put(_vocabulary_path(table), vocabulary.to_parquet())
        self._vocabularies.pop(table, None)

    def delete_vocabulary(self, table: str) -> None:
        """Delete the vocabulary of a table, if it has one."""
        self._tables.delete(_vocabulary_path(table))

    def _read_calibrations(self) -> dict[str, Weights]:
        content, _ = self._tables.get(CALIBRATIONS)
        try:
            return {name: Weights(**found) for name, found in json.loads(content or b"{}").items()}
        except (ValueError, TypeError, AttributeError):
            log.warning(
                "%s/%s is damaged; `transcription-assets eval calibrate` writes it again",
                self._tables.uri,
                CALIBRATIONS,
            )
            return {}

    def _read_vocabulary(self, table: str, cached: "_CachedVocabulary | None") -> "_CachedVocabulary":
        path = _vocabulary_path(table)
        content, etag = self._tables.get(path, cached.etag if cached else None)
        if content is None:
            unchanged = cached.vocabulary if cached and etag else Vocabulary()
            return _CachedVocabulary(time.monotonic(), etag, unchanged)
        try:
            return _CachedVocabulary(time.monotonic(), etag, vocabularies.from_parquet(content))
        except ValueError as error:
            log.warning("%s/%s: %s; the next refresh replaces it", self._tables.uri, path, error)
            return _CachedVocabulary(time.monotonic(), etag, Vocabulary())


@dataclass(frozen=True, slots=True)
class _CachedVocabulary:
    """A vocabulary with the time (monotonic) and the ETag of its reading."""

    read_at: float
    etag: str | None
    vocabulary: Vocabulary


def _vocabulary_path(table: str) -> str:
    return f"words/{table}.parquet"
