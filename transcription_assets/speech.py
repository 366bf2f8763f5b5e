"""Words and their times out of sound: Whisper through faster-whisper, in windows that keep memory flat.

Sound comes in as blocks (float32, mono, 16 kHz). It is cut into windows at pauses; the voiced regions of a window are
packed into chunks of at most 30 s and decoded as a batch. Batched decoding ignores Whisper's own quality thresholds,
so each result is checked against them here, and what fails is decoded once more with the careful sequential decoder.
"""

import ctypes
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from transcription_assets import chunks, loading
from transcription_assets.chunks import Region
from transcription_assets.transcript import Segment, Speech, SpeechModel, Word, settle
from transcription_assets.words import sentence_runs, whole_words

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000
WINDOW_S = 600.0
"""Seconds of sound in memory at once: 38 MB, and enough chunks that the last batch being short does not matter."""
CPU_ENCODES = 2
"""Chunks that the encoder takes at once on a CPU; a GPU takes the whole batch."""
SHORT_CHUNK_S = 6.0
"""Below this the language of one chunk is a guess: such chunks are decoded in the language of the recording."""

# Whisper's own thresholds (openai/whisper transcribe.py): loops compress well, bad guesses have low probability.
COMPRESSION_RATIO_LIMIT = 2.4
LOGPROB_LIMIT = -1.0
NO_SPEECH_LIMIT = 0.6

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """What changes the words: kept in every transcript, and a change of it makes older transcripts stale."""

    language: str = ""
    """ISO 639-1 code; empty = detected, and followed where it changes inside a recording."""
    beam_size: int = 5
    batch_size: int = 8

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Heard:
    """What an engine heard in one recording; times in seconds from its start."""

    segments: tuple[Segment, ...]
    language: str
    language_probability: float
    duration: float
    speech: Speech


class Engine(Protocol):
    """Anything that turns sound into timed words."""

    @property
    def model(self) -> SpeechModel:
        """What is recorded beside every transcript."""
        ...

    @property
    def options(self) -> SpeechOptions:
        """What is recorded beside every transcript."""
        ...

    def transcribe(self, blocks: Iterable[Samples], progress: Callable[[float], None] = ...) -> Heard:
        """Hear the whole recording; `progress` gets the seconds done so far."""
        ...


def _silent(_seconds: float) -> None:
    """Progress that nobody watches."""


class SpareEncoder:
    """Whisper's encoder, sparing: on a CPU it takes a batch in pieces, and it does nothing twice.

    Eight chunks at once need 0.6 GB for their attention alone, and took a quarter more time than two by two, with
    the same result to the bit. The batch that told the language is not encoded again to tell the words.
    """

    def __init__(self, encode: Callable[[Samples], Any], at_once: int) -> None:
        self._encode = encode
        self._at_once = at_once
        self._remembered: tuple[Samples, Any] | None = None

    def remember(self, features: Samples) -> Any:
        """The encoder's answer for `features`, shape (chunks, mels, frames); kept until it is asked for again."""
        encoded = self._in_pieces(features)
        self._remembered = features, encoded
        return encoded

    def __call__(self, features: Samples) -> Any:
        """As the encoder answers, from memory where it can."""
        remembered, self._remembered = self._remembered, None
        if remembered is not None and np.array_equal(remembered[0], features):
            return remembered[1]
        return self._in_pieces(features)

    def _in_pieces(self, features: Samples) -> Any:
        if features.ndim < 3 or len(features) <= self._at_once:  # noqa: PLR2004 -- a single chunk has no batch axis
            return self._encode(features)
        from ctranslate2 import StorageView

        starts = range(0, len(features), self._at_once)
        pieces = [np.asarray(self._encode(features[start : start + self._at_once])) for start in starts]
        return StorageView.from_array(np.concatenate(pieces))


