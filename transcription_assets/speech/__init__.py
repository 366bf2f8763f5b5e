"""Speech recognition: the engine protocol and the engine for Whisper models."""

from transcription_assets.speech.decoded_window import Window
from transcription_assets.speech.engine import (
    CHANNELS,
    SAMPLE_RATE,
    Engine,
    Heard,
    Place,
    Samples,
    Sound,
    Speakers,
    SpeechOptions,
    Task,
    hear_one,
    sound,
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
    "Engine",
    "Hardware",
    "Heard",
    "Place",
    "Samples",
    "Sound",
    "Speakers",
    "SpeechOptions",
    "Task",
    "Whisper",
    "Window",
    "hear_one",
    "resolve_compute_type",
    "resolve_device",
    "share_memory",
    "sound",
    "usable_cores",
]
