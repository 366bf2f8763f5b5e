"""The engine that asks a speech service with the OpenAI protocol (`/audio/transcriptions`), one request for each chunk.

Windows, voice activity, the checks of the text and the merge are those of the engine for Whisper models. A service may
state no times of words, no probabilities and no language; what it does not state is not checked.
"""

import io
import math
import threading
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np

from transcription_assets.domain.transcript import Segment, SpeechModel
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.service_client import Deadline, NoAnswer, Rejected, ServiceClient
from transcription_assets.speech import batches, fallback, languages, quality
from transcription_assets.speech.batches import ChunkTask, Progress
from transcription_assets.speech.decoder import Chunk, Decoded
from transcription_assets.speech.engine import SAMPLE_RATE, Samples, SpeechOptions, WindowTask, silent
from transcription_assets.speech.language_names import code_of
from transcription_assets.speech.windowing import EARLIEST_SHARE, WINDOW_S
from transcription_assets.speech.windows import DecodedWindow
from transcription_assets.speech.word_times import TimedText, placed

VERSION = "2"
ALIAS = "whisper-1"
"""Name of the model of OpenAI, and of whatever model a server has instead."""
SHORTEST_S = 0.5
"""Shorter chunks are padded with silence: OpenAI rejects audio of less than 0.1 s."""
CAREFUL_TEMPERATURE = 0.4
"""Temperature of the second attempt, which leaves loops that a decoder without one repeats."""
MOST_BYTES = 4 << 20
"""Of an answer: the times of 30 s of words are less than 100 kB."""
LEAST_LOGPROB = -100.0
"""Log-probability that stands for any lower one, so that means stay finite."""
FORMS: tuple[Mapping[str, Any], ...] = (
    {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]},
    {"response_format": "verbose_json"},
    {"response_format": "json"},
)
"""Forms of an answer, the most detailed first: not every model of every service has all."""
OF_THE_FORM = frozenset({400, 415, 422})
"""Statuses by which a service may reject a form of answer."""
OF_THE_SERVICE = frozenset({401, 403, 404})
"""Statuses after which no other request can succeed."""
BUSY = frozenset({429, 503})
"""Statuses of a service that takes no request now, whatever its content."""
FAILED_WINDOWS = 3
"""Windows that fail one after another, without a success, before the service counts as broken: one bad clip may crash
its decoder, or exceed its time limit, and says nothing about the others."""


@dataclass(frozen=True, slots=True)
class SpokenAnswer:
    """Answer of a service about a chunk; times in seconds from its start."""

    text: str
    words: tuple[TimedText, ...] = ()
    segments: tuple[TimedText, ...] = ()
    language: str = ""
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0


class InvalidAnswer(TransientFailure):
    """The service answered with JSON that is no transcript; it may do so while it starts, or is overloaded."""


