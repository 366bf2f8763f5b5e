"""What is said of the tables: of the served one after its care, and of each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IndexState:
    """What the served table holds after maintenance, and the one that is built beside it ("" if none)."""

    rows: int
    recordings: int
    fragments: int
    version: int
    vector_index: bool
    table: str = ""
    building: str = ""


@dataclass(frozen=True, slots=True)
class VersionState:
    """One table: what it is made with, what it holds, and how many recordings of the served one it lacks."""

    table: str
    role: str
    embedding_model: str
    recipe: str
    rows: int
    recordings: int
    missing: int
    indexes: tuple[str, ...]
