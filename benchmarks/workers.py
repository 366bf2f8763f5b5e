"""Throughput of several worker processes against one, with the same number of threads, and their memory.

python -m benchmarks.workers [--minutes 60] [--rounds 1] [--model base] [--speech FOLDER]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import recordings
from benchmarks.machine import MODELS, describe
from transcription_assets import media
from transcription_assets.domain.transcript import Transcript
from transcription_assets.pipeline import audio, transcript, video
from transcription_assets.settings import Settings
from transcription_assets.wiring import Services, locate_installed

THROUGHPUT_BAR = 0.95
THREADS = 2
KEY = "video/long.mp4"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of both, and return 1 if the bar is missed or the words differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="base")
    parser.add_argument("--speech", type=Path, help="folder of recordings to use besides the demo's")
    chosen = parser.parse_args(arguments)
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "long.mp4"
        recordings.long(speech, chosen.minutes * 60, more=chosen.speech)
        walls: dict[int, list[float]] = {1: [], THREADS: []}
        words: set[str] = set()
        for number in range(chosen.rounds):
            for count, seconds in walls.items():
                made, wall_s = transcribed(Path(folder) / f"{number}-{count}", speech, count, chosen.model)
                seconds.append(wall_s)
                words.add(made.text)
                speed = made.duration / wall_s
                print(f"{count} workers with {THREADS // count} threads: {wall_s:.1f} s, {speed:.1f} x real time")
    ratio = statistics.median(walls[1]) / statistics.median(walls[THREADS])
    same = len(words) == 1
    print(f"throughput of {THREADS} workers: {ratio:.2f} x of one (bar {THROUGHPUT_BAR}); same words: {same}")
    return int(ratio < THROUGHPUT_BAR or not same)


def transcribed(
    folder: Path, speech: Path, count: int, model: str, *, device: str = "cpu", batch_size: int = 0
) -> tuple[Transcript, float]:
    """Return the transcript and the wall seconds of the step, with the start of the workers.

    Raises:
        TranscriptionError: a step failed.

    """
    settings = Settings(
        store=str(folder),
        models_dir=MODELS,
        whisper_model=model,
        device=device,
        batch_size=batch_size,
        cpu_threads=THREADS,
        worker_processes=count,
        ffmpeg=media.find_ffmpeg(),
    )
    services = Services(settings, locate_installed(settings))
    store = services.store
    store.put_media(KEY, speech)
    video.materialise(store, KEY, services.decoder)
    audio.materialise(store, KEY, services.decoder)
    tools = services.transcript_tools
    started = time.monotonic()
    try:
        made, _ = transcript.materialise(store, KEY, tools)
        return made, time.monotonic() - started
    finally:
        tools.speech.close()


if __name__ == "__main__":
    sys.exit(main())
