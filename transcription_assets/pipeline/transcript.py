"""transcript: the words of a recording with their times (`transcripts/<key>.json`, `.txt`, `.srt`, `.vtt`).

Audio that was transcribed before, under another name or in another container, is not transcribed again: `heard/` maps
each combination of audio, model and options to the recording that has its words.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from transcription_assets import media
from transcription_assets.domain import media_keys as keys
from transcription_assets.domain import subtitles
from transcription_assets.domain.transcript import Media, Timing, Transcript, from_json
from transcription_assets.errors import NotFound, NotRegular, PermanentFailure, TransientFailure
from transcription_assets.pipeline import audio, failure_notes
from transcription_assets.pipeline.audio import Audio
from transcription_assets.pipeline.checkpoints import Checkpoints
from transcription_assets.speech import AudioSource, Engine, Samples, SpeechResult
from transcription_assets.storage import Store, temporary

LENGTH_TOLERANCE_S = 1.0
TEXTS: Mapping[str, Callable[[Transcript], str]] = {
    ".txt": lambda transcript: f"{transcript.text}\n",
    ".srt": subtitles.to_srt,
    ".vtt": subtitles.to_vtt,
}
"""Formats written beside the JSON, by suffix."""
SAME_SHARE = 0.05
"""Channels whose difference has at most this share of their level (RMS) contain the same voice."""
APART_SHARE = 0.25
"""Share of the blocks with speech in which channels must differ to count as two speakers."""
QUIETEST = 0.001
"""Minimum level (RMS, full scale 1.0) of a block with speech."""


def load(store: Store, key: str) -> Transcript | None:
    """Return the transcript in the store; None if there is none, it is damaged, or of another schema version.

    Raises:
        TranscriptionError: the store denies access or does not answer.

    """
    try:
        return from_json(store.read(keys.transcript(key)))
    except (NotFound, ValueError):
        return None


def is_current(transcript: Transcript, source: Audio, engine: Engine, vocabulary: Sequence[str] = ()) -> bool:
    """Return whether the transcript was made from this version of the recording with this model and these options."""
    options = engine.options.as_dict() | {"vocabulary": [*vocabulary]}
    return transcript.media.etag == source.etag and _is_by(transcript, engine, options)


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


def _options(store: Store, key: str, engine: Engine) -> dict[str, Any]:
    return engine.options.as_dict() | {"vocabulary": vocabulary(store, key)}


def _is_by(transcript: Transcript, engine: Engine, options: dict[str, Any]) -> bool:
    return transcript.model == engine.model and transcript.options == options


VOCABULARY_BYTES = 64 << 10
"""Maximum size: Whisper's prompt takes some hundred words, so a larger file is a mistake or an attack."""


@dataclass(frozen=True, slots=True)
class TranscriptTools:
    """The engine, and the ffmpeg that decodes the extracted audio."""

    engine: Engine
    ffmpeg: str


TranscriptResult = tuple[Transcript, bool]
"""A transcript, and whether it existed before."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class _Request:
    """Extracted audio of a recording, and its options: those of the engine, and its vocabulary."""

    source: Audio
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A recording in the queue: whether its audio was passed to the engine, and the function for its result."""

    asked: bool
    finish: Callable[[SpeechResult | Exception | None], TranscriptResult]


def materialise(store: Store, key: str, tools: TranscriptTools, progress: Progress | None = None) -> TranscriptResult:
    """Transcribe the extracted audio of one recording, see `materialise_each`.

    Raises:
        PermanentFailure: the audio was not extracted or cannot be decoded, its vocabulary is invalid, the model does
            not support the options, or access to the store is denied.
        TransientFailure: the recording was replaced meanwhile, the GPU failed, or the store does not answer.
        Exception: any other exception of the engine.

    """
    (made,) = materialise_each(store, [key], tools, progress)
    if isinstance(made, Exception):
        raise made
    return made


def materialise_each(
    store: Store, media_keys: Sequence[str], tools: TranscriptTools, progress: Progress | None = None
) -> Iterator[TranscriptResult | Exception]:
    """Yield one result for each recording, in the same order; a failure is noted and yielded as an exception.

    The engine decodes short recordings together. `progress` is called with a media key and the seconds done of it.

    Raises:
        Exception: the engine itself failed; failures of single recordings are yielded.

    """
    for key, answer in zip(media_keys, _each(store, media_keys, tools, progress or _unwatched), strict=True):
        if isinstance(answer, Exception):
            failure_notes.note(store, key, "transcript", answer)
        yield answer


def _each(
    store: Store, media_keys: Sequence[str], tools: TranscriptTools, progress: Progress
) -> Iterator[TranscriptResult | Exception]:
    queue: deque[_Entry] = deque()
    for answer in tools.engine.transcribe(_sounds(store, media_keys, tools, progress, queue)):
        while not queue[0].asked:
            yield _attempted(queue.popleft(), None)
        yield _attempted(queue.popleft(), answer)
    while queue:
        yield _attempted(queue.popleft(), None)


