"""A request from its upload to its transcript: bounded in number, size and time, and dropped if the client hangs up."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.requests import Request

from transcription_assets.asr import responses, uploads
from transcription_assets.asr.batching import Batcher, RecordingWork
from transcription_assets.asr.metrics import ServiceMetrics
from transcription_assets.asr.parameters import Parameters, parse
from transcription_assets.asr.problems import ApiError, of_engine, of_recording, too_busy
from transcription_assets.asr.recordings import PreparedRecording, prepare
from transcription_assets.domain.transcript import Transcript
from transcription_assets.errors import PermanentFailure, TranscriptionError
from transcription_assets.media.ffmpeg_process import Interruption, interruptible
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.speech import DecodedWindow, Engine, SpeechOptions, Task, assembly, usable_cores
from transcription_assets.speech.recognition import WindowJob
from transcription_assets.speech.service import ALIAS
from transcription_assets.storage import temporary

LARGE_BYTES = 25_000_000
"""Larger uploads, which OpenAI rejects, are extracted one at a time, so that others have threads."""
END_S = 5.0
"""Seconds that threads may take at the end; what they do is of no use then."""
SHORTEST_S = 1.0
"""Minimum time limit of a decoder."""
HANG_UP = 499
"""Status of a request whose client hung up, for the metrics; nobody receives it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the service: requests at the same time, bytes of an upload, and seconds of a request."""

    requests: int
    most_bytes: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ReceivedUpload:
    """A received request: its file, and the client's name of it for messages."""

    path: Path
    filename: str
    size: int
    asked: Parameters
    task: Task


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request whose recording can be decoded."""

    upload: ReceivedUpload
    recording: PreparedRecording


class TranscriptionService:
    """Transcribes the recordings of requests with one engine; `decoder` has the maximum duration of a recording."""

    def __init__(self, engine: Engine, decoder: MediaDecoder, limits: Limits) -> None:
        self.metrics = ServiceMetrics()
        self.limits = limits
        self.models = tuple(dict.fromkeys((engine.model.name, ALIAS)))
        """Names of the model that clients may use."""
        self._model = engine.model
        self._decoder = decoder
        self._batcher = Batcher(engine, self.metrics.decoded)
        self._extractors = ThreadPoolExecutor(usable_cores(), thread_name_prefix="asr extractor")
        self._extractor_of_large = ThreadPoolExecutor(1, thread_name_prefix="asr extractor of large")
        self._extracting = 0
        self._counting = threading.Lock()
        self._inside = 0

    @property
    def problem(self) -> str:
        """Reason why the engine does not work, "" if it does."""
        return self._batcher.problem

    def close(self, limit_s: float = END_S) -> None:
        """End the threads; after `limit_s` seconds they are left alone, see `has_ended`."""
        for pool in (self._extractors, self._extractor_of_large):
            pool.shutdown(wait=False, cancel_futures=True)
        self._batcher.close(limit_s)

    @property
    def has_ended(self) -> bool:
        """False if a thread still works after `close`."""
        return not self._extracting and self._batcher.has_ended

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count the request until the block ends.

        Raises:
            ApiError: too many requests are inside.

        """
        if self._inside >= self.limits.requests:
            raise too_busy(f"{self._inside} requests are in progress, the limit of this server; try again later")
        self._inside += 1
        self.metrics.inside.set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            self.metrics.inside.set(self._inside)

    async def receive(self, request: Request, task: Task, stack: AsyncExitStack) -> ReceivedUpload:
        """Receive a request; its folder is removed with `stack`.

        Raises:
            ApiError: the request is invalid, or the server is out of disk.
            ClientDisconnect: the client hung up.

        """
        try:
            folder = stack.enter_context(temporary.folder())
        except OSError as error:
            raise ApiError(503, "the server cannot store uploads now; try again later") from error
        path = folder / "upload"
        form = await uploads.receive(request, path, self.limits.most_bytes)
        return ReceivedUpload(path, form.filename, form.size, parse(form.fields, self.models), task)

    async def prepare(self, upload: ReceivedUpload, until: float) -> Accepted:
        """Extract the speech of an upload, and plan its windows, until this time of the event loop at most.

        Raises:
            ApiError: it is no recording, cannot be decoded, or is too long.

        """
        asked, name = upload.asked, upload.filename
        try:
            recording = await self._extracted(
                upload.size > LARGE_BYTES,
                lambda: prepare(upload.path, name, self._limited(until), asked.vocabulary, streamed=asked.stream),
            )
        except (TranscriptionError, OSError) as error:
            raise of_recording(error, {str(upload.path): name, str(upload.path.parent): name}) from error
        return Accepted(upload, recording)

    async def transcript(self, accepted: Accepted) -> Transcript:
        """Return the transcript of a recording.

        Raises:
            ApiError: it cannot be decoded, or the engine does not support the language or the task.

        """
        done: dict[tuple[int, int], DecodedWindow] = {}
        async with self._decoding(accepted) as results:
            async for job, window in results:
                done[job.channel, job.number] = window
        return self._merged(accepted, done)

    async def events(self, accepted: Accepted) -> AsyncGenerator[bytes]:
        """Yield the text as server-sent events, one for each segment, as soon as the windows before it are decoded.

        With two channels, whose sentences alternate, all text comes at the end.

        Raises:
            ApiError: see `transcript`.

        """
        done: dict[tuple[int, int], DecodedWindow] = {}
        sent, following = 0, 0
        async with self._decoding(accepted) as results:
            async for job, window in results:
                done[job.channel, job.number] = window
                while accepted.recording.channels == 1 and (0, following) in done:
                    for segment in done[0, following].segments:
                        yield responses.delta(segment, first=not sent)
                        sent += 1
                    following += 1
        transcript = self._merged(accepted, done)
        for segment in transcript.segments[sent:]:
            yield responses.delta(segment, first=not sent)
            sent += 1
        yield responses.done(transcript)

    @asynccontextmanager
    async def _decoding(self, accepted: Accepted) -> AsyncIterator[AsyncIterator[tuple[WindowJob, DecodedWindow]]]:
        """Queue the windows of a recording, and yield an iterator of the results; what is left then is cancelled."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[WindowJob, DecodedWindow | Exception]] = asyncio.Queue()
        own, asked = self._batcher.options, accepted.upload
        options = replace(own, language=asked.asked.language or own.language, task=asked.task)
        await self._require(options)

        def deliver(job: WindowJob, answer: DecodedWindow | Exception) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, (job, answer))

        async def results() -> AsyncIterator[tuple[WindowJob, DecodedWindow]]:
            for _ in accepted.recording.jobs:
                job, answer = await queue.get()
                if isinstance(answer, Exception):
                    raise of_engine(answer) from answer
                yield job, answer

        work = RecordingWork(accepted.recording.jobs, options, deliver)
        if accepted.recording.jobs:
            self._batcher.submit(work)
        try:
            yield results()
        finally:
            self._batcher.cancel(work)

    async def _require(self, options: SpeechOptions) -> None:
        """Raise ApiError if the model does not support the options."""
        try:
            await asyncio.to_thread(self._batcher.engine_of, options)
        except PermanentFailure as error:
            asked = "the task 'translate'" if options.task == "translate" else f"the language {options.language!r}"
            raise ApiError(
                400,
                f"the model {self._model.name!r} does not support {asked}",
                param="" if options.task == "translate" else "language",
                code="unsupported",
            ) from error

    def _merged(self, accepted: Accepted, done: dict[tuple[int, int], DecodedWindow]) -> Transcript:
        channels = [
            [window for (number, _), window in sorted(done.items()) if number == channel]
            for channel in range(accepted.recording.channels)
        ]
        language = accepted.upload.asked.language or self._batcher.options.language
        result = assembly.merge(channels, fixed_language=language)
        self.metrics.audio.inc(result.duration)
        return responses.transcript_of(result, accepted.upload.filename, self._model)

    def _limited(self, until: float) -> MediaDecoder:
        """Return the decoder with the time that the request has left."""
        return replace(self._decoder, most_s=max(until - time.monotonic(), SHORTEST_S))

    async def _extracted(self, is_large: bool, work: Callable[[], PreparedRecording]) -> PreparedRecording:  # noqa: FBT001
        """Return the result of `work` in a thread.

        If the caller is cancelled, its ffmpeg is killed, and it waits for the end: files are removed afterwards.
        """
        interruption = Interruption()

        def interruptibly() -> PreparedRecording:
            with interruptible(interruption):
                return work()

        pool = self._extractor_of_large if is_large else self._extractors
        future = pool.submit(interruptibly)
        with self._counting:
            self._extracting += 1
        future.add_done_callback(self._count_end)
        waiting = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            interruption.kill()
            if not future.cancel():
                with suppress(Exception):
                    await waiting
            raise

    def _count_end(self, _future: "Future[PreparedRecording]") -> None:
        with self._counting:
            self._extracting -= 1
