"""Identification of the speakers of a recording (`identities/<key>.json`), and the changes that users make to it.

Users confirm a speaker of one recording. Wherever a voice is similar to a confirmed one, that person is suggested, and
shown with a question mark until a user confirms it. Only confirmed voices lead to suggestions, so that a mistake of
the machine cannot spread.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from transcription_assets.domain import media_keys
from transcription_assets.domain.people import (
    Claims,
    Identity,
    InvalidChange,
    Person,
    Statement,
    Verdict,
    claims_of,
    identity,
    spans_of,
)
from transcription_assets.domain.transcript import Transcript
from transcription_assets.embedding import Encoder
from transcription_assets.errors import TranscriptionError, TransientFailure
from transcription_assets.pipeline import embeddings, people, records, speakers
from transcription_assets.pipeline.embeddings import PassageOptions
from transcription_assets.pipeline.speakers import Speakers
from transcription_assets.search.index import Index
from transcription_assets.search.voiceprints import Voiceprint, Voiceprints
from transcription_assets.speakers.diariser import same_voice
from transcription_assets.storage import Store

VERSION = "1"
PUBLISH_EVERY = 20
"""Recordings between two commits to the search table."""

PUBLISH_ATTEMPTS = 10
"""Writes of the same voiceprints, of which the last must find that the table has them."""

ATTEMPTS = 3
"""Attempts to apply the names of a recording about which users keep stating something."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identities:
    """Record of who the speakers of a recording are; `fingerprint` is that of the turns."""

    key: str
    fingerprint: str
    speakers: tuple[Identity, ...]
    version: str = VERSION


@dataclass(frozen=True, slots=True)
class IdentificationTools:
    """Dependencies of a change: the store, the tables, and the encoder, which only new texts need."""

    store: Store
    voiceprints: Voiceprints
    table: Index
    encoder: Callable[[], Encoder]
    passage_options: PassageOptions


@dataclass(frozen=True, slots=True)
class Target:
    """A speaker whom a user speaks about: recording, label, and the fingerprint of the turns that the user saw.

    Without a fingerprint the current turns are meant.
    """

    key: str
    label: str
    fingerprint: str = ""


def load(store: Store, found: Speakers) -> tuple[Identity, ...]:
    """Return who these speakers are according to the last identification; empty if there was none of these turns.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    known = records.load(store, media_keys.identities(found.key), Identities, VERSION)
    return known.speakers if known and known.fingerprint == found.fingerprint else ()


def identify(store: Store, voiceprints: Voiceprints, key: str) -> tuple[Identity, ...]:
    """Find out who the speakers of a recording are, and record it; empty if no speakers were found.

    Raises:
        TranscriptionError: the store or the table refuses or does not answer.

    """
    found = speakers.load(store, key)
    if found is None:
        return ()
    claims = _claims(store, found)
    similar = _similar_people(voiceprints, found, [label for label in claims if not claims[label].person])
    stated = {one for claim in claims.values() for one in (claim.person, *claim.refused)}
    known = people.resolve(store, stated.union(*similar.values()))
    made = tuple(identity(label, claim, known, similar.get(label, {})) for label, claim in claims.items())
    if load(store, found) != made:
        records.write(store, media_keys.identities(key), asdict(Identities(key, found.fingerprint, made)))
    return made


def apply(store: Store, voiceprints: Voiceprints, key: str) -> Transcript | None:
    """Give the words in the store their speakers with their names; return the transcript, None if there is none.

    Raises:
        TranscriptionError: the store or the table refuses or does not answer.

    """
    names = {one.label: one.name for one in identify(store, voiceprints, key)}
    return speakers.apply(store, key, names)


def publish(store: Store, voiceprints: Voiceprints, keys: Collection[str]) -> None:
    """Replace the voiceprints of these recordings in the table.

    The rows are read again until the table has them: a write can be lost while a person is forgotten, and must not be
    repeated with voiceprints that have been removed meanwhile.

    Raises:
        TransientFailure: others kept changing these rows.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    for _ in range(PUBLISH_ATTEMPTS):
        if not voiceprints.replace(_rows(store, keys), keys):
            return
    raise TransientFailure("others keep changing the same voiceprints; try again", hint="try again")


def _rows(store: Store, keys: Collection[str]) -> list[Voiceprint]:
    """Return the voiceprints of these recordings according to the records in the store.

    A confirmed speaker without a voiceprint has a row, too, so that the recordings of a person can be found.
    """
    rows: list[Voiceprint] = []
    for key in keys:
        found = speakers.load(store, key)
        if found is None:
            continue
        claims = _claims(store, found)
        known = people.resolve(store, {claim.person for claim in claims.values()})
        for label, claim in claims.items():
            vector = () if claim.withheld else found.voiceprints.get(label, ())
            person = known[claim.person].id if claim.person in known else ""
            if vector or person:
                rows.append(Voiceprint(key, label, found.model, vector, person))
    return rows


