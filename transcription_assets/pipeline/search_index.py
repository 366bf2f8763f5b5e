"""search_index: maintenance of the search tables, the switch to a new table that is complete, and its rebuilding.

A rebuild computes passages, vectors and rows of all transcripts with the current encoder; nothing is transcribed. The
rows go into the table of this encoder beside the served one, which is searched until the new one is complete.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from transcription_assets.domain import media_keys
from transcription_assets.embedding import Encoder
from transcription_assets.errors import TranscriptionError
from transcription_assets.pipeline import embeddings
from transcription_assets.pipeline.embeddings import PassageOptions
from transcription_assets.search.index import Index
from transcription_assets.search.schema import table_name
from transcription_assets.search.tables import IndexState
from transcription_assets.storage import Store

PUBLISH_EVERY = 50
"""Recordings between two commits to the table."""


def materialise(table: Index) -> IndexState:
    """Build indexes, compact tables, drop old versions, and switch to a complete new table, without blocking readers.

    Raises:
        TranscriptionError: the tables cannot be written, or others kept writing at the same time.

    """
    return table.maintain()


@dataclass(slots=True)
class Rebuilt:
    """Progress: the total of recordings, the keys done, and the reason of each failure."""

    total: int
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def rebuild(store: Store, table: Index, encoder: Encoder, passage_options: PassageOptions) -> Iterator[Rebuilt]:
    """Fill the encoder's table from the transcripts; yield the updated report after each recording.

    It can be stopped and run again: published recordings are skipped. `Index.maintain` switches to the new table, even
    if a user has switched away from it before. Recordings that are only in the done folder or in the table are
    included, so that they remain searchable.

    Raises:
        TranscriptionError: the store cannot be listed, or the table cannot be written.

    """
    all_keys = sorted({*store.list_media().frame["key"], *store.list_done()["key"], *table.recordings()})
    keys = [key for key in all_keys if store.exists(media_keys.transcript(key))]
    table.accept(table_name(embeddings.recipe_of(str(encoder.model), passage_options.passage_s)))
    report = Rebuilt(len(keys))
    waiting: list[embeddings.Embeddings] = []
    for number, key in enumerate(keys, 1):
        try:
            waiting.append(embeddings.materialise(store, key, encoder, passage_options))
        except TranscriptionError as error:
            report.failed[key] = str(error)
        if len(waiting) >= PUBLISH_EVERY or number == len(keys):
            embeddings.publish(store, table, waiting)
            report.done += [item.key for item in waiting]
            waiting = []
        yield report
