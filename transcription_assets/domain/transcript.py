"""The transcript of one recording, in memory and in `transcripts/<key>.json` (schema_version 2).

Times are seconds from the start of the medium, monotonic, inside [0, duration].
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

SCHEMA_VERSION = 2
_NAMES_IN_1 = {"doubt": "low_confidence", "holes": "gaps", "inventions": "hallucinations"}
"""Fields by their names in schema version 1, which is read as well."""

Span = tuple[float, float]
"""Start and end, in seconds."""


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word, with the punctuation and the leading space that Whisper outputs."""

    start: float
    end: float
    word: str
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Speech that was decoded together; `words` are inside [start, end]."""

    id: int
    start: float
    end: float
    text: str
    words: tuple[Word, ...]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    repaired: bool = False
    language: str = ""
    language_probability: float = 0.0
    """0.0 if the model cannot detect languages: it supports one only."""
    low_confidence: str = ""
    """Reason for low confidence in these words, in a word or two; empty if there is none."""
    speaker: str = ""
    """Name of the speaker, if known: the name of a channel."""
    estimated_times: bool = False
    """True if a speech service stated no times for some of the words, which then share the voiced time."""


@dataclass(frozen=True, slots=True)
class Media:
    """The object that was read: its key, its ETag at that time, and the SHA-256 of its extracted audio."""

    key: str
    etag: str
    sound: str = ""


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """The model and engine that decoded the recording."""

    name: str
    revision: str
    compute_type: str
    engine: str


@dataclass(frozen=True, slots=True)
class Speech:
    """Coverage: the voiced time, the part of it that has words (seconds), and where words and speech disagree."""

    vad_seconds: float
    covered_seconds: float
    largest_gap: float
    gaps: tuple[Span, ...] = ()
    """Gaps: voiced spans without words, too long for a breath or a cough."""
    hallucinations: tuple[Span, ...] = ()
    """Hallucinations: spans with words but without speech."""
    voiced: tuple[Span, ...] = ()
    """Spans of speech; shorter pauses are included in them."""

    @property
    def coverage(self) -> float:
        """Share of voiced time that has words, in [0, 1]; 1.0 if there is no speech."""
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
    """Everything recognised in one recording, and the model and options used."""

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
    languages: dict[str, float] = field(default_factory=dict)
    """Share of each language in the voiced time, the largest first."""
    reused_from: str = ""
    """The media key of a recording with the same audio from which the words were copied, else empty."""

    @property
    def text(self) -> str:
        """The running text, one segment per line."""
        return "\n".join(segment.text for segment in self.segments)

    @property
    def no_speech(self) -> bool:
        """True if there is no speech: no words, and no gap."""
        return not self.segments and not self.speech.gaps

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in order of time."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_json(self) -> bytes:
        """Return the file content: every field and the derived values that simple consumers need, in UTF-8.

        `options` must hold JSON values only (lists, no tuples) to be restored unchanged.
        """
        document = {"schema_version": SCHEMA_VERSION} | asdict(self)
        document["text"] = self.text
        document["no_speech"] = self.no_speech
        document["timing"]["rtfx"] = self.timing.rtfx
        # Surrogates (of file names that are not UTF-8) become JSON escapes, and are restored from them.
        return json.dumps(document, ensure_ascii=False, indent=1).encode(errors="backslashreplace")


def from_json(data: bytes) -> Transcript:
    """Parse the output of `Transcript.to_json`.

    Raises:
        ValueError: The data is not JSON, has another schema version, or another structure.

    """
    try:
        return _parsed(json.loads(data))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"damaged transcript: {error!r}") from error


def _parsed(document: dict[str, Any]) -> Transcript:
    if (version := document.get("schema_version")) not in (1, SCHEMA_VERSION):
        raise ValueError(f"transcript schema_version {version}, this release reads 1 and {SCHEMA_VERSION}")
    document["timing"].pop("rtfx", None)
    return Transcript(
        filename=document["filename"],
        language=document["language"],
        language_probability=document["language_probability"],
        duration=document["duration"],
        segments=tuple(segment_from(item) for item in document["segments"]),
        media=Media(**document["media"]),
        model=SpeechModel(**document["model"]),
        options=document["options"],
        speech=_speech(document["speech"]),
        timing=Timing(**document["timing"]),
        languages=document.get("languages", {}),
        reused_from=document.get("reused_from", ""),
    )


def segment_from(item: dict[str, Any]) -> Segment:
    """Restore a segment from the output of `dataclasses.asdict`, of this or an earlier schema version.

    Raises:
        KeyError: the words are missing.
        TypeError: a field is missing, unknown, or of the wrong type.

    """
    return Segment(**_current(item) | {"words": tuple(Word(**word) for word in item["words"])})


def _speech(item: dict[str, Any]) -> Speech:
    fields = _current(item)
    spans = {name: tuple(map(tuple, fields.get(name, ()))) for name in ("gaps", "hallucinations", "voiced")}
    return Speech(**fields | spans)


def _current(fields: dict[str, Any]) -> dict[str, Any]:
    return {_NAMES_IN_1.get(name, name): value for name, value in fields.items()}


def normalise_segments(segments: Iterable[Segment], duration: float, start: float = 0.0) -> tuple[Segment, ...]:
    """Sort segments by time, clamp every time to [start, duration] and to the one before, and number them from 0.

    Decoders output words that start before the previous one ends, which players and subtitles cannot use.
    """
    settled: list[Segment] = []
    clock = start
    for segment in sorted(segments, key=lambda item: item.start):
        if not segment.text.strip():
            continue
        words: list[Word] = []
        for word in segment.words:
            begin = _within(word.start, clock, duration)
            clock = end = _within(word.end, begin, duration)
            words.append(Word(begin, end, word.word, round(word.probability, 4)))
        begin = words[0].start if words else _within(segment.start, clock, duration)
        clock = end = words[-1].end if words else _within(segment.end, begin, duration)
        settled.append(
            replace(
                segment,
                id=len(settled),
                start=begin,
                end=end,
                text=segment.text.strip(),
                words=tuple(words),
                avg_logprob=round(segment.avg_logprob, 4),
                no_speech_prob=round(segment.no_speech_prob, 4),
                compression_ratio=round(segment.compression_ratio, 3),
                language_probability=round(segment.language_probability, 4),
            )
        )
    return tuple(settled)


def _within(seconds: float, earliest: float, duration: float) -> float:
    """Round to milliseconds, then clamp: in the other order the last word could end after the medium."""
    return min(max(earliest, round(seconds, 3)), duration)


def format_clock(seconds: float) -> str:
    """Format seconds as players do: 0:07, 12:34, 1:02:03."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
