"""Models of the requests and responses of the API; their docstrings appear in the OpenAPI schema."""

import re
from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from transcription_assets.domain.people import LONGEST_NAME
from transcription_assets.search.filters import MAX_VALUE, MAX_VALUES
from transcription_assets.search.query import MAX_LIMIT, MAX_OFFSET, MAX_TEXT

State = Literal["done", "working", "waiting", "failed"]
Silence = Literal["", "no_speech", "not_understood"]
Kind = Literal["speech", "slide"]
Seconds = Annotated[float, Field(ge=0, description="Seconds from the start of the recording.")]

# All parameters together must fit into a URL of 64 KB, in which one character takes up to twelve bytes.
Language = Annotated[str, Field(max_length=40)]
Speaker = Annotated[str, Field(max_length=100)]
SourceName = Annotated[str, Field(max_length=100)]
Length = Annotated[float | None, Field(ge=0, le=1e7, allow_inf_nan=False)]


def _written_out(day: object) -> object:
    """Reject days in other forms: Pydantic would parse `0` as 1970-01-01, which the schema does not allow."""
    if isinstance(day, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", day, re.ASCII):
        raise ValueError("invalid date, expected YYYY-MM-DD")
    return day


Day = Annotated[date | None, BeforeValidator(_written_out)]


class Schema(BaseModel):
    """Immutable base class of the models."""

    model_config = ConfigDict(frozen=True)


class Problem(Schema):
    """An error response."""

    detail: str = Field(description="What failed, and what to do.")


class FilterParameters(Schema):
    """Filters, all of which must match."""

    recording: str = Field("", max_length=MAX_VALUE, description="Media key of the only recording to search in.")
    prefix: str = Field("", max_length=MAX_VALUE, description="Prefix of the media key.")
    language: list[Language] = Field([], max_length=MAX_VALUES, description="Language codes, any of which must match.")
    speaker: list[Speaker] = Field([], max_length=MAX_VALUES, description="Speakers, any of whom must match.")
    source: list[SourceName] = Field([], max_length=MAX_VALUES, description="Sources, any of which must match.")
    kind: list[Kind] = Field([], max_length=MAX_VALUES, description="What was said (speech), or text shown (slide).")
    since: Day = Field(None, description="Recorded on this day or later.")
    until: Day = Field(None, description="Recorded on this day or earlier.")
    shortest: Length = Field(None, description="Minimum length of the recording in seconds.")
    longest: Length = Field(None, description="Maximum length of the recording in seconds.")


class PageParameters(FilterParameters):
    """Filters, and the page of the answer."""

    limit: int = Field(10, ge=1, le=MAX_LIMIT, description="Maximum number of moments.")
    offset: int = Field(0, ge=0, le=MAX_OFFSET, description="Number of moments to skip.")


class SearchParameters(PageParameters):
    """A query with filters."""

    q: str = Field(max_length=MAX_TEXT, description="Words or a question; text in double quotes must match exactly.")


class SimilarParameters(PageParameters):
    """A moment, and filters for similar ones."""

    key: str = Field(min_length=1, max_length=MAX_VALUE, description="Media key of the moment's recording.")
    at: float = Field(ge=0, le=1e7, allow_inf_nan=False, description="The moment in seconds from the start.")
    moment_kind: Kind = Field(
        "speech", description="Whether it is what is said then, or the slide; without one of them it is the other."
    )


class TextPart(Schema):
    """A run of text with the same highlighting."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    text: str
    sentence: bool = Field(description="Whether it is in the best matching sentence.")
    match: bool = Field(description="Whether it matches a word of the query.")


class ShownSlide(Schema):
    """A slide of a recording."""

    number: int = Field(description="Its number in the recording, from 1.")
    start: Seconds
    end: Seconds
    text: str = Field(description="One line for each paragraph; in search results, all in one line.")
    picture: str = Field(description="URL path of a thumbnail (WebP).")


class Moment(Schema):
    """A moment that matches the query, with the text around it."""

    key: str = Field(description="Media key of the recording.")
    title: str = Field(description="Title for display.")
    folder: str
    start: Seconds
    end: Seconds
    text: str = Field(description="Text around the moment.")
    parts: list[TextPart] = Field(description="The same text, split at its highlights.")
    score: float = Field(description="Relevance in [0, 1]; comparable within one answer only.")
    weak: bool = Field(description="Whether the match is weak, in words and in meaning.")
    language: str = Field(description="Language code; empty if unknown.")
    speaker: str | None
    recorded: date | None
    duration: float | None = Field(description="Length of the recording in seconds.")
    url: str = Field(description="URL path of the page that plays the recording from this moment.")
    poster: str = Field(description="URL path of the poster frame; empty if there is none.")
    kind: Kind = Field(description="Whether `text` was said, or is that of a slide.")
    slide: ShownSlide | None = Field(description="The slide that was found at this moment.")
    said: str = Field(description="If `text` is that of a slide: what was found to be said meanwhile, else empty.")


class SearchResults(Schema):
    """The moments that match a query, best first."""

    query: str
    moments: list[Moment]
    more: bool = Field(description="Whether there are more moments at a larger `offset`.")
    passages: int = Field(description="Number of searchable passages; 0 = nothing is indexed yet.")
    took_ms: float
    note: str = Field(description="Why the search was limited, for display; usually empty.")


class FacetCounts(Schema):
    """Values that can be filtered by, each with its number of recordings."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    recordings: int
    languages: dict[str, int]
    speakers: dict[str, int]
    collections: dict[str, int]
    since: date | None
    until: date | None
    kinds: dict[str, int]


class RecordingSummary(Schema):
    """A recording and its processing state."""

    key: str
    title: str
    folder: str
    state: State
    step: str = Field(description="The step that is next or failed; empty if all are done.")
    reason: str = Field(description="Reason of the failure; empty if there is none.")
    transient: bool = Field(description="Whether a retry may succeed.")
    failed_at: datetime | None
    duration: float | None = Field(
        description="Decoded duration in seconds; before decoding, the duration that the file states."
    )
    has_picture: bool
    language: str
    passages: int
    silence: Silence = Field(
        description="Why a processed recording has nothing to search: no speech, or speech without recognised words."
    )
    size: int = Field(description="Size in bytes.")
    modified: datetime
    poster: str = Field(description="URL path of the poster frame; empty if there is none.")
    url: str = Field(description="URL path of the page that plays the recording.")


class RecordingPage(Schema):
    """A page of the library."""

    recordings: list[RecordingSummary]
    total: int = Field(description="Number of recordings that match the filter.")
    counts: dict[State, int] = Field(description="Number of recordings by state, without the filter.")


class Links(Schema):
    """URL paths of the files of a recording."""

    media: str
    sound: str
    poster: str = Field(description="Empty if there is no poster frame.")
    words: str
    slides: str = Field(description="Empty unless the slides of recordings are read.")
    speakers: str
    transcripts: dict[str, str]


class RecordingOrigin(Schema):
    """Where a recording came from, a source or an upload; unknown fields are empty."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    source: str = Field(description="Name of the source, by which a search can be filtered.")
    source_title: str
    link: str = Field(description="Page about the recording (http or https).")
    licence: str
    recorded: date | None
    fetched: str = Field(description="When it was fetched (ISO 8601).")


class RecordingDetails(RecordingSummary):
    """A recording with links to its files."""

    progress: float | None = Field(
        description="While `step` is `transcript`: share of the recording that is decoded, from 0 to 1."
    )
    origin: RecordingOrigin | None = Field(
        description="Where a source found it, or that it was uploaded; none if it was put into the inbox by hand."
    )

    links: Links
    plays: Literal["recording", "sound"] = Field(
        description="The link that plays in sync with the transcript: browsers play some recordings out of sync, or"
        " without sound."
    )


class SlideList(Schema):
    """The slides of a recording, in order."""

    key: str
    slides: list[ShownSlide]


class Paragraph(Schema):
    """Consecutive sentences of one speaker."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    start: Seconds
    speaker: str
    words: list[tuple[float, float, str]] = Field(description="Start, end, and the word with its leading space.")


class SpeakerDetails(Schema):
    """A speaker of a recording."""

    label: str = Field(description="Number that the diariser gave; another diarisation may give another one.")
    name: str = Field(description="Name for display; a question mark follows a suggested one.")
    state: Literal["confirmed", "suggested", "unknown"]
    person: str = Field(description="ID of the confirmed or suggested person; empty if there is none.")
    similarity: float = Field(description="Cosine of the voiceprints that led to a suggestion, else 0.")
    seconds: float = Field(description="How long the speaker speaks.")
    spans: list[tuple[float, float]] = Field(description="When the speaker speaks; short pauses are left out.")


class RecordingSpeakers(Schema):
    """The speakers of a recording, the one who speaks longest first."""

    version: str = Field(description="Changes whenever the speakers are found anew; to be sent with a change.")
    duration: float
    speakers: list[SpeakerDetails]
    may_change: bool = Field(description="Whether this client may change names.")
    sign_in: bool = Field(description="Whether signing in with another token would allow changes.")
    updating: int = Field(0, description="Number of other recordings whose names are being brought up to date.")


class SpeakerName(Schema):
    """Who a speaker is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("", max_length=LONGEST_NAME, description="Name of a person; somebody new if nobody has it.")
    person: str = Field("", max_length=40, description="ID of a person, instead of a name.")
    new: bool = Field(default=False, description="Whether this is another person, even if somebody has this name.")


class PersonName(Schema):
    """A person, or the change of a name."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    name: str = Field(max_length=LONGEST_NAME)


class PersonEntry(PersonName):
    """A person who has been named."""

    id: str


class Merge(Schema):
    """The person into whom another one is merged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    into: str = Field(max_length=LONGEST_NAME, description="ID of the person.")


class Updating(Schema):
    """The answer to a change of a person."""

    updating: int = Field(description="Number of recordings whose names are being brought up to date.")


class UploadRules(Schema):
    """Right of a client to upload recordings, and its limits."""

    may_upload: bool
    sign_in: bool = Field(description="Whether signing in with another token would allow uploads.")
    max_bytes: int = Field(description="Maximum size of a recording.")
    suffixes: list[str] = Field(description="Suffixes of recordings.")


class UploadStatus(Schema):
    """The state of an upload."""

    id: str
    state: Literal["receiving", "checking", "storing", "landed", "failed"]
    filename: str = Field(description="Name of the file, as the client sent it.")
    offset: int = Field(description="Number of bytes that were received.")
    length: int
    reason: str = Field(description="Why it failed, or waits; else empty.")
    expires: datetime = Field(description="When it is deleted unless it makes progress.")
    key: str = Field(description="Media key of the recording once it has landed.")
    url: str = Field(description="URL path of this state, and of the upload in the tus protocol.")
    media: str = Field(description="URL path of the recording's state once it has landed.")
    page: str = Field(description="URL path of the page that plays the recording.")


class TranscriptWords(Schema):
    """A transcript as paragraphs of timed words, to be displayed beside a player."""

    key: str
    title: str
    language: str
    duration: float
    silence: Silence = Field(description="Why there are no words: no speech, or speech without recognised words.")
    paragraphs: list[Paragraph]
