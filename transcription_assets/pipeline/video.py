"""Step `video`: the header of a recording (`posters/<key>.json`) and its poster (`posters/<key>.jpg`)."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from transcription_assets import media
from transcription_assets.domain import media_keys
from transcription_assets.media import Poster, Probe
from transcription_assets.pipeline import records
from transcription_assets.pipeline.failure_notes import records_failure
from transcription_assets.pipeline.records import require_unchanged, write
from transcription_assets.storage import MediaObject, Store, temporary

VERSION = "3"
LONGEST_LEAD_IN_S = 60.0
POSTER_WIDTH = 640
THUMBNAIL_BYTES = 700
"""Limit with which base64 in Markdown stays under 1000 characters: Dagster's UI hides longer texts behind a link."""


@dataclass(frozen=True, slots=True)
class MediaDecoder:
    """Path and limits of ffmpeg: a recording may take `floor_s` + `per_second` x its duration (seconds)."""

    ffmpeg: str
    floor_s: float = 120.0
    per_second: float = 0.5
    keep_channels: bool = False
    """True if the two channels of a stereo recording are two speakers and stay separate."""
    audio_tracks: str = "auto"
    """Audio tracks to transcribe: `auto`, `first`, `all`, or a number from 1."""
    longest_s: float = media.LONGEST_S
    """Maximum duration in seconds; a longer recording fails."""
    most_s: float = float("inf")
    """Maximum number of seconds for one decoder, whatever the duration of the recording."""
    most_disk: int | None = None
    """Maximum bytes of local disk for one recording; None if only the disk itself is the limit."""

    def limit(self, duration: float | None, size: int) -> float:
        """Return the number of seconds after which a decoder counts as hung; see `media.decode_limit`."""
        limit = media.decode_limit(duration, size, floor_s=self.floor_s, per_second=self.per_second)
        return min(limit, self.most_s)

    def probe_file(self, path: Path, name: str) -> Probe:
        """Check that ffmpeg decodes the first frames of a local file, and return its header; messages call it `name`.

        Raises:
            PermanentFailure: it is empty, not a recording, or without audio.
            TransientFailure: no process can be started.

        """
        return media.probe(f"file:{path}", name, ffmpeg=self.ffmpeg, limit_s=self.limit(0.0, path.stat().st_size))


@dataclass(frozen=True, slots=True)
class Video:
    """Record of a probed recording; `size` and `bytes_read` (by probing and for the poster) are in bytes."""

    key: str
    etag: str
    size: int
    probe: Probe
    has_poster: bool
    bytes_read: int
    version: str = VERSION
    reused: bool = False


def load(store: Store, key: str) -> Video | None:
    """Return the record of the last materialisation, None if there is none that this release can read.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    found = records.load(store, media_keys.video_record(key), Video, VERSION)
    return replace(found, reused=True) if found else None


@records_failure("video")
def materialise(store: Store, key: str, decoder: MediaDecoder) -> Video:
    """Probe the recording and write its poster.

    Raises:
        PermanentFailure: it cannot be decoded, or the store refuses.
        NotFound: the recording does not exist.
        TransientFailure: the store fails, or the recording was replaced while it was read.
        OSError: the temporary files cannot be written.

    """
    source = store.stat(key)
    stored = load(store, key)
    if stored and stored.etag == source.etag:
        return stored
    store.delete(media_keys.video_record(key))
    url = store.media_url(key)
    probe = media.probe(url, key, ffmpeg=decoder.ffmpeg, limit_s=decoder.limit(0.0, source.size))
    poster = _take_picture(store, source, url, probe, decoder)
    if not poster.taken:
        # A previous version of the recording may have left its poster.
        store.delete(media_keys.poster(key), media_keys.thumbnail(key))
    require_unchanged(store, source)
    video = Video(key, source.etag, source.size, probe, poster.taken, probe.bytes_read + poster.bytes_read)
    write(store, media_keys.video_record(key), asdict(video))
    return video


def _take_picture(store: Store, source: MediaObject, url: str, probe: Probe, decoder: MediaDecoder) -> Poster:
    if not probe.has_picture:
        return Poster(taken=False, bytes_read=0)
    at = min((probe.duration or 0.0) * 0.1, LONGEST_LEAD_IN_S)
    limit = decoder.limit(0.0, source.size)
    with temporary.folder() as folder:
        picture, small = folder / "picture.jpg", folder / "small.webp"
        poster = media.poster(url, picture, ffmpeg=decoder.ffmpeg, limit_s=limit, at=at, width=POSTER_WIDTH)
        if not poster.taken:
            return poster
        store.upload(media_keys.poster(source.key), picture)
        if media.thumbnail(picture, small, ffmpeg=decoder.ffmpeg, limit_s=limit, max_bytes=THUMBNAIL_BYTES):
            store.upload(media_keys.thumbnail(source.key), small)
        else:
            store.delete(media_keys.thumbnail(source.key))
    return poster
