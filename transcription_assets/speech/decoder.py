"""Decoding of a batch of chunks with Whisper: features, encoder, language detection, decoder, word times.

It uses the model of faster-whisper without its batched pipeline, which pads each chunk to 30 s, encodes twice to detect
the language, and decodes every chunk with all beams.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from transcription_assets.domain.chunking import Region, clip_regions
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets.speech.engine import SAMPLE_RATE, Samples, SpeechOptions
from transcription_assets.speech.languages import Probabilities
from transcription_assets.speech.quality import compression_ratio, is_loop

SURE_LOGPROB = -0.12
"""Mean log-probability from which a greedy result is accepted: more beams would give the same (decision 13)."""
PADDING_S = 1.0
"""Silence after the longest chunk of a batch: without it, the model continues after the last word."""
SHORTEST_S = 1.0
LONGEST_WORD_S = 1.4
FRAMES_PER_S = 100
LEAD_S = 0.06
"""Median lead of Whisper's word times over the true ones in running speech (docs/benchmarks/README.md, word onsets)."""
ENCODED_PER_S = 50
SLICE_S = 3.0
"""Long enough to detect a language, short enough to be filled by a sentence in another one."""
TOKENS_PER_S = 25
"""Several times the rate of the fastest speaker, also in scripts with three tokens per character."""
FEWEST_TOKENS = 40

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most 30 s of audio that are decoded together: samples (mono, 16 kHz) and voiced regions, from its start."""

    samples: Samples
    voiced: tuple[Region, ...]
    vocabulary: tuple[str, ...] = ()

    @property
    def length(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def voiced_s(self) -> float:
        """Voiced time in seconds."""
        return sum(region.length for region in self.voiced)

    def part(self, span: Region) -> "Chunk":
        """Return the part inside `span` (seconds from the start of this chunk)."""
        samples = self.samples[int(span.start * SAMPLE_RATE) : int(span.end * SAMPLE_RATE)]
        return Chunk(samples, tuple(clip_regions(self.voiced, span)), self.vocabulary)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Result for one chunk: its segment (times from the chunk's start), and the detected languages."""

    segment: Segment
    languages: Probabilities
    slices: Sequence[tuple[int, Probabilities]] = ()
    """Languages of slices of SLICE_S, by the index of their voiced region; empty if the language is fixed."""


Choose = Callable[[int, Probabilities], tuple[str, float]]
"""Function that chooses the language of the chunk with this index, given its probabilities."""


