"""The speech engine for Whisper models.

It decodes windows of at most ten minutes, several together if they are short. All their chunks are sorted by length and
decoded in batches, padded to their longest chunk instead of 30 s, by several threads in parallel. Each result is
checked, and chunks that fail are decoded again.
"""

import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any

from transcription_assets.costs import timing
from transcription_assets.domain import chunking
from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import SpeechModel
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.speech import batches, fallback, languages, quality
from transcription_assets.speech.batches import ChunkTask, Progress, WindowState
from transcription_assets.speech.decoder import Chunk, ChunkDecoder, Decoded
from transcription_assets.speech.engine import SpeechOptions, WindowTask, silent
from transcription_assets.speech.hardware import (
    Hardware,
    give_memory_back,
    resolve_compute_type,
    resolve_device,
    share_memory,
)
from transcription_assets.speech.windowing import EARLIEST_SHARE, WINDOW_S
from transcription_assets.speech.windows import DecodedWindow

CPU_ENCODES = 1
"""Chunks encoded at once on a CPU: two take 0.1 GB more and are no faster. A GPU encodes the whole batch."""
CPU_BATCH = 4
"""Eight at once are no faster and take 0.3 GB more."""
GPU_BATCH = 32
"""Initial batch size: more is no faster; a batch that does not fit into memory is halved."""
VERSION = "4"

_NO_MEMORY = re.compile("out of memory|ALLOC_FAILED", re.IGNORECASE)
"""Messages of CUDA and of cuBLAS when memory ran out."""
_OF_THE_GPU = re.compile(r"cuda|cublas|cudnn", re.IGNORECASE)

log = logging.getLogger(__name__)