def name(
    tools: IdentificationTools, target: Target, text: str, *, new: bool = False, by: str = ""
) -> tuple[Person, set[str]]:
    """Record that a speaker is the person with this name or ID, who is added if nobody has the name, or with `new`.

    Returns the person, and the recordings as `confirm` does.

    Raises:
        InvalidChange: the recording has no such speaker, the name is invalid, or several people have it.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    require(tools.store, target)
    known = [] if new else people.matching(tools.store, text)
    person = people.only(known) if known else people.create(tools.store, text, by)
    return person, confirm(tools, target, person, by)


def confirm(tools: IdentificationTools, target: Target, person: Person, by: str = "") -> set[str]:
    """Record that a speaker is this person.

    Returns the recordings whose names may change, to be passed to `update`, that of the speaker first.

    Raises:
        InvalidChange: the recording has no such speaker.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    return _state(tools, target, "is", person.id, by)


def reject(tools: IdentificationTools, target: Target, by: str = "", person: str = "") -> set[str]:
    """Record that a speaker is not the person (ID) who is confirmed or suggested; returns as `confirm` does.

    Without `person`, whoever is confirmed or suggested now is meant.

    Raises:
        InvalidChange: the recording has no such speaker, or this person is neither confirmed nor suggested.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    found = require(tools.store, target)
    current = {one.label: one.person for one in identify(tools.store, tools.voiceprints, target.key)}[target.label]
    if not current or person not in {"", current}:
        raise InvalidChange(
            f"{target.key}: this person is neither confirmed nor suggested for speaker {target.label}", key=target.key
        )
    # A statement about somebody who was merged into this person is refuted under the ID that it has.
    stated = _claims(tools.store, found)[target.label].person
    return _state(tools, target, "is_not", stated or current, by)


def withdraw(tools: IdentificationTools, target: Target, by: str = "") -> set[str]:
    """Withdraw what was said about a speaker; returns as `confirm` does.

    Raises:
        InvalidChange: the recording has no such speaker.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    return _state(tools, target, "unknown", "", by)


def rename(tools: IdentificationTools, person: Person, text: str, by: str = "") -> set[str]:
    """Give a person another name; returns as `confirm` does.

    Raises:
        InvalidChange: the name is invalid.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    people.rename(tools.store, person, text, by)
    return recordings_of(tools, person)


def merge(tools: IdentificationTools, person: Person, into: Person, by: str = "") -> set[str]:
    """Make two people one, called as `into`; returns as `confirm` does.

    Raises:
        InvalidChange: they are one already.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    keys = recordings_of(tools, person) | recordings_of(tools, into)
    people.merge(tools.store, person, into, by)
    return keys


