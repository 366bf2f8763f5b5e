"""Construction of the speech engine and the encoders from plain values, for the commands and for Dagster."""

from collections.abc import Callable
from typing import Protocol

from transcription_assets.embedding import Encoder, Prompts, SentenceEncoder
from transcription_assets.embedding.api import ApiEncoder
from transcription_assets.embedding.profiles import profile
from transcription_assets.models import Located
from transcription_assets.speech import Engine, Hardware, Speakers, SpeechOptions, Task, Whisper

Locate = Callable[[str, str], Located]
"""Function that finds (or pulls) a model by name and kind; raises PermanentFailure if it cannot."""


class WhisperSettings(Protocol):
    """Configuration of Whisper; implemented by the settings and by Dagster's resource."""

    @property
    def device(self) -> str:
        """`auto`, `cpu` or `cuda`."""
        ...

    @property
    def compute_type(self) -> str:
        """`auto`, or a compute type of CTranslate2."""
        ...

    @property
    def device_index(self) -> str:
        """Numbers of the GPUs, such as `0,1`."""
        ...

    @property
    def cpu_threads(self) -> int:
        """Threads of the decoder; 0 = all cores."""
        ...

    @property
    def workers(self) -> int:
        """Batches decoded at the same time; 0 = automatic."""
        ...

    @property
    def batch_size(self) -> int:
        """Chunks decoded together; 0 = automatic."""
        ...

    @property
    def language(self) -> str:
        """Language code; empty = detected."""
        ...

    @property
    def beam_size(self) -> int:
        """Beam size of the decoder."""
        ...

    @property
    def task(self) -> Task:
        """Transcription or translation."""
        ...

    @property
    def speakers(self) -> Speakers:
        """Mixed, or one per channel."""
        ...


def build_whisper(located: Located, chosen: WhisperSettings) -> Engine:
    """Build the speech engine.

    Raises:
        ValueError: `chosen.device_index` is not a list of numbers separated by commas.

    """
    return Whisper(
        located.path,
        name=located.name,
        revision=located.revision,
        hardware=Hardware(
            device=chosen.device,
            compute_type=chosen.compute_type,
            cpu_threads=chosen.cpu_threads,
            workers=chosen.workers,
            batch_size=chosen.batch_size,
            devices=tuple(map(int, chosen.device_index.split(","))),
        ),
        options=SpeechOptions(chosen.language, chosen.beam_size, chosen.task, chosen.speakers),
    )


def build_encoder(locate: Locate, name: str, device: str) -> Encoder:
    """Build the sentence encoder that runs on this machine.

    Raises:
        TranscriptionError: the model cannot be located.

    """
    located = locate(name, "encoder")
    return SentenceEncoder(
        located.path,
        name=located.name,
        revision=located.revision,
        device=device,
        prompts=_prompts(located.name),
    )


def build_api_encoder(url: str, name: str, key: str, dollars_per_million: float) -> Encoder:
    """Build the sentence encoder of a service.

    Raises:
        PermanentFailure: `key` holds characters that are not allowed in an HTTP header.

    """
    return ApiEncoder(url, name, key=key, dollars_per_million=dollars_per_million, prompts=_prompts(name))


def _prompts(name: str) -> Prompts:
    known = profile(name)
    return Prompts(known.query, known.passage, known.weak_below)
