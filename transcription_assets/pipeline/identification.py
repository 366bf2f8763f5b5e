"""Who the speakers of a recording are (`identities/<key>.json`), and the changes that users make to that.

Users confirm a speaker of one recording. Wherever a voice is similar to a confirmed one, that person is suggested, and
shown with a question mark until a user confirms it. Only confirmed voices lead to suggestions, so that a mistake of
the machine cannot spread.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

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
from transcription_assets.errors import TranscriptionError
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

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identities:
    """Record of who the speakers of a recording are; `sound` is the SHA-256 of its audio."""

    key: str
    sound: str
    speakers: tuple[Identity, ...]
    version: str = VERSION


@dataclass(frozen=True, slots=True)
class IdentificationTools:
    """What a change needs: the store, the tables, and the encoder, which only new texts need."""

    store: Store
    voiceprints: Voiceprints
    table: Index
    encoder: Callable[[], Encoder]
    choice: PassageOptions


def load(store: Store, key: str) -> Identities | None:
    """Return the record of the last identification, None if there is none that this release can read.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    return records.load(store, media_keys.identities(key), Identities, VERSION)


def identify(store: Store, voiceprints: Voiceprints, key: str) -> tuple[Identity, ...]:
    """Find out who the speakers of a recording are, and record it; empty if no speakers were found.

    Raises:
        TranscriptionError: the store or the table refuses or does not answer.

    """
    found = speakers.load(store, key)
    if found is None:
        return ()
    claims = _claims(store, found)
    similar = {label: _similar_people(voiceprints, found, label) for label in claims if not claims[label].person}
    named = {one for claim in claims.values() for one in (claim.person, *claim.refused)}
    known = people.resolve(store, named.union(*similar.values()))
    made = Identities(
        key,
        found.sound,
        tuple(identity(label, claim, known, similar.get(label, {})) for label, claim in claims.items()),
    )
    if load(store, key) != made:
        records.write(store, media_keys.identities(key), asdict(made))
    return made.speakers


def apply(store: Store, voiceprints: Voiceprints, key: str) -> Transcript | None:
    """Give the words in the store their speakers with their names; return the transcript, None if there is none.

    Raises:
        TranscriptionError: the store or the table refuses or does not answer.

    """
    names = {one.label: one.name for one in identify(store, voiceprints, key)}
    return speakers.apply(store, key, names)


def publish(store: Store, voiceprints: Voiceprints, keys: Collection[str]) -> None:
    """Replace the voiceprints of these recordings in the table.

    Raises:
        TranscriptionError: the store or the table refuses or does not answer.

    """
    rows: list[Voiceprint] = []
    for key in keys:
        found, known = speakers.load(store, key), load(store, key)
        if found:
            of = {one.label: one.person for one in known.speakers if one.state == "confirmed"} if known else {}
            rows += [
                Voiceprint(key, label, found.model, vector, of.get(label, ""))
                for label, vector in found.voiceprints.items()
            ]
    voiceprints.replace(rows, keys)


def name(
    tools: IdentificationTools, key: str, label: str, text: str, *, new: bool = False, by: str = ""
) -> tuple[Person, set[str]]:
    """Record that a speaker is the person with this name or ID, who is added if nobody has it, or with `new`.

    Returns the person, and the recordings as `confirm` does.

    Raises:
        InvalidChange: the recording has no such speaker, the name is invalid, or several people have it.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    require(tools.store, key, label)
    known = [] if new else people.matching(tools.store, text)
    person = people.only(known) if known else people.create(tools.store, text, by)
    return person, confirm(tools, key, label, person, by)


def confirm(tools: IdentificationTools, key: str, label: str, person: Person, by: str = "") -> set[str]:
    """Record that a speaker is this person; return the recordings whose names may change, to be passed to `update`.

    Raises:
        InvalidChange: the recording has no such speaker.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    return _state(tools, key, label, "is", person.id, by)


def reject(tools: IdentificationTools, key: str, label: str, by: str = "") -> set[str]:
    """Record that a speaker is not the person who is confirmed or suggested; returns as `confirm` does.

    Raises:
        InvalidChange: the recording has no such speaker, or nobody is suggested.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    known = {one.label: one.person for one in identify(tools.store, tools.voiceprints, key)}
    if not known.get(label, "unknown"):
        raise InvalidChange(f"{key}: nobody is suggested for speaker {label}, so there is nothing to reject", key=key)
    return _state(tools, key, label, "is_not", known.get(label, ""), by)


def withdraw(tools: IdentificationTools, key: str, label: str, by: str = "") -> set[str]:
    """Withdraw what was said about a speaker; returns as `confirm` does.

    Raises:
        InvalidChange: the recording has no such speaker.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    return _state(tools, key, label, "unknown", "", by)


def rename(tools: IdentificationTools, person: Person, name: str, by: str = "") -> set[str]:
    """Give a person another name; returns as `confirm` does.

    Raises:
        InvalidChange: the name is invalid.
        TranscriptionError: the store or the table refuses or does not answer.

    """
    people.rename(tools.store, person, name, by)
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


