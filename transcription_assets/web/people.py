"""Routes for the speakers of recordings and for people: who they are, and changes by users with write access."""

import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from transcription_assets.domain.chunking import Region, merge_regions
from transcription_assets.domain.people import Identity, Person
from transcription_assets.domain.speakers import display_name, talk_times
from transcription_assets.errors import NotFound
from transcription_assets.pipeline import identification, people
from transcription_assets.pipeline import speakers as step
from transcription_assets.pipeline.identification import IdentificationTools, Target
from transcription_assets.web import problems
from transcription_assets.web.access import Access
from transcription_assets.web.api import Key
from transcription_assets.web.archive import Archive
from transcription_assets.web.schemas import (
    Merge,
    PersonEntry,
    PersonName,
    RecordingSpeakers,
    SpeakerDetails,
    SpeakerName,
    Updating,
)
from transcription_assets.web.thread_pool import ThreadPool

log = logging.getLogger(__name__)

COLUMNS = 1000
"""Resolution of the spans: this many for the length of a recording, as more cannot be seen."""

Label = Annotated[str, Path(max_length=20, pattern=r"^\w+$", description="Label of the speaker.")]
Version = Annotated[
    str, Query(max_length=100, description="Version of the speakers that the user saw; others are refused.")
]
RefusedPerson = Annotated[
    str, Query(max_length=40, description="ID of the person who is refused; empty = the current one.")
]
Identifier = Annotated[str, Path(max_length=40, pattern=r"^[0-9A-Za-z]+$", description="ID of the person.")]


class NameUpdates:
    """Brings names up to date in the background, one change after another.

    What a change has not reached when the server ends is done by the next run of each recording, or by
    `transcription-assets speakers apply`.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="names")
        self._stopped = threading.Event()

    def add(self, tools: IdentificationTools, keys: Collection[str]) -> int:
        """Update these recordings later; return their number."""
        if keys:
            self._pool.submit(self._update, tools, sorted(keys))
        return len(keys)

    def close(self) -> None:
        """End after the recordings that are in hand."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _update(self, tools: IdentificationTools, keys: list[str]) -> None:
        try:
            for _ in identification.update(tools, keys, self._stopped.is_set):
                pass  # each failure is logged
        except Exception:
            log.exception("names of %s recordings are not up to date; `speakers apply` repeats it", len(keys))


def router(archive: Archive, workers: ThreadPool, access: Access, updates: NameUpdates) -> APIRouter:
    """Return the routes below `/api`; the middleware refuses changes without write access."""
    routes = APIRouter(prefix="/api", responses=problems.DOCUMENTED)
    _add_speakers(routes, archive, workers, access, updates)
    _add_people(routes, archive, workers, access, updates)
    return routes


def _add_speakers(
    routes: APIRouter, archive: Archive, workers: ThreadPool, access: Access, updates: NameUpdates
) -> None:
    @routes.get("/media/{key:path}/speakers")
    async def speakers(key: Key, request: Request) -> RecordingSpeakers:
        """Return the speakers of a recording, with their names and when they speak."""
        may_change = access.may_write(request.headers)
        sign_in = bool(access.write_token) and not may_change
        return await workers.run(_speakers, archive, key, may_change=may_change, sign_in=sign_in)

    @routes.put("/media/{key:path}/speakers/{label}")
    async def name(
        key: Key, label: Label, named: SpeakerName, request: Request, version: Version = ""
    ) -> RecordingSpeakers:
        """State who a speaker is. Other recordings with this voice suggest the person."""

        def change(tools: IdentificationTools) -> Collection[str]:
            target, by = Target(key, label, version), access.user(request.headers)
            if named.person:
                return identification.confirm(tools, target, _person(tools, named.person), by)
            return identification.name(tools, target, named.name, new=named.new, by=by)[1]

        return await workers.run(_changed, archive, updates, key, change)

    @routes.delete("/media/{key:path}/speakers/{label}")
    async def clear(key: Key, label: Label, request: Request, version: Version = "") -> RecordingSpeakers:
        """Withdraw what was stated about a speaker."""

        def change(tools: IdentificationTools) -> Collection[str]:
            return identification.withdraw(tools, Target(key, label, version), access.user(request.headers))

        return await workers.run(_changed, archive, updates, key, change)

    @routes.post("/media/{key:path}/speakers/{label}/reject")
    async def reject(
        key: Key, label: Label, request: Request, version: Version = "", person: RefusedPerson = ""
    ) -> RecordingSpeakers:
        """State that a speaker is not the person who is suggested or confirmed."""

        def change(tools: IdentificationTools) -> Collection[str]:
            target = Target(key, label, version)
            return identification.reject(tools, target, access.user(request.headers), person)

        return await workers.run(_changed, archive, updates, key, change)


