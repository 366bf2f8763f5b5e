"""audio: what can be heard, as 16 kHz FLAC (`extracted/<key>.flac`), mono unless two channels are two speakers."""

import hashlib
from dataclasses import asdict, dataclass

from transcription_assets import keys, media, temporary
from transcription_assets.failures import PermanentFailure
from transcription_assets.steps import video
from transcription_assets.steps.failure import noted
from transcription_assets.steps.record import read, require_unchanged, write
from transcription_assets.steps.video import Decoder
from transcription_assets.storage import Store

VERSION = "2"
TOLERANCE = 0.02
TOLERANCE_FLOOR_S = 1.0
STEREO = ("stereo", "2 channels")
"""What the probe calls two channels that may be two speakers."""


@dataclass(frozen=True, slots=True)
class Audio:
    """The extracted speech; lengths in seconds, `container_duration` is what the file itself claims.

    `sha256` of the FLAC is the name of what is heard: extraction gives the same bytes for the same sound, in whatever
    file it comes. Sample 0 of the FLAC is at second 0 of the transcript; the container gives it the timestamp
    `container_start` (seconds). `original_is_exact` is false where a browser that plays the original may be at
    another second than its clock says, so that the FLAC should be played instead.
    """

    key: str
    etag: str
    sha256: str
    duration: float
    container_duration: float | None
    warnings: tuple[str, ...]
    bytes_read: int
    channels: int = 1
    container_start: float = 0.0
    original_is_exact: bool = True
    version: str = VERSION
    reused: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether as much was decoded as the container promises (2 %, at least a second, is not worth a word)."""
        if self.container_duration is None:
            return True
        allowed = max(TOLERANCE_FLOOR_S, TOLERANCE * self.container_duration)
        return abs(self.duration - self.container_duration) <= allowed


def load(store: Store, key: str) -> Audio | None:
    """The record of the last materialisation, if there is one that this release understands."""
    document = read(store, keys.audio_record(key), VERSION)
    return Audio(**document | {"warnings": tuple(document["warnings"]), "reused": True}) if document else None


@noted("audio")
def materialise(store: Store, key: str, decoder: Decoder) -> Audio:
    """Extract the speech of the recording that `video` looked at."""
    source = store.stat(key)
    known = load(store, key)
    seen = video.load(store, key)
    channels = 2 if decoder.keep_channels and seen and seen.probe.channels in STEREO else 1
    if known and known.etag == source.etag and known.channels == channels and store.exists(keys.flac(key)):
        return known
    if seen is None:
        raise PermanentFailure(f"{key}: `video` has not looked at it yet; materialise `video` first")
    if seen.etag != source.etag:
        raise PermanentFailure(f"{key} was replaced after `video` looked at it; its new version starts with `video`")
    store.delete(keys.audio_record(key))
    with temporary.folder() as folder:
        flac = folder / "speech.flac"
        extraction = media.extract_speech(
            store.media_url(key),
            flac,
            name=key,
            ffmpeg=decoder.ffmpeg,
            limit_s=decoder.limit(seen.probe.duration, source.size),
            size=source.size,
            channels=channels,
        )
        require_unchanged(store, source)
        with flac.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        store.upload(keys.flac(key), flac)
    audio = Audio(
        key,
        source.etag,
        digest,
        extraction.duration,
        seen.probe.duration,
        extraction.warnings,
        extraction.bytes_read,
        channels,
        container_start=seen.probe.start,
        original_is_exact=seen.probe.seeks_exactly,
    )
    write(store, keys.audio_record(key), asdict(audio))
    return audio
