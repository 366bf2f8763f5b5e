"""video: what the recording is (`posters/<key>.json`) and how it looks (`posters/<key>.jpg`)."""

from dataclasses import asdict, dataclass, replace

from transcription_assets import keys, media, temporary
from transcription_assets.media import Poster, Probe
from transcription_assets.steps import record
from transcription_assets.steps.failure import noted
from transcription_assets.steps.record import require_unchanged, write
from transcription_assets.storage import MediaObject, Store

VERSION = "3"
LONGEST_LEAD_IN_S = 60.0
POSTER_WIDTH = 640
THUMBNAIL_BYTES = 700
"""As base64 in Markdown this stays under 1000 characters: what is longer, Dagster's UI hides behind a link."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """ffmpeg and its patience: a recording may take `floor_s` + `per_second` x its duration."""

    ffmpeg: str
    floor_s: float = 120.0
    per_second: float = 0.5
    keep_channels: bool = False
    """Whether the two channels of a stereo recording stay apart: two speakers."""
    audio_tracks: str = "auto"
    """Which audio tracks are heard: `auto`, `first`, `all`, or a number from 1."""
    longest_s: float = media.LONGEST_S
    """A recording that lasts longer fails."""
    most_disk: int | None = None
    """Bytes of the local disk that one recording may take; None where the disk itself is the bound."""

    def limit(self, duration: float | None, size: int) -> float:
        """Seconds until a decoder that has not finished is taken for hung."""
        return media.decode_limit(duration, size, floor_s=self.floor_s, per_second=self.per_second)


@dataclass(frozen=True, slots=True)
class Video:
    """What is known of a recording before it is decoded; `size` and `bytes_read`, to find it out, in bytes."""

    key: str
    etag: str
    size: int
    probe: Probe
    has_poster: bool
    bytes_read: int
    version: str = VERSION
    reused: bool = False


def load(store: Store, key: str) -> Video | None:
    """The record of the last materialisation, if there is one that this release understands."""
    found = record.load(store, keys.video_record(key), Video, VERSION)
    return replace(found, reused=True) if found else None


@noted("video")
def materialise(store: Store, key: str, decoder: Decoder) -> Video:
    """Probe the recording and take its picture; PermanentFailure where it cannot be played."""
    source = store.stat(key)
    known = load(store, key)
    if known and known.etag == source.etag:
        return known
    store.delete(keys.video_record(key))
    url = store.media_url(key)
    probe = media.probe(url, key, ffmpeg=decoder.ffmpeg, limit_s=decoder.limit(0.0, source.size))
    poster = _take_picture(store, source, url, probe, decoder)
    if not poster.taken:
        # The recording that this one replaced may have left its picture here.
        store.delete(keys.poster(key), keys.thumbnail(key))
    require_unchanged(store, source)
    video = Video(key, source.etag, source.size, probe, poster.taken, probe.bytes_read + poster.bytes_read)
    write(store, keys.video_record(key), asdict(video))
    return video


def _take_picture(store: Store, source: MediaObject, url: str, probe: Probe, decoder: Decoder) -> Poster:
    if not probe.has_picture:
        return Poster(taken=False, bytes_read=0)
    at = min((probe.duration or 0.0) * 0.1, LONGEST_LEAD_IN_S)
    limit = decoder.limit(0.0, source.size)
    with temporary.folder() as folder:
        picture, small = folder / "picture.jpg", folder / "small.webp"
        made = media.poster(url, picture, ffmpeg=decoder.ffmpeg, limit_s=limit, at=at, width=POSTER_WIDTH)
        if not made.taken:
            return made
        store.upload(keys.poster(source.key), picture)
        if media.thumbnail(picture, small, ffmpeg=decoder.ffmpeg, limit_s=limit, max_bytes=THUMBNAIL_BYTES):
            store.upload(keys.thumbnail(source.key), small)
        else:
            store.delete(keys.thumbnail(source.key))
    return made
