"""Models of the requests and responses of the API; their docstrings appear in the OpenAPI schema."""

import re
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from transcription_assets.search.filters import MAX_VALUE, MAX_VALUES
from transcription_assets.search.query import MAX_LIMIT, MAX_OFFSET, MAX_TEXT

State = Literal["done", "working", "waiting", "failed"]
Silence = Literal["", "no_speech", "not_understood"]
Seconds = Annotated[float, Field(ge=0, description="Seconds from the start of the recording.")]

# All parameters together must fit into a URL of 64 KB, in which one character takes up to twelve bytes.
Language = Annotated[str, Field(max_length=40)]
Speaker = Annotated[str, Field(max_length=100)]
Length = Annotated[float | None, Field(ge=0, le=1e7, allow_inf_nan=False)]


def _written_out(day: object) -> object:
    """Reject days in other forms: Pydantic would parse `0` as 1970-01-01, which the schema does not allow."""
    if isinstance(day, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", day, re.ASCII):
        raise ValueError("a day is written like 2024-12-31")
    return day


Day = Annotated[date | None, BeforeValidator(_written_out)]


class Schema(BaseModel):
    """Immutable base class of the models."""

    model_config = ConfigDict(frozen=True)


class Problem(Schema):
    """An error response."""

    detail: str = Field(description="What is wrong, and how to mend it.")


class SearchParameters(Schema):
    """A query with filters, all of which must match."""

    q: str = Field(max_length=MAX_TEXT, description='Words, a question, or an "exact phrase".')
    prefix: str = Field("", max_length=MAX_VALUE, description="Keys that begin so.")
    language: list[Language] = Field([], max_length=MAX_VALUES, description="One of these codes.")
    speaker: list[Speaker] = Field([], max_length=MAX_VALUES, description="One of these.")
    since: Day = Field(None, description="Recorded on this day or later.")
    until: Day = Field(None, description="Recorded on this day or earlier.")
    shortest: Length = Field(None, description="Seconds that the recording lasts at least.")
    longest: Length = Field(None, description="Seconds that the recording lasts at most.")
    limit: int = Field(10, ge=1, le=MAX_LIMIT, description="How many moments.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description="How many to leave out.")


class TextPart(Schema):
    """A run of text with the same highlighting."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    text: str
    sentence: bool = Field(description="Whether it is in the sentence that fits best.")
    match: bool = Field(description="Whether it is a word of the question.")


class Moment(Schema):
    """A moment that matches the query, with the text around it."""

    key: str = Field(description="The recording's name in the store.")
    title: str = Field(description="The recording's name for people.")
    folder: str
    start: Seconds
    end: Seconds
    text: str = Field(description="What was said around it.")
    parts: list[TextPart] = Field(description="The same in parts, which are marked.")
    score: float = Field(description="How well it fits; to be compared within one answer only.")
    weak: bool = Field(description="Whether neither words nor meaning fit well.")
    language: str = Field(description="Code of the language; empty where unknown.")
    speaker: str | None
    recorded: date | None
    duration: float | None = Field(description="Length of the recording in seconds.")
    url: str = Field(description="The page that plays the recording from this second.")
    poster: str = Field(description="Address of its picture; empty where it has none.")


class SearchResults(Schema):
    """The moments that match a query, best first."""

    query: str
    moments: list[Moment]
    more: bool = Field(description="Whether a larger `offset` brings more.")
    passages: int = Field(description="How many passages can be found at all; 0 = nothing was processed yet.")
    took_ms: float
    note: str = Field(description="For people: why this is not the answer that it could be; mostly empty.")


class FacetCounts(Schema):
    """Values that can be filtered by, each with its number of recordings."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    recordings: int
    languages: dict[str, int]
    speakers: dict[str, int]
    collections: dict[str, int]
    since: date | None
    until: date | None


class RecordingSummary(Schema):
    """A recording and its processing state."""

    key: str
    title: str
    folder: str
    state: State
    step: str = Field(description="The step that is running, waited for, or failed; empty where all are done.")
    reason: str = Field(description="Why it failed.")
    transient: bool = Field(description="Whether trying again may help.")
    failed_at: datetime | None
    duration: float | None = Field(description="Seconds that were decoded; before that, what the file claims.")
    has_picture: bool
    language: str
    passages: int
    silence: Silence = Field(
        description="Why nothing of it can be found although it is done: nobody speaks, or no words were understood."
    )
    size: int = Field(description="In bytes.")
    modified: datetime
    poster: str = Field(description="Address of its picture; empty where it has none.")
    url: str = Field(description="The page that plays it.")


class RecordingPage(Schema):
    """A page of the library."""

    recordings: list[RecordingSummary]
    total: int = Field(description="How many there are with this filter.")
    counts: dict[State, int] = Field(description="How many there are of each state, without any filter.")


class Links(Schema):
    """URL paths of the files of a recording."""

    media: str
    sound: str
    poster: str = Field(description="Empty where it has no picture.")
    words: str
    transcripts: dict[str, str]


class RecordingDetails(RecordingSummary):
    """A recording with links to its files."""

    links: Links
    plays: Literal["recording", "sound"] = Field(
        description="Which link plays at the seconds of the transcript: browsers play some recordings at other seconds,"
        " or without their sound."
    )


class Paragraph(Schema):
    """Consecutive sentences of one speaker."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    start: Seconds
    speaker: str
    words: list[tuple[float, float, str]] = Field(description="Start, end, and the word with its leading space.")


class TranscriptWords(Schema):
    """A transcript as paragraphs of timed words, to be displayed beside a player."""

    key: str
    title: str
    language: str
    duration: float
    silence: Silence = Field(description="Why there are no words: nobody speaks, or none were understood.")
    paragraphs: list[Paragraph]
