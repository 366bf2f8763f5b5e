"""Preparation of an upload for decoding: extracted speech with its windows, as the step `audio` makes them."""

from dataclasses import dataclass
from pathlib import Path

from transcription_assets import media
from transcription_assets.pipeline import audio, window_plan
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.speech.recognition import WindowJob, window_jobs

STREAMED_WINDOW_S = 60.0
"""Maximum length of a window whose text is streamed; the first words of a long recording come after one window."""


@dataclass(frozen=True, slots=True)
class PreparedRecording:
    """The windows of a recording by channel and time, and the number of its channels."""

    jobs: tuple[WindowJob, ...]
    channels: int
    duration: float


def prepare(
    upload: Path, name: str, decoder: MediaDecoder, vocabulary: tuple[str, ...], *, streamed: bool
) -> PreparedRecording:
    """Extract the speech of an upload into its folder, and plan its windows; messages call it `name`.

    Raises:
        PermanentFailure: it is no recording, cannot be decoded, or is too long.
        TransientFailure: the disk fails, or no process can be started.
        OSError: the temporary files cannot be created or read.

    """
    size = upload.stat().st_size
    probe = media.probe(str(upload), name, ffmpeg=decoder.ffmpeg, limit_s=decoder.limit(0.0, size))
    flac = upload.with_name("speech.flac")
    channels = audio.channel_count(probe, decoder)
    extraction, plan = audio.extract(
        str(upload),
        flac,
        probe,
        decoder,
        name=name,
        size=size,
        channels=channels,
        window_s=STREAMED_WINDOW_S if streamed else None,
    )
    upload.unlink()
    source = window_plan.audio_source(str(flac), len(plan.channels), decoder.ffmpeg, vocabulary)
    jobs = window_jobs(upload.parent.name, source, plan.channels)
    return PreparedRecording(tuple(jobs), len(plan.channels), extraction.duration)
