"""The transcript of one recording: its shape in memory and in `transcripts/<key>.json` (schema_version 1).

Times are seconds from the start of the medium, monotonic, inside [0, duration].
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word, with the punctuation and the leading space that Whisper gives it."""

    start: float
    end: float
    word: str
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech that was decoded together; `words` are inside [start, end]."""

    id: int
    start: float
    end: float
    text: str
    words: tuple[Word, ...]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Media:
    """Which object was read: its key, the ETag that it had, and the SHA-256 of its extracted sound."""

    key: str
    etag: str
    sound: str = ""


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """What decoded it."""

    name: str
    revision: str
    compute_type: str
    engine: str


@dataclass(frozen=True, slots=True)
class Speech:
    """How much of the voiced time has words (seconds): the audit of what was not transcribed."""

    vad_seconds: float
    covered_seconds: float
    largest_gap: float

    @property
    def coverage(self) -> float:
        """Share of voiced time that has words, in [0, 1]; 1.0 where nobody speaks."""
        return self.covered_seconds / self.vad_seconds if self.vad_seconds else 1.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall time spent on the recording, its length (both seconds), and their ratio."""

    wall_s: float
    audio_s: float

    @property
    def rtfx(self) -> float:
        """Audio seconds per wall second."""
        return self.audio_s / self.wall_s if self.wall_s else 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything that was heard in one recording, and how."""

    filename: str
    language: str
    language_probability: float
    duration: float
    segments: tuple[Segment, ...]
    media: Media
    model: SpeechModel
    options: dict[str, Any] = field(default_factory=dict)
    speech: Speech = Speech(0.0, 0.0, 0.0)
    timing: Timing = Timing(0.0, 0.0)
    reused_from: str = ""
    """The media key of a recording with the same sound, where its words were taken over."""

    @property
    def text(self) -> str:
        """The running text, one segment a line."""
        return "\n".join(segment.text for segment in self.segments)

    @property
    def no_speech(self) -> bool:
        """True where nothing was said: silence, music, noise."""
        return not self.segments

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in order of time."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_json(self) -> bytes:
        """The file format: every field, the derived figures that simple consumers look for, UTF-8.

        `options` must hold JSON values only (lists, no tuples) to come back as they went.
        """
        document = {"schema_version": SCHEMA_VERSION} | asdict(self)
        document["text"] = self.text
        document["no_speech"] = self.no_speech
        document["timing"]["rtfx"] = self.timing.rtfx
        # Surrogates of a file name that is not UTF-8 become JSON escapes, and come back the same.
        return json.dumps(document, ensure_ascii=False, indent=1).encode(errors="backslashreplace")


def from_json(data: bytes) -> Transcript:
    """Read what `Transcript.to_json` wrote; a newer schema is refused with ValueError."""
    document = json.loads(data)
    if (version := document.get("schema_version")) != SCHEMA_VERSION:
        raise ValueError(f"transcript schema_version {version}, this release reads {SCHEMA_VERSION}")
    document["timing"].pop("rtfx", None)
    return Transcript(
        filename=document["filename"],
        language=document["language"],
        language_probability=document["language_probability"],
        duration=document["duration"],
        segments=tuple(_segment(item) for item in document["segments"]),
        media=Media(**document["media"]),
        model=SpeechModel(**document["model"]),
        options=document["options"],
        speech=Speech(**document["speech"]),
        timing=Timing(**document["timing"]),
        reused_from=document.get("reused_from", ""),
    )


def _segment(item: dict[str, Any]) -> Segment:
    return Segment(**item | {"words": tuple(Word(**word) for word in item["words"])})


def settle(segments: Iterable[Segment], duration: float) -> tuple[Segment, ...]:
    """Order segments by time, put every time in [0, duration] and after the one before, number them from 0.

    Decoders give words that start before their neighbour ends; players and subtitles cannot use those.
    """
    settled: list[Segment] = []
    clock = 0.0
    for segment in sorted(segments, key=lambda item: item.start):
        if not segment.text.strip():
            continue
        words: list[Word] = []
        for word in segment.words:
            start = _within(word.start, clock, duration)
            clock = end = _within(word.end, start, duration)
            words.append(Word(start, end, word.word, round(word.probability, 4)))
        start = words[0].start if words else _within(segment.start, clock, duration)
        clock = end = words[-1].end if words else _within(segment.end, start, duration)
        settled.append(
            Segment(
                id=len(settled),
                start=start,
                end=end,
                text=segment.text.strip(),
                words=tuple(words),
                avg_logprob=round(segment.avg_logprob, 4),
                no_speech_prob=round(segment.no_speech_prob, 4),
                compression_ratio=round(segment.compression_ratio, 3),
                repaired=segment.repaired,
            )
        )
    return tuple(settled)


def _within(seconds: float, earliest: float, duration: float) -> float:
    """Milliseconds, then bounds: rounded last, the last word could end after the medium."""
    return min(max(earliest, round(seconds, 3)), duration)


def clock(seconds: float) -> str:
    """0:07, 12:34, 1:02:03 as players show it."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
