"""Responses of the OpenAI audio API from a transcript. Pure functions."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transcription_assets.asr.parameters import Format, Parameters
from transcription_assets.domain import subtitles
from transcription_assets.domain.transcript import Media, Segment, SpeechModel, Transcript
from transcription_assets.speech import SpeechResult, Task
from transcription_assets.speech.language_names import name_of

MEDIA_TYPES: Mapping[Format, str] = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
}


def transcript_of(result: SpeechResult, filename: str, model: SpeechModel) -> Transcript:
    """Return the result of a recording as a transcript that belongs to no store."""
    return Transcript(
        filename=filename,
        language=result.language,
        language_probability=result.language_probability,
        duration=result.duration,
        segments=result.segments,
        media=Media("", ""),
        model=model,
        speech=result.speech,
        languages=dict(result.languages),
    )


def body(transcript: Transcript, asked: Parameters, task: Task) -> bytes:
    """Return the body of the response in the format that was asked for, in UTF-8."""
    bodies: Mapping[Format, Callable[[], str]] = {
        "json": lambda: _json({"text": text_of(transcript.segments), "usage": usage(transcript)}),
        "verbose_json": lambda: _json(_verbose(transcript, asked, task)),
        "text": lambda: f"{text_of(transcript.segments)}\n",
        "srt": lambda: subtitles.to_srt(transcript),
        "vtt": lambda: subtitles.to_vtt(transcript),
    }
    return bodies[asked.response_format]().encode(errors="replace")


def text_of(segments: Sequence[Segment]) -> str:
    """Return the running text, in one line."""
    return " ".join(segment.text for segment in segments)


def usage(transcript: Transcript) -> dict[str, Any]:
    """Return what the request used: seconds of audio."""
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def event(document: Mapping[str, Any]) -> bytes:
    """Return a server-sent event."""
    return f"data: {_json(document)}\n\n".encode(errors="replace")


def delta(segment: Segment, *, first: bool) -> bytes:
    """Return the event of the next segment; all deltas together are `text_of` all segments."""
    return event({"type": "transcript.text.delta", "delta": segment.text if first else f" {segment.text}"})


def done(transcript: Transcript) -> bytes:
    """Return the last event, with the whole text."""
    facts = {"type": "transcript.text.done", "text": text_of(transcript.segments)}
    return event(facts | {"usage": usage(transcript)})


def _verbose(transcript: Transcript, asked: Parameters, task: Task) -> dict[str, Any]:
    document: dict[str, Any] = {
        "task": task,
        "language": name_of("en" if task == "translate" else transcript.language),
        "duration": transcript.duration,
        "text": text_of(transcript.segments),
    }
    if "segment" in asked.granularities:
        document["segments"] = [_segment(item) for item in transcript.segments]
    if "word" in asked.granularities:
        document["words"] = [
            {"word": word.word.strip(), "start": word.start, "end": word.end, "probability": word.probability}
            for word in transcript.words
        ]
    return document | {"usage": usage(transcript)}


def _segment(item: Segment) -> dict[str, Any]:
    return {
        "id": item.id,
        "seek": int(item.start * 100),
        "start": item.start,
        "end": item.end,
        "text": item.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": item.avg_logprob,
        "compression_ratio": item.compression_ratio,
        "no_speech_prob": item.no_speech_prob,
        "language": item.language,
        "speaker": item.speaker,
        "low_confidence": item.low_confidence,
    }


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False)