def forget(tools: IdentificationTools, person: Person) -> int:
    """Remove a person: the name, all statements, and the voiceprints of all speakers who are confirmed or suggested.

    No voiceprint of these speakers is kept by a later diarisation either. Until the last write everything that is still
    to be done can be found by the ID of the person, so that an interrupted call can be repeated. Returns the number of
    recordings that have changed.

    Raises:
        TransientFailure: the names of some recordings could not be removed; the person is still there.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    store, ids = tools.store, people.merged_ids(tools.store, person)
    for key in recordings_of(tools, person):
        _withhold_suggested(tools, key, ids)
    about = {path: record for path, record in people.all_statements(store).items() if record.statement.person in ids}
    keys = {record.key for record in about.values()}
    for path, record in about.items():
        if record.statement.verdict == "is":
            people.add(store, record.key, replace(record.statement, verdict="withheld", by=""))
        if record.statement.verdict != "withheld":
            store.delete(path)
    for key in keys:
        found = speakers.load(store, key)
        if found:
            withheld = {label for label, claim in _claims(store, found).items() if claim.withheld}
            speakers.without_voiceprints(store, found, withheld)
    failed = [key for key, error in update(tools, sorted(keys)) if error]
    if failed:
        raise TransientFailure(
            f"the name of {person.name} is still in {len(failed)} recordings, such as {failed[0]}; forget them again",
            key=failed[0],
            hint="forget them again",
        )
    tools.voiceprints.erase(ids)
    for path, record in people.all_statements(store).items():
        if record.statement.person in ids:
            people.add(store, record.key, replace(record.statement, person="", by=""))
            store.delete(path)
    people.remove(store, person, ids)
    return len(keys)


def recordings_of(tools: IdentificationTools, person: Person) -> set[str]:
    """Return the recordings in which a person is confirmed or may be suggested.

    Raises:
        TranscriptionError: the store or the table refuses or does not answer.

    """
    rows = tools.voiceprints.of_people(people.merged_ids(tools.store, person))
    found = {row.media_key for row in rows}
    for model in {row.model for row in rows}:
        found |= _similar_recordings(tools, model, [row.vector for row in rows if row.model == model])
    return found


def update(
    tools: IdentificationTools, keys: Sequence[str], is_stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, TranscriptionError | None]]:
    """Apply the current names to these recordings: texts, subtitles, passages, voiceprints.

    The first one is completed before the others, which may suggest what was stated about it. What is up to date is not
    written again. Yields each recording with the error that prevented it; ends early if `is_stopped`.

    Raises:
        TranscriptionError: the tables cannot be written.

    """
    groups = [keys[:1], *(keys[start : start + PUBLISH_EVERY] for start in range(1, len(keys), PUBLISH_EVERY))]
    for group in groups:
        if is_stopped():
            return
        failed: dict[str, TranscriptionError] = {}
        waiting = list(group)
        for _ in range(ATTEMPTS):
            applied = _applied(tools, waiting, failed)
            # Somebody may have stated something meanwhile, and the names of before would stay.
            waiting = [key for key, names in applied.items() if names != identify(tools.store, tools.voiceprints, key)]
            if not waiting:
                break
        yield from ((key, failed.get(key)) for key in group)


def _applied(
    tools: IdentificationTools, keys: Sequence[str], failed: dict[str, TranscriptionError]
) -> dict[str, tuple[Identity, ...]]:
    """Apply the names, and return those of each recording; errors are added to `failed`."""
    made: list[embeddings.Embeddings] = []
    applied: dict[str, tuple[Identity, ...]] = {}
    for key in keys:
        try:
            names = identify(tools.store, tools.voiceprints, key)
            if speakers.apply(tools.store, key, {one.label: one.name for one in names}):
                made.append(embeddings.materialise(tools.store, key, tools.encoder(), tools.passage_options))
            applied[key] = names
        except TranscriptionError as error:
            log.warning("%s: the names of its speakers are not up to date: %s", key, error)
            failed[key] = error
    publish(tools.store, tools.voiceprints, list(applied))
    if made:
        embeddings.publish(tools.store, tools.table, made)
    return applied


def require(store: Store, target: Target) -> Speakers:
    """Return the speakers of a recording, of which the target is one.

    Raises:
        InvalidChange: it is not, or the speakers were found anew since the user saw them.
        TranscriptionError: the store refuses or does not answer.

    """
    key, found = target.key, speakers.load(store, target.key)
    if found is None:
        hint = "set TRANSCRIPTION_SPEAKERS=voices and process it"
        raise InvalidChange(f"{key}: its speakers were not searched for; {hint}", key=key, hint=hint)
    if target.fingerprint not in {"", found.fingerprint}:
        hint = "load the page again"
        raise InvalidChange(f"{key}: its speakers have been found anew; {hint}", key=key, hint=hint)
    if target.label not in found.labels:
        hint = f"its speakers are {', '.join(found.labels) or 'none'}"
        raise InvalidChange(f"{key}: there is no speaker {target.label}; {hint}", key=key, hint=hint)
    return found


def _state(tools: IdentificationTools, target: Target, verdict: Verdict, person: str, by: str) -> set[str]:
    found = require(tools.store, target)
    vector = found.voiceprints.get(target.label)
    similar = _similar_recordings(tools, found.model, [vector]) if vector else set()
    people.add(tools.store, target.key, _statement(found, target.label, verdict, person, by))
    return {target.key} | similar


def _withhold_suggested(tools: IdentificationTools, key: str, ids: Collection[str]) -> None:
    """State that the speakers who are suggested to be this person are withheld."""
    found = speakers.load(tools.store, key)
    if found is None:
        return
    for one in identify(tools.store, tools.voiceprints, key):
        if one.state == "suggested" and one.person in ids:
            people.add(tools.store, key, _statement(found, one.label, "withheld", one.person, ""))


def _statement(found: Speakers, label: str, verdict: Verdict, person: str, by: str) -> Statement:
    return Statement(verdict, label, spans_of(found.turns, label), found.diarisation_id, person, by=by)


def _claims(store: Store, found: Speakers) -> Mapping[str, Claims]:
    return claims_of(found.turns, people.statements(store, found.key), found.diarisation_id)


def _similar_people(voiceprints: Voiceprints, found: Speakers, labels: Collection[str]) -> dict[str, dict[str, float]]:
    """Return for each label the people (IDs) with a similar voice and the cosine, apart from what it says itself."""
    least = same_voice(found.model)
    vectors = {label: found.voiceprints[label] for label in labels if label in found.voiceprints}
    if least is None or not vectors:
        return {}
    similar: dict[str, dict[str, float]] = {label: {} for label in vectors}
    for label, neighbours in zip(
        vectors, voiceprints.people_near(found.model, list(vectors.values()), least), strict=True
    ):
        for one in neighbours:
            if (one.media_key, one.label) != (found.key, label):
                similar[label][one.person] = max(one.similarity, similar[label].get(one.person, -1.0))
    return similar


def _similar_recordings(tools: IdentificationTools, model: str, vectors: Sequence[Sequence[float]]) -> set[str]:
    least = same_voice(model)
    return tools.voiceprints.recordings_near(model, vectors, least) if least is not None else set()
