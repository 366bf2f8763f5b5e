"""Speech recognition: the engine protocol and the engine for Whisper models."""

from transcription_assets.speech.decoded_window import DecodedWindow
from transcription_assets.speech.engine import (
    CHANNELS,
    SAMPLE_RATE,
    AudioSource,
    Engine,
    Samples,
    Speakers,
    SpeechOptions,
    SpeechResult,
    Task,
    WindowId,
    audio_source,
    transcribe_one,
)
from transcription_assets.speech.hardware import (
    Hardware,
    resolve_compute_type,
    resolve_device,
    share_memory,
    usable_cores,
)
from transcription_assets.speech.whisper import VERSION, Whisper

__all__ = [
    "CHANNELS",
    "SAMPLE_RATE",
    "VERSION",
    "AudioSource",
    "DecodedWindow",
    "Engine",
    "Hardware",
    "Samples",
    "Speakers",
    "SpeechOptions",
    "SpeechResult",
    "Task",
    "Whisper",
    "WindowId",
    "audio_source",
    "resolve_compute_type",
    "resolve_device",
    "share_memory",
    "transcribe_one",
    "usable_cores",
]
