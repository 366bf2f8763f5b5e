"""Decoding of recordings with ffmpeg, in a subprocess so that a decoder that crashes or hangs is contained.

A `source` is a local path, `file:` plus an absolute path, or an http(s) URL of a server that supports range requests.
"""

from transcription_assets.media.decoding import (
    MOST_TRACKS,
    Poster,
    decode_limit,
    find_ffmpeg,
    poster,
    probe,
    read_samples,
    thumbnail,
)
from transcription_assets.media.extraction import LONGEST_S, Extraction, extract_speech
from transcription_assets.media.ffmpeg_output import Probe, Track
from transcription_assets.media.ffmpeg_process import SAMPLE_RATE
from transcription_assets.media.tracks import Detector
from transcription_assets.media.truncation import Truncation, find_truncation, is_complete

__all__ = [
    "LONGEST_S",
    "MOST_TRACKS",
    "SAMPLE_RATE",
    "Detector",
    "Extraction",
    "Poster",
    "Probe",
    "Track",
    "Truncation",
    "decode_limit",
    "extract_speech",
    "find_ffmpeg",
    "find_truncation",
    "is_complete",
    "poster",
    "probe",
    "read_samples",
    "thumbnail",
]
