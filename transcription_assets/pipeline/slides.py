"""Step `slides`: what a recording shows as text (`slides/<key>.json`), with a thumbnail of each slide.

It runs beside `audio` on a CPU. What is wrong with the picture of a recording is a note in its record, and no failure:
the words do not depend on it. Callers let a recording go on without slides if the step fails, too.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256

from transcription_assets.domain import media_keys
from transcription_assets.errors import NotFound, PermanentFailure, TranscriptionError
from transcription_assets.media.pictures import Picture, PictureStream
from transcription_assets.pipeline import records, video
from transcription_assets.pipeline.failure_notes import records_failure
from transcription_assets.pipeline.video import MediaDecoder, Video
from transcription_assets.slides import sampling
from transcription_assets.slides.finder import Counts, Slide, SlideFinder
from transcription_assets.slides.reader import TextReader
from transcription_assets.slides.thumbnails import thumbnail
from transcription_assets.storage import MediaObject, Store

VERSION = "1"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlideTools:
    """The reader of text, and the ffmpeg that decodes the pictures, with its time limit."""

    reader: TextReader
    decoder: MediaDecoder


@dataclass(frozen=True, slots=True)
class Slides:
    """Record of the slides of a recording; times in seconds.

    `has_video` is False if there is nothing but sound (and maybe a cover). `reached` is the time of the last picture
    that was decoded. `problem` says why pictures are missing, empty if none are. `counts.dropped` pictures with text
    were over the limits of `sampling`.
    """

    key: str
    etag: str
    fingerprint: str
    model: str = ""
    slides: tuple[Slide, ...] = ()
    has_video: bool = True
    duration: float | None = None
    reached: float = 0.0
    counts: Counts = field(default_factory=Counts)
    problem: str = ""
    wall_s: float = 0.0
    version: str = VERSION
    reused: bool = False


def load(store: Store, key: str) -> Slides | None:
    """Return the record of the last materialisation, None if there is none that this release can read.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    found = records.load(store, media_keys.slides(key), Slides, VERSION)
    return replace(found, reused=True) if found else None


@records_failure("slides")
def materialise(store: Store, key: str, tools: SlideTools, progress: Callable[[float], None] | None = None) -> Slides:
    """Find the slides of a recording that `video` has probed; `progress` is called with the seconds that are done.

    A record with a problem is made again: another time limit, or a store that answers, may give the rest.

    Raises:
        PermanentFailure: `video` has not probed this version, the weights are missing, or the store refuses.
        NotFound: the recording does not exist.
        TransientFailure: the store fails, or the recording was replaced while it was read.

    """
    source = store.stat(key)
    probed = video.load(store, key)
    if probed is None or probed.etag != source.etag:
        hint = "materialise `video` first"
        raise PermanentFailure(
            f"{key}: `video` has not probed this version with this release; {hint}", key=key, step="slides", hint=hint
        )
    fingerprint = _fingerprint(source.etag, tools)
    known = load(store, key)
    if known and known.fingerprint == fingerprint and not known.problem:
        return known
    store.delete(media_keys.slides(key))
    store.delete_below(media_keys.slide_pictures(key))
    made = Slides(key, source.etag, fingerprint, has_video=False, duration=probed.probe.duration)
    if probed.probe.video_codec is not None:
        made = _searched(store, source, probed, tools, progress or _unwatched)
    records.require_unchanged(store, source)
    records.write(store, media_keys.slides(key), asdict(made))
    return made


def unread(store: Store, key: str, error: TranscriptionError) -> Slides:
    """Return a record without slides, because of this error; it is not stored, so that the next run tries again.

    Raises:
        NotFound: the recording does not exist.
        TranscriptionError: the store refuses or does not answer.

    """
    etag = store.stat(key).etag
    return Slides(key, etag, f"{etag}:unread", problem=f"its slides were not read: {error}")


def thumbnails(store: Store, made: Slides, most: int) -> list[bytes]:
    """Return the thumbnails of at most `most` evenly spaced slides; those that are gone are left out.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    count = min(most, len(made.slides))
    found = []
    for number in range(count):
        slide = made.slides[number * len(made.slides) // count]
        try:
            found.append(store.read(media_keys.slide_picture(made.key, slide.number)))
        except NotFound:
            continue
    return found


def _searched(
    store: Store, source: MediaObject, probed: Video, tools: SlideTools, progress: Callable[[float], None]
) -> Slides:
    """Search the pictures of a recording, and write a thumbnail of each slide."""
    started = time.monotonic()
    key, duration = source.key, probed.probe.duration
    stream = PictureStream(
        lambda: store.media_url(key),
        key,
        ffmpeg=tools.decoder.ffmpeg,
        limit_s=tools.decoder.limit(duration, source.size),
        every_s=sampling.interval(duration),
        duration=duration,
    )
    finder = SlideFinder(tools.reader, stream.between)
    found: list[Slide] = []
    problem = ""
    try:
        with closing(stream.pictures()) as decoded:
            for slide, pixels in finder.slides(_watched(decoded, progress), duration):
                store.write(media_keys.slide_picture(key, slide.number), thumbnail(pixels))
                found.append(replace(slide, start=round(slide.start, 3), end=round(slide.end, 3)))
        problem = f"{key}: {finder.problem}" if finder.problem else ""
    except TranscriptionError:
        raise
    except Exception as error:  # of the libraries that compute: a picture they cannot cope with must not stop the words
        log.exception("%s: its slides cannot be read", key)
        problem = f"{key}: its slides were read until {finder.reached:.0f} s only ({type(error).__name__}: {error})"
    return Slides(
        key=key,
        etag=source.etag,
        fingerprint=_fingerprint(source.etag, tools),
        model=tools.reader.model,
        slides=tuple(found),
        duration=duration,
        reached=round(finder.reached, 3),
        counts=finder.counts,
        problem=problem or stream.problem,
        wall_s=round(time.monotonic() - started, 3),
    )


def _watched(pictures: Iterable[Picture], progress: Callable[[float], None]) -> Iterator[Picture]:
    for picture in pictures:
        progress(picture.at)
        yield picture


def _fingerprint(etag: str, tools: SlideTools) -> str:
    document = [VERSION, etag, tools.reader.model, dict(tools.reader.options)]
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]


def _unwatched(_seconds: float) -> None:
    """Ignore progress."""
