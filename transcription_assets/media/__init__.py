"""Decoding with ffmpeg in a subprocess, so that a crash or a hang of a decoder stays there.

A `source` is a local path, `file:` plus an absolute path, or an http(s) URL that supports ranges.
"""

from transcription_assets.media.decoding import (
    SAMPLE_RATE,
    Extraction,
    Poster,
    decode_limit,
    extract_speech,
    find_ffmpeg,
    poster,
    probe,
    read_samples,
    thumbnail,
)
from transcription_assets.media.report import Probe

__all__ = [
    "SAMPLE_RATE",
    "Extraction",
    "Poster",
    "Probe",
    "decode_limit",
    "extract_speech",
    "find_ffmpeg",
    "poster",
    "probe",
    "read_samples",
    "thumbnail",
]
