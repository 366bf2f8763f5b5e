"""export: segments, words, and passages with their vectors as Parquet files."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from transcription_assets.domain.transcript import Transcript
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline import transcript
from transcription_assets.search.index import Index
from transcription_assets.storage import Store

PASSAGES = (
    "id",
    "media_key",
    "title",
    "start_s",
    "end_s",
    "text",
    "language",
    "speakers",
    "recorded",
    "duration_s",
    "vector",
    "embedding_model",
    "media_etag",
    "kind",
)
SEGMENTS = {
    "media_key": pl.String(),
    "segment": pl.Int32(),
    "start_s": pl.Float64(),
    "end_s": pl.Float64(),
    "text": pl.String(),
    "language": pl.String(),
    "speaker": pl.String(),
    "avg_logprob": pl.Float64(),
    "no_speech_prob": pl.Float64(),
    "repaired": pl.Boolean(),
    "low_confidence": pl.String(),
}
WORDS = {
    "media_key": pl.String(),
    "segment": pl.Int32(),
    "start_s": pl.Float64(),
    "end_s": pl.Float64(),
    "word": pl.String(),
    "probability": pl.Float64(),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """The folder that was written, and the number of rows of each file."""

    folder: Path
    rows: dict[str, int]


def to_parquet(store: Store, table: Index, folder: Path) -> Exported:
    """Write `segments.parquet`, `words.parquet` and `passages.parquet`; each file is replaced as a whole or not at all.

    At most one recording, or some thousand passages, are in memory at a time.

    Raises:
        PermanentFailure: the folder cannot be written.
        TranscriptionError: the store or the search table cannot be read.

    """
    try:
        return _to_parquet(store, table, folder)
    except OSError as error:
        raise PermanentFailure(f"cannot write to {folder}: {error}", hint="choose a writable folder") from error


def _to_parquet(store: Store, table: Index, folder: Path) -> Exported:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        _replaced(folder / "segments.parquet", SEGMENTS) as segments,
        _replaced(folder / "words.parquet", WORDS) as words,
    ):
        for document in _transcripts(store):
            segments.add(_segments(document))
            words.add(_words(document))
    with _replaced(folder / "passages.parquet", table.passage_schema(PASSAGES)) as passages:
        for frame in passage_batches(table):
            passages.add(frame)
    return Exported(folder, {"segments": segments.rows, "words": words.rows, "passages": passages.rows})


def passage_batches(table: Index) -> Iterator[pl.DataFrame]:
    """Return the served passages with the columns PASSAGES, in batches of some thousand.

    Raises:
        TranscriptionError: the search table cannot be read; raised while iterating.

    """
    return table.passages(PASSAGES)


def _transcripts(store: Store) -> Iterator[Transcript]:
    for key in sorted({*store.list_media().frame["key"], *store.list_done()["key"]}):
        found = transcript.load(store, key)
        if found is not None:
            yield found


def _segments(document: Transcript) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "media_key": document.media.key,
                "segment": item.id,
                "start_s": item.start,
                "end_s": item.end,
                "text": item.text,
                "language": item.language or document.language,
                "speaker": item.speaker or None,
                "avg_logprob": item.avg_logprob,
                "no_speech_prob": item.no_speech_prob,
                "repaired": item.repaired,
                "low_confidence": item.low_confidence or None,
            }
            for item in document.segments
        ],
        schema=SEGMENTS,
    )


def _words(document: Transcript) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "media_key": document.media.key,
                "segment": segment.id,
                "start_s": word.start,
                "end_s": word.end,
                "word": word.word,
                "probability": word.probability,
            }
            for segment in document.segments
            for word in segment.words
        ],
        schema=WORDS,
    )


@dataclass(slots=True)
class _Growing:
    """A Parquet file with the number of rows written to it."""

    writer: Any
    rows: int = 0

    def add(self, frame: pl.DataFrame) -> None:
        if frame.height:
            self.writer.write_table(frame.to_arrow().cast(self.writer.schema))
            self.rows += frame.height


@contextmanager
def _replaced(path: Path, schema: Mapping[str, pl.DataType]) -> Iterator[_Growing]:
    """Write a file in a temporary folder beside its destination, and move it there if nothing failed."""
    from pyarrow import parquet

    columns = pl.DataFrame(schema=schema).to_arrow().schema
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as beside:
        part = Path(beside) / path.name
        with parquet.ParquetWriter(part, columns, compression="zstd") as writer:
            growing = _Growing(writer)
            yield growing
        shutil.move(part, path)
