"""Requirements for a file that lands in the inbox, whatever its source."""

from pathlib import Path

from transcription_assets import media
from transcription_assets.media import Probe
from transcription_assets.pipeline.video import MediaDecoder


def require_recording(path: Path, name: str, decoder: MediaDecoder) -> Probe:
    """Check that ffmpeg decodes the first frames of a local file, and return its header; messages call it `name`.

    Raises:
        PermanentFailure: it is empty, not a recording, or without audio.
        TransientFailure: no process can be started.

    """
    limit_s = decoder.limit(0.0, path.stat().st_size)
    return media.probe(f"file:{path}", name, ffmpeg=decoder.ffmpeg, limit_s=limit_s)