def forget(tools: IdentificationTools, person: Person) -> set[str]:
    """Remove a person: the name, all statements, and the voiceprints of all speakers who are confirmed or suggested.

    No voiceprint of these speakers is kept by a later diarisation either. If this is interrupted, call it again. It
    returns as `confirm` does.

    Raises:
        TranscriptionError: the store or the table refuses or does not answer.

    """
    store = tools.store
    ids = people.merged_ids(store, person)
    about = {path: record for path, record in people.all_statements(store).items() if record.statement.person in ids}
    keys = {record.key for record in about.values()} | recordings_of(tools, person)
    erased: set[tuple[str, str]] = set()
    for key in sorted(keys):
        found = speakers.load(store, key)
        if found is None:
            continue
        own = {one.label for one in identify(store, tools.voiceprints, key) if one.person in ids}
        for label in own:
            people.add(store, key, _statement(found, label, "withheld", "", ""))
        speakers.without_voiceprints(store, found, own)
        erased |= {(key, label) for label in own}
    # Other rows of the person: of recordings that have been diarised again, or removed.
    erased |= {(row.media_key, row.label) for row in tools.voiceprints.of_people(ids)}
    tools.voiceprints.erase(erased)
    people.remove(store, ids, about)
    return keys


def recordings_of(tools: IdentificationTools, person: Person) -> set[str]:
    """Return the recordings in which a person is confirmed or may be suggested.

    Raises:
        TranscriptionError: the store or the table refuses or does not answer.

    """
    rows = tools.voiceprints.of_people(people.merged_ids(tools.store, person))
    return {row.media_key for row in rows}.union(*(_similar_recordings(tools, row.model, row.vector) for row in rows))


def update(tools: IdentificationTools, keys: Sequence[str]) -> Iterator[tuple[str, TranscriptionError | None]]:
    """Apply the current names to these recordings: texts, subtitles, passages, voiceprints.

    Yields each recording with the error that prevented it. What is up to date is not written again.

    Raises:
        TranscriptionError: the tables cannot be written.

    """
    for start in range(0, len(keys), PUBLISH_EVERY):
        group = keys[start : start + PUBLISH_EVERY]
        made, failed = _applied(tools, group)
        if made:
            embeddings.publish(tools.store, tools.table, made)
        publish(tools.store, tools.voiceprints, [key for key in group if key not in failed])
        yield from ((key, failed.get(key)) for key in group)


def _applied(
    tools: IdentificationTools, keys: Sequence[str]
) -> tuple[list[embeddings.Embeddings], Mapping[str, TranscriptionError]]:
    made: list[embeddings.Embeddings] = []
    failed: dict[str, TranscriptionError] = {}
    for key in keys:
        try:
            if apply(tools.store, tools.voiceprints, key):
                made.append(embeddings.materialise(tools.store, key, tools.encoder(), tools.choice))
        except TranscriptionError as error:
            log.warning("%s: the names of its speakers are not up to date: %s", key, error)
            failed[key] = error
    return made, failed


def _state(  # noqa: PLR0917 -- a statement has these parts
    tools: IdentificationTools, key: str, label: str, verdict: Verdict, person: str, by: str
) -> set[str]:
    found = require(tools.store, key, label)
    people.add(tools.store, key, _statement(found, label, verdict, person, by))
    # Now, so that the recordings with a similar voice see it.
    identify(tools.store, tools.voiceprints, key)
    publish(tools.store, tools.voiceprints, [key])
    vector = found.voiceprints.get(label)
    return {key} | (_similar_recordings(tools, found.model, vector) if vector else set())


def require(store: Store, key: str, label: str) -> Speakers:
    """Return the speakers of a recording, of which `label` is one.

    Raises:
        InvalidChange: it is not.
        TranscriptionError: the store refuses or does not answer.

    """
    found = speakers.load(store, key)
    if found is None:
        hint = "set TRANSCRIPTION_SPEAKERS=voices and process it"
        raise InvalidChange(f"{key}: its speakers were not searched for; {hint}", key=key, hint=hint)
    if label not in found.labels:
        hint = f"its speakers are {', '.join(found.labels) or 'none'}"
        raise InvalidChange(f"{key}: there is no speaker {label}; {hint}", key=key, hint=hint)
    return found


def _statement(found: Speakers, label: str, verdict: Verdict, person: str, by: str) -> Statement:
    return Statement(verdict, spans_of(found.turns, label), found.etag, found.sound, person, by=by)


def _claims(store: Store, found: Speakers) -> Mapping[str, Claims]:
    return claims_of(found.turns, people.statements(store, found.key), etag=found.etag, sound=found.sound)


def _similar_people(voiceprints: Voiceprints, found: Speakers, label: str) -> dict[str, float]:
    """Return the people (IDs) with a similar voice and the cosine, apart from what this recording itself says."""
    least, vector = same_voice(found.model), found.voiceprints.get(label)
    if least is None or vector is None:
        return {}
    cosines: dict[str, float] = {}
    for one in voiceprints.nearest(found.model, vector, least=least, named=True):
        if (one.media_key, one.label) != (found.key, label):
            cosines[one.person] = max(one.similarity, cosines.get(one.person, -1.0))
    return cosines


def _similar_recordings(tools: IdentificationTools, model: str, vector: Sequence[float]) -> set[str]:
    least = same_voice(model)
    if least is None:
        return set()
    return {one.media_key for one in tools.voiceprints.nearest(model, vector, least=least, named=False)}
