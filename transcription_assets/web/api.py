"""The JSON API: search, the library, single recordings and transcripts; `problems` turns errors into responses."""

import gzip
import time
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from transcription_assets.errors import PermanentFailure
from transcription_assets.search.filters import Filters
from transcription_assets.search.query import MAX_LIMIT, Answer, Hit, HitSlide, SimilarQuery, split_highlights
from transcription_assets.search.query import Query as Question
from transcription_assets.slides.finder import Slide
from transcription_assets.web import paragraphs, problems, recordings
from transcription_assets.web.archive import LONGEST_KEY, Archive
from transcription_assets.web.library import Library
from transcription_assets.web.recording_state import silence
from transcription_assets.web.schemas import (
    FacetCounts,
    FilterParameters,
    Moment,
    Paragraph,
    RecordingDetails,
    RecordingPage,
    SearchParameters,
    SearchResults,
    ShownSlide,
    SimilarParameters,
    SlideList,
    State,
    TextPart,
    TranscriptWords,
)
from transcription_assets.web.thread_pool import ThreadPool
from transcription_assets.web.waiters import Waiters

LONGEST_NAME = 300
LONGEST_WAIT_S = 60

KINDS = {
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}

Key = Annotated[str, Path(max_length=LONGEST_KEY, description="Media key of the recording.")]
Kind = Literal["json", "txt", "srt", "vtt"]

_TRANSCRIPTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {media_type.partition(";")[0]: {} for media_type in KINDS.values()}}
}