class ServiceEngine:
    """Engine of the model `model` of a speech service; `requests` is the number of concurrent requests."""

    def __init__(
        self, client: ServiceClient, model: str, *, requests: int = 4, options: SpeechOptions | None = None
    ) -> None:
        self._client = client
        self._requests = requests
        self._options = options or SpeechOptions()
        engine = f"OpenAI protocol, packed and repaired {VERSION}"
        self._model = SpeechModel(model, revision(model, client.url), "", engine)
        self._form = _Form()

    @property
    def model(self) -> SpeechModel:
        """Model name of the service; for the alias, the revision is that of `revision`."""
        return self._model

    @property
    def options(self) -> SpeechOptions:
        """Options given at construction; the service chooses its own beam size."""
        return self._options

    def with_options(self, options: SpeechOptions) -> "ServiceEngine":
        """Implement `Engine.with_options`."""
        other = copy(self)
        other._options = options  # noqa: SLF001 -- a copy of itself
        return other

    def load(self) -> None:
        """Ask the service about a second of silence, so that a wrong key, model or URL is known.

        Raises:
            PermanentFailure: the service rejects the request, redirects, or does not answer with a transcript.
            TransientFailure: there was no response after all attempts.

        """
        self._ask(Chunk(np.zeros(SAMPLE_RATE, np.float32), ()), "", Deadline())

    @property
    def group_s(self) -> float:
        """Seconds of audio to decode together: enough chunks for all concurrent requests."""
        return max(EARLIEST_SHARE * WINDOW_S, 2 * 30.0 * self._requests)

    @property
    def parallel(self) -> int:
        """Number of concurrent requests."""
        return self._requests

    def decode(
        self, windows: Sequence[WindowTask], progress: Callable[[float], None] = silent, _parallel: int = 0
    ) -> list[DecodedWindow | Exception]:
        """Implement `Engine.decode`: a window fails with its first chunk that does.

        If the service cannot be reached or is too busy, or FAILED_WINDOWS windows fail without a success in between,
        the remaining chunks are not sent, and their windows fail as well.
        """
        works = batches.states(windows)
        jobs = [job for work in works for job in batches.chunk_tasks(work)]
        call = _Call(Progress(windows, progress))
        with ThreadPoolExecutor(self._requests, thread_name_prefix="speech service") as pool, call.ending():
            # First the chunks whose language can be told reliably: it is that of the short ones.
            for alone in (True, False):
                group = [job for job in jobs if job.alone is alone]
                list(pool.map(partial(self._answer, call), group))
                for job in group:
                    languages.count(job.work.votes, job.votes)
        return [call.failures.get(id(work)) or batches.finished(work, jobs) for work in works]

    def _answer(self, call: "_Call", job: ChunkTask) -> None:
        if call.broken is not None or id(job.work) in call.failures:
            call.fail(job, call.broken)
            return
        spoken = languages.spoken(job.work.votes)
        known = next(iter(spoken)) if len(spoken) == 1 and not job.alone else ""
        try:
            segment = self._segment(call.deadline, job.chunk, self._options.language or known)
            call.succeed()
            decoded = Decoded(segment, [(segment.language, 1.0)])
            careful = partial(self._careful, call.deadline)
            job.answer = fallback.checked(decoded, job.chunk, careful, may_change_language=False)
        except Exception as error:  # noqa: BLE001 -- the failure of a window is its result
            call.fail(job, error)
            return
        told = {item.language for item in job.answer if item.language}
        job.votes = {language: job.chunk.voiced_s / len(told) for language in told}
        call.progress.add([job])

    def _careful(self, deadline: Deadline, chunk: Chunk, language: str) -> list[Segment]:
        """Ask once more, at a higher temperature; [] if the service hears nothing."""
        segment = self._segment(deadline, chunk, language, CAREFUL_TEMPERATURE)
        return [segment] if segment.text.strip() else []

    def _segment(self, deadline: Deadline, chunk: Chunk, language: str, temperature: float = 0.0) -> Segment:
        """Return the answer for a chunk as one segment, times from its start."""
        said = self._ask(chunk, language, deadline, temperature)
        words, estimated = placed(said.text, said.words or said.segments, chunk.voiced, chunk.length)
        english = self._options.task == "translate"
        return Segment(
            id=0,
            start=words[0].start if words else 0.0,
            end=words[-1].end if words else chunk.length,
            text=said.text,
            words=tuple(words),
            avg_logprob=said.avg_logprob,
            no_speech_prob=said.no_speech_prob,
            compression_ratio=quality.compression_ratio(said.text),
            language=said.language or language or ("en" if english else ""),
            language_probability=1.0,
            estimated_times=estimated,
        )

    def _ask(self, chunk: Chunk, language: str, deadline: Deadline, temperature: float = 0.0) -> SpokenAnswer:
        """Return the answer in the most detailed form that the service has for this model."""
        first: Rejected | None = None
        for number in self._form.candidates():
            try:
                document = self._posted(chunk, FORMS[number], language, temperature, deadline)
            except Rejected as error:
                if error.status not in OF_THE_FORM:
                    raise
                first = first or error
                continue
            self._form.use(number)
            return answer_of(document)
        assert first is not None  # noqa: S101 -- there is at least one candidate
        raise first

    def _posted(
        self, chunk: Chunk, form: Mapping[str, Any], language: str, temperature: float, deadline: Deadline
    ) -> Any:
        translates = self._options.task == "translate"
        data = {"model": self._model.name, "temperature": f"{temperature:g}", **form}
        if translates:
            data.pop("timestamp_granularities[]", None)
        elif language:
            data["language"] = language
        if chunk.vocabulary:
            data["prompt"] = ", ".join(chunk.vocabulary)
        files = {"file": ("speech.wav", wav(chunk.samples), "audio/wav")}
        path = "audio/translations" if translates else "audio/transcriptions"
        return self._client.post(path, self._model.name, deadline, data=data, files=files)


def revision(model: str, url: str) -> str:
    """Return what tells models with the same name apart: a digest of the URL for the alias, "" for any other name.

    Services report no revision. A name other than the alias means the same model wherever the service is.
    """
    return sha256(url.rstrip("/").encode()).hexdigest()[:12] if model == ALIAS else ""


