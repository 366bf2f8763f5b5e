"""Whisper, faster than its batched pipeline and as careful as its sequential decoder.

Sound comes in windows of ten minutes cut at pauses; short recordings are put together until they make as much. All
chunks in hand are sorted by length and decoded in batches, each as long as its longest chunk and not 30 s; several
batches at once where there are several workers. Each answer is checked, and repaired where it fails.
"""

import logging
import math
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from transcription_assets import chunks, loading
from transcription_assets.ahead import Ahead
from transcription_assets.chunks import Region
from transcription_assets.failures import PermanentFailure, TransientFailure
from transcription_assets.speech import languages, merge, repair
from transcription_assets.speech.decoder import Chunk, Decoded, Decoder
from transcription_assets.speech.engine import SAMPLE_RATE, Heard, Sound, SpeechOptions
from transcription_assets.speech.hardware import Hardware, give_memory_back, resolve_compute_type, resolve_device
from transcription_assets.speech.window import Window
from transcription_assets.speech.windows import EARLIEST_SHARE, WINDOW_S, Cut, windows
from transcription_assets.transcript import Segment, SpeechModel

SHORT_CHUNK_S = 6.0
"""Below this the language of one chunk is a guess: such a chunk speaks a language that longer ones speak."""
CPU_ENCODES = 2
"""Chunks that the encoder takes at once on a CPU; a GPU takes the whole batch."""
CPU_BATCH = 4
"""Eight at once are no faster and take 0.3 GB more."""
GPU_BATCH = 32
"""Where `auto` begins: more is no faster; what does not fit is halved."""
VERSION = "3"

_OF_THE_GPU = re.compile(r"cuda|cublas|cudnn", re.IGNORECASE)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Hearing:
    """A recording in the middle of being heard. What is counted is counted by one thread: of reading, or of hearing."""

    sound: Sound
    done: list[list[Window]] = field(default_factory=list)
    votes: dict[str, float] = field(default_factory=dict)
    windows_read: int = 0
    windows_heard: int = 0
    reading_s: float = 0.0
    hearing_s: float = 0.0
    read: bool = False
    error: Exception | None = None

    @property
    def finished(self) -> bool:
        return self.error is not None or (self.read and self.windows_heard == self.windows_read)


@dataclass(frozen=True, slots=True)
class _Work:
    """A window of a recording that waits to be decoded."""

    hearing: _Hearing
    channel: int
    start: float
    cut: Cut


@dataclass(slots=True)
class _Job:
    """A chunk of a window; `answer` is filled in by a worker."""

    work: _Work
    region: Region
    chunk: Chunk
    alone: bool
    votes: dict[str, float] = field(default_factory=dict)
    answer: list[Segment] = field(default_factory=list)


