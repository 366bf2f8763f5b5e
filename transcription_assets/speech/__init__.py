"""Speech recognition: the engine protocol, the engine for Whisper models, and that for speech services."""

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
    WindowTask,
    audio_source,
)
from transcription_assets.speech.hardware import (
    Hardware,
    resolve_compute_type,
    resolve_device,
    share_memory,
    usable_cores,
)
from transcription_assets.speech.recognition import transcribe, transcribe_one
from transcription_assets.speech.service import ServiceEngine
from transcription_assets.speech.whisper import VERSION, Whisper
from transcription_assets.speech.windows import DecodedWindow, PlannedWindow

__all__ = [
    "CHANNELS",
    "SAMPLE_RATE",
    "VERSION",
    "AudioSource",
    "DecodedWindow",
    "Engine",
    "Hardware",
    "PlannedWindow",
    "Samples",
    "ServiceEngine",
    "Speakers",
    "SpeechOptions",
    "SpeechResult",
    "Task",
    "Whisper",
    "WindowTask",
    "audio_source",
    "resolve_compute_type",
    "resolve_device",
    "share_memory",
    "transcribe",
    "transcribe_one",
    "usable_cores",
]
