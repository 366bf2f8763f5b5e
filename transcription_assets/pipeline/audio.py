"""Step `audio`: the speech as 16 kHz FLAC (`extracted/<key>.flac`), mono unless two channels are two speakers."""

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transcription_assets import media
from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure, UndecodableSpeech
from transcription_assets.media import Extraction, Probe, Track, Truncation
from transcription_assets.pipeline import records, video, window_plan
from transcription_assets.pipeline.failure_notes import records_failure
from transcription_assets.pipeline.records import require_unchanged, write
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.pipeline.work_queue import WholeRecording
from transcription_assets.speech import vad
from transcription_assets.storage import MediaObject, Store, temporary

VERSION = "3"
TOLERANCE = 0.02
TOLERANCE_FLOOR_S = 1.0
TYPICAL_S = 600.0
"""Length of a recording that does not state it, for its share of the work only."""
EMBEDDED_DATA = "some of its sound is compressed data, heard as noise: the file seems to be damaged"
"""Warning about samples that are the bytes of another FLAC."""
STEREO = ("stereo", "2 channels")
"""Layout names of two channels that may be two speakers."""


@dataclass(frozen=True, slots=True)
class Audio:
    """Record of the extracted speech; durations in seconds, `container_duration` is the one that the file states.

    `sha256` of the FLAC identifies the sound: extraction gives the same bytes for the same sound in any file. Sample 0
    of the FLAC is second 0 of the transcript; its timestamp in the container is `container_start` (seconds).
    `original_is_exact` is False if a browser that plays the original may be at another second than it displays, or
    plays other tracks, so that the FLAC should be played instead.

    `level_db` is the loudness before `gain_db` was applied, None for digital silence. `tracks` are the numbers (from 1)
    of the audio tracks that were used, of `track_count`; `audio_tracks` is the setting that chose them.
    `cancelled_s` is the number of seconds in which an ordinary mix would have cancelled the channels. `truncation` is
    set if the file is truncated; `complete` is True if the container states where it ends and the file reaches that.
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
    level_db: float | None = None
    gain_db: float = 0.0
    tracks: tuple[int, ...] = (1,)
    track_count: int = 1
    audio_tracks: str = "auto"
    cancelled_s: float = 0.0
    truncation: Truncation | None = None
    complete: bool = False
    version: str = VERSION
    reused: bool = False

    @property
    def is_whole(self) -> bool:
        """True if the file is not truncated, and no less was decoded than the container states.

        2 % of the stated duration, at least 1 s, may be missing. A complete file that was decoded without a warning may
        have less sound than picture.
        """
        return not self.shortfall

    @property
    def shortfall(self) -> str:
        """Reason why this seems to be only a part of a recording, empty if it is whole."""
        if self.truncation is not None:
            verdict = "it was cut off" if self.truncation.certain else "it may have been cut off"
            return f"{verdict}: {self.truncation.reason}; copy or upload it again"
        promised = self.container_duration
        if self.complete and not self.warnings:
            return ""
        if promised is None or self.duration >= promised - max(TOLERANCE_FLOOR_S, TOLERANCE * promised):
            return ""
        return f"{self.duration:.1f} s of the {promised:.1f} s that the file promises were decoded"


def load(store: Store, key: str) -> Audio | None:
    """Return the record of the last materialisation, None if there is none that this release can read.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    found = records.load(store, media_keys.audio_record(key), Audio, VERSION)
    return replace(found, reused=True) if found else None


@records_failure("audio")
def materialise(store: Store, key: str, decoder: MediaDecoder) -> Audio:
    """Extract the speech of a recording that `video` has probed.

    Raises:
        PermanentFailure: it cannot be decoded, is too long or needs too much disk, `video` has not probed this version,
            or the store refuses.
        NotFound: the recording does not exist.
        TransientFailure: the store or the disk fails, or the recording was replaced while it was read.
        OSError: the temporary files cannot be created or read.

    """
    source = store.stat(key)
    seen = video.load(store, key)
    channels = channel_count(seen.probe, decoder) if seen else 1
    known = _current(store, source, seen, decoder)
    if known is not None and _is_planned(store, known, decoder):
        return known
    if seen is None:
        raise PermanentFailure(f"{key}: `video` has not looked at it with this release; materialise `video` first")
    if seen.etag != source.etag:
        raise PermanentFailure(f"{key} was replaced after `video` looked at it; its new version starts with `video`")
    chosen_tracks(seen.probe, decoder.audio_tracks, key)  # fails before the record is deleted
    store.delete(media_keys.audio_record(key))
    with temporary.folder() as folder:
        flac = folder / "speech.flac"
        extraction, plan = extract(
            store.media_url(key), flac, seen.probe, decoder, name=key, size=source.size, channels=channels
        )
        found = media.find_truncation(partial(store.read_media, key), source.size)
        truncation = found if found and found.certain else extraction.truncation or found
        complete = media.is_complete(partial(store.read_media, key), source.size)
        require_unchanged(store, source)
        store.upload(media_keys.flac(key), flac)
    window_plan.write(store, key, plan)
    about = _described(extraction, seen.probe) | {"truncation": truncation, "complete": complete}
    audio = Audio(key, source.etag, plan.sound, channels=channels, audio_tracks=decoder.audio_tracks, **about)
    write(store, media_keys.audio_record(key), asdict(audio))
    return audio


