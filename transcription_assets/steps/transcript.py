"""transcript: what was said and when (`transcripts/<key>.json`, `.txt`, `.srt`, `.vtt`).

The same sound under another name, or in another container, is not transcribed again: `heard/` tells for each
sound, model and options which recording has its words.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import PurePosixPath

from transcription_assets import keys, subtitles
from transcription_assets.failures import NotFound, PermanentFailure, TransientFailure
from transcription_assets.speech import Engine, Heard
from transcription_assets.steps import audio
from transcription_assets.steps.audio import Audio
from transcription_assets.steps.failure import noted
from transcription_assets.steps.sounds import Sounds, alone
from transcription_assets.storage import Store
from transcription_assets.transcript import Media, Timing, Transcript, from_json

LENGTH_TOLERANCE_S = 1.0
TEXTS: Mapping[str, Callable[[Transcript], str]] = {
    ".txt": lambda transcript: f"{transcript.text}\n",
    ".srt": subtitles.to_srt,
    ".vtt": subtitles.to_vtt,
}
"""What is written beside the JSON, for people and players."""


def load(store: Store, key: str) -> Transcript | None:
    """The transcript in the store, if there is one that this release understands."""
    try:
        return from_json(store.read(keys.transcript(key)))
    except (NotFound, ValueError, KeyError):
        return None


def is_current(transcript: Transcript, source: Audio, engine: Engine) -> bool:
    """Whether it was made from this very object with this model and these options."""
    return transcript.media.etag == source.etag and _is_by(transcript, engine)


def _is_by(transcript: Transcript, engine: Engine) -> bool:
    return transcript.model == engine.model and transcript.options == engine.options.as_dict()


def sounds(store: Store, batch: Sequence[str], engine: Engine, ffmpeg: str) -> Sounds:
    """For `materialise` of these recordings in this order: the next is decoded while one is transcribed."""

    def is_needed(key: str) -> bool:
        source, known = audio.load(store, key), load(store, key)
        if source is None or (known and is_current(known, source, engine)):
            return False
        return _heard_before(store, source, engine) is None

    return Sounds(store, ffmpeg, batch, is_needed)


@noted("transcript")
def materialise(  # noqa: PLR0917 -- tools, then options
    store: Store,
    key: str,
    engine: Engine,
    ffmpeg: str,
    progress: Callable[[float], None] | None = None,
    batch: Sounds | None = None,
) -> tuple[Transcript, bool]:
    """Transcribe the extracted speech; returns the transcript and whether it was there already.

    `batch` has its sound ready, where it was made for several recordings.
    """
    source = audio.load(store, key)
    if source is None:
        raise PermanentFailure(f"{key}: its speech is not extracted yet; materialise `audio` first")
    known = load(store, key)
    if known and is_current(known, source, engine):
        _make_up_for_lost_texts(store, known)
        return known, True
    started = time.monotonic()
    alike = _heard_before(store, source, engine)
    if alike:
        transcript = _taken_over(alike, key, source, started)
    else:
        with batch.of(key) if batch else alone(store, key, ffmpeg) as blocks:
            heard = engine.transcribe(blocks, progress or (lambda _seconds: None))
        _require_all_of_it(key, heard.duration, source.duration)
        transcript = _transcript(key, source, engine, heard, time.monotonic() - started)
    _require_same_sound(store, key, source)
    # Removed first and written last: what makes the transcript count as done never lies beside texts of another.
    store.delete(keys.transcript(key))
    for suffix, text in TEXTS.items():
        store.write(keys.transcript(key, suffix), text(transcript).encode())
    store.write(keys.transcript(key), transcript.to_json())
    store.write(keys.heard(_sound(source, engine)), json.dumps({"media_key": key}).encode())
    return transcript, False


def _make_up_for_lost_texts(store: Store, known: Transcript) -> None:
    """Write those again that somebody deleted."""
    for suffix, text in TEXTS.items():
        path = keys.transcript(known.media.key, suffix)
        if not store.exists(path):
            store.write(path, text(known).encode())


def _require_same_sound(store: Store, key: str, source: Audio) -> None:
    """TransientFailure where `audio` was made anew meanwhile: nobody knows which of the two was heard."""
    now = audio.load(store, key)
    if now is None or (now.etag, now.sha256) != (source.etag, source.sha256):
        raise TransientFailure(f"{key} was replaced while it was transcribed; the new version is transcribed next")


def _require_all_of_it(key: str, heard_s: float, extracted_s: float) -> None:
    """A store may end its answer early and look as if that were all: then there is more to be heard."""
    if heard_s < extracted_s - LENGTH_TOLERANCE_S:
        raise TransientFailure(
            f"{key}: the store gave {heard_s:.1f} s of its {extracted_s:.1f} s of extracted speech; try again"
        )


def _sound(source: Audio, engine: Engine) -> str:
    """The name of what this engine hears in this sound: alike, the words are alike."""
    document = [source.sha256, asdict(engine.model), engine.options.as_dict()]
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _heard_before(store: Store, source: Audio, engine: Engine) -> Transcript | None:
    """A transcript of the same sound by the same model with the same options, if it is still there."""
    try:
        key = json.loads(store.read(keys.heard(_sound(source, engine))))["media_key"]
    except (NotFound, ValueError, KeyError):
        return None
    found = load(store, key)
    return found if found and found.media.sound == source.sha256 and _is_by(found, engine) else None


def _taken_over(alike: Transcript, key: str, source: Audio, started: float) -> Transcript:
    """The words of `alike` under the recording's own name; the time is what the taking over took."""
    return replace(
        alike,
        filename=_filename(key),
        media=Media(key, source.etag, source.sha256),
        timing=Timing(wall_s=round(time.monotonic() - started, 3), audio_s=alike.duration),
        reused_from=alike.media.key,
    )


def _filename(key: str) -> str:
    return PurePosixPath(keys.decode(key)).name


def _transcript(key: str, source: Audio, engine: Engine, heard: Heard, wall_s: float) -> Transcript:
    return Transcript(
        filename=_filename(key),
        language=heard.language,
        language_probability=heard.language_probability,
        duration=heard.duration,
        segments=heard.segments,
        media=Media(key, source.etag, source.sha256),
        model=engine.model,
        options=engine.options.as_dict(),
        speech=heard.speech,
        timing=Timing(wall_s=round(wall_s, 3), audio_s=heard.duration),
    )
