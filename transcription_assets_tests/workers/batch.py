"""A batch of extracted recordings, and a coordinator with real worker processes (FAKE engine)."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transcription_assets.domain.transcript import Transcript
from transcription_assets.pipeline import audio, transcript, video
from transcription_assets.pipeline.decoding import InProcessTranscriber
from transcription_assets.pipeline.transcript import TranscriptTools
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store
from transcription_assets.workers.coordinator import WorkerTranscriber
from transcription_assets.workers.subprocesses import SubprocessLauncher
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import script
from transcription_assets_tests.fakes import ScriptedEngine

FFMPEG = recordings.wheel_ffmpeg()
WORKER = (sys.executable, "-m", "transcription_assets_tests.workers.scripted_worker")


@dataclass(frozen=True, slots=True)
class Batch:
    """Recordings whose audio is extracted."""

    store: Store
    keys: Sequence[str]

    def transcribe(self, tools: TranscriptTools) -> dict[str, Transcript | Exception]:
        """Return the transcript of each recording, or its failure."""
        answers = dict(transcript.materialise_each(self.store, self.keys, tools))
        return {key: item if isinstance(item, Exception) else item[0] for key, item in answers.items()}


def extracted(store: Store, *seconds: int) -> Batch:
    """Put recordings of these lengths, with different sounds, and extract their audio."""
    keys = []
    for number, length in enumerate(seconds):
        key = f"audio/{number:02}.wav"
        recordings.tone(Path(store.url) / key, length, rate=8_000, frequency=300.0 + 10 * number)
        decoder = MediaDecoder(FFMPEG)
        video.materialise(store, key, decoder)
        audio.materialise(store, key, decoder)
        keys.append(key)
    return Batch(store, keys)


def in_process(owner: str = "") -> TranscriptTools:
    """Return tools that decode in this process."""
    return TranscriptTools(InProcessTranscriber(ScriptedEngine(script()), FFMPEG, owner), FFMPEG)


@contextmanager
def workers(
    count: int = 1,
    *,
    shard_s: float = 60.0,
    group_s: float = 480.0,
    owner: str = "",
    command: Sequence[str] = WORKER,
    **environment: str,
) -> Iterator[TranscriptTools]:
    """Yield tools that decode in worker processes."""
    own: Mapping[str, str] = {"TRANSCRIPTION_FFMPEG": FFMPEG, **environment}
    launcher = SubprocessLauncher([own] * count, command)
    engine = ScriptedEngine(script(), group_s=group_s)
    try:
        yield TranscriptTools(WorkerTranscriber(engine, launcher, shard_s, owner), FFMPEG)
    finally:
        launcher.close()