class Whisper:
    """faster-whisper's batched pipeline on windows, with selective repair. Loads its weights at first use, once."""

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        revision: str,
        device: str = "auto",
        compute_type: str = "auto",
        cpu_threads: int = 0,
        options: SpeechOptions | None = None,
    ) -> None:
        self._path = path
        self._device = resolve_device(device)
        self._cpu_threads = cpu_threads
        self._options = options or SpeechOptions()
        self._model = SpeechModel(
            name=name,
            revision=revision,
            compute_type=resolve_compute_type(compute_type, self._device),
            engine="faster-whisper batched, repaired",
        )

    @property
    def model(self) -> SpeechModel:
        """With the compute type that `auto` came to mean."""
        return self._model

    @property
    def options(self) -> SpeechOptions:
        """As they were given."""
        return self._options

    @cached_property
    def _pipeline(self) -> Any:
        with loading.weights.running():
            return self._loaded()

    def _loaded(self) -> Any:
        from faster_whisper import BatchedInferencePipeline, WhisperModel

        model = WhisperModel(
            str(self._path),
            device=self._device,
            compute_type=self._model.compute_type,
            # CTranslate2 would take four at most by itself.
            cpu_threads=self._cpu_threads or os.cpu_count() or 1,
            local_files_only=True,
        )
        on_cpu = self._device == "cpu"
        model.encode = SpareEncoder(model.encode, CPU_ENCODES if on_cpu else self._options.batch_size)
        return BatchedInferencePipeline(model)

    def transcribe(self, blocks: Iterable[Samples], progress: Callable[[float], None] = _silent) -> Heard:
        """Window by window; the language is that of the first window in which somebody speaks."""
        segments: list[Segment] = []
        regions: list[Region] = []
        language, probability = self._options.language, 1.0 if self._options.language else 0.0
        offset = 0.0
        for samples, voiced in windows(blocks):
            chunked = chunks.pack(voiced)
            if chunked and not language:
                language, probability = self._detect(samples, chunked)
            for item in self._decode(samples, chunked, language):
                segments += by_sentence(_shift(item, offset))
            regions += [Region(item.start + offset, item.end + offset) for item in voiced]
            offset += len(samples) / SAMPLE_RATE
            progress(offset)
        give_memory_back()
        settled = settle(segments, offset)
        words = [word for segment in settled for word in segment.words]
        return Heard(settled, language, round(probability, 4), round(offset, 3), chunks.coverage(regions, words))

    def _detect(self, samples: Samples, chunked: Sequence[Region]) -> tuple[str, float]:
        """The language of the recording: its first batch of chunks votes, each chunk with its length."""
        model = self._pipeline.model
        if not model.model.is_multilingual:
            return "en", 1.0
        long, short = _by_length(chunked)
        # The batch that is decoded first: its encoding is remembered, so the language costs next to nothing.
        batch = (long or short)[: self._options.batch_size]
        votes: dict[str, float] = {}
        encoded = model.encode.remember(_features(model, samples, batch))
        for chunk, probabilities in zip(batch, model.model.detect_language(encoded), strict=True):
            for token, probability in probabilities:
                language = token.strip("<|>")
                votes[language] = votes.get(language, 0.0) + probability * chunk.length
        winner = max(votes, key=lambda language: votes[language])
        return winner, votes[winner] / sum(votes.values())

    def _decode(self, samples: Samples, chunked: Sequence[Region], language: str) -> Iterator[Segment]:
        followed = not self._options.language
        long, short = _by_length(chunked)
        for batch, multilingual in ((long, followed), (short, False)):
            if not batch:
                continue
            found, _ = self._pipeline.transcribe(
                samples,
                language=language,
                multilingual=multilingual,
                clip_timestamps=[{"start": chunk.start, "end": chunk.end} for chunk in batch],
                beam_size=self._options.beam_size,
                batch_size=self._options.batch_size,
                word_timestamps=True,
            )
            for segment in map(_segment, found):
                yield from self._checked(segment, samples, batch, None if multilingual else language)

    def _checked(
        self, segment: Segment, samples: Samples, batch: Sequence[Region], language: str | None
    ) -> Iterator[Segment]:
        if is_silence(segment):
            return
        if not is_doubtful(segment):
            yield segment
            return
        chunk = max(batch, key=lambda item: _overlap(item, segment))
        yield from self._repaired(segment, samples, chunk, language)

    def _repaired(self, segment: Segment, samples: Samples, chunk: Region, language: str | None) -> Iterator[Segment]:
        """The chunk through the sequential decoder with its temperature fallback; the better of the two results."""
        found, _ = self._pipeline.model.transcribe(
            _samples(samples, chunk),
            language=language,
            beam_size=self._options.beam_size,
            word_timestamps=True,
            condition_on_previous_text=False,
        )
        again = [_shift(_segment(item, repaired=True), chunk.start) for item in found]
        again = [item for item in again if not is_silence(item)]
        log.info("decoded %.1f-%.1f s again: %r", chunk.start, chunk.end, segment.text[:80])
        if again and all(map(is_doubtful, again)):
            yield segment
        else:
            yield from again


def give_memory_back() -> None:
    """Return what decoding freed to the system: glibc keeps 0.4 GB of it, where the sentence encoder comes on top."""
    with suppress(OSError, AttributeError):  # only glibc has it, and only glibc needs it
        ctypes.CDLL(None).malloc_trim(0)


def is_silence(segment: Segment) -> bool:
    """Whisper's own rule for text that it made up where nobody speaks."""
    return segment.no_speech_prob > NO_SPEECH_LIMIT and segment.avg_logprob < LOGPROB_LIMIT


