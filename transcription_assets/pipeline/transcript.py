"""transcript: the words of a recording with their times (`transcripts/<key>.json`, `.txt`, `.srt`, `.vtt`).

Audio that was transcribed before, under another name or in another container, is not transcribed again: `heard/` maps
each combination of audio, model and options to the recording that has its words.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

from transcription_assets.domain import media_keys as keys
from transcription_assets.domain import subtitles
from transcription_assets.domain.transcript import Media, Timing, Transcript, from_json
from transcription_assets.errors import NotFound, NotRegular, PermanentFailure, TransientFailure
from transcription_assets.pipeline import audio, decoding, failure_notes, window_plan
from transcription_assets.pipeline.audio import Audio
from transcription_assets.pipeline.decoding import DecodeRequest, Transcriber
from transcription_assets.pipeline.work_queue import Progress
from transcription_assets.speech import SpeechResult
from transcription_assets.storage import Store


def named_text(transcript: Transcript) -> str:
    """Return the running text, one segment per line, with the speaker's name where another one begins to speak."""
    latest = ""
    lines = []
    for segment in transcript.segments:
        lines.append(f"{segment.speaker}: {segment.text}" if segment.speaker not in ("", latest) else segment.text)
        latest = segment.speaker
    return "\n".join(lines)


TEXTS: Mapping[str, Callable[[Transcript], str]] = {
    ".txt": lambda transcript: f"{named_text(transcript)}\n",
    ".srt": subtitles.to_srt,
    ".vtt": subtitles.to_vtt,
}
"""Formats written beside the JSON, by suffix."""


def load(store: Store, key: str) -> Transcript | None:
    """Return the transcript in the store; None if there is none, it is damaged, or of another schema version.

    Raises:
        TranscriptionError: the store denies access or does not answer.

    """
    try:
        return from_json(store.read(keys.transcript(key)))
    except (NotFound, ValueError):
        return None


def is_current(transcript: Transcript, source: Audio, speech: Transcriber, vocabulary: Sequence[str] = ()) -> bool:
    """Return whether the transcript was made from this version of the recording with this model and these options."""
    options = speech.options.as_dict() | {"vocabulary": [*vocabulary]}
    return transcript.media.etag == source.etag and _is_by(transcript, speech, options)