class ChunkDecoder:
    """Decoder of batches with one faster-whisper model; thread-safe."""

    def __init__(self, model: Any, options: SpeechOptions, encode_at_once: int) -> None:
        self.model = model
        self._options = options
        self._encode_at_once = encode_at_once
        self._multilingual = bool(model.model.is_multilingual)

    def with_options(self, options: SpeechOptions) -> "ChunkDecoder":
        """Return a decoder with the same model and other options."""
        return ChunkDecoder(self.model, options, self._encode_at_once)

    def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
        """Return one result for each chunk, in the same order; all must have the same vocabulary.

        Raises:
            RuntimeError: CTranslate2 failed, for example because the GPU is out of memory.

        """
        features = self._features(batch)
        encoded = self._encode(features)
        heard = self._languages(encoded, len(batch))
        chosen = [choose(number, probabilities) for number, probabilities in enumerate(heard)]
        slices = self._slice_languages(encoded, batch)
        longest = max(chunk.length for chunk in batch)
        hypotheses = self._generate(encoded, [language for language, _ in chosen], batch[0].vocabulary, longest)
        words = self._words(encoded, hypotheses, [language for language, _ in chosen], batch)
        return [
            Decoded(_segment(hypothesis, spoken, self._known(language), chunk), probabilities, parts)
            for hypothesis, spoken, language, chunk, probabilities, parts in zip(
                hypotheses, words, chosen, batch, heard, slices, strict=True
            )
        ]

    def tell_languages(self, batch: Sequence[Chunk]) -> list[Probabilities]:
        """Return the languages of each chunk, in the same order.

        Raises:
            RuntimeError: CTranslate2 failed.

        """
        return self._languages(self._encode(self._features(batch)), len(batch))

    def in_language(self, batch: Sequence[Chunk], language: str) -> list[Segment]:
        """Decode all chunks in one language.

        Raises:
            RuntimeError: CTranslate2 failed.

        """
        decoded = self.decode(batch, lambda _number, own: (language, dict(own).get(language, 0.0)))
        return [item.segment for item in decoded]

    def no_speech(self, batch: Sequence[Chunk]) -> list[float]:
        """Return Whisper's no-speech probability for each chunk, from a single decoder step.

        Raises:
            RuntimeError: CTranslate2 failed.

        """
        prompts = self._prompts(["en"] * len(batch), ())
        results = self.model.model.generate(
            self._encode(self._features(batch)),
            prompts,
            beam_size=1,
            max_length=len(prompts[0]) + 1,
            return_no_speech_prob=True,
        )
        return [float(result.no_speech_prob) for result in results]

    def careful(self, chunk: Chunk, language: str) -> list[Segment]:
        """Decode the chunk with faster-whisper's sequential decoder and its fallback to higher temperatures.

        Raises:
            RuntimeError: CTranslate2 failed.

        """
        if len(chunk.samples) < 0.1 * SAMPLE_RATE:
            return []
        found, _ = self.model.transcribe(
            chunk.samples,
            language=language if self._multilingual else "en",
            task=self._options.task,
            beam_size=max(self._options.beam_size, 5),
            word_timestamps=True,
            condition_on_previous_text=False,
            hotwords=", ".join(chunk.vocabulary) or None,
        )
        return [plain(item) for item in found]

    def _features(self, batch: Sequence[Chunk]) -> Samples:
        """Return features, shape (chunks, mels, frames): an even number of frames for the longest chunk and padding."""
        extractor = self.model.feature_extractor
        longest = max(SHORTEST_S, *(chunk.length for chunk in batch))
        seconds = min(longest + PADDING_S, extractor.chunk_length)
        length = int(seconds * SAMPLE_RATE) // (2 * extractor.hop_length) * 2 * extractor.hop_length
        padded = [np.pad(chunk.samples[:length], (0, max(0, length - len(chunk.samples)))) for chunk in batch]
        features: Samples = np.stack([extractor(samples)[..., :-1] for samples in padded])
        return features

    def _encode(self, features: Samples) -> Any:
        """Encode in pieces: on a CPU, eight chunks at once need 0.6 GB for attention alone and take 25 % longer."""
        from ctranslate2 import StorageView

        step = self._encode_at_once
        if len(features) <= step:
            return self.model.encode(features)
        pieces = [_array(self.model.encode(features[at : at + step])) for at in range(0, len(features), step)]
        return StorageView.from_array(np.concatenate(pieces))

    def _languages(self, encoded: Any, count: int) -> list[Probabilities]:
        if not self._multilingual:
            return [[("en", 1.0)]] * count
        if self._options.language:
            return [[(self._options.language, 1.0)]] * count
        found = self.model.model.detect_language(encoded)
        return [[(token.strip("<|>"), float(probability)) for token, probability in item] for item in found]

    def _slice_languages(self, encoded: Any, batch: Sequence[Chunk]) -> list[list[tuple[int, Probabilities]]]:
        """Detect the language of slices of each region from the encoder output, at 2 % of the cost of encoding."""
        from ctranslate2 import StorageView

        found: list[list[tuple[int, Probabilities]]] = [[] for _ in batch]
        if not self._multilingual or self._options.language:
            return found
        size = int(SLICE_S * ENCODED_PER_S)
        places = [
            (number, region, start)
            for number, chunk in enumerate(batch)
            for region, start in slice_starts(chunk, int(chunk.length * ENCODED_PER_S) - size)
        ]
        if not places:
            return found
        array = _array(encoded)
        slices = np.ascontiguousarray(np.stack([array[number, start : start + size] for number, _, start in places]))
        told = self._languages(StorageView.from_array(slices), len(places))
        for (number, region, _), probabilities in zip(places, told, strict=True):
            found[number].append((region, probabilities))
        return found

    def _known(self, language: tuple[str, float]) -> tuple[str, float]:
        """Return the language, with probability 0 for an English-only model, which cannot detect languages."""
        return language if self._multilingual else (language[0], 0.0)

    def _tokenizer(self, language: str) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        task = self._options.task
        return Tokenizer(self.model.hf_tokenizer, self._multilingual, task=task, language=language)

    def _generate(
        self, encoded: Any, languages: Sequence[str], vocabulary: tuple[str, ...], seconds: float
    ) -> list["Hypothesis"]:
        """Decode greedily first, then again with all beams where the result is not `sure`."""
        prompts = self._prompts(languages, vocabulary)
        beams = self._options.beam_size
        found = self._search(encoded, prompts, 1, seconds)
        again = [number for number, item in enumerate(found) if beams > 1 and not item.sure]
        if again:
            some = encoded if len(again) == len(found) else _picked(encoded, again)
            better = self._search(some, [prompts[number] for number in again], beams, seconds)
            for number, item in zip(again, better, strict=True):
                found[number] = item
        return found

    def _prompts(self, languages: Sequence[str], vocabulary: tuple[str, ...]) -> list[list[int]]:
        hint = ", ".join(vocabulary) or None
        made = {
            language: self.model.get_prompt(self._tokenizer(language), [], without_timestamps=True, hotwords=hint)
            for language in set(languages)
        }
        return [list(made[language]) for language in languages]

    def _search(self, encoded: Any, prompts: list[list[int]], beams: int, seconds: float) -> list["Hypothesis"]:
        from faster_whisper.transcribe import get_suppressed_tokens

        tokenizer = self._tokenizer("en")
        results = self.model.model.generate(
            encoded,
            prompts,
            beam_size=beams,
            # A loop in a chunk of 3 s would continue to the limit of 448 tokens, which is meant for 30 s.
            max_length=min(self.model.max_length, len(prompts[0]) + FEWEST_TOKENS + int(seconds * TOKENS_PER_S)),
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [_hypothesis(result, tokenizer) for result in results]

    def _words(
        self, encoded: Any, hypotheses: Sequence["Hypothesis"], languages: Sequence[str], batch: Sequence[Chunk]
    ) -> list[tuple[Word, ...]]:
        """Return words with times and probabilities; aligned by language, which determines how tokens form words."""
        words: list[tuple[Word, ...]] = [()] * len(batch)
        spoken = [number for number, item in enumerate(hypotheses) if item.tokens]
        for language, members in groupby(sorted(spoken, key=lambda number: languages[number]), languages.__getitem__):
            group = list(members)
            some = encoded if len(group) == len(batch) else _picked(encoded, group)
            frames = [round(batch[number].length * FRAMES_PER_S) // 2 * 2 for number in group]
            found = self.model.find_alignment(
                self._tokenizer(language), [hypotheses[number].tokens for number in group], some, frames
            )
            for number, alignment in zip(group, found, strict=True):
                words[number] = tuple(_timed(alignment, batch[number].length))
        return words


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Decoder output for one chunk."""

    tokens: list[int]
    text: str
    avg_logprob: float
    no_speech_prob: float

    @property
    def sure(self) -> bool:
        """True if the result is accepted without a beam search."""
        return self.avg_logprob >= SURE_LOGPROB and not is_loop(self.text)


def slice_starts(chunk: Chunk, last: int) -> list[tuple[int, int]]:
    """Return (region, start) of the slices of a chunk; starts in encoder frames, in [0, last].

    There is one in the middle of each voiced region, or one at each end of a clearly longer region. A chunk with fewer
    than two regions has one language, so it gets no slices.
    """
    regions = [(number, region) for number, region in enumerate(chunk.voiced) if region.length >= SLICE_S / 2]
    if last <= 0 or len(regions) < 2:  # noqa: PLR2004
        return []
    places: list[tuple[int, float]] = []
    for number, region in regions:
        if region.length > 1.4 * SLICE_S:
            places += [(number, region.start), (number, region.end - SLICE_S)]
        else:
            places.append((number, (region.start + region.end - SLICE_S) / 2))
    return [(number, min(max(round(second * ENCODED_PER_S), 0), last)) for number, second in places]


def _hypothesis(result: Any, tokenizer: Any) -> Hypothesis:
    tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
    length = len(result.sequences_ids[0])
    # CTranslate2's score is the mean over the tokens; Whisper counts the end-of-text token as well.
    logprob = result.scores[0] * length / (length + 1)
    return Hypothesis(tokens, tokenizer.decode(tokens), float(logprob), float(result.no_speech_prob))


def _picked(encoded: Any, numbers: Sequence[int]) -> Any:
    """Return these chunks of an encoder output."""
    from ctranslate2 import StorageView

    return StorageView.from_array(np.ascontiguousarray(_array(encoded)[list(numbers)]))


def _array(encoded: Any) -> Any:
    """Return an encoder output as an array, copied to the CPU first if it is in GPU memory."""
    return np.asarray(encoded if encoded.device == "cpu" else encoded.to_device("cpu"))


def _timed(alignment: list[dict[str, Any]], length: float) -> Iterator[Word]:
    """Yield words with their punctuation; one that extends into a pause is shortened at that side."""
    from faster_whisper.transcribe import merge_punctuations

    merge_punctuations(alignment, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")  # noqa: RUF001 (the marks themselves)
    pieces = [item for item in alignment if item["word"]]
    lengths = [item["end"] - item["start"] for item in pieces if item["end"] > item["start"]]
    longest = min(LONGEST_WORD_S, 2 * max(float(np.median(lengths)), 0.1)) if lengths else LONGEST_WORD_S
    for number, item in enumerate(pieces):
        start, end = float(item["start"]), min(float(item["end"]), length)
        if end - start > longest:
            ends = item["word"].rstrip()[-1:] in ".。!！?？,，"  # noqa: RUF001
            follows = number == 0 or pieces[number - 1]["word"].rstrip()[-1:] in ".。!！?？,，"  # noqa: RUF001
            if follows and not ends:
                start = end - longest
            elif ends:
                end = start + longest
        start, end = (min(time + LEAD_S, length) for time in (min(start, end), end))
        yield Word(start, end, item["word"], float(item["probability"]))


def _segment(hypothesis: Hypothesis, words: tuple[Word, ...], language: tuple[str, float], chunk: Chunk) -> Segment:
    return Segment(
        id=0,
        start=words[0].start if words else 0.0,
        end=words[-1].end if words else chunk.length,
        text=hypothesis.text,
        words=words,
        avg_logprob=hypothesis.avg_logprob,
        no_speech_prob=hypothesis.no_speech_prob,
        compression_ratio=compression_ratio(hypothesis.text),
        language=language[0],
        language_probability=language[1],
    )


def plain(found: Any) -> Segment:
    """Convert a segment of faster-whisper, with Python numbers: Dagster's event log does not accept numpy's."""
    words = tuple(
        Word(float(item.start) + LEAD_S, float(item.end) + LEAD_S, item.word, float(item.probability))
        for item in found.words or ()
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
    )