def _is_planned(store: Store, known: Audio, decoder: MediaDecoder) -> bool:
    """Return whether the extracted audio has a window plan or one could be made; False if it cannot be decoded."""
    try:
        window_plan.ensure(
            store, known.key, known.sha256, channels=known.channels, duration=known.duration, ffmpeg=decoder.ffmpeg
        )
    except UndecodableSpeech:
        return False
    return True


def extract(
    source: str,
    flac: Path,
    probe: Probe,
    decoder: MediaDecoder,
    *,
    name: str,
    size: int,
    channels: int,
    window_s: float | None = None,
) -> tuple[Extraction, window_plan.WindowPlan]:
    """Write the speech of a probed recording of `size` bytes to `flac`, and plan its windows of at most `window_s`.

    A FLAC that cannot be decoded to its length is written again with dither; see `media.extract_speech`.

    Raises:
        PermanentFailure: it cannot be decoded, is too long, needs too much disk, or lacks the track of the settings.
        NotFound: it does not exist.
        TransientFailure: the store or the disk fails.
        OSError: the temporary files cannot be created or read.

    """

    def attempt(*, dither: bool) -> tuple[Extraction, window_plan.WindowPlan]:
        extraction = media.extract_speech(
            source,
            flac,
            name=name,
            ffmpeg=decoder.ffmpeg,
            limit_s=decoder.limit(probe.duration, size),
            size=size,
            channels=channels,
            tracks=chosen_tracks(probe, decoder.audio_tracks, name),
            detector=_voices if decoder.audio_tracks == "auto" else None,
            longest_s=decoder.longest_s,
            most_disk=decoder.most_disk,
            dither=dither,
        )
        with flac.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        plan = window_plan.make(
            str(flac),
            digest,
            channels=channels,
            duration=extraction.duration,
            ffmpeg=decoder.ffmpeg,
            window_s=window_s,
        )
        return extraction, plan

    try:
        return attempt(dither=False)
    except UndecodableSpeech:
        extraction, plan = attempt(dither=True)
        return replace(extraction, warnings=(*extraction.warnings, EMBEDDED_DATA)), plan


def pending(store: Store, key: str, decoder: MediaDecoder) -> WholeRecording | None:
    """Return what is to be extracted, for workers; None if the speech of this version is in the store.

    Raises:
        NotFound: the recording does not exist.
        TranscriptionError: the store refuses or does not answer.

    """
    source, seen = store.stat(key), video.load(store, key)
    if _current(store, source, seen, decoder) is not None:
        return None
    length = seen.probe.duration if seen and seen.probe.duration else TYPICAL_S
    return WholeRecording(key, f"audio|{source.etag}|{options(decoder)}", length)


def options(decoder: MediaDecoder) -> dict[str, Any]:
    """Return the options that the result depends on, as values for JSON."""
    return {
        "keep_channels": decoder.keep_channels,
        "audio_tracks": decoder.audio_tracks,
        "longest_s": decoder.longest_s,
        "version": VERSION,
    }


def channel_count(probe: Probe, decoder: MediaDecoder) -> int:
    """Return the number of channels to extract: 2 if they may be two speakers, and are to be kept apart."""
    return 2 if decoder.keep_channels and probe.channels in STEREO else 1


def _current(store: Store, source: MediaObject, seen: video.Video | None, decoder: MediaDecoder) -> Audio | None:
    """Return the record if it is of this version of the recording and of the decoder's options, and the FLAC exists."""
    known = load(store, source.key)
    if known is None or known.etag != source.etag or not store.exists(media_keys.flac(source.key)):
        return None
    channels = channel_count(seen.probe, decoder) if seen else 1
    same_tracks = known.track_count == 1 or known.audio_tracks == decoder.audio_tracks
    return known if same_tracks and known.channels == channels else None


def chosen_tracks(probe: Probe, setting: str, key: str) -> list[Track]:
    """Return the tracks to decode: without those of unknown codecs, and at most MOST_TRACKS.

    Raises:
        PermanentFailure: the setting names a track that the recording does not have.

    """
    known = [track for track in probe.tracks if track.codec != "none"]
    if setting == "first":
        return known[:1]
    if setting.isdigit():
        if (chosen := [track for track in known if track.number == int(setting) - 1]) == []:
            raise PermanentFailure(
                f"{key}: it has no audio track {setting}, only {len(probe.tracks)}; correct TRANSCRIPTION_AUDIO_TRACKS"
            )
        return chosen
    return known[: media.MOST_TRACKS]


def _voices(samples: NDArray[np.float32]) -> list[tuple[float, float]]:
    return [(region.start, region.end) for region in vad.voiced_regions(samples)]


def _described(extraction: Extraction, probe: Probe) -> dict[str, Any]:
    """Return the fields of the record that describe the extraction."""
    is_first = extraction.tracks == (0,)
    return {
        "duration": extraction.duration,
        "container_duration": probe.promised_s,
        "warnings": extraction.warnings,
        "bytes_read": extraction.bytes_read,
        "container_start": probe.start,
        "original_is_exact": probe.seeks_exactly and extraction.continuous and is_first,
        "level_db": extraction.level_db,
        "gain_db": extraction.gain_db,
        "tracks": tuple(number + 1 for number in extraction.tracks),
        "track_count": max(probe.audio_tracks, 1),
        "cancelled_s": extraction.rescued_s,
    }
