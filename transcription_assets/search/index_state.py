"""State of the search tables, as reported after maintenance and by `index status`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IndexState:
    """State of the served table after maintenance, and the name of the one under construction ("" if none)."""

    rows: int
    recordings: int
    fragments: int
    version: int
    vector_index: bool
    table: str = ""
    building: str = ""


@dataclass(frozen=True, slots=True)
class VersionState:
    """State of one table: its recipe, its size, and how many recordings of the served table it lacks."""

    table: str
    role: str
    embedding_model: str
    recipe: str
    rows: int
    recordings: int
    missing: int
    indexes: tuple[str, ...]
