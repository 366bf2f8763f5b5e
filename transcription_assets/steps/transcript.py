"""transcript: what was said and when (`transcripts/<key>.json`, `.txt`, `.srt`, `.vtt`)."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from transcription_assets import keys, media, subtitles
from transcription_assets.failures import NotFound, PermanentFailure
from transcription_assets.speech import Engine, Heard
from transcription_assets.steps import audio
from transcription_assets.steps.audio import Audio
from transcription_assets.storage import Store
from transcription_assets.transcript import Media, Timing, Transcript, from_json


def load(store: Store, key: str) -> Transcript | None:
    """The transcript in the store, if there is one that this release understands."""
    try:
        return from_json(store.read(keys.transcript(key)))
    except (NotFound, ValueError, KeyError):
        return None


def is_current(transcript: Transcript, source: Audio, engine: Engine) -> bool:
    """Whether it was made from this very object with this model and these options."""
    same_model = transcript.model == engine.model and transcript.options == engine.options.as_dict()
    return same_model and transcript.media.etag == source.etag


def materialise(
    store: Store, key: str, engine: Engine, ffmpeg: str, progress: Callable[[float], None] | None = None
) -> tuple[Transcript, bool]:
    """Transcribe the extracted speech; returns the transcript and whether it was there already."""
    source = audio.load(store, key)
    if source is None:
        raise PermanentFailure(f"{key}: its speech is not extracted yet; materialise `audio` first")
    known = load(store, key)
    if known and is_current(known, source, engine):
        return known, True
    started = time.monotonic()
    with _speech(store, key) as flac:
        heard = engine.transcribe(media.read_samples(flac, ffmpeg=ffmpeg), progress or (lambda _seconds: None))
    transcript = _transcript(key, source, engine, heard, time.monotonic() - started)
    store.write(keys.transcript(key, ".txt"), f"{transcript.text}\n".encode())
    store.write(keys.transcript(key, ".srt"), subtitles.to_srt(transcript).encode())
    store.write(keys.transcript(key, ".vtt"), subtitles.to_vtt(transcript).encode())
    # The JSON comes last: it is what makes the transcript count as done.
    store.write(keys.transcript(key), transcript.to_json())
    return transcript, False


@contextmanager
def _speech(store: Store, key: str) -> Iterator[str]:
    """The extracted sound. From a bucket it is copied first: a link into it could expire during a long recording."""
    if store.is_local:
        yield store.readable_url(keys.flac(key))
        return
    with tempfile.TemporaryDirectory() as folder:
        flac = Path(folder) / "speech.flac"
        store.fetch(keys.flac(key), flac)
        yield str(flac)


def _transcript(key: str, source: Audio, engine: Engine, heard: Heard, wall_s: float) -> Transcript:
    return Transcript(
        filename=PurePosixPath(keys.decode(key)).name,
        language=heard.language,
        language_probability=heard.language_probability,
        duration=heard.duration,
        segments=heard.segments,
        media=Media(key, source.etag),
        model=engine.model,
        options=engine.options.as_dict(),
        speech=heard.speech,
        timing=Timing(wall_s=round(wall_s, 3), audio_s=heard.duration),
    )
