"""Records of people and of what users said about speakers. They are only ever added, so that two users never collide.

A person is a folder `people/<id>/`, of whose files the last one counts; a statement about a speaker is a file in
`statements/<key>/`. Nothing else in the store holds these facts, and no step removes them: only `identification.forget`
does.
"""

import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from transcription_assets.domain import media_keys
from transcription_assets.domain.people import InvalidChange, Person, Statement, checked_name
from transcription_assets.pipeline import records
from transcription_assets.storage import Store

VERSION = "1"
AT_ONCE = 16
MOST_MERGES = 20


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """The name of a person, or the person (ID) into whom this one was merged; `at` in ISO 8601, `by` the user."""

    name: str
    merged_into: str = ""
    at: str = ""
    by: str = ""
    version: str = VERSION


@dataclass(frozen=True, slots=True)
class StatementRecord:
    """A statement in the store, about a speaker of the recording `key`."""

    key: str
    statement: Statement
    version: str = VERSION


def create(store: Store, name: str, by: str = "") -> Person:
    """Add a person.

    Raises:
        InvalidChange: the name is invalid.
        TranscriptionError: the store refuses or does not answer.

    """
    person = Person(secrets.token_hex(6), checked_name(name))
    change(store, person.id, PersonRecord(person.name, at=_now(), by=by))
    return person


def rename(store: Store, person: Person, name: str, by: str = "") -> Person:
    """Give a person another name.

    Raises:
        InvalidChange: the name is invalid.
        TranscriptionError: the store refuses or does not answer.

    """
    renamed = Person(person.id, checked_name(name))
    change(store, person.id, PersonRecord(renamed.name, at=_now(), by=by))
    return renamed


def merge(store: Store, person: Person, into: Person, by: str = "") -> None:
    """Record that two people are one, who is called `into` from now on.

    Raises:
        InvalidChange: they are one already.
        TranscriptionError: the store refuses or does not answer.

    """
    if person.id == into.id:
        raise InvalidChange(f"{person.name} ({person.id}) cannot be merged into themselves")
    change(store, person.id, PersonRecord(person.name, into.id, at=_now(), by=by))


def change(store: Store, identifier: str, record: PersonRecord) -> None:
    """Add a record of a person.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    records.write(store, f"{media_keys.people(identifier)}{_stamp()}.json", asdict(record))


def add(store: Store, key: str, statement: Statement) -> None:
    """Add a statement about a speaker of a recording; its time is set.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    document = asdict(StatementRecord(key, replace(statement, at=_now())))
    records.write(store, f"{media_keys.statements(key)}{_stamp()}.json", document)


def statements(store: Store, key: str) -> list[Statement]:
    """Return the statements about a recording, the oldest first; damaged ones are left out.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    folder = media_keys.statements(key)
    # Statements about `a.mp4/b.mp4` are in a folder of that of `a.mp4`.
    own = [path for path in store.list(folder) if "/" not in path.removeprefix(folder)]
    return [record.statement for record in _loaded(store, own).values()]


def all_statements(store: Store) -> dict[str, StatementRecord]:
    """Return all statements by path.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return _loaded(store, store.list(media_keys.statements()))


def resolve(store: Store, identifiers: Iterable[str]) -> dict[str, Person]:
    """Return the people with these IDs; one that was merged is mapped to the other. Forgotten ones are left out.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    found = {identifier: _resolved(store, identifier) for identifier in set(identifiers) - {""}}
    return {identifier: person for identifier, person in found.items() if person}


def everyone(store: Store) -> list[Person]:
    """Return all people that were not merged into others, by name.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    latest: dict[str, str] = {}
    for path in store.list(media_keys.people()):
        folder, _, file = path.removeprefix(media_keys.people()).rpartition("/")
        if folder and "/" not in folder and file:
            latest[folder] = path
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(latest, pool.map(lambda path: _record(store, path), latest.values()), strict=True))
    people = [Person(one, record.name) for one, record in found.items() if record and not record.merged_into]
    return sorted(people, key=lambda person: (person.name.casefold(), person.id))


def merged_ids(store: Store, person: Person) -> set[str]:
    """Return the ID of a person and those of all who were merged into them.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    folders = {path.removeprefix(media_keys.people()).partition("/")[0] for path in store.list(media_keys.people())}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        resolved = pool.map(lambda identifier: (identifier, _resolved(store, identifier)), folders)
    return {person.id} | {identifier for identifier, other in resolved if other and other.id == person.id}


def find(store: Store, text: str) -> Person:
    """Return the person with this ID or name.

    Raises:
        InvalidChange: nobody has it, or several people have this name.
        TranscriptionError: the store refuses or does not answer.

    """
    found = matching(store, text)
    if not found:
        hint = "run `transcription-assets speakers people`"
        raise InvalidChange(f"nobody is called {text}; {hint}", hint=hint)
    return only(found)


def matching(store: Store, text: str) -> list[Person]:
    """Return the person with this ID, else all people with this name, in any case of letters.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    if person := resolve(store, [text]).get(text):
        return [person]
    return [person for person in everyone(store) if person.name.casefold() == " ".join(text.split()).casefold()]


def only(people: Sequence[Person]) -> Person:
    """Return the only one of `people`, who have one name.

    Raises:
        InvalidChange: there are several.

    """
    if len(people) > 1:
        hint = f"use an ID: {', '.join(person.id for person in people)}"
        raise InvalidChange(f"{len(people)} people are called {people[0].name}; {hint}", hint=hint)
    return people[0]


def remove(store: Store, identifiers: Iterable[str], paths: Iterable[str]) -> None:
    """Delete people, and the statements at `paths`.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    store.delete(*paths)
    for identifier in identifiers:
        store.delete_below(media_keys.people(identifier))


def _resolved(store: Store, identifier: str) -> Person | None:
    """Return the person, or the one into whom they were merged."""
    for _ in range(MOST_MERGES):
        paths = store.list(media_keys.people(identifier)) if _is_id(identifier) else []
        record = _record(store, paths[-1]) if paths else None
        if record is None:
            return None
        if not record.merged_into:
            return Person(identifier, record.name)
        identifier = record.merged_into
    return None


def _is_id(text: str) -> bool:
    """Return whether this can be an ID: it becomes the name of a folder."""
    return text.isascii() and text.isalnum()


def _record(store: Store, path: str) -> PersonRecord | None:
    return records.load(store, path, PersonRecord, VERSION)


def _loaded(store: Store, paths: Sequence[str]) -> dict[str, StatementRecord]:
    def load(path: str) -> StatementRecord | None:
        return records.load(store, path, StatementRecord, VERSION)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {path: record for path, record in zip(paths, pool.map(load, paths), strict=True) if record}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _stamp() -> str:
    """Return a file name that sorts by time, and differs from those of others at the same time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
