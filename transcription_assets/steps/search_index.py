"""search_index: the tables kept fast for everybody who searches, and the newest one served once it is complete."""

from transcription_assets.index import Index, IndexState


def materialise(table: Index) -> IndexState:
    """Indexes, compaction, old versions, and the switch to a new table; readers are never blocked."""
    return table.maintain()