class _Form:
    """The form of answer that the service has, shared by all requests; unknown until one succeeded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: int | None = None

    def candidates(self) -> Sequence[int]:
        known = self._known
        return range(len(FORMS)) if known is None else (known,)

    def use(self, number: int) -> None:
        with self._lock:
            if self._known is None:
                self._known = number


class _Call:
    """Failures of one call of `decode`; `broken` is one after which no request is sent."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.deadline = Deadline()
        self.failures: dict[int, Exception] = {}
        self.broken: Exception | None = None
        self._failed: set[int] = set()
        """Windows that failed since the last success."""
        self._lock = threading.Lock()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Send no further request, and repeat none, if the block is interrupted."""
        try:
            yield
        except BaseException:
            self.broken = self.broken or TransientFailure("interrupted")
            self.deadline.end()
            raise

    def fail(self, job: ChunkTask, error: Exception | None) -> None:
        """Note the failure of a window, unless it has one."""
        if error is None:
            return
        with self._lock:
            self.failures.setdefault(id(job.work), error)
            if not isinstance(error, Rejected):
                self._failed.add(id(job.work))
            if self.broken is None and (is_of_service(error) or len(self._failed) >= FAILED_WINDOWS):
                self.broken = error

    def succeed(self) -> None:
        """Note that the service answered a request."""
        with self._lock:
            self._failed.clear()


def is_of_service(error: Exception) -> bool:
    """Return whether an error means that no other request can succeed now, whatever its audio."""
    if isinstance(error, Rejected):
        return error.status in OF_THE_SERVICE
    if isinstance(error, NoAnswer):
        return not error.connected or error.status in BUSY
    return isinstance(error, PermanentFailure)


def wav(samples: Samples) -> bytes:
    """Return samples (mono, 16 kHz, in [-1, 1]) as a WAV file of 16 bits, at least SHORTEST_S long."""
    missing = max(0, int(SHORTEST_S * SAMPLE_RATE) - len(samples))
    whole = np.clip(np.rint(np.pad(samples, (0, missing)) * 32_768), -32_768, 32_767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(whole.tobytes())
    return buffer.getvalue()


def answer_of(document: Any) -> SpokenAnswer:
    """Return the answer in the JSON document of a response; fields of wrong types count as not stated.

    Raises:
        InvalidAnswer: the document has no text.

    """
    text = document.get("text") if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise InvalidAnswer(
            "the speech service answered without a text; check TRANSCRIPTION_SPEECH_URL if that lasts",
            hint="check TRANSCRIPTION_SPEECH_URL",
        )
    segments = _list(document.get("segments"))
    logprobs = [_within(item.get("avg_logprob"), -math.inf, 0.0) for item in segments]
    silences = [_within(item.get("no_speech_prob"), 0.0, 1.0) for item in segments]
    weights = [max(len(str(item.get("text", ""))), 1) for item in segments]
    language = document.get("language")
    return SpokenAnswer(
        text=" ".join(text.replace("\0", "").split()),
        words=_timed(_list(document.get("words")), "word"),
        segments=_timed(segments, "text"),
        language=code_of(language) if isinstance(language, str) else "",
        avg_logprob=_mean([max(value, LEAST_LOGPROB) for value in logprobs], weights),
        no_speech_prob=_mean(silences, weights),
    )


def _timed(items: Sequence[Mapping[str, Any]], text: str) -> tuple[TimedText, ...]:
    return tuple(
        TimedText(_number(item.get("start"), math.nan), _number(item.get("end"), math.nan), word, sure)
        for item in items
        if isinstance(word := item.get(text), str)
        for sure in [_within(item.get("probability"), 0.0, 1.0, otherwise=0.0)]
    )


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _within(value: Any, least: float, most: float, otherwise: float = math.nan) -> float:
    """Return a number in a range; `otherwise` for anything else, which no model computes."""
    number = _number(value, math.nan)
    return number if least <= number <= most else otherwise


def _mean(values: Sequence[float], weights: Sequence[int]) -> float:
    """Return the weighted mean of the values that are numbers, 0.0 if none is."""
    stated = [(value, weight) for value, weight in zip(values, weights, strict=True) if not math.isnan(value)]
    total = sum(weight for _, weight in stated)
    return sum(value * weight for value, weight in stated) / total if total else 0.0


def _number(value: Any, otherwise: float = 0.0) -> float:
    """Return a finite number; `otherwise` for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return float(value) if is_number and math.isfinite(value) else otherwise
    except OverflowError:  # an integer beyond the range of floats
        return otherwise
