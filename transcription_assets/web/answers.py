"""The route that answers a question from the recordings, if a language model is set."""

import logging
import time

from fastapi import APIRouter
from pydantic import Field

from transcription_assets.answers.asking import CitedAnswer
from transcription_assets.domain.text import printable
from transcription_assets.errors import NotFound, TranscriptionError, TransientFailure
from transcription_assets.search.query import MAX_TEXT
from transcription_assets.web import problems, recordings
from transcription_assets.web.api import filters_of
from transcription_assets.web.archive import Archive
from transcription_assets.web.middleware import ASK
from transcription_assets.web.schemas import FilterParameters, Schema, Seconds
from transcription_assets.web.thread_pool import ThreadPool

log = logging.getLogger(__name__)

THREADS = 4
"""Questions answered at once; the others wait."""
LONGEST_QUEUE = 8
"""Questions that wait at most; each may take as long as the language model."""
SEARCH_S = 20.0
"""Seconds for the search before the language model is asked."""


class AskedQuestion(FilterParameters):
    """A question with filters, as for a search."""

    q: str = Field(min_length=1, max_length=MAX_TEXT, description="The question.")


class CitedMoment(Schema):
    """A moment that an answer cites."""

    number: int = Field(description="Its number in the sentences, from 1.")
    key: str
    title: str
    start: Seconds
    text: str = Field(description="What is said there.")
    speaker: str | None
    url: str = Field(description="URL path of the page that plays the recording from there.")


class CitedText(Schema):
    """A sentence of the answer, plain text."""

    text: str
    cites: list[int] = Field(min_length=1, description="Numbers of the moments that it is taken from.")


class CitedReply(Schema):
    """An answer in which every sentence cites at least one moment."""

    sentences: list[CitedText] = Field(description="Empty if the question is not answered.")
    citations: list[CitedMoment]
    reason: str = Field(description="Why the question is not answered; else empty.")
    model: str = Field(description="The language model; empty if it was not asked.")
    dropped: int = Field(description="Sentences of the model that were dropped, as they cited nothing.")
    took_ms: float
    note: str


def pool(archive: Archive) -> ThreadPool:
    """Return the threads for questions, apart from those for searches, which are short."""
    return ThreadPool(THREADS, archive.settings.ask_timeout_s + SEARCH_S, LONGEST_QUEUE)


def router(archive: Archive, workers: ThreadPool) -> APIRouter:
    """Return the route `POST /api/ask`; `workers` are from `pool`."""
    routes = APIRouter(responses=problems.DOCUMENTED)

    @routes.post(ASK)
    async def ask(question: AskedQuestion) -> CitedReply:
        """Answer a question from passages of the recordings; the question and these passages go to the model."""
        started = time.monotonic()
        answer = await workers.run(_answered, archive, question)
        return _reply(answer, round((time.monotonic() - started) * 1000, 1))

    return routes


def _answered(archive: Archive, question: AskedQuestion) -> CitedAnswer:
    asker = archive.tools.asker
    if asker is None:
        raise NotFound("questions are not answered here: set TRANSCRIPTION_ASK_URL and TRANSCRIPTION_ASK_MODEL")
    found = asker.found(archive.searcher, question.q, filters_of(question))
    try:
        return asker.answer(question.q, found)
    except TranscriptionError as error:
        # The URL of the service and what it sent are no business of the people who ask.
        log.warning("%s", error)
        raise TransientFailure("The language model does not answer. Try again later.") from None


def _reply(answer: CitedAnswer, took_ms: float) -> CitedReply:
    return CitedReply(
        sentences=[CitedText(text=printable(item.text), cites=list(item.cites)) for item in answer.sentences],
        citations=[
            CitedMoment(
                number=item.number,
                key=item.hit.media_key,
                title=recordings.title(item.hit.media_key, item.hit.recording),
                start=item.second,
                text=item.text,
                speaker=item.speaker or None,
                url=recordings.watch(item.hit.media_key, item.second),
            )
            for item in answer.citations
        ],
        reason=answer.reason,
        model=answer.model,
        dropped=answer.dropped,
        took_ms=took_ms,
        note=answer.note,
    )
