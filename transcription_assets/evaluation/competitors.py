"""Speech engines compared on the same recordings; each run is a fresh process and excludes loading the model.

`ours` is the engine of this package; the others are common alternatives to it.
"""

import importlib.util
import json
import multiprocessing
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transcription_assets import media, speech
from transcription_assets.errors import PermanentFailure

BATCH = 8


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration: a system, a model (name and folder), and its parameters; 0 is the system's own choice."""

    system: str
    model: str
    path: Path
    beam_size: int = 5
    compute_type: str = "int8"
    threads: int = 0
    device: str = "cpu"
    batch_size: int = 0

    @property
    def name(self) -> str:
        """Name for display in a table."""
        return f"{self.system}, {self.model}, beam {self.beam_size}"


@dataclass(frozen=True, slots=True)
class Text:
    """Text recognised in one recording; `coverage` is known for our own engine only."""

    text: str
    language: str
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Texts of one run, with its wall and CPU time (seconds, without loading) and peak memory (megabytes)."""

    texts: tuple[Text, ...]
    wall_s: float
    cpu_s: float
    peak_mb: float


def available() -> list[str]:
    """Return the systems that are installed on this machine."""
    return [name for name, (_, module) in SYSTEMS.items() if importlib.util.find_spec(module)]


def require(systems: Sequence[str]) -> None:
    """Check that these systems can be run, before the first one is.

    Raises:
        PermanentFailure: a system is unknown or not installed.

    """
    for name in systems:
        if name not in SYSTEMS:
            hint = f"use one of {', '.join(SYSTEMS)}"
            raise PermanentFailure(f"unknown system {name}: {hint}", hint=hint)
        if name not in available():
            hint = f"pip install {name}, or omit --system {name}"
            raise PermanentFailure(f"{name} is not installed: {hint}", hint=hint)


def run(entry: Configuration, paths: Sequence[Path]) -> Outcome:
    """Transcribe all recordings with this configuration, in a process of its own.

    Raises:
        TranscriptionError: our own engine failed on a recording; other systems raise their own exceptions.

    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_run, entry, [*paths]).result()


def _run(entry: Configuration, paths: list[Path]) -> Outcome:
    listen = SYSTEMS[entry.system][0](entry)
    started, used = time.monotonic(), _cpu_s()
    texts = tuple(listen(paths))
    wall_s, cpu_s = time.monotonic() - started, _cpu_s() - used
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak_kb = max(resource.getrusage(kind).ru_maxrss for kind in kinds)
    return Outcome(texts, wall_s, cpu_s, peak_kb * 1024 / 1e6)


def _cpu_s() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


Transcribe = Callable[[Sequence[Path]], Iterator[Text]]


def _ours(entry: Configuration) -> Transcribe:
    ffmpeg = media.find_ffmpeg()
    hardware = speech.Hardware(entry.device, entry.compute_type, cpu_threads=entry.threads, batch_size=entry.batch_size)
    options = speech.SpeechOptions(beam_size=entry.beam_size)
    engine = speech.Whisper(entry.path, name=entry.model, revision="", hardware=hardware, options=options)
    engine.load()

    def sound(path: Path) -> speech.AudioSource:
        return speech.AudioSource(lambda _channel, start: media.read_samples(path, ffmpeg=ffmpeg, start=start))

    def listen(paths: Sequence[Path]) -> Iterator[Text]:
        for transcript in speech.transcribe(engine, map(sound, paths)):
            if isinstance(transcript, Exception):
                raise transcript
            text = " ".join(segment.text for segment in transcript.segments)
            yield Text(text, transcript.language, round(transcript.speech.coverage, 4))

    return listen


def _model(entry: Configuration) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(
        str(entry.path),
        device=entry.device,
        compute_type=entry.compute_type,
        cpu_threads=entry.threads,
        local_files_only=True,
    )


def _transcriber(transcribe: Callable[[str], Any]) -> Transcribe:
    def listen(paths: Sequence[Path]) -> Iterator[Text]:
        for path in paths:
            segments, info = transcribe(str(path))
            yield Text(" ".join(segment.text.strip() for segment in segments), info.language)

    return listen


def _plain(entry: Configuration) -> Transcribe:
    """Transcribe as the README of faster-whisper does: without voice activity detection and word times."""
    model = _model(entry)
    return _transcriber(lambda path: model.transcribe(path, beam_size=entry.beam_size))


def _sequential(entry: Configuration) -> Transcribe:
    model = _model(entry)
    return _transcriber(
        lambda path: model.transcribe(path, beam_size=entry.beam_size, vad_filter=True, word_timestamps=True)
    )


def _batched(entry: Configuration) -> Transcribe:
    from faster_whisper import BatchedInferencePipeline

    pipeline = BatchedInferencePipeline(_model(entry))
    size = entry.batch_size or BATCH
    return _transcriber(
        lambda path: pipeline.transcribe(path, beam_size=entry.beam_size, batch_size=size, word_timestamps=True)
    )


def _whisper_ctranslate2(entry: Configuration) -> Transcribe:
    """Run the command line; its time includes loading the model."""

    def listen(paths: Sequence[Path]) -> Iterator[Text]:
        command = shutil.which("whisper-ctranslate2", path=str(Path(sys.executable).parent)) or "whisper-ctranslate2"
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [
                    *(command, *map(str, paths), "--model_directory", str(entry.path), "--device", entry.device),
                    *("--compute_type", entry.compute_type, "--threads", str(entry.threads)),
                    *("--beam_size", str(entry.beam_size), "--batched", "True"),
                    *("--batch_size", str(entry.batch_size or BATCH)),
                    *("--word_timestamps", "True", "--output_format", "json", "--output_dir", folder),
                    *("--verbose", "False"),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            for path in paths:
                found = json.loads((Path(folder) / f"{path.stem}.json").read_text(encoding="utf-8"))
                yield Text(" ".join(item["text"].strip() for item in found["segments"]), found.get("language", ""))

    return listen


def _whisperx(entry: Configuration) -> Transcribe:
    import whisperx

    options = {"beam_size": entry.beam_size}
    model = whisperx.load_model(
        str(entry.path), entry.device, compute_type=entry.compute_type, threads=entry.threads, asr_options=options
    )

    def listen(paths: Sequence[Path]) -> Iterator[Text]:
        for path in paths:
            found = model.transcribe(whisperx.load_audio(str(path)), batch_size=entry.batch_size or BATCH)
            yield Text(" ".join(item["text"].strip() for item in found["segments"]), found["language"])

    return listen


SYSTEMS: dict[str, tuple[Callable[[Configuration], Transcribe], str]] = {
    "ours": (_ours, "faster_whisper"),
    "plain": (_plain, "faster_whisper"),
    "sequential": (_sequential, "faster_whisper"),
    "batched": (_batched, "faster_whisper"),
    "whisper-ctranslate2": (_whisper_ctranslate2, "whisper_ctranslate2"),
    "whisperx": (_whisperx, "whisperx"),
}
"""Function that starts each system, and the module that it needs."""
