"""The JSON API: search, the library, one recording, its transcript."""

import time
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from transcription_assets.app.serve import naming, problems
from transcription_assets.app.serve.archive import Archive, Wanted
from transcription_assets.app.serve.marked import parts
from transcription_assets.app.serve.shapes import Found, Moment, Part
from transcription_assets.app.serve.workers import Workers
from transcription_assets.index import Hit

LONGEST_QUESTION = 1000
LONGEST_VALUE = 300
MOST_VALUES = 20
MOST_AT_ONCE = 100
FURTHEST = 1000

Value = Annotated[str, Query(max_length=LONGEST_VALUE)]
Values = Annotated[list[Value], Query(max_length=MOST_VALUES)]
Limit = Annotated[int, Query(ge=1, le=MOST_AT_ONCE)]
Length = Annotated[float | None, Query(ge=0, le=1e7, allow_inf_nan=False)]


def router(archive: Archive, workers: Workers) -> APIRouter:
    """The routes below `/api`."""
    routes = APIRouter(prefix="/api", responses=problems.DOCUMENTED)

    @routes.get("/search")
    async def search(
        q: Annotated[str, Query(max_length=LONGEST_QUESTION, description='Words, a question, or an "exact phrase".')],
        prefix: Annotated[str, Query(max_length=LONGEST_VALUE, description="Keys that begin so.")] = "",
        language: Values = [],
        speaker: Values = [],
        since: Annotated[date | None, Query(description="Recorded on this day or later.")] = None,
        until: Annotated[date | None, Query(description="Recorded on this day or earlier.")] = None,
        shortest: Length = None,
        longest: Length = None,
        limit: Limit = 10,
        offset: Annotated[int, Query(ge=0, le=FURTHEST)] = 0,
    ) -> Found:
        """Find the moments in which something like this was said, best first."""
        started = time.monotonic()
        await workers.within(archive.encoder_ready)
        hits = await workers.run(archive.search, Wanted(q, limit + 1, offset))
        return Found(
            query=q,
            moments=[_moment(hit) for hit in hits[:limit]],
            more=len(hits) > limit,
            passages=await workers.run(lambda: archive.table.count()),
            took_ms=round((time.monotonic() - started) * 1000, 1),
            note="",
        )

    return routes


def _moment(hit: Hit) -> Moment:
    at = max(0, hit.context.find(hit.text))
    return Moment(
        key=hit.media_key,
        title=naming.title(hit.media_key),
        start=hit.start,
        end=hit.end,
        text=hit.context,
        parts=[Part.model_validate(part) for part in parts(hit.context, (at, at + len(hit.text)), ())],
        score=hit.score,
        weak=False,
        language="",
        speaker=None,
        recorded=None,
        duration=None,
        url=naming.watch(hit.media_key, hit.start),
        poster=naming.path("/posters", hit.media_key),
    )
