"""Parsing of the TOML files that people write into the store: one table for each entry, validated by its kind."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from transcription_assets.domain.urls import absolute
from transcription_assets.errors import PermanentFailure

NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,62}[\w-])?", re.ASCII)
"""A name is that of a folder, of a state file, of a partition and of a URL parameter."""

Entry = TypeVar("Entry")


def _http_url(url: str) -> str:
    if absolute("", url) != url:
        raise ValueError("expected an http or https URL")
    return url


Url = Annotated[str, AfterValidator(_http_url)]


class InvalidCatalogue(PermanentFailure):
    """A TOML file that people write into the store, or a setting about its tables, is invalid.

    Subclasses name the `guide` that describes its fields.

    Attributes:
        reasons: The error of each field, by `table.field`; the key is "" for the whole file.

    """

    guide: ClassVar[str]

    def __init__(self, location: str, reasons: dict[str, str]) -> None:
        hint = f"see {self.guide} for its fields"
        details = "; ".join(f"{name}: {reason}" if name else reason for name, reason in reasons.items())
        super().__init__(f"{location}: {details}; {hint}", hint=hint)
        self.reasons = reasons


def parse_tables(tables: Mapping[str, Any], adapter: TypeAdapter[Entry]) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the valid entries by name, and the reasons why others are invalid as of `InvalidCatalogue`.

    `adapter` is that of models that differ by their field `kind`, and have a field `name`: the name of the table.
    """
    entries: dict[str, Entry] = {}
    reasons: dict[str, str] = {}
    for name, table in tables.items():
        if not NAME.fullmatch(name):
            reasons[name] = "invalid name, expected up to 64 letters, digits, `-`, `_` and `.`"
        elif not isinstance(table, dict):
            reasons[name] = "expected a table, such as [name]"
        elif "name" in table:
            reasons[f"{name}.name"] = "unknown field; the name is that of the table"
        else:
            try:
                entries[name] = adapter.validate_python(table | {"name": name})
            except ValidationError as error:
                # The location of an error in a field begins with the kind.
                reasons |= {_field(name, item["loc"][1:]): item["msg"] for item in error.errors()}
    names = [name.lower() for name in entries]  # file systems of some machines do not distinguish them
    reasons |= {
        name: "differs from another name in upper and lower case only"
        for name in entries
        if names.count(name.lower()) > 1
    }
    return entries, reasons


def invalid_fields(name: str, error: ValidationError) -> dict[str, str]:
    """Return the reasons why the fields of a table are invalid, by `table.field`."""
    return {_field(name, item["loc"]): item["msg"] for item in error.errors()}


def _field(name: str, location: tuple[int | str, ...]) -> str:
    return ".".join([name, *map(str, location)])
