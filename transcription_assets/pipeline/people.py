"""Records of people and of what users said about speakers. They are only ever added, so that two users never collide.

A person is a folder `people/<id>/`, in which the last name counts; a statement about a speaker is a file in
`statements/<key>/`. Nothing else in the store holds these facts, and no step removes them: only `identification.forget`
does.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from transcription_assets.domain import media_keys
from transcription_assets.domain.people import InvalidChange, Person, Statement, checked_name, is_person_id
from transcription_assets.pipeline import records
from transcription_assets.storage import Store

VERSION = "1"
AT_ONCE = 16

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """A change of a person: another `name`, or `merged_into` (ID) if they are somebody else.

    `at` is in ISO 8601, `by` the user.
    """

    name: str = ""
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
    _change(store, person.id, PersonRecord(name=person.name, at=_now(), by=by))
    return person


def rename(store: Store, person: Person, name: str, by: str = "") -> Person:
    """Give a person another name.

    Raises:
        InvalidChange: the name is invalid.
        TranscriptionError: the store refuses or does not answer.

    """
    renamed = Person(person.id, checked_name(name))
    _change(store, person.id, PersonRecord(name=renamed.name, at=_now(), by=by))
    return renamed


def merge(store: Store, person: Person, into: Person, by: str = "") -> None:
    """Record that two people are one, who is called `into` from now on.

    Raises:
        InvalidChange: they are one already.
        TranscriptionError: the store refuses or does not answer.

    """
    if person.id == into.id:
        raise InvalidChange(f"{person.name} ({person.id}) cannot be merged into themselves")
    _change(store, person.id, PersonRecord(merged_into=into.id, at=_now(), by=by))


def _change(store: Store, identifier: str, record: PersonRecord) -> None:
    folder = media_keys.people(identifier)
    records.write(store, _next(folder, store.list(folder)), asdict(record))


def add(store: Store, key: str, statement: Statement) -> None:
    """Add a statement about a speaker of a recording; its time is set.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    document = asdict(StatementRecord(key, replace(statement, at=_now())))
    records.write(store, _next(media_keys.statements(key), _own_paths(store, key)), document)


def statements(store: Store, key: str) -> list[Statement]:
    """Return the statements about a recording, the oldest first; damaged ones are left out.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return [record.statement for record in _loaded(store, _own_paths(store, key), StatementRecord).values()]


def _own_paths(store: Store, key: str) -> list[str]:
    folder = media_keys.statements(key)
    # Statements about `a.mp4/b.mp4` are in a folder of that of `a.mp4`.
    return [path for path in store.list(folder) if "/" not in path.removeprefix(folder)]


def all_statements(store: Store) -> dict[str, StatementRecord]:
    """Return all statements by path.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return _loaded(store, store.list(media_keys.statements()), StatementRecord)


def resolve(store: Store, identifiers: Iterable[str]) -> dict[str, Person]:
    """Return the people with these IDs; one that was merged is mapped to the other. Forgotten ones are left out.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    known: dict[str, _State] = {}
    found = {}
    for identifier in set(identifiers):
        waiting = identifier
        while is_person_id(waiting) and waiting not in known:
            known |= _states(_loaded(store, store.list(media_keys.people(waiting)), PersonRecord))
            waiting = known[waiting].merged_into if waiting in known else ""
        if person := _person(known, identifier):
            found[identifier] = person
    return found


def everyone(store: Store) -> list[Person]:
    """Return all people that were not merged into others, by name.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    known = _all_states(store)
    people = {_person(known, identifier) for identifier in known} - {None}
    return sorted((person for person in people if person), key=lambda person: (person.name.casefold(), person.id))


def merged_ids(store: Store, person: Person) -> set[str]:
    """Return the ID of a person and those of all who were merged into them.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    known = _all_states(store)
    return {person.id} | {identifier for identifier in known if _person(known, identifier) == person}


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


def remove(store: Store, person: Person, identifiers: Iterable[str]) -> None:
    """Delete a person and those who were merged into them, whose IDs are given; the person last.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    for identifier in (*sorted(set(identifiers) - {person.id}), person.id):
        store.delete_below(media_keys.people(identifier))


@dataclass(frozen=True, slots=True)
class _State:
    """The current name of an ID, and whom it was merged into ("" if it was not)."""

    name: str
    merged_into: str


def _all_states(store: Store) -> dict[str, _State]:
    return _states(_loaded(store, store.list(media_keys.people()), PersonRecord))


def _states(found: Mapping[str, PersonRecord]) -> dict[str, _State]:
    """Return the state of each ID by its records, which are by path; the last name and the last merge count."""
    states: dict[str, _State] = {}
    for path in sorted(found):
        identifier, _, file = path.removeprefix(media_keys.people()).partition("/")
        if is_person_id(identifier) and "/" not in file:
            before, record = states.get(identifier, _State("", "")), found[path]
            states[identifier] = _State(record.name or before.name, record.merged_into or before.merged_into)
    return {identifier: state for identifier, state in states.items() if state.name}


def _person(known: Mapping[str, _State], identifier: str) -> Person | None:
    """Return the person behind an ID, None if there is none.

    Two people whom two users merged into each other at once are the one with the smaller ID.
    """
    seen: list[str] = []
    while identifier in known and identifier not in seen:
        seen.append(identifier)
        identifier = known[identifier].merged_into
    if identifier in seen:
        last = min(seen[seen.index(identifier) :])
        return Person(last, known[last].name)
    return Person(seen[-1], known[seen[-1]].name) if seen and not identifier else None


def _loaded(store: Store, paths: Sequence[str], kind: type[Record]) -> dict[str, Record]:
    """Return the records by path; damaged ones are left out."""

    def load(path: str) -> Record | None:
        return records.load(store, path, kind, VERSION)

    if not paths:
        return {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {path: record for path, record in zip(paths, pool.map(load, paths), strict=True) if record}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _next(folder: str, existing: Sequence[str]) -> str:
    """Return a path that sorts after the existing ones, even if this clock is slow, and that no other user takes."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    latest = max((path.removeprefix(folder).partition("-")[0] for path in existing), default="")
    if latest >= stamp:
        stamp = f"{latest}0"  # sorts after `latest`, and before any later time
    return f"{folder}{stamp}-{secrets.token_hex(4)}.json"