class Whisper:
    """Engine for models of faster-whisper; loads the weights once, at first use."""

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        revision: str,
        hardware: Hardware | None = None,
        options: SpeechOptions | None = None,
    ) -> None:
        self._path = path
        self._hardware = hardware or Hardware()
        self._options = options or SpeechOptions()
        self._batch_size = self._hardware.batch_size or (GPU_BATCH if self._hardware.on_gpu else CPU_BATCH)
        self._unloadable: Exception | None = None
        self._model = SpeechModel(
            name=name,
            revision=revision,
            compute_type=resolve_compute_type(self._hardware.compute_type, resolve_device(self._hardware.device)),
            engine=f"faster-whisper, packed and repaired {VERSION}",
        )

    @property
    def model(self) -> SpeechModel:
        """Model stored in every transcript, with the resolved compute type."""
        return self._model

    @property
    def options(self) -> SpeechOptions:
        """Options given at construction."""
        return self._options

    def load(self) -> None:
        """Load the weights now instead of with the first recording. A failure is remembered and raised again.

        Raises:
            PermanentFailure: the model does not support the language or the task.
            TransientFailure: the GPU or its driver failed.
            Exception: the weights cannot be loaded; an exception of faster-whisper or CTranslate2.

        """
        if self._unloadable is not None:
            raise self._unloadable
        try:
            _ = self._decoder
        except Exception as error:
            self._unloadable = _blamed(error)
            raise self._unloadable from error

    def with_options(self, options: SpeechOptions) -> "Whisper":
        """Implement `Engine.with_options`; the weights are loaded first.

        Raises:
            PermanentFailure: the model does not support the language or the task.
            TransientFailure: the GPU or its driver failed.
            Exception: the weights cannot be loaded; an exception of faster-whisper or CTranslate2.

        """
        if options == self._options:
            return self
        self.load()
        other = copy(self)
        other._options = options  # noqa: SLF001 -- a copy of itself
        self._require(self._decoder.model, options)
        other.__dict__["_decoder"] = self._decoder.with_options(options)
        return other

    @cached_property
    def _decoder(self) -> ChunkDecoder:
        from faster_whisper import WhisperModel

        hardware = self._hardware
        if not hardware.on_gpu:
            share_memory()  # before the workers allocate
        with timing.weights.running():
            model = WhisperModel(
                str(self._path),
                device="cuda" if hardware.on_gpu else "cpu",
                device_index=list(hardware.devices) if hardware.on_gpu else 0,
                compute_type=self._model.compute_type,
                cpu_threads=hardware.threads_each,
                num_workers=1 if hardware.on_gpu else hardware.at_once,
                local_files_only=True,
            )
        self._require(model, self._options)
        return ChunkDecoder(model, self._options, self._batch_size if hardware.on_gpu else CPU_ENCODES)

    def _require(self, model: Any, options: SpeechOptions) -> None:
        """Raise PermanentFailure if the model does not support the language or the task."""
        language, multilingual = options.language, bool(model.model.is_multilingual)
        known = model.supported_languages
        if language and language not in known:
            raise PermanentFailure(
                f"the speech model {self._model.name} does not know the language {language!r}: "
                f"set TRANSCRIPTION_LANGUAGE to one of {', '.join(sorted(known))}, or leave it empty"
            )
        if options.task == "translate" and not multilingual:
            raise PermanentFailure(
                f"the speech model {self._model.name} knows English only and cannot translate: "
                "set TRANSCRIPTION_WHISPER_MODEL to one that knows other languages"
            )

    @property
    def group_s(self) -> float:
        """Seconds of audio to decode together.

        On a CPU one window of a long recording is enough; it may end after EARLIEST_SHARE of its length.
        """
        if not self._hardware.on_gpu:
            return EARLIEST_SHARE * WINDOW_S
        return max(WINDOW_S, 2 * self._batch_size * chunking.CHUNK_S)

    @property
    def parallel(self) -> int:
        """Number of batches that it decodes at once."""
        return self._hardware.at_once

    def decode(
        self, windows: Sequence[WindowTask], progress: Callable[[float], None] = silent, parallel: int = 0
    ) -> list[DecodedWindow | Exception]:
        """Implement `Engine.decode`: if decoding together fails, decode each window separately, so only one is lost."""
        if not windows:
            return []
        try:
            self.load()
            found = self._decode(windows, Progress(windows, progress), parallel or self.parallel)
        except Exception as error:
            if len(windows) == 1 or self._unloadable is not None:
                return [_blamed(error)] * len(windows)
            log.exception("decoding %s windows together failed, each is tried by itself", len(windows))
            return [answer for window in windows for answer in self.decode([window], parallel=parallel)]
        finally:
            give_memory_back()  # after each group: glibc retained 2.3 GB after three hours of audio
        return found

    def _decode(
        self, windows: Sequence[WindowTask], progress: Progress, parallel: int
    ) -> list[DecodedWindow | Exception]:
        """Decode the chunks with reliable languages first: their votes determine the languages that others may have."""
        works = batches.states(windows)
        jobs = [job for work in works for job in batches.chunk_tasks(work)]
        for alone in (True, False):
            group = [job for job in jobs if job.alone is alone]
            self._work_off(group, progress, parallel)
            for job in group:
                languages.count(job.work.votes, job.votes)
        if not self._options.language:
            self._try_neighbours(jobs)
        done = jobs + self._second_opinion(works, jobs, progress, parallel)
        return [batches.finished(work, done) for work in works]

    def _try_neighbours(self, jobs: Sequence[ChunkTask]) -> None:
        """Decode chunks with low confidence again in each language of their neighbours and of the recording."""
        told = [next((item.language for item in job.answer if not item.low_confidence), "") for job in jobs]
        for number, job in enumerate(jobs):
            if not job.answer or not all(item.low_confidence for item in job.answer):
                continue  # decoding all of it in one language would lose the segments with high confidence
            near = [
                told[other]
                for other in (number - 1, number + 1)
                if 0 <= other < len(jobs) and jobs[other].work is job.work
            ]
            spoken = languages.spoken(job.work.votes)
            for language in dict.fromkeys([*near, *sorted(spoken)]):
                if not language or language == job.answer[0].language:
                    continue
                probability = dict(job.told).get(language, 0.0)
                found = fallback.in_language(job.chunk, (language, probability), self._decoder.careful)
                if found:
                    job.answer, job.votes = found, {language: job.chunk.voiced_s}
                    break

    def _second_opinion(
        self, works: Sequence[WindowState], answered: Sequence[ChunkTask], progress: Progress, parallel: int
    ) -> list[ChunkTask]:
        """Decode regions that VAD left out, if both their energy and Whisper's no-speech probability indicate speech.

        Words with low confidence are dropped; the region then remains as a gap.
        """
        asked = [job for work in works for job in batches.unexplained_tasks(work, answered)]
        size = batches.even_size(len(asked), self._batch_size, 1)
        spoken: list[ChunkTask] = []

        def ask(batch: Sequence[ChunkTask]) -> None:
            silent = self._decoder.no_speech([job.chunk for job in batch])
            spoken.extend(job for job, share in zip(batch, silent, strict=True) if share <= quality.SPEECH_LIMIT)

        for batch in batches.batches(asked, size):
            self._in_memory(ask, batch)
        self._work_off(spoken, progress, parallel)
        for job in spoken:
            job.unexplained = True
            if not quality.is_certain(job.answer):
                job.answer, job.votes = [], {}
            languages.count(job.work.votes, job.votes)
        return spoken

    def _work_off(self, jobs: Sequence[ChunkTask], progress: Progress, parallel: int) -> None:
        size = batches.even_size(len(jobs), self._batch_size, parallel)
        cut = list(batches.batches(jobs, size))
        answer = partial(self._answer, progress)
        if len(cut) < 2:  # noqa: PLR2004 -- a single batch needs no thread
            for batch in cut:
                self._in_memory(answer, batch)
            return
        with ThreadPoolExecutor(min(self._hardware.at_once, len(cut))) as pool:
            for _ in pool.map(partial(self._in_memory, answer), cut):
                pass

    def _in_memory(self, step: Callable[[Sequence[ChunkTask]], None], batch: Sequence[ChunkTask]) -> None:
        """Run the step for the batch; if it does not fit into GPU memory, run it in halves and limit later batches."""
        try:
            step(batch)
        except RuntimeError as error:
            # CTranslate2 raises RuntimeError for everything; only its text tells that memory ran out.
            if not _NO_MEMORY.search(str(error)) or len(batch) == 1:
                raise
            half = len(batch) // 2
            self._batch_size = min(self._batch_size, half)
            log.warning("a batch of %s does not fit into memory: %s from now on", len(batch), half)
            self._in_memory(step, batch[:half])
            self._in_memory(step, batch[half:])

    def _answer(self, progress: Progress, batch: Sequence[ChunkTask]) -> None:
        followed = not self._options.language

        def choose(number: int, own: languages.Probabilities) -> tuple[str, float]:
            job = batch[number]
            spoken = languages.spoken(job.work.votes)
            return languages.choose(own, spoken, alone=job.alone, voiced_s=job.chunk.voiced_s)

        found = self._decoder.decode([job.chunk for job in batch], choose)
        progress.add(batch)
        for job, decoded in zip(batch, found, strict=True):
            job.answer, job.votes, job.told = [], {}, decoded.languages  # reset in case of a second attempt
            if followed and self._answer_by_language(job, decoded):
                continue
            answer = fallback.checked(
                decoded,
                job.chunk,
                self._decoder.careful,
                may_change_language=followed and job.alone,
                in_pieces=self._decoder.in_language,
            )
            job.answer = answer
            if answer and job.alone and answer[0].language == decoded.segment.language:
                languages.add(job.votes, decoded.languages, job.chunk.voiced_s)
            elif answer:
                job.votes = {answer[0].language: job.chunk.voiced_s}

    def _told(self, chunk: Chunk, decoded: Decoded) -> tuple[list[languages.Probabilities], list[str]]:
        """Return the languages of each region, and those that the chunk may contain.

        If the language of the whole chunk is clear, only regions whose slices differ are encoded, which is expensive.
        """
        if among := languages.mixed(decoded.languages):
            return self._decoder.tell_languages([chunk.part(region) for region in chunk.voiced]), among
        asked = languages.suspects(decoded.languages, decoded.slices)
        if not asked:
            return [], []
        own = decoded.languages[0][0]
        found = dict(
            zip(asked, self._decoder.tell_languages([chunk.part(chunk.voiced[at]) for at in asked]), strict=True)
        )
        sure = [told[0][0] for told in found.values() if told[0][1] >= languages.SURE_REGION]
        told = [found.get(number, [(own, 1.0)]) for number in range(len(chunk.voiced))]
        return told, list(dict.fromkeys([own, *sure]))

    def _answer_by_language(self, job: ChunkTask, decoded: Decoded) -> bool:
        """Decode each part of a chunk with several languages in its own; return False if it has only one."""
        regions = job.chunk.voiced
        if len(regions) < 2:  # noqa: PLR2004 -- no change is possible
            return False
        told, among = self._told(job.chunk, decoded)
        if len(among) < 2:  # noqa: PLR2004
            return False
        stretches = _stretches(regions, languages.along(told, among, [region.length for region in regions]))
        if len(stretches) < 2:  # noqa: PLR2004
            return False
        parts = [job.chunk.part(region) for region, _ in stretches]
        found = self._decoder.decode(
            parts, lambda number, own: (stretches[number][1], dict(own).get(stretches[number][1], 0.0))
        )
        for (region, language), part, heard in zip(stretches, parts, found, strict=True):
            answer = fallback.checked(
                heard, part, self._decoder.careful, may_change_language=False, in_pieces=self._decoder.in_language
            )
            job.answer += [fallback.shifted(item, region.start) for item in answer]
            if answer:
                languages.count(job.votes, {language: part.voiced_s})
        return True


def _stretches(regions: Sequence[Region], spoken: Sequence[str]) -> list[tuple[Region, str]]:
    """Join neighbouring regions of the same language; return each with its language."""
    pairs = zip(regions, spoken, strict=True)
    runs = [(language, [region for region, _ in run]) for language, run in groupby(pairs, key=lambda pair: pair[1])]
    return [(Region(run[0].start, run[-1].end), language) for language, run in runs]


def _blamed(error: Exception) -> Exception:
    """Return TransientFailure for an error of the GPU, which the recording did not cause, else the error itself."""
    if isinstance(error, RuntimeError) and _OF_THE_GPU.search(str(error)):
        return TransientFailure(f"the GPU or its driver failed, not the recording: {error}")
    return error