def is_doubtful(segment: Segment) -> bool:
    """A loop (compresses too well) or a guess (low probability)."""
    return segment.compression_ratio > COMPRESSION_RATIO_LIMIT or segment.avg_logprob < LOGPROB_LIMIT


def by_sentence(segment: Segment) -> list[Segment]:
    """The segment cut at the ends of its sentences: a chunk of 30 s is no line to read."""
    runs = sentence_runs(whole_words(segment.words))
    if len(runs) < 2:  # noqa: PLR2004 -- nothing to cut, and segments without words stay as they are
        return [segment]
    return [
        replace(segment, start=run[0].start, end=run[-1].end, text="".join(word.word for word in run), words=tuple(run))
        for run in runs
    ]


def windows(blocks: Iterable[Samples], window_s: float = WINDOW_S) -> Iterator[tuple[Samples, list[Region]]]:
    """Windows of at most `window_s` seconds (plus one block), cut at pauses, each with its voiced regions.

    Together the windows are exactly the sound that came in; region times are from the start of their window.
    """
    held: list[Samples] = []
    seconds = 0.0
    for block in blocks:
        held.append(block)
        seconds += len(block) / SAMPLE_RATE
        if seconds < window_s:
            continue
        samples = np.concatenate(held)
        voiced = voiced_regions(samples)
        end = round(chunks.cut(voiced, seconds, earliest_s=0.8 * seconds) * SAMPLE_RATE)
        yield samples[:end], _before(voiced, end / SAMPLE_RATE)
        held = [samples[end:].copy()]
        seconds = len(held[0]) / SAMPLE_RATE
    if held and seconds:
        samples = np.concatenate(held)
        yield samples, voiced_regions(samples)


def _before(regions: Iterable[Region], end: float) -> list[Region]:
    return [Region(item.start, min(item.end, end)) for item in regions if item.start < end]


def voiced_regions(samples: Samples) -> list[Region]:
    """Where somebody speaks, by Silero's detector (its weights come with faster-whisper)."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(max_speech_duration_s=chunks.CHUNK_S, min_silence_duration_ms=160)
    found = get_speech_timestamps(samples, options)
    return [Region(item["start"] / SAMPLE_RATE, item["end"] / SAMPLE_RATE) for item in found]


def resolve_device(device: str) -> str:
    """`auto` is the GPU where CTranslate2 sees one."""
    if device != "auto":
        return device
    import ctranslate2

    return "cuda" if ctranslate2.get_cuda_device_count() else "cpu"


def resolve_compute_type(compute_type: str, device: str) -> str:
    """`auto` is what is fast without losing words: float16 on a GPU, int8 on a CPU."""
    if compute_type != "auto":
        return compute_type
    return "float16" if device == "cuda" else "int8"


def _samples(samples: Samples, region: Region) -> Samples:
    return samples[int(region.start * SAMPLE_RATE) : int(region.end * SAMPLE_RATE)]


def _by_length(chunked: Iterable[Region]) -> tuple[list[Region], list[Region]]:
    """The chunks that can tell their own language, and those too short for it."""
    long = [chunk for chunk in chunked if chunk.length >= SHORT_CHUNK_S]
    return long, [chunk for chunk in chunked if chunk.length < SHORT_CHUNK_S]


def _features(model: Any, samples: Samples, batch: Sequence[Region]) -> Samples:
    """What faster-whisper's batched pipeline gives to the encoder for these chunks."""
    from faster_whisper.audio import pad_or_trim

    return np.stack([pad_or_trim(model.feature_extractor(_samples(samples, chunk))[..., :-1]) for chunk in batch])


def _overlap(region: Region, segment: Segment) -> float:
    return min(region.end, segment.end) - max(region.start, segment.start)


def _segment(found: Any, *, repaired: bool = False) -> Segment:
    """As plain Python numbers: faster-whisper's times are numpy's, and an event log takes none of those."""
    words = tuple(
        Word(float(item.start), float(item.end), item.word, float(item.probability)) for item in found.words or ()
    )
    return Segment(
        id=0,
        start=float(found.start),
        end=float(found.end),
        text=found.text,
        words=words,
        avg_logprob=float(found.avg_logprob),
        no_speech_prob=float(found.no_speech_prob),
        compression_ratio=float(found.compression_ratio),
        repaired=repaired,
    )


def _shift(segment: Segment, offset: float) -> Segment:
    words = tuple(replace(word, start=word.start + offset, end=word.end + offset) for word in segment.words)
    return replace(segment, start=segment.start + offset, end=segment.end + offset, words=words)
