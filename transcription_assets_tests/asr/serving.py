"""An ASR server in a thread, with a real network and ffmpeg; FAKES of the engine."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvicorn

from transcription_assets.asr import server as asr_server
from transcription_assets.asr.service import Limits, TranscriptionService
from transcription_assets.media import find_ffmpeg
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.speech import DecodedWindow, Engine, SpeechOptions, WindowTask
from transcription_assets.speech.engine import silent
from transcription_assets.speech.fake_engine import ScriptedEngine
from transcription_assets.web import server as web_server
from transcription_assets.web.access import Access

if TYPE_CHECKING:
    from openai import OpenAI

SCRIPT = {
    5: ["The first sentence.", "The second one."],
    10: [f"Sentence {number} of ten." for number in range(3)],
}
LIMITS = Limits(requests=16, most_bytes=5_000_000, timeout_s=120.0)


@dataclass(slots=True)
class GatedEngine(ScriptedEngine):
    """FAKE: does not decode before `gate` is open; `groups` are the lengths of the windows decoded together."""

    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    groups: list[list[int]] = field(default_factory=list)
    asked: list[SpeechOptions] = field(default_factory=list)
    vocabularies: list[tuple[str, ...]] = field(default_factory=list)

    def decode(
        self, windows: Sequence[WindowTask], progress: Callable[[float], None] = silent, parallel: int = 0
    ) -> list[DecodedWindow | Exception]:
        self.entered.set()
        assert self.gate.wait(120)
        self.groups.append(sorted(round(window.plan.length) for window in windows))
        self.asked.append(self.options)
        self.vocabularies += [window.vocabulary for window in windows]
        return ScriptedEngine.decode(self, windows, progress, parallel)


@dataclass(frozen=True, slots=True)
class Running:
    """A server, and what is in it."""

    url: str
    service: TranscriptionService
    server: uvicorn.Server

    def client(self, key: str = "none") -> "OpenAI":
        """Return the official client, without its retries."""
        from openai import OpenAI

        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=240)


@contextmanager
def running(
    engine: Engine,
    limits: Limits = LIMITS,
    *,
    token: str = "",
    longest_s: float = 600.0,
    leave_s: int = 60,
    ffmpeg: str = "",
) -> Iterator[Running]:
    """Run a server until the block ends."""
    decoder = MediaDecoder(ffmpeg or find_ffmpeg(), longest_s=longest_s)
    service = TranscriptionService(engine, decoder, limits)
    bound = web_server.listener("127.0.0.1", 0)
    config = web_server.configured(asr_server.build(service, Access(token=token)))
    config.timeout_graceful_shutdown = leave_s
    running_server = uvicorn.Server(config)
    thread = threading.Thread(target=running_server.run, args=([bound],))
    thread.start()
    try:
        yield Running(f"http://127.0.0.1:{bound.getsockname()[1]}", service, running_server)
    finally:
        running_server.should_exit = True
        thread.join()
