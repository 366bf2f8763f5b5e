"""video: what the recording is (`posters/<key>.json`) and how it looks (`posters/<key>.jpg`)."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from transcription_assets import keys, media
from transcription_assets.media import Posters, Probe
from transcription_assets.steps.record import read, write
from transcription_assets.storage import MediaObject, Store

VERSION = "2"
LONGEST_LEAD_IN_S = 60.0
POSTER_WIDTH = 640
THUMBNAIL_WIDTH = 240
"""Pixels: the thumbnail lies in the event log of every materialisation, so it stays under 10 KB."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """ffmpeg and its patience: a recording may take `floor_s` + `per_second` x its duration."""

    ffmpeg: str
    floor_s: float = 120.0
    per_second: float = 0.5

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
    document = read(store, keys.video_record(key), VERSION)
    return Video(**document | {"probe": Probe(**document["probe"]), "reused": True}) if document else None


def materialise(store: Store, key: str, decoder: Decoder) -> Video:
    """Probe the recording and take its picture; PermanentFailure where it cannot be played."""
    source = store.stat(key)
    known = load(store, key)
    if known and known.etag == source.etag:
        return known
    url = store.media_url(key)
    probe = media.probe(url, key, ffmpeg=decoder.ffmpeg, limit_s=decoder.limit(0.0, source.size))
    poster = _take_pictures(store, source, url, probe, decoder)
    video = Video(key, source.etag, source.size, probe, poster.taken, probe.bytes_read + poster.bytes_read)
    write(store, keys.video_record(key), asdict(video))
    return video


def _take_pictures(store: Store, source: MediaObject, url: str, probe: Probe, decoder: Decoder) -> Posters:
    if not probe.has_picture:
        return Posters(taken=False, bytes_read=0)
    at = min((probe.duration or 0.0) * 0.1, LONGEST_LEAD_IN_S)
    limit = decoder.limit(0.0, source.size)
    with tempfile.TemporaryDirectory() as folder:
        poster, thumbnail = Path(folder) / "poster.jpg", Path(folder) / "thumbnail.jpg"
        widths = {poster: POSTER_WIDTH, thumbnail: THUMBNAIL_WIDTH}
        made = media.posters(url, widths, ffmpeg=decoder.ffmpeg, limit_s=limit, at=at)
        if made.taken:
            store.upload(keys.poster(source.key), poster)
            store.upload(keys.thumbnail(source.key), thumbnail)
    return made
