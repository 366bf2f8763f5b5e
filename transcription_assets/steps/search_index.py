"""search_index: the table kept fast for everybody who searches; and the search itself."""

from collections.abc import Sequence
from dataclasses import dataclass

from transcription_assets.embedding import Encoder
from transcription_assets.index import Hit, Index, IndexState


@dataclass(frozen=True, slots=True)
class Query:
    """What somebody remembers, and how many moments they want to see."""

    text: str
    limit: int = 10


def materialise(table: Index) -> IndexState:
    """Compact, clean up, refresh the vector index; readers are never blocked."""
    return table.maintain()


def search(table: Index, encoder: Encoder, query: Query) -> Sequence[Hit]:
    """The moments that fit, best first; nothing for an empty query, and no model is loaded for an empty table."""
    if not query.text.strip() or not table.count():
        return ()
    vector = encoder.encode([query.text])[0]
    return table.search(vector, embedding_model=str(encoder.model), limit=query.limit)