class Whisper:
    """faster-whisper's model under an engine of our own. Loads its weights at first use, once."""

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
        """With the compute type that `auto` came to mean."""
        return self._model

    @property
    def options(self) -> SpeechOptions:
        """As they were given."""
        return self._options

    def load(self) -> None:
        """Load the weights now: otherwise the first recording waits for them. What went wrong once goes wrong again."""
        if self._unloadable is not None:
            raise self._unloadable
        try:
            _ = self._decoder
        except Exception as error:
            self._unloadable = _blamed(error)
            raise self._unloadable from error

    @cached_property
    def _decoder(self) -> Decoder:
        from faster_whisper import WhisperModel

        hardware = self._hardware
        with loading.weights.running():
            model = WhisperModel(
                str(self._path),
                device="cuda" if hardware.on_gpu else "cpu",
                device_index=list(hardware.devices) if hardware.on_gpu else 0,
                compute_type=self._model.compute_type,
                cpu_threads=hardware.threads_each,
                num_workers=1 if hardware.on_gpu else hardware.at_once,
                local_files_only=True,
            )
        self._require_language(model)
        return Decoder(model, self._options, self._batch_size if hardware.on_gpu else CPU_ENCODES)

    def _require_language(self, model: Any) -> None:
        language, multilingual = self._options.language, bool(model.model.is_multilingual)
        known = model.supported_languages
        if language and language not in known:
            raise PermanentFailure(
                f"the speech model {self._model.name} does not know the language {language!r}: "
                f"set TRANSCRIPTION_LANGUAGE to one of {', '.join(sorted(known))}, or leave it empty"
            )
        if self._options.task == "translate" and not multilingual:
            raise PermanentFailure(
                f"the speech model {self._model.name} knows English only and cannot translate: "
                "set TRANSCRIPTION_WHISPER_MODEL to one that knows other languages"
            )

    def hear(self, sounds: Iterable[Sound]) -> Iterator[Heard | Exception]:
        """As `Engine.hear`; memory does not grow with the length or the number of the sounds."""
        queue: deque[_Hearing] = deque()
        load: list[_Work] = []
        # The next window is decoded from its file, and its pauses are found, while these are heard.
        with closing(Ahead(_read(sounds), depth=1)) as found:
            for hearing, work in found:
                if work is None:
                    queue.append(hearing)
                else:
                    load.append(work)
                if sum(item.cut.length for item in load) >= self._load_s:
                    self._hear_load(load)
                    give_memory_back()  # after each: what glibc keeps grew to 2.3 GB in three hours of sound
                    load = []
                yield from self._finished(queue)
        self._hear_load(load)
        give_memory_back()
        yield from self._finished(queue)

    @property
    def _load_s(self) -> float:
        """Seconds of sound that are worth sorting and decoding together; what is in hand is lost in a kill.

        On a CPU one window of a long recording is enough: it may end after EARLIEST_SHARE of its length.
        """
        if not self._hardware.on_gpu:
            return EARLIEST_SHARE * WINDOW_S
        return max(WINDOW_S, 2 * self._batch_size * chunks.CHUNK_S)

    def _finished(self, queue: deque[_Hearing]) -> Iterator[Heard | Exception]:
        """The answers at the head of the queue; those behind one that is not done wait for their turn."""
        while queue and queue[0].finished:
            hearing = queue.popleft()
            if hearing.error is not None:
                yield hearing.error
                continue
            try:
                made = merge.heard(hearing.done, fixed_language=self._options.language)
            except Exception as error:  # noqa: BLE001 -- what is wrong with one recording is its own answer
                yield error
                continue
            yield replace(made, wall_s=round(hearing.reading_s + hearing.hearing_s, 3))

    def _hear_load(self, load: Sequence[_Work]) -> None:
        """Decode all windows of the load together; where that fails each by itself, so that only one is lost."""
        wanted = [work for work in load if work.hearing.error is None]
        if not wanted:
            return
        try:
            self.load()
            started = time.monotonic()
            jobs = self._decode(wanted)
        except Exception as error:
            if len(wanted) == 1 or self._unloadable is not None:
                for work in wanted:
                    work.hearing.error = _blamed(error)
                return
            log.exception("decoding %s windows together failed, each is tried by itself", len(wanted))
            for work in wanted:
                self._hear_load([work])
            return
        spent, voiced = time.monotonic() - started, [1.0 + sum(r.length for r in w.cut.voiced) for w in wanted]
        for work, share in zip(wanted, voiced, strict=True):
            work.hearing.hearing_s += spent * share / sum(voiced)
            try:
                self._keep(work, [job for job in jobs if job.work is work])
            except Exception as error:  # noqa: BLE001 -- a store that is away fails this recording, not the others
                work.hearing.error = error

    def _decode(self, load: Sequence[_Work]) -> Sequence[_Job]:
        jobs = [job for work in load for job in _jobs(work)]
        for alone in (True, False):
            self._work_off([job for job in jobs if job.alone is alone])
            for job in jobs:
                if job.alone is alone:
                    for language, seconds in job.votes.items():
                        votes = job.work.hearing.votes
                        votes[language] = votes.get(language, 0.0) + seconds
        return jobs

    def _keep(self, work: _Work, jobs: Sequence[_Job]) -> None:
        """The window is done: kept until the recording is."""
        segments = [repair.shifted(item, job.region.start) for job in jobs for item in job.answer]
        votes: dict[str, float] = {}
        for job in jobs:
            for language, seconds in job.votes.items():
                votes[language] = votes.get(language, 0.0) + seconds
        end = work.start + work.cut.length
        hearing, channel = work.hearing, work.channel
        hearing.done[channel].append(merge.window(work.start, end, segments, work.cut.voiced, votes))
        hearing.windows_heard += 1
        hearing.sound.progress(end)
        # The last one is nearly all: kept only for a channel that is waited for by the next.
        if not work.cut.last or (len(hearing.done[channel]) > 1 and channel + 1 < hearing.sound.channels):
            hearing.sound.kept[channel, len(hearing.done[channel]) - 1] = hearing.done[channel][-1]

    def _work_off(self, jobs: Sequence[_Job]) -> None:
        batches = list(_batches(jobs, _even_size(len(jobs), self._batch_size, self._hardware.at_once)))
        if len(batches) < 2:  # noqa: PLR2004 -- no thread for nothing
            for batch in batches:
                self._answer(batch)
            return
        with ThreadPoolExecutor(min(self._hardware.at_once, len(batches))) as pool:
            for _ in pool.map(self._answer, batches):
                pass

    def _answer(self, batch: Sequence[_Job]) -> None:
        """Decode the batch; in halves where it does not fit into the GPU's memory, and so from then on."""
        try:
            self._answer_at_once(batch)
        except RuntimeError as error:
            if "out of memory" not in str(error).lower() or len(batch) == 1:
                raise
            half = len(batch) // 2
            self._batch_size = min(self._batch_size, half)
            log.warning("a batch of %s does not fit into memory: %s from now on", len(batch), half)
            self._answer(batch[:half])
            self._answer(batch[half:])

    def _answer_at_once(self, batch: Sequence[_Job]) -> None:
        followed = not self._options.language

        def choose(number: int, own: languages.Probabilities) -> tuple[str, float]:
            job = batch[number]
            return languages.choose(own, languages.spoken(job.work.hearing.votes), alone=job.alone)

        found = self._decoder.decode([job.chunk for job in batch], choose)
        first = batch[0].work
        first.hearing.sound.progress(first.start)
        for job, decoded in zip(batch, found, strict=True):
            if followed and self._answer_by_language(job, decoded):
                continue
            answer = repair.checked(
                decoded, job.chunk, self._decoder.careful, may_change_language=followed and job.alone
            )
            job.answer = answer
            voiced_s = job.chunk.voiced_s
            if answer and answer[0].language != decoded.segment.language:
                job.votes = {answer[0].language: voiced_s}
            elif answer and job.alone:
                languages.add(job.votes, decoded.languages, voiced_s)
            elif answer:
                job.votes = {answer[0].language: voiced_s}

    def _answer_by_language(self, job: _Job, decoded: Decoded) -> bool:
        """Where the language changes inside a chunk, decode each stretch in its own; False where it does not."""
        among = languages.mixed(decoded.languages)
        if len(among) < 2 or len(job.chunk.voiced) < 2:  # noqa: PLR2004 -- nothing changes
            return False
        told = self._decoder.tell_languages([job.chunk.part(region) for region in job.chunk.voiced])
        stretches = _stretches(job.chunk.voiced, languages.along(told, among))
        if len(stretches) < 2:  # noqa: PLR2004
            return False
        parts = [job.chunk.part(region) for region, _ in stretches]
        found = self._decoder.decode(
            parts, lambda number, own: (stretches[number][1], dict(own).get(stretches[number][1], 0.0))
        )
        job.answer, job.votes = [], {}  # all anew, should this be the second try
        for (region, language), part, heard in zip(stretches, parts, found, strict=True):
            answer = repair.checked(heard, part, self._decoder.careful, may_change_language=False)
            job.answer += [repair.shifted(item, region.start) for item in answer]
            if answer:
                job.votes[language] = job.votes.get(language, 0.0) + part.voiced_s
        return True


