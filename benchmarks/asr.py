"""Throughput of `asr-server` with many clients against `process` on the same clips, in alternating rounds.

python -m benchmarks.asr [--clips 64] [--clients 32] [--rounds 3]

Each clip is a different part of the demo recordings. The server has loaded its model before the clients begin; the
time that `process` takes to start (with no recordings) is subtracted from its rounds. *Decoding* is the time that the
engine of `process` worked, without extraction, encoding of passages and the search table.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from benchmarks import recordings
from benchmarks.machine import ROOT, describe, environment
from transcription_assets.media import find_ffmpeg

PROGRAM = Path(sys.executable).parent / "transcription-assets"
BAR = 0.9
CLIP_S = 12.0
STEP_S = 1.5
"""Seconds between the starts of two clips of a recording: equal clips would be decoded once by `process`."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=64, help="at most 96")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        clips = _clips(folder / "clips", chosen.clips)
        ratios = []
        with _served() as address:
            asyncio.run(_asked(address, clips[:2], 2))  # weights are in memory, the first decoding is over
            for number in range(chosen.rounds):
                processed_s, decoding_s, said = _processed(folder / f"store {number}", clips)
                started = time.monotonic()
                answers = asyncio.run(_asked(address, clips, chosen.clients))
                served_s = time.monotonic() - started
                same = sum(answers[name].split() == said[name].split() for name in said)
                ratios.append(processed_s / served_s)
                print(
                    f"round {number + 1}: process {processed_s:.1f} s (decoding {decoding_s:.1f} s),"
                    f" {chosen.clients} clients {served_s:.1f} s, ratio {ratios[-1]:.2f}"
                    f" (decoding {decoding_s / served_s:.2f}); {same} of {len(said)} texts are the same"
                )
    ratio = statistics.median(ratios)
    print(f"{len(clips)} clips of {CLIP_S:g} s: {ratio:.2f} × the throughput of process (median); the bar is {BAR}")
    return int(ratio < BAR)


def _clips(folder: Path, count: int) -> list[Path]:
    """Cut clips of CLIP_S seconds from the demo recordings, each from another start."""
    folder.mkdir()
    sources = sorted(path for path in recordings.DEMO.rglob("*") if path.suffix in {".mp4", ".m4a", ".mp3", ".wav"})
    ffmpeg = find_ffmpeg()
    made: list[Path] = []
    starts = ((source, turn) for turn in range(count) for source in sources)
    for source, turn in starts:
        if len(made) == count:
            break
        target = folder / f"{len(made):03}.flac"
        cut = ["-ss", f"{turn * STEP_S:g}", "-t", f"{CLIP_S:g}", "-i", str(source), "-vn", "-ac", "1", str(target)]
        subprocess.run([ffmpeg, "-v", "error", "-y", *cut], check=True)
        made.append(target)
    return made


def _processed(store: Path, clips: list[Path]) -> tuple[float, float, dict[str, str]]:
    """Process the clips in a new store.

    Return the seconds without those of the start, the seconds of decoding, and the text of each clip.
    """
    settings = {"TRANSCRIPTION_STORE": str(store), "TRANSCRIPTION_SETTLE_S": "0"}
    idle_s = _timed([PROGRAM, "process"], settings)
    for clip in clips:
        target = store / "audio" / clip.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(clip.read_bytes())
    seconds = _timed([PROGRAM, "process"], settings) - idle_s
    said, decoding_s = {}, 0.0
    for path in (store / "transcripts/audio").glob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        said[path.name.removesuffix(".json")] = document["text"]
        decoding_s += document["timing"]["wall_s"]
    assert len(said) == len(clips), sorted(said)
    return seconds, decoding_s, said


def _timed(command: list[str | Path], settings: dict[str, str]) -> float:
    started = time.monotonic()
    subprocess.run(command, env=environment(settings), cwd=ROOT, check=True, capture_output=True)
    return time.monotonic() - started


@contextmanager
def _served() -> Iterator[str]:
    """Run a server, and yield the address of its API."""
    with subprocess.Popen(
        [PROGRAM, "asr-server", "--port", "0"],
        env=environment({"PYTHONUNBUFFERED": "1"}),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, "the server did not start"
            yield found[0]
        finally:
            server.terminate()


async def _asked(address: str, clips: list[Path], clients: int) -> dict[str, str]:
    """Send each clip once, from `clients` clients that each send the next one after an answer."""
    left, answers = iter(clips), {}
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(timeout=600, limits=limits) as http:

        async def client() -> None:
            for clip in left:
                files = {"file": (clip.name, clip.read_bytes())}
                answer = await http.post(f"{address}/audio/transcriptions", data={"model": "whisper-1"}, files=files)
                answer.raise_for_status()
                answers[clip.name] = answer.json()["text"]

        await asyncio.gather(*(client() for _ in range(clients)))
    return answers


if __name__ == "__main__":
    sys.exit(main())