def _attempted(entry: _Entry, answer: SpeechResult | Exception | None) -> TranscriptResult | Exception:
    try:
        return entry.finish(answer)
    except Exception as error:  # noqa: BLE001 -- an error of one recording must not stop the others
        return error


def _sounds(
    store: Store, media_keys: Sequence[str], tools: TranscriptTools, progress: Progress, queue: deque[_Entry]
) -> Iterator[AudioSource]:
    """Yield the audio that has to be transcribed; every recording gets an entry in `queue`, in order."""
    asked: set[str] = set()
    for key in media_keys:
        try:
            request = _Request(_source(store, key), _options(store, key, tools.engine))
            known = _known(store, request, tools.engine)
        except Exception as error:  # noqa: BLE001 -- an error of one recording must not stop the others
            queue.append(_Entry(asked=False, finish=partial(_failed, error)))
            continue
        digest = _sound(request, tools.engine)
        if known is not None:
            queue.append(_Entry(asked=False, finish=partial(_given, known)))
        elif digest in asked:
            # The same audio is in the queue: its transcript will be written before this entry is processed.
            queue.append(_Entry(asked=False, finish=partial(_alone, store, key, tools, progress)))
        else:
            asked.add(digest)
            yield from _asked(store, request, tools, progress, queue)


def _asked(
    store: Store, request: _Request, tools: TranscriptTools, progress: Progress, queue: deque[_Entry]
) -> Iterator[AudioSource]:
    """Yield the audio of one recording; its file exists until the engine requests the next one."""
    source = request.source
    with ExitStack() as held:
        try:
            flac = held.enter_context(_speech(store, source.key))
            channels = source.channels if _are_different(flac, source.channels, tools.ffmpeg) else 1
        except Exception as error:  # noqa: BLE001 -- an error of one recording must not stop the others
            queue.append(_Entry(asked=False, finish=partial(_failed, error)))
            return
        # The version includes the channels: a checkpoint of the mix is not valid for the left channel.
        checkpoints = Checkpoints(store, source.key, f"{source.etag}|{_sound(request, tools.engine)}|{channels}")
        queue.append(_Entry(asked=True, finish=partial(_heard, store, request, tools, checkpoints)))
        yield AudioSource(
            read=_reader(flac, tools.ffmpeg, channels),
            channels=channels,
            vocabulary=tuple(request.options["vocabulary"]),
            checkpoints=checkpoints,
            progress=partial(progress, source.key),
        )


def _failed(error: Exception, _answer: SpeechResult | Exception | None) -> TranscriptResult:
    raise error


def _given(made: TranscriptResult, _answer: SpeechResult | Exception | None) -> TranscriptResult:
    return made


def _alone(
    store: Store, key: str, tools: TranscriptTools, progress: Progress, _answer: SpeechResult | Exception | None
) -> TranscriptResult:
    return materialise(store, key, tools, progress)


def _heard(
    store: Store,
    request: _Request,
    tools: TranscriptTools,
    checkpoints: Checkpoints,
    answer: SpeechResult | Exception | None,
) -> TranscriptResult:
    source = request.source
    if not isinstance(answer, SpeechResult):
        raise answer or TransientFailure(f"{source.key}: the engine gave no answer; try again")
    _require_all_of_it(source.key, answer.duration, source.duration)
    transcript = _transcript(request, tools.engine, answer)
    _write(store, transcript, request, tools.engine)
    checkpoints.clear(answer.duration)
    return transcript, False


def _source(store: Store, key: str) -> Audio:
    source = audio.load(store, key)
    if source is None:
        raise PermanentFailure(f"{key}: its speech is not extracted yet; materialise `audio` first")
    return source


def _unwatched(_key: str, _seconds: float) -> None:
    """Ignore progress."""


def _reader(flac: str, ffmpeg: str, channels: int) -> Callable[[int, float], Iterator[Samples]]:
    def read(channel: int, start: float) -> Iterator[Samples]:
        return media.read_samples(flac, ffmpeg=ffmpeg, start=start, channel=channel if channels > 1 else None)

    return read


def _are_different(flac: str, channels: int, ffmpeg: str) -> bool:
    """Return whether two channels contain two speakers; many stereo files contain the same voice twice.

    All of the audio is compared: a call may start with an announcement in both channels, a talk with stereo music.
    """
    if channels < 2:  # noqa: PLR2004 -- one channel has no second speaker
        return False
    sides = (media.read_samples(flac, ffmpeg=ffmpeg, channel=number) for number in range(2))
    answers = [answer for blocks in zip(*sides, strict=False) if (answer := _differ(*blocks)) is not None]
    return sum(answers) > APART_SHARE * len(answers)


def _differ(left: Samples, right: Samples) -> bool | None:
    """Return whether the channels of a block contain different voices; None if it is too quiet for speech."""
    loudness = float(np.sqrt(np.square(left).mean() + np.square(right).mean()))
    if loudness < QUIETEST:
        return None
    return float(np.sqrt(np.square(left - right).mean())) > SAME_SHARE * loudness


def _known(store: Store, request: _Request, engine: Engine) -> TranscriptResult | None:
    """Return the transcript if it exists or can be copied from a recording with the same audio, else None."""
    source = request.source
    known = load(store, source.key)
    if known and known.media.etag == source.etag and _is_by(known, engine, request.options):
        _make_up_for_lost_texts(store, known)
        return known, True
    started = time.monotonic()
    alike = _heard_before(store, request, engine)
    if alike is None:
        return None
    transcript = _taken_over(alike, source.key, source, started)
    _write(store, transcript, request, engine)
    return transcript, False


def _write(store: Store, transcript: Transcript, request: _Request, engine: Engine) -> None:
    key, source = request.source.key, request.source
    _require_same_sound(store, key, source)
    # The JSON marks the transcript as complete: deleted first and written last, it never exists beside older texts.
    store.delete(keys.transcript(key))
    for suffix, text in TEXTS.items():
        store.write(keys.transcript(key, suffix), text(transcript).encode())
    store.write(keys.transcript(key), transcript.to_json())
    store.write(keys.heard(_sound(request, engine)), json.dumps({"media_key": key}).encode())


def _make_up_for_lost_texts(store: Store, known: Transcript) -> None:
    """Write missing text files again, which someone may have deleted."""
    for suffix, text in TEXTS.items():
        path = keys.transcript(known.media.key, suffix)
        if not store.exists(path):
            store.write(path, text(known).encode())


def _require_same_sound(store: Store, key: str, source: Audio) -> None:
    """Raise TransientFailure if `audio` was materialised meanwhile: it is unknown which version was transcribed."""
    now = audio.load(store, key)
    if now is None or (now.etag, now.sha256) != (source.etag, source.sha256):
        raise TransientFailure(f"{key} was replaced while it was transcribed; the new version is transcribed next")


@contextmanager
def _speech(store: Store, key: str) -> Iterator[str]:
    """Yield ffmpeg's input for the extracted audio; copied from a bucket, as a signed URL could expire while in use."""
    if store.is_local:
        yield store.readable_url(keys.flac(key))
        return
    with temporary.folder() as folder:
        flac = folder / "speech.flac"
        store.fetch(keys.flac(key), flac)
        yield str(flac)


def _require_all_of_it(key: str, heard_s: float, extracted_s: float) -> None:
    """Raise TransientFailure if audio is missing: a store may truncate a response without an error."""
    if heard_s < extracted_s - LENGTH_TOLERANCE_S:
        raise TransientFailure(
            f"{key}: the store gave {heard_s:.1f} s of its {extracted_s:.1f} s of extracted speech; try again"
        )


def _sound(request: _Request, engine: Engine) -> str:
    """Return a digest of audio, model and options; transcripts with the same digest have the same words."""
    document = [request.source.sha256, asdict(engine.model), request.options]
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _heard_before(store: Store, request: _Request, engine: Engine) -> Transcript | None:
    """Return a transcript of the same audio by the same model with the same options, if it still exists."""
    try:
        key = json.loads(store.read(keys.heard(_sound(request, engine))))["media_key"]
    except (NotFound, ValueError, KeyError, TypeError):
        return None
    found = load(store, key)
    same = found is not None and found.media.sound == request.source.sha256
    return found if found and same and _is_by(found, engine, request.options) else None


def _taken_over(alike: Transcript, key: str, source: Audio, started: float) -> Transcript:
    """Return `alike` with the name of this recording; its wall time is the time for the copy."""
    return replace(
        alike,
        filename=_filename(key),
        media=Media(key, source.etag, source.sha256),
        timing=Timing(wall_s=round(time.monotonic() - started, 3), audio_s=alike.duration),
        reused_from=alike.media.key,
    )


def _filename(key: str) -> str:
    return PurePosixPath(keys.decode(key)).name


def _transcript(request: _Request, engine: Engine, heard: SpeechResult) -> Transcript:
    source = request.source
    return Transcript(
        filename=_filename(source.key),
        language=heard.language,
        language_probability=heard.language_probability,
        duration=heard.duration,
        segments=heard.segments,
        media=Media(source.key, source.etag, source.sha256),
        model=engine.model,
        options=request.options,
        speech=heard.speech,
        timing=Timing(wall_s=heard.wall_s, audio_s=heard.duration),
        languages=dict(heard.languages),
    )