def _stretches(regions: Sequence[Region], spoken: Sequence[str]) -> list[tuple[Region, str]]:
    """Neighbouring regions of one language as one, with it."""
    pairs = zip(regions, spoken, strict=True)
    runs = [(language, [region for region, _ in run]) for language, run in groupby(pairs, key=lambda pair: pair[1])]
    return [(Region(run[0].start, run[-1].end), language) for language, run in runs]


def _read(sounds: Iterable[Sound]) -> Iterator[tuple[_Hearing, _Work | None]]:
    """First each recording by itself, then its windows, one by one; those that are kept are not read again."""
    for sound in sounds:
        hearing = _Hearing(sound, done=[[] for _ in range(sound.channels)])
        yield hearing, None
        try:
            # All before the first window: from then on what is kept and voted belongs to the thread that hears.
            starts = [_resumed(hearing, channel) for channel in range(sound.channels)]
            for channel in range(sound.channels):
                start = starts[channel]
                clock = time.monotonic()
                for cut in windows(sound.read(channel, start)):
                    hearing.reading_s += time.monotonic() - clock
                    hearing.windows_read += 1
                    yield hearing, _Work(hearing, channel, start, cut)
                    start += cut.length
                    clock = time.monotonic()
        except Exception as error:  # noqa: BLE001 -- what is wrong with one recording is its own answer
            hearing.error = error
        hearing.read = True


