"""Filters of a search: their values, the LanceDB filter (SQL) that they become, and the values that a table offers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from transcription_assets.domain.media_keys import INBOXES
from transcription_assets.domain.people import SUGGESTED
from transcription_assets.errors import PermanentFailure

MAX_VALUES = 20
MAX_VALUE = 1000
KINDS = ("speech", "slide")
"""What was said, and what was shown as text."""
LAST = "\U0010ffff"


class InvalidQuery(PermanentFailure):
    """A question or a filter exceeds a limit; the message names the limit."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions on a moment, all of which must hold.

    `prefix` is a literal prefix of the media key, `recording` a whole media key. The recordings of one of `sources` are
    in folders of that name, see `source_prefixes`. `since` and `until` are inclusive and exclude recordings without a
    known date; `shortest_s` and `longest_s` are the recording's length in seconds. `kinds` are some of KINDS.

    Raises:
        InvalidQuery: a value exceeds a limit or cannot be encoded.

    """

    prefix: str = ""
    languages: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    since: date | None = None
    until: date | None = None
    shortest_s: float | None = None
    longest_s: float | None = None
    kinds: tuple[str, ...] = ()
    recording: str = ""

    def __post_init__(self) -> None:
        """Check the limits, so that no filter costs more than a scan of the table."""
        texts = (
            ("languages", self.languages),
            ("speakers", self.speakers),
            ("sources", self.sources),
            ("prefix", (self.prefix,)),
            ("recording", (self.recording,)),
        )
        for name, values in texts:
            if len(values) > MAX_VALUES:
                raise InvalidQuery(f"too many {name} in the filter: {len(values)}, at most {MAX_VALUES}")
            if any(len(value) > MAX_VALUE for value in values):
                raise InvalidQuery(f"a value of the filter {name} exceeds {MAX_VALUE} characters")
            if any(not is_encodable(value) for value in values):
                raise InvalidQuery(f"the filter {name} contains invalid characters (lone surrogates)")
        if unknown := set(self.kinds) - set(KINDS):
            raise InvalidQuery(f"invalid kind {min(unknown)!r}, expected {' or '.join(KINDS)}")
        for name, seconds in (("shortest_s", self.shortest_s), ("longest_s", self.longest_s)):
            if seconds is not None and not 0 <= seconds < float("inf"):
                raise InvalidQuery(f"invalid {name} {seconds}, expected seconds of at least 0")


def with_suggestions(speakers: Sequence[str]) -> tuple[str, ...]:
    """Return the names, each followed by the form in which it is only suggested (`Ada`, `Ada?`)."""
    return tuple(form for name in speakers for form in (name, name + SUGGESTED))


def is_encodable(text: str) -> bool:
    """Return whether UTF-8 can encode the text: it can unless there are lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def expression(filters: Filters) -> str | None:
    """Return the filters as a LanceDB filter (SQL) of dates, numbers and `quoted` text; None if there are none."""
    clauses = [*_of_lists(filters)]
    if filters.prefix:
        clauses.append(_has_prefix(filters.prefix))
    if filters.recording:
        clauses.append(f"media_key = {quoted(filters.recording)}")
    if filters.since:
        clauses.append(f"recorded >= DATE '{filters.since.isoformat()}'")
    if filters.until:
        clauses.append(f"recorded <= DATE '{filters.until.isoformat()}'")
    if filters.shortest_s is not None:
        clauses.append(f"duration_s >= {float(filters.shortest_s)!r}")
    if filters.longest_s is not None:
        clauses.append(f"duration_s <= {float(filters.longest_s)!r}")
    return " AND ".join(clauses) or None


def _of_lists(filters: Filters) -> Iterator[str]:
    """Yield a condition for each list of values, any of which must match."""
    if filters.sources:
        yield _any(_has_prefix(prefix) for name in filters.sources for prefix in source_prefixes(name))
    if filters.languages:
        yield f"language IN ({', '.join(map(quoted, filters.languages))})"
    if filters.speakers:
        yield _any(f"array_has(speakers, {quoted(name)})" for name in with_suggestions(filters.speakers))
    if filters.kinds:
        yield f"kind IN ({', '.join(map(quoted, filters.kinds))})"


def _any(conditions: Iterable[str]) -> str:
    return f"({' OR '.join(f'({condition})' for condition in conditions)})"


def source_prefixes(name: str) -> tuple[str, ...]:
    """Return the prefixes of the media keys of a source's recordings."""
    return tuple(f"{inbox}{name}/" for inbox in INBOXES)


def _has_prefix(prefix: str) -> str:
    return f"media_key >= {quoted(prefix)} AND media_key < {quoted(prefix + LAST)}"


def quoted(text: str) -> str:
    r"""Return `text` as an SQL string literal: single quotes are doubled, no other character has a meaning.

    LanceDB's own literals are not used (0.40): they take `\'` for a quote that is doubled already, but the SQL parser
    does not, so that the text after it would be parsed as an expression.
    """
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Facets:
    """Values to filter by, each with its number of recordings, the most frequent first."""

    recordings: int
    languages: Mapping[str, int]
    speakers: Mapping[str, int]
    collections: Mapping[str, int]
    since: date | None
    until: date | None
    kinds: Mapping[str, int] = field(default_factory=dict)


def facets(rows: pl.DataFrame) -> Facets:
    """Count the facets of a table's rows."""
    one = rows.group_by("media_key").first()
    collections = one["media_key"].str.extract(r"^([^/]+/(?:[^/]+/)?)").fill_null("")
    languages = rows.select("media_key", "language").unique()
    speakers = rows.select("media_key", "speakers").explode("speakers").unique()
    kinds = rows.select("media_key", "kind").unique()
    dates = one["recorded"]
    return Facets(
        recordings=one.height,
        languages=_counted(languages["language"]),
        speakers=_counted(speakers["speakers"]),
        collections=_counted(collections),
        since=dates.min(),  # type: ignore[arg-type]  # of a column of dates
        until=dates.max(),  # type: ignore[arg-type]
        kinds=_counted(kinds["kind"]),
    )


def _counted(values: pl.Series) -> dict[str, int]:
    counted = values.drop_nulls().value_counts(sort=True, name="count")
    return {str(value): int(count) for value, count in counted.iter_rows() if value}
