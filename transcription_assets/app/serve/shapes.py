"""What the API answers, as its schema says it."""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["done", "working", "waiting", "failed"]
Seconds = Annotated[float, Field(ge=0, description="Seconds from the start of the recording.")]


class Shape(BaseModel):
    """Never changed once made."""

    model_config = ConfigDict(frozen=True)


class Problem(Shape):
    """Why there is no answer."""

    detail: str = Field(description="What is wrong, and how to mend it.")


class Part(Shape):
    """A run of text that is marked alike."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    text: str
    sentence: bool = Field(description="Whether it is in the sentence that fits best.")
    match: bool = Field(description="Whether it is a word of the question.")


class Moment(Shape):
    """A moment that fits, in what was said around it."""

    key: str = Field(description="The recording's name in the store.")
    title: str = Field(description="The recording's name for people.")
    start: Seconds
    end: Seconds
    text: str = Field(description="What was said around it.")
    parts: list[Part] = Field(description="The same in parts, which are marked.")
    score: float = Field(description="How well it fits; to be compared within one answer only.")
    weak: bool = Field(description="Whether neither words nor meaning fit well.")
    language: str = Field(description="Code of the language; empty where unknown.")
    speaker: str | None
    recorded: date | None
    duration: float | None = Field(description="Length of the recording in seconds.")
    url: str = Field(description="The page that plays the recording from this second.")
    poster: str = Field(description="Its picture, if it has one.")


class Found(Shape):
    """The moments that fit a question, best first."""

    query: str
    moments: list[Moment]
    more: bool = Field(description="Whether a larger `offset` brings more.")
    passages: int = Field(description="How many passages can be found at all; 0 = nothing was processed yet.")
    took_ms: float
    note: str = Field(description="For people: why this is not the answer that it could be; mostly empty.")