def _resumed(hearing: _Hearing, channel: int) -> float:
    """Take over the windows that are kept; returns where the next one starts (seconds)."""
    done = hearing.done[channel]
    while (kept := hearing.sound.kept.get((channel, len(done)))) is not None:
        done.append(kept)
        for language, seconds in kept.languages.items():
            hearing.votes[language] = hearing.votes.get(language, 0.0) + seconds
    return done[-1].end if done else 0.0


def _jobs(work: _Work) -> list[_Job]:
    """The chunks of a window. Where all are short, the longest has to tell its language by itself."""
    packed = chunks.pack(work.cut.voiced)
    longest = max((item.length for item in packed), default=0.0)
    needed = min(SHORT_CHUNK_S, longest)
    return [_Job(work, region, _chunk(work, region), alone=bool(region.length >= needed)) for region in packed]


def _chunk(work: _Work, region: Region) -> Chunk:
    samples = work.cut.samples[int(region.start * SAMPLE_RATE) : int(region.end * SAMPLE_RATE)]
    return Chunk(samples, tuple(chunks.within(work.cut.voiced, region)), work.hearing.sound.vocabulary)


def _blamed(error: Exception) -> Exception:
    """A GPU that fails is not the recording's fault."""
    if isinstance(error, RuntimeError) and _OF_THE_GPU.search(str(error)):
        return TransientFailure(f"the GPU or its driver failed, not the recording: {error}")
    return error


def _even_size(jobs: int, most: int, workers: int) -> int:
    """A size of batches that gives every worker as many: of 20 chunks, two workers take 10 each."""
    rounds = max(1, math.ceil(jobs / (most * workers)))
    return max(1, math.ceil(jobs / (rounds * workers)))


def _batches(jobs: Iterable[_Job], size: int) -> Iterator[list[_Job]]:
    """Batches of chunks of about the same length and of one vocabulary, the longest first."""
    ordered = sorted(jobs, key=lambda job: (job.chunk.vocabulary, -job.chunk.length))
    batch: list[_Job] = []
    for job in ordered:
        if batch and (len(batch) == size or batch[0].chunk.vocabulary != job.chunk.vocabulary):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch
