"""From occurrences to events: what changes nothing is dropped, the rest is put into the outbox of each receiver.

An event has an id that follows from the occurrence, and is written before the state that it changes, which is written
before the occurrence is deleted. So an intake that is killed is repeated with the same result, and two at the same
time make no event with two ids.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound
from transcription_assets.events import occurrences, outbox
from transcription_assets.events.catalogue import Catalogue, Receiver
from transcription_assets.events.event import Description, Event, Queued, event
from transcription_assets.events.occurrences import Occurrence
from transcription_assets.events.states import READERS, States, change, following
from transcription_assets.pipeline import audio, quality_checks, transcript
from transcription_assets.storage import Store

AT_ONCE = 500
"""Files of occurrences that are read before events are written."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Outcome of one call: files that were read, events that were made, and the time of the last recording's event."""

    files: int
    events: int
    progress: datetime | None = None


def take(store: Store, catalogue: Catalogue, since: datetime) -> Taken:
    """Take up to AT_ONCE files of occurrences into the outbox.

    `since` is the time from which events are wanted: a recording without a known state whose transcript is older was
    done before.

    Raises:
        TranscriptionError: the store refuses or does not answer; the next call continues.

    """
    paths = store.list(occurrences.NEW)[:AT_ONCE]
    if not paths:
        return Taken(0, 0)
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(lambda path: occurrences.load(store, path), paths))
    happened = [
        (f"{path.rpartition('/')[2].removesuffix('.json')}-{number:03}", each)
        for path, file in zip(paths, found, strict=True)
        for number, each in enumerate(file or ())
    ]
    states = States(store)
    states.read(each.subject for _, each in happened)
    made = _events(store, states, happened, since)
    jobs = [(receiver, each) for each in made for receiver in catalogue.receivers.values() if receiver.accepts(each)]
    _put(store, jobs)
    states.save()
    outbox.remove(store, paths)
    times = [occurrences.time_of(name) for name, each in happened if each.kind == "recording"]
    return Taken(len(paths), len(made), max((at for at in times if at), default=None))


def _events(store: Store, states: States, happened: Sequence[tuple[str, Occurrence]], since: datetime) -> list[Event]:
    """Return the events of these occurrences, in their order, and put their states."""
    changed: list[tuple[str, Occurrence, int, bool]] = []
    names = {name for name, _ in happened}
    for name, each in happened:
        before = states.get(each.subject)
        taken = tuple(one for one in before.taken if one in names) if before else ()
        if name in taken:
            continue  # by an intake that was killed before it deleted the occurrence
        kind = change(before, each)
        is_event = kind in {"failed", "well", "recovered"} or (kind == "unknown" and _is_new(store, each, since))
        after = following(before, each, (*taken, name), is_event=is_event)
        states.put(each.subject, after)
        if is_event:
            changed.append((name, each, after.events, kind == "recovered"))
    with ThreadPoolExecutor(READERS) as pool:
        described = pool.map(lambda item: describe(store, item[1]), changed)
    return [
        event(name, each, sequence, about, recovered=recovered)
        for (name, each, sequence, recovered), about in zip(changed, described, strict=True)
    ]


def _is_new(store: Store, occurrence: Occurrence, since: datetime) -> bool:
    """Return whether a recording of which nothing is known was transcribed since then."""
    if occurrence.kind != "recording":
        return False
    try:
        return store.last_modified(media_keys.transcript(occurrence.name)) >= since
    except NotFound:
        return False


def describe(store: Store, occurrence: Occurrence) -> Description:
    """Return what a recording that is done is like; empty if it was replaced since, or for anything else.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    if occurrence.kind != "recording" or not occurrence.well:
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
        list(pool.map(lambda job: outbox.put(store, job[0], Queued(job[1], occurrences.now())), jobs))
