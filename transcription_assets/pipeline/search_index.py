"""search_index: maintenance of the search tables, and the switch to a new table that is complete."""

from transcription_assets.search.index import Index
from transcription_assets.search.tables import IndexState


def materialise(table: Index) -> IndexState:
    """Build indexes, compact tables, drop old versions, and switch to a complete new table, without blocking readers.

    Raises:
        TranscriptionError: the tables cannot be written, or others kept writing at the same time.

    """
    return table.maintain()
