"""What recognises and what understands, made out of plain values: one place for both doors."""

from collections.abc import Callable
from typing import Protocol

from transcription_assets.embedding import Encoder, Prompts, SentenceEncoder
from transcription_assets.embedding.api import ApiEncoder
from transcription_assets.models import Located
from transcription_assets.models.encoders import profile
from transcription_assets.speech import Engine, Hardware, Speakers, SpeechOptions, Task, Whisper

Locate = Callable[[str, str], Located]
"""Finds (or pulls) a model by name and kind; PermanentFailure where it is not to be had."""


class Hearing(Protocol):
    """How Whisper is to work; the settings say it, and the resource of the graph."""

    @property
    def device(self) -> str:
        """`auto`, `cpu` or `cuda`."""
        ...

    @property
    def compute_type(self) -> str:
        """`auto`, or one that CTranslate2 knows."""
        ...

    @property
    def device_index(self) -> str:
        """Numbers of the GPUs, as in `0,1`."""
        ...

    @property
    def cpu_threads(self) -> int:
        """0 = all cores."""
        ...

    @property
    def workers(self) -> int:
        """0 = found out."""
        ...

    @property
    def batch_size(self) -> int:
        """0 = found out."""
        ...

    @property
    def language(self) -> str:
        """Empty = detected."""
        ...

    @property
    def beam_size(self) -> int:
        """Of the decoder."""
        ...

    @property
    def task(self) -> Task:
        """Transcribe or translate."""
        ...

    @property
    def speakers(self) -> Speakers:
        """Mixed, or one a channel."""
        ...


def whisper(located: Located, chosen: Hearing) -> Engine:
    """The speech engine."""
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


def encoder(locate: Locate, name: str, device: str) -> Encoder:
    """The sentence encoder that calculates here."""
    located = locate(name, "encoder")
    return SentenceEncoder(
        located.path,
        name=located.name,
        revision=located.revision,
        device=device,
        prompts=_prompts(located.name),
    )


def service(url: str, name: str, key: str, dollars_per_million: float) -> Encoder:
    """The sentence encoder of a service."""
    return ApiEncoder(url, name, key=key, dollars_per_million=dollars_per_million, prompts=_prompts(name))


def _prompts(name: str) -> Prompts:
    known = profile(name)
    return Prompts(known.query, known.passage, known.weak_below)