def router(archive: Archive, library: Library, workers: ThreadPool) -> APIRouter:
    """Return the routes below `/api`."""
    routes = APIRouter(prefix="/api", responses=problems.DOCUMENTED)
    waiters = Waiters(library, workers)

    @routes.get("/search")
    async def search(parameters: Annotated[SearchParameters, Query()]) -> SearchResults:
        """Search for the moments that match a query; the best match is first."""
        started = time.monotonic()
        # Early requests await the encoder here, without blocking a thread. Without an encoder only words are compared.
        with suppress(PermanentFailure):
            await workers.within(archive.encoder_ready)
        answer = await workers.run(archive.search, _question(parameters))
        return await _results(answer, parameters.q, started)

    @routes.get("/similar")
    async def similar(parameters: Annotated[SimilarParameters, Query()]) -> SearchResults:
        """Find the moments that are similar in meaning to a moment of a recording; the nearest is first."""
        started = time.monotonic()
        answer = await workers.run(archive.similar, _similar(parameters))
        return await _results(answer, "", started)

    async def _results(answer: Answer, query: str, started: float) -> SearchResults:
        pictured = await workers.run(library.pictured, {hit.media_key for hit in answer.hits})
        return SearchResults(
            query=query,
            moments=[_moment(hit, has_picture=hit.media_key in pictured) for hit in answer.hits],
            more=answer.more,
            passages=answer.passages,
            took_ms=round((time.monotonic() - started) * 1000, 1),
            note=answer.note,
        )

    @routes.get("/facets")
    async def facets() -> FacetCounts:
        """Return the values that can be filtered by, each with its number of recordings."""
        await workers.within(archive.facets.any)
        return FacetCounts.model_validate(await workers.run(archive.facets.get))

    @routes.get("/media")
    async def media(
        state: Annotated[State | None, Query(description="Only recordings in this state.")] = None,
        name: Annotated[
            str, Query(max_length=LONGEST_NAME, description="Only recordings whose key contains this text.")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> RecordingPage:
        """List the recordings with their processing state, newest first."""
        await workers.within(library.overview.any)
        return await workers.run(recordings.page, library, state=state, name=name, limit=limit, offset=offset)

    # Registered before `/media/{key:path}`, which would also match these paths.
    @routes.get("/media/{key:path}/transcript.{kind}", responses=_TRANSCRIPTS, response_class=Response)
    async def transcript(key: Key, kind: Kind) -> Response:
        """Return the transcript as a complete document (json), plain text (txt) or subtitles (srt, vtt)."""
        return Response(await workers.run(archive.transcript, key, f".{kind}"), media_type=KINDS[kind])

    @routes.get("/media/{key:path}/words", response_model=TranscriptWords)
    async def words(key: Key, request: Request) -> Response:
        """Return the transcript as paragraphs of timed words, as the page displays it beside the player."""
        compressed = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"vary": "accept-encoding"} | ({"content-encoding": "gzip"} if compressed else {})
        data = await workers.run(_words, archive, key, compressed=compressed)
        return Response(data, media_type="application/json", headers=headers)

    @routes.get("/media/{key:path}/slides")
    async def slides(key: Key) -> SlideList:
        """Return the slides of the recording with their texts and times; none if they were not read."""
        found = await workers.run(archive.slides, key)
        return SlideList(key=key, slides=[_slide(key, slide) for slide in found])

    @routes.get("/media/{key:path}")
    async def recording(
        key: Key,
        request: Request,
        wait: Annotated[
            int, Query(ge=0, le=LONGEST_WAIT_S, description="Seconds to wait until it is done or has failed.")
        ] = 0,
    ) -> RecordingDetails:
        """Return one recording with its state and progress, and links to its files."""
        await workers.within(library.overview.any)
        await waiters.wait(request, key, wait)
        return await workers.run(recordings.one, library, key)

    return routes


def _question(parameters: SearchParameters) -> Question:
    return Question(parameters.q, parameters.limit, parameters.offset, filters=filters_of(parameters))


def _similar(parameters: SimilarParameters) -> SimilarQuery:
    return SimilarQuery(
        parameters.key,
        parameters.at,
        parameters.limit,
        parameters.offset,
        filters=filters_of(parameters),
        moment_kind=parameters.moment_kind,
    )


def filters_of(parameters: FilterParameters) -> Filters:
    """Return the filters of a search."""
    return Filters(
        prefix=parameters.prefix,
        recording=parameters.recording,
        languages=tuple(parameters.language),
        speakers=tuple(parameters.speaker),
        sources=tuple(parameters.source),
        since=parameters.since,
        until=parameters.until,
        shortest_s=parameters.shortest,
        longest_s=parameters.longest,
        kinds=tuple(parameters.kind),
    )


def _moment(hit: Hit, *, has_picture: bool) -> Moment:
    return Moment(
        key=hit.media_key,
        title=recordings.title(hit.media_key, hit.recording),
        folder=recordings.folder(hit.media_key),
        start=hit.start,
        end=hit.end,
        text=hit.text,
        parts=[TextPart.model_validate(part) for part in split_highlights(hit.text, hit.sentence, hit.matches)],
        score=hit.score,
        weak=hit.weak,
        language=hit.language,
        speaker=hit.speaker,
        recorded=hit.recorded,
        duration=hit.duration_s,
        url=recordings.watch(hit.media_key, hit.start),
        poster=recordings.path("/posters", hit.media_key) if has_picture else "",
        kind="slide" if hit.kind == "slide" else "speech",
        slide=_slide(hit.media_key, hit.slide) if hit.slide else None,
        said=hit.said,
    )


def _slide(key: str, slide: Slide | HitSlide) -> ShownSlide:
    picture = recordings.slide_picture(key, slide.number)
    return ShownSlide(number=slide.number, start=slide.start, end=slide.end, text=slide.text, picture=picture)


def _words(archive: Archive, key: str, *, compressed: bool) -> bytes:
    """Return the document as JSON, gzipped if `compressed`; called in a worker, as ten hours make a few megabytes."""
    transcript = archive.parsed_transcript(key)
    document = TranscriptWords(
        key=key,
        title=recordings.title(key),
        language=transcript.language,
        duration=transcript.duration,
        silence=silence(transcript, with_low_confidence=True),
        paragraphs=[Paragraph.model_validate(item) for item in paragraphs.paragraphs(transcript)],
    )
    data = document.model_dump_json().encode()
    return gzip.compress(data, 5) if compressed else data