def vocabulary(store: Store, key: str) -> list[str]:
    """Return the names and words to expect in a recording, from `vocabulary.txt` in its folder or the nearest above.

    The file has one word or phrase per line; empty lines and those that start with `#` are ignored.

    Raises:
        PermanentFailure: it is not a regular file, has more than VOCABULARY_BYTES, is not UTF-8, or access is denied.
            Only the recordings below its folder fail.
        TransientFailure: the store does not answer.

    """
    for place in keys.vocabularies(key):
        try:
            lines = store.read_small(place, VOCABULARY_BYTES).decode("utf-8-sig").splitlines()
        except NotRegular as error:
            raise PermanentFailure(f"{place} is not a regular file: remove it, or put a text there") from error
        except NotFound:
            continue
        except UnicodeDecodeError as error:
            raise PermanentFailure(f"{place} is not a text in UTF-8: save it as UTF-8") from error
        return [" ".join(line.split()) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return []


def _options(store: Store, key: str, speech: Transcriber) -> dict[str, Any]:
    return speech.options.as_dict() | {"vocabulary": vocabulary(store, key)}


def _is_by(transcript: Transcript, speech: Transcriber, options: dict[str, Any]) -> bool:
    return transcript.model == speech.model and transcript.options == options


VOCABULARY_BYTES = 64 << 10
"""Maximum size: Whisper's prompt takes some hundred words, so a larger file is a mistake or an attack."""


@dataclass(frozen=True, slots=True)
class TranscriptTools:
    """The transcriber, and the ffmpeg that plans recordings without a window plan."""

    speech: Transcriber
    ffmpeg: str


TranscriptResult = tuple[Transcript, bool]
"""A transcript, and whether it existed before."""
Answer = tuple[str, TranscriptResult | Exception]
"""A media key with its transcript, or with its failure."""


@dataclass(frozen=True, slots=True)
class _Request:
    """Extracted audio of a recording, and its options: those of the engine, and its vocabulary."""

    source: Audio
    options: dict[str, Any]


def materialise(store: Store, key: str, tools: TranscriptTools, progress: Progress | None = None) -> TranscriptResult:
    """Transcribe the extracted audio of one recording, see `materialise_each`.

    Raises:
        PermanentFailure: the audio was not extracted or cannot be decoded, its vocabulary is invalid, the model does
            not support the options, or access to the store is denied.
        TransientFailure: the recording was replaced meanwhile, the GPU failed, or the store does not answer.
        Exception: any other exception of the engine.

    """
    ((_, made),) = materialise_each(store, [key], tools, progress)
    if isinstance(made, Exception):
        raise made
    return made


def materialise_each(
    store: Store, media_keys: Sequence[str], tools: TranscriptTools, progress: Progress | None = None
) -> Generator[Answer, None, None]:
    """Yield each recording with its result, as soon as it is known; a failure is noted and yielded as an exception.

    Short recordings are decoded together. `progress` is called with a media key and the seconds done of it.
    """
    for key, answer in _each(store, media_keys, tools, progress or _unwatched):
        if isinstance(answer, Exception):
            failure_notes.note(store, key, "transcript", answer)
        yield key, answer


def _each(store: Store, media_keys: Sequence[str], tools: TranscriptTools, progress: Progress) -> Iterator[Answer]:
    """Yield the recordings that need no decoding, then those that are decoded, then those with the audio of another."""
    wanted: dict[str, tuple[_Request, DecodeRequest]] = {}
    alike: list[str] = []
    digests: set[str] = set()
    for key in media_keys:
        try:
            request = _Request(_source(store, key), _options(store, key, tools.speech))
            known = _known(store, request, tools.speech)
            digest = _request_digest(request, tools.speech)
            if known is not None:
                yield key, known
            elif digest in digests:
                alike.append(key)
            else:
                wanted[key] = request, _decode_request(store, request, tools)
                digests.add(digest)
        except Exception as error:  # noqa: BLE001 -- an error of one recording must not stop the others
            yield key, error
    try:
        for asked, failure in tools.speech.decode(store, [asked for _, asked in wanted.values()], progress):
            request, _ = wanted.pop(asked.key)
            yield asked.key, failure or _attempted(store, request, asked, tools.speech)
    except Exception as error:  # noqa: BLE001 -- of what decodes: all recordings that are left have the same failure
        yield from ((key, error) for key in wanted)
    if alike:
        yield from _each(store, alike, tools, progress)


def _decode_request(store: Store, request: _Request, tools: TranscriptTools) -> DecodeRequest:
    source = request.source
    plan = window_plan.ensure(
        store, source.key, source.sha256, channels=source.channels, duration=source.duration, ffmpeg=tools.ffmpeg
    )
    # The version includes the plan: a checkpoint of the mixed channels is not valid for the left channel.
    version = f"{source.etag}|{_request_digest(request, tools.speech)}|{plan.digest}"
    return DecodeRequest(source.key, version, plan, tuple(request.options["vocabulary"]))


def _attempted(
    store: Store, request: _Request, asked: DecodeRequest, speech: Transcriber
) -> TranscriptResult | Exception:
    """Write the transcript of a recording from its checkpoints."""
    try:
        transcript = _transcript(request, speech, decoding.merged(store, asked, speech.options))
        _write(store, transcript, request, speech)
        asked.checkpoints(store).clear()
    except Exception as error:  # noqa: BLE001 -- an error of one recording must not stop the others
        return error
    return transcript, False


def _source(store: Store, key: str) -> Audio:
    source = audio.load(store, key)
    if source is None:
        raise PermanentFailure(f"{key}: its speech is not extracted yet; materialise `audio` first")
    return source


def _unwatched(_key: str, _seconds: float) -> None:
    """Ignore progress."""


def _known(store: Store, request: _Request, speech: Transcriber) -> TranscriptResult | None:
    """Return the transcript if it exists or can be copied from a recording with the same audio, else None."""
    source = request.source
    known = load(store, source.key)
    if known and known.media.etag == source.etag and _is_by(known, speech, request.options):
        _restore_missing_texts(store, known)
        return known, True
    started = time.monotonic()
    alike = _transcript_of_same_audio(store, request, speech)
    if alike is None:
        return None
    transcript = _copied(alike, source.key, source, started)
    _write(store, transcript, request, speech)
    return transcript, False


def _write(store: Store, transcript: Transcript, request: _Request, speech: Transcriber) -> None:
    key, source = request.source.key, request.source
    _require_same_audio(store, key, source)
    # The JSON marks the transcript as complete: deleted first and written last, it never exists beside older texts.
    store.delete(keys.transcript(key))
    for suffix, text in TEXTS.items():
        store.write(keys.transcript(key, suffix), text(transcript).encode())
    store.write(keys.transcript(key), transcript.to_json())
    store.write(keys.transcribed_audio(_request_digest(request, speech)), json.dumps({"media_key": key}).encode())


def _restore_missing_texts(store: Store, known: Transcript) -> None:
    """Write missing text files again, which someone may have deleted."""
    for suffix, text in TEXTS.items():
        path = keys.transcript(known.media.key, suffix)
        if not store.exists(path):
            store.write(path, text(known).encode())


def _require_same_audio(store: Store, key: str, source: Audio) -> None:
    """Raise TransientFailure if `audio` was materialised meanwhile: it is unknown which version was transcribed."""
    now = audio.load(store, key)
    if now is None or (now.etag, now.sha256) != (source.etag, source.sha256):
        raise TransientFailure(f"{key} was replaced while it was transcribed; the new version is transcribed next")


def _request_digest(request: _Request, speech: Transcriber) -> str:
    """Return a digest of audio, model and options; transcripts with the same digest have the same words."""
    document = [request.source.sha256, asdict(speech.model), request.options]
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _transcript_of_same_audio(store: Store, request: _Request, speech: Transcriber) -> Transcript | None:
    """Return a transcript of the same audio by the same model with the same options, if it still exists."""
    try:
        key = json.loads(store.read(keys.transcribed_audio(_request_digest(request, speech))))["media_key"]
    except (NotFound, ValueError, KeyError, TypeError):
        return None
    found = load(store, key)
    same = found is not None and found.media.sound == request.source.sha256
    return found if found and same and _is_by(found, speech, request.options) else None


def _copied(alike: Transcript, key: str, source: Audio, started: float) -> Transcript:
    """Return `alike` with the name of this recording; its wall time is the time for the copy."""
    return replace(
        alike,
        filename=_filename(key),
        # Voices are told apart by a step of its own; the speakers of channels are those of the same audio.
        segments=alike.segments
        if alike.options.get("speakers") == "channels"
        else tuple(replace(segment, speaker="") for segment in alike.segments),
        media=Media(key, source.etag, source.sha256),
        timing=Timing(wall_s=round(time.monotonic() - started, 3), audio_s=alike.duration),
        reused_from=alike.media.key,
    )


def _filename(key: str) -> str:
    return PurePosixPath(keys.decode(key)).name


def _transcript(request: _Request, speech: Transcriber, result: SpeechResult) -> Transcript:
    source = request.source
    return Transcript(
        filename=_filename(source.key),
        language=result.language,
        language_probability=result.language_probability,
        duration=result.duration,
        segments=result.segments,
        media=Media(source.key, source.etag, source.sha256),
        model=speech.model,
        options=request.options,
        speech=result.speech,
        timing=Timing(wall_s=result.wall_s, audio_s=result.duration),
        languages=dict(result.languages),
    )