def _add_people(routes: APIRouter, archive: Archive, workers: ThreadPool, access: Access, updates: NameUpdates) -> None:
    @routes.get("/people")
    async def everyone() -> list[PersonEntry]:
        """List the people who have been named, by name."""
        found = await workers.run(lambda: people.everyone(archive.store))
        return [PersonEntry.model_validate(person) for person in found]

    @routes.patch("/people/{person}")
    async def rename(person: Identifier, name: PersonName, request: Request) -> Updating:
        """Give a person another name, in all recordings."""

        def change(tools: IdentificationTools) -> Collection[str]:
            by = access.user(request.headers)
            return identification.rename(tools, _person(tools, person), name.name, by)

        return Updating(updating=await workers.run(_update_later, archive, updates, change))

    @routes.post("/people/{person}/merge")
    async def merge(person: Identifier, target: Merge, request: Request) -> Updating:
        """Make two people one, who is called as the second."""

        def change(tools: IdentificationTools) -> Collection[str]:
            by = access.user(request.headers)
            return identification.merge(tools, _person(tools, person), _person(tools, target.into), by)

        return Updating(updating=await workers.run(_update_later, archive, updates, change))

    @routes.delete("/people/{person}")
    async def forget(person: Identifier) -> Updating:
        """Delete a person: the name, all statements, and the voiceprints. It is done when the answer comes.

        If the time limit of requests is exceeded, it goes on, and the person is in the list until it is done.
        """

        def forgotten() -> None:
            tools = archive.identification
            identification.forget(tools, _person(tools, person))

        await workers.run(forgotten)
        return Updating(updating=0)


def _speakers(
    archive: Archive, key: str, *, may_change: bool, sign_in: bool = False, updating: int = 0
) -> RecordingSpeakers:
    archive.media(key)
    found = step.load(archive.store, key)
    if found is None or not found.shown_turns:
        return RecordingSpeakers(version="", duration=0.0, speakers=[], may_change=may_change, sign_in=False)
    who = {one.label: one for one in identification.load(archive.store, found)}
    speakers = []
    for label, seconds in talk_times(found.turns).items():
        one = who.get(label, Identity(label, display_name(label)))
        regions = (Region(turn.start, turn.end) for turn in found.turns if turn.label == label)
        spans = [(region.start, region.end) for region in merge_regions(regions, found.duration / COLUMNS)]
        speakers.append(
            SpeakerDetails(
                label=label,
                name=one.name,
                state=one.state,
                person=one.person,
                similarity=one.similarity,
                seconds=round(seconds, 3),
                spans=spans,
            )
        )
    return RecordingSpeakers(
        version=found.fingerprint,
        duration=found.duration,
        speakers=speakers,
        may_change=may_change,
        sign_in=sign_in,
        updating=updating,
    )


Change = Callable[[IdentificationTools], Collection[str]]
"""A change, which returns the recordings whose names may change."""


def _changed(archive: Archive, updates: NameUpdates, key: str, change: Change) -> RecordingSpeakers:
    """Make the change, apply it to this recording now and to the others later."""
    archive.media(key)
    tools = archive.identification
    keys = change(tools)
    (outcome,) = identification.update(tools, [key])
    updating = updates.add(tools, set(keys) - {key})
    if outcome[1]:
        raise outcome[1]
    return _speakers(archive, key, may_change=True, updating=updating)


def _update_later(archive: Archive, updates: NameUpdates, change: Change) -> int:
    tools = archive.identification
    return updates.add(tools, change(tools))


def _person(tools: IdentificationTools, identifier: str) -> Person:
    found = people.resolve(tools.store, [identifier]).get(identifier)
    if found is None:
        raise NotFound(f"{identifier}: no such person")
    return found
