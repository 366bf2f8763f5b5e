"""Copy of passages with their vectors in Postgres with pgvector, for queries in SQL."""

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from transcription_assets.errors import PermanentFailure, TransientFailure

COLUMNS = {
    "id": "text PRIMARY KEY",
    "media_key": "text NOT NULL",
    "title": "text",
    "start_s": "double precision NOT NULL",
    "end_s": "double precision NOT NULL",
    "text": "text NOT NULL",
    "language": "text",
    "speakers": "text[]",
    "recorded": "date",
    "duration_s": "double precision",
    "vector": "vector",
    "embedding_model": "text",
    "media_etag": "text",
    "kind": "text",
}
INDEXED_DIMENSION = 2000
"""Longest vectors that pgvector's HNSW index accepts."""

_ESCAPED = re.compile(r'[\\"]')
_ESCAPE = r"\\\g<0>"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,50}")


def copy(batches: Iterable[pl.DataFrame], url: str, table: str, dimension: int) -> int:
    """Make the table hold exactly these rows, and return their number.

    It is one transaction: readers see all of the old or all of the new rows. `url` is a libpq URL or `key=value`
    string; parts that it omits come from `PG*` variables and `~/.pgpass`. The table and its indexes (vectors by inner
    product, words, media_key) are created if they are missing.

    Raises:
        PermanentFailure: psycopg2 or pgvector is missing, `url` or `table` is invalid, the table has vectors of another
            dimension, or Postgres refuses.
        TransientFailure: the server cannot be reached, or the connection broke.

    """
    try:
        import psycopg2
        from psycopg2 import sql
    except ImportError as error:
        hint = "pip install '.[postgres]'"
        raise PermanentFailure(f"psycopg2 is not installed: {hint}", hint=hint) from error

    if not _NAME.fullmatch(table):
        hint = "use lower-case letters, digits and _, at most 51 characters"
        raise PermanentFailure(f"invalid table name {table!r}: {hint}", hint=hint)
    try:
        connection = psycopg2.connect(url)
    except psycopg2.OperationalError as error:
        raise TransientFailure(f"Postgres cannot be reached: {str(error).strip()}", hint="try again") from None
    except psycopg2.ProgrammingError:
        # The original message is not repeated: it quotes the URL, which may hold a password.
        hint = "use postgresql://user@host/database"
        raise PermanentFailure(f"invalid Postgres URL: {hint}", hint=hint) from None
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            _require_dimension(cursor, table, dimension)
            name, staged = sql.Identifier(table), sql.Identifier(f"{table}_new")
            types = {**COLUMNS, "vector": f"vector({dimension})"}
            columns = sql.SQL(", ").join(sql.SQL(f"{{}} {kind}").format(sql.Identifier(c)) for c, kind in types.items())
            cursor.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(name, columns))
            _add_kind(cursor, table)
            cursor.execute(sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DROP").format(staged, name))
            for rows in batches:
                cursor.copy_expert(sql.SQL("COPY {} FROM STDIN WITH (FORMAT csv)").format(staged), _csv(rows))
            cursor.execute(
                sql.SQL("DELETE FROM {0} WHERE NOT EXISTS (SELECT 1 FROM {1} WHERE {1}.id = {0}.id)").format(
                    name, staged
                )
            )
            others = [sql.Identifier(column) for column in COLUMNS if column != "id"]
            changed = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(column) for column in others)
            cursor.execute(
                sql.SQL("INSERT INTO {} SELECT * FROM {} ON CONFLICT (id) DO UPDATE SET {}").format(
                    name, staged, changed
                )
            )
            for index in _indexes(table, dimension):
                cursor.execute(index)
            cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(name))
            return int(cursor.fetchone()[0])
    except psycopg2.errors.FeatureNotSupported as error:
        hint = "install the extension"
        raise PermanentFailure(f"Postgres has no pgvector: {str(error).strip()}; {hint}", hint=hint) from None
    except psycopg2.OperationalError as error:
        raise TransientFailure(f"lost the connection to Postgres: {str(error).strip()}", hint="try again") from None
    except psycopg2.Error as error:
        raise PermanentFailure(f"Postgres rejected the copy: {str(error).strip()}") from None
    finally:
        connection.close()


def _add_kind(cursor: Any, table: str) -> None:
    """Add the last column to a table of an earlier version.

    `ADD COLUMN IF NOT EXISTS` alone would wait for all readers, and make new ones wait, at each export.
    """
    from psycopg2 import sql

    cursor.execute(
        "SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'kind' AND NOT attisdropped", (table,)
    )
    if cursor.fetchone() is None:
        cursor.execute(sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS kind text").format(sql.Identifier(table)))


def _require_dimension(cursor: Any, table: str, dimension: int) -> None:
    cursor.execute(
        "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'vector'", (table,)
    )
    existing = cursor.fetchone()
    if existing and existing[0] != dimension:
        raise PermanentFailure(
            f"table {table} has vectors of dimension {existing[0]}, not {dimension}: choose another with --table",
            hint="choose another table with --table",
        )


def _indexes(table: str, dimension: int) -> list[Any]:
    from psycopg2 import sql

    methods = {"words": "gin (to_tsvector('simple', text))", "media_key": "btree (media_key)"}
    if dimension <= INDEXED_DIMENSION:
        methods["vector"] = "hnsw (vector vector_ip_ops)"
    return [
        sql.SQL(f"CREATE INDEX IF NOT EXISTS {{}} ON {{}} USING {method}").format(
            sql.Identifier(f"{table}_{name}"), sql.Identifier(table)
        )
        for name, method in methods.items()
    ]


def _csv(rows: pl.DataFrame) -> io.BytesIO:
    """Return the rows as CSV for COPY, without NUL characters, which Postgres text cannot hold."""
    texts = [name for name in COLUMNS if rows.schema[name] == pl.String]
    target = io.BytesIO()
    rows.with_columns(
        pl.col(texts).str.replace_all("\0", "", literal=True),
        pl.Series("vector", [_vector(item) for item in rows["vector"].to_list()], dtype=pl.String),
        pl.Series("speakers", [_array(item) for item in rows["speakers"].to_list()], dtype=pl.String),
    ).select(list(COLUMNS)).write_csv(target, include_header=False, quote_style="non_numeric")
    target.seek(0)
    return target


def _vector(numbers: Sequence[float] | None) -> str | None:
    return None if numbers is None else f"[{','.join(map(str, numbers))}]"


def _array(names: Sequence[str] | None) -> str | None:
    """Return a Postgres array literal: each text in double quotes, quotes and backslashes in it escaped."""
    return None if names is None else "{" + ",".join(f'"{_ESCAPED.sub(_ESCAPE, name)}"' for name in names) + "}"
