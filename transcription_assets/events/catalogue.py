"""`events.toml` of the store: who gets which events, validated when it is read. Secrets come from the settings."""

import base64
import binascii
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from transcription_assets.errors import NotFound, PermanentFailure
from transcription_assets.events.event import FAILURES, SOURCE, TYPES, Event, EventType
from transcription_assets.events.occurrences import CATALOGUE
from transcription_assets.storage import Store
from transcription_assets.toml_catalogue import NAME, InvalidCatalogue, Url, invalid_fields, parse_tables

MOST_BYTES = 1 << 20
SECRET_PREFIX = "whsec_"  # noqa: S105 -- of the Standard Webhooks specification
SECRET_BYTES = range(24, 65)


def _known_types(types: tuple[EventType, ...]) -> tuple[EventType, ...]:
    if unknown := set(types) - set(TYPES):
        raise ValueError(f"unknown types {', '.join(sorted(unknown))}; known are {', '.join(TYPES)}")
    return types


Types = Annotated[tuple[EventType, ...], AfterValidator(_known_types)]


class _Receiver(BaseModel):
    """Fields of every receiver: it gets events of these `types`, about recordings whose keys have one of `prefixes`.

    Events about sources and the backlog have no key, and are filtered by type alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    types: Types = TYPES
    prefixes: tuple[str, ...] = ("",)

    def accepts(self, event: Event) -> bool:
        """Return whether the receiver gets this event."""
        return event.type in self.types and self._is_about_its_recordings(event)

    def _is_about_its_recordings(self, event: Event) -> bool:
        return "key" not in event.data or event.subject.startswith(self.prefixes)


class Webhook(_Receiver):
    """A server that gets each event by `POST`, signed; without a secret in the settings it gets nothing.

    An attempt takes at most `timeout_s`; an event that waits for longer than `give_up_hours` is given up.
    """

    kind: Literal["webhook"]
    url: Url = Field(repr=False)
    timeout_s: Annotated[float, Gt(0), Le(30)] = 10.0
    give_up_hours: Annotated[float, Gt(0), Le(2_160)] = 72.0


class Channel(_Receiver):
    """A channel of people, such as mail: the first failure at once, then a digest every `every_minutes`.

    At `daily_at` (UTC; False = never) the failures that are outstanding are listed. Recoveries of what had failed are
    sent, too.
    """

    kind: Literal["channel"]
    types: Types = tuple(sorted(FAILURES))
    every_minutes: Annotated[float, Ge(1), Le(10_080)] = 60.0
    daily_at: time | Literal[False] = time(7, 0)

    def accepts(self, event: Event) -> bool:
        """Return whether the channel gets this event; also the recovery of what it was told of."""
        failures = {each for each in self.types if each in FAILURES}
        topics = {each.partition(".")[0] for each in failures}
        is_recovery = event.is_recovery and event.type.partition(".")[0] in topics
        return super().accepts(event) or (is_recovery and self._is_about_its_recordings(event))


Receiver = Webhook | Channel
_RECEIVER: TypeAdapter[Receiver] = TypeAdapter(Annotated[Receiver, Field(discriminator="kind")])


class _General(BaseModel):
    """The table `[events]`: what is not about one receiver. `stuck_hours` 0 = no check of the backlog."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^\S+$")] = SOURCE
    stuck_hours: Annotated[float, Ge(0), Le(2_160)] = 24.0


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Receivers by name, and what applies to all of them."""

    receivers: Mapping[str, Receiver] = field(default_factory=dict)
    source: str = SOURCE
    stuck_hours: float = 24.0


class InvalidEvents(InvalidCatalogue):
    """`events.toml`, or a setting about its receivers, is invalid."""

    guide = "docs/how-to/events.md"


def load(store: Store) -> Catalogue | None:
    """Return the receivers; None if the store has no `events.toml`.

    Raises:
        InvalidEvents: the file is invalid; nothing is delivered then, and nothing is lost.
        TranscriptionError: the file is too large, or the store denies access or does not answer.

    """
    try:
        data = store.read_small(CATALOGUE, MOST_BYTES)
    except NotFound:
        return None
    return parse(data, f"{store.url}/{CATALOGUE}")


def parse(data: bytes, location: str) -> Catalogue:
    """Return the receivers of a file.

    Raises:
        InvalidEvents: it is not TOML, or a receiver has a wrong name, an unknown or missing field, or a wrong value.

    """
    try:
        tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidEvents(location, {"": str(error)}) from error
    reasons: dict[str, str] = {}
    general = _General()
    if "events" in tables:
        try:
            general = _General.model_validate(tables.pop("events"))
        except ValidationError as error:
            reasons |= invalid_fields("events", error)
    receivers, invalid = parse_tables(tables, _RECEIVER)
    reasons |= invalid
    if reasons:
        raise InvalidEvents(location, reasons)
    return Catalogue(receivers, general.source, general.stuck_hours)


def parse_secrets(text: str) -> dict[str, tuple[bytes, ...]]:
    """Return the secrets of `TRANSCRIPTION_EVENT_SECRETS` by receiver, the newest first.

    Raises:
        InvalidEvents: an entry has another form. No message holds a part of a secret.

    """
    setting = "TRANSCRIPTION_EVENT_SECRETS"
    found: dict[str, tuple[bytes, ...]] = {}
    for name, values in _pairs(text, setting).items():
        try:
            keys = tuple(base64.b64decode(value.removeprefix(SECRET_PREFIX), validate=True) for value in values)
        except binascii.Error:
            keys = (b"",)
        if any(len(key) not in SECRET_BYTES for key in keys):
            raise InvalidEvents(setting, {name: f"expected {SECRET_PREFIX} and 24 to 64 bytes in base64"})
        found[name] = keys
    return found


def parse_channels(text: str) -> dict[str, tuple[str, ...]]:
    """Return the apprise URLs of `TRANSCRIPTION_EVENT_CHANNELS` by receiver.

    Raises:
        InvalidEvents: an entry has another form. No message holds a part of a URL.

    """
    return _pairs(text, "TRANSCRIPTION_EVENT_CHANNELS")


def _pairs(text: str, setting: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for number, part in enumerate(text.split(), 1):
        name, separator, value = part.partition("=")
        if not separator or not NAME.fullmatch(name) or not value:
            raise InvalidEvents(setting, {f"entry {number}": "expected receiver=value, separated by spaces"})
        found[name] = (*found.get(name, ()), value)
    return found


def require_known(names: Sequence[str], catalogue: Catalogue, location: str) -> None:
    """Check that all names are those of receivers.

    Raises:
        PermanentFailure: a name is unknown.

    """
    if unknown := sorted(set(names) - set(catalogue.receivers)):
        hint = f"known receivers: {', '.join(catalogue.receivers) or 'none'}"
        raise PermanentFailure(f"{location} has no receiver {', '.join(unknown)}; {hint}", hint=hint)
