"""From occurrences to events: what changes nothing is dropped, the rest is put into the outbox of each receiver.

An event is written before the state that it changes, which is written before the occurrence is deleted. Its id
follows from the occurrence and the state, so an intake that is killed is repeated with the same result. Occurrences
are in the order in which the store got them, by its own clock: those of the processes that wrote them may differ.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound
from transcription_assets.events import occurrences, outbox
from transcription_assets.events.catalogue import Catalogue, Receiver
from transcription_assets.events.event import Description, Event, event_of
from transcription_assets.events.lease import Lease
from transcription_assets.events.occurrences import Occurrence
from transcription_assets.events.outbox import QueuedEvent
from transcription_assets.events.states import READERS, States, change, following
from transcription_assets.pipeline import audio, quality_checks, transcript
from transcription_assets.storage import Store

AT_ONCE = 500
"""Occurrences, and files of them, that are taken before events are written; one file more may be."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Outcome of one call: whether it took all files, the number of events, and the time of the last of a recording."""

    is_all: bool
    events: int
    progress: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Happened:
    """An occurrence with its unique name, and the time at which the store got it."""

    name: str
    at: datetime
    occurrence: Occurrence


def take(store: Store, catalogue: Catalogue, since: datetime, own: Lease) -> Intake:
    """Take about AT_ONCE occurrences into the outbox, the first that the store got.

    `since` is the time from which events are wanted: a recording without a known state whose transcript is older was
    done before.

    Raises:
        LeaseLost: another process delivers now.
        TranscriptionError: the store refuses or does not answer; the next call continues.

    """
    try:
        waiting = store.oldest_first(occurrences.NEW)
    except NotFound:
        return Intake(is_all=True, events=0)
    happened, paths = _happened(store, waiting)
    states = States(store)
    states.read(each.occurrence.subject for each in happened)
    made = _events(store, states, happened, since)
    jobs = [(receiver, each) for each in made for receiver in catalogue.receivers.values() if receiver.accepts(each)]
    own.require(store)
    _put(store, jobs)
    own.require(store)
    states.save()
    outbox.remove(store, paths)
    times = [each.at for each in happened if each.occurrence.kind == "recording"]
    return Intake(len(paths) == len(waiting), len(made), max(times, default=None))


def _happened(store: Store, waiting: Mapping[str, datetime]) -> tuple[list[_Happened], list[str]]:
    """Return the first occurrences of these files, and the paths of the files that they are from."""
    paths = list(waiting)[:AT_ONCE]
    found: list[_Happened] = []
    with ThreadPoolExecutor(READERS) as pool:
        files = list(pool.map(lambda path: occurrences.load(store, path), paths))
    for count, (path, file) in enumerate(zip(paths, files, strict=True)):
        if len(found) >= AT_ONCE:
            return found, paths[:count]
        name = path.rpartition("/")[2].removesuffix(".json")
        found += [_Happened(f"{name}-{number:03}", waiting[path], each) for number, each in enumerate(file or ())]
    return found, paths


def _events(store: Store, states: States, happened: Sequence[_Happened], since: datetime) -> list[Event]:
    """Return the events of these occurrences, in their order, and put their states."""
    changed: list[tuple[str, Occurrence, int, bool]] = []
    names = {each.name for each in happened}
    unknown = {
        each.name
        for each in (item.occurrence for item in happened)
        if each.kind == "recording" and change(states.get(each.subject), each) == "unknown"
    }
    new = _new(store, sorted(unknown), since)
    for item in happened:
        each, before = item.occurrence, states.get(item.occurrence.subject)
        taken = tuple(one for one in before.taken if one in names) if before else ()
        if item.name in taken:
            continue  # by an intake that was killed before it deleted the occurrence
        kind = change(before, each)
        is_event = kind in {"failed", "succeeded", "recovered"} or (
            kind == "unknown" and each.kind == "recording" and each.name in new
        )
        after = following(before, each, (*taken, item.name), is_event=is_event)
        if is_event:
            at = _stamp(item.at, before.last if before else "")
            after = replace(after, last=at)
            changed.append((f"{at}-{item.name.partition('-')[2]}", each, after.events, kind == "recovered"))
        states.put(each.subject, after)
    with ThreadPoolExecutor(READERS) as pool:
        described = pool.map(lambda item: describe(store, item[1]), changed)
    return [
        event_of(identifier, each, sequence, about, recovered=recovered)
        for (identifier, each, sequence, recovered), about in zip(changed, described, strict=True)
    ]


def _stamp(at: datetime, last: str) -> str:
    """Return the time of an event as in its id, later than the `last` one of its subject ("" if there is none)."""
    before = occurrences.time_of(last)
    if before is not None:
        at = max(at, before + timedelta(microseconds=1))
    return at.astimezone(UTC).strftime(occurrences.STAMP)


def _new(store: Store, keys: Sequence[str], since: datetime) -> set[str]:
    """Return the recordings, of which nothing is known, that were transcribed since then."""

    def is_new(key: str) -> bool:
        try:
            return store.last_modified(media_keys.transcript(key)) >= since
        except NotFound:
            return False

    with ThreadPoolExecutor(READERS) as pool:
        return {key for key, new in zip(keys, pool.map(is_new, keys), strict=True) if new}


def describe(store: Store, occurrence: Occurrence) -> Description:
    """Return what a recording that is done is like; empty if it was replaced since, or for anything else.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    if occurrence.kind != "recording" or not occurrence.succeeded:
        return Description()
    text = transcript.load(store, occurrence.name)
    if text is None or text.media.etag != occurrence.version:
        return Description()
    sound = audio.load(store, occurrence.name)
    checks = [
        quality_checks.speech_coverage(text, sound),
        quality_checks.confidence(text),
        quality_checks.no_hallucinations(text),
    ]
    if sound is not None and sound.etag == occurrence.version:
        checks += [quality_checks.whole(sound), quality_checks.audible(sound)]
    warnings = tuple(each for each in checks if not each.passed)
    return Description(text.duration, text.language, len(text.words), warnings)


def _put(store: Store, jobs: Sequence[tuple[Receiver, Event]]) -> None:
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda job: outbox.put(store, job[0], QueuedEvent(job[1], occurrences.now())), jobs))
