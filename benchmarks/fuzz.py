"""Fuzz test of `video`, `audio` and `transcript` with mutated recordings: no crash, no hang, no litter, no wrong green.

python -m benchmarks.fuzz [--files N] [--seed N] [--processes N] [--minutes M]

Recordings in many containers, made by ffmpeg, are mutated with a fixed seed: file 7 of seed 1 is always the same. The
engine is the scripted one. Each of these counts must be 0:

- crash: an exception that is not from `errors.py`, or a process that died;
- hang: a file that took longer than --limit seconds, or an ffmpeg process that still runs afterwards;
- litter: any file left in the temporary folder, or an artefact without its record;
- retried: a broken local file that fails with a transient error, which runs would retry forever;
- wrong green: record, FLAC and transcript that disagree, or a truncated file without a warning although its container
  allows detection. Raw frames and MPEG program streams do not allow it, nor does a cut between two fragments.
"""

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from benchmarks.machine import describe
from transcription_assets import media
from transcription_assets.domain import media_keys
from transcription_assets.errors import TranscriptionError, TransientFailure
from transcription_assets.pipeline import audio, transcript, video
from transcription_assets.pipeline.audio import Audio
from transcription_assets.pipeline.decoding import InProcessTranscriber
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.speech.fake_engine import ScriptedEngine
from transcription_assets.storage import Store

SECONDS = 4.0
LIMIT_S = 120.0
LARGEST = 4 << 20
TOLERANCE_S = 1.2
"""Seconds that may be missing; the step itself tolerates 1 s."""
_SOUND = ("-f", "lavfi", "-i", f"aevalsrc='0.3*sin(2*PI*440*t)*gt(sin(3*t),0)':s=16000:d={SECONDS}")
_FILM = ("-f", "lavfi", "-i", f"testsrc=s=64x48:r=10:d={SECONDS}", *_SOUND)
_MPEG = ("-r", "25", "-c:v", "mpeg2video", "-ar", "48000", "-c:a", "mp2")
_H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "10", "-c:a", "aac")
_VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-ar", "48000", "-c:a", "libopus")

KINDS: dict[str, tuple[str, ...]] = {
    "pcm.wav": _SOUND,
    "float.wav": (*_SOUND, "-c:a", "pcm_f32le"),
    "adpcm.wav": (*_SOUND, "-c:a", "adpcm_ima_wav"),
    "pcm.w64": _SOUND,
    "pcm.aiff": _SOUND,
    "pcm.caf": _SOUND,
    "pcm.au": _SOUND,
    "a.flac": _SOUND,
    "xing.mp3": _SOUND,
    "bare.mp3": (*_SOUND, "-write_xing", "0", "-id3v2_version", "0"),
    "a.aac": _SOUND,
    "a.ac3": (*_SOUND, "-ar", "48000"),
    "a.m4a": _SOUND,
    "front.m4a": (*_SOUND, "-movflags", "+faststart"),
    "alac.m4a": (*_SOUND, "-c:a", "alac", "-movflags", "+faststart"),
    "a.opus": (*_SOUND, "-ar", "48000"),
    "vorbis.ogg": (*_SOUND, "-c:a", "libvorbis"),
    "flac.oga": (*_SOUND, "-c:a", "flac"),
    "a.wma": _SOUND,
    "a.wv": _SOUND,
    "two.mka": (*_SOUND, "-map", "0:a", "-map", "0:a", "-c:a", "flac"),
    "front.mp4": (*_FILM, *_H264, "-movflags", "+faststart"),
    "parts.mp4": (*_FILM, *_H264, "-movflags", "frag_keyframe+empty_moov"),
    "pcm.mov": (*_FILM, *_H264, "-c:a", "pcm_s16le", "-movflags", "+faststart"),
    "a.webm": (*_FILM, *_VP8),
    "live.webm": (*_FILM, *_VP8, "-live", "1"),
    "a.mkv": (*_FILM, *_H264),
    "a.avi": (*_FILM, "-c:a", "libmp3lame"),
    "a.flv": (*_FILM, "-c:v", "flv", "-ar", "44100", "-c:a", "aac"),
    "a.ts": (*_FILM, *_MPEG),
    "a.mpg": (*_FILM, *_MPEG),
    "a.wmv": (*_FILM, "-c:v", "wmv2", "-c:a", "wmav2"),
    "a.mxf": (*_FILM, *_MPEG[:4], "-ar", "48000", "-c:a", "pcm_s16le"),
}
UNKNOWABLE = frozenset({"bare.mp3", "a.aac", "a.ac3", "a.mpg", "a.ts", "parts.mp4", "live.webm"})
"""Kinds in which truncation may be undetectable."""
_EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

Mutation = Callable[[bytes, random.Random, list[bytes]], bytes]


def _place(data: bytes, rng: random.Random) -> int:
    """Return a random offset, half of the time in the header, on which more depends."""
    return rng.randrange(min(len(data), 512) if rng.random() < 0.5 else len(data))


def _flips(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 4, 32, 256))):
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    return data[: int(len(data) * rng.uniform(0.01, 0.99))]


def _splice(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    start, at = rng.randrange(len(other)), _place(data, rng)
    part = other[start : start + rng.choice((16, 512, 8_192, 65_536))]
    return data[:at] + part + data[at + (len(part) if rng.random() < 0.5 else 0) :]


def _sizes(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        width = rng.choice((2, 4, 4, 8))
        value = rng.choice((*_EXTREMES, len(data), 2 * len(data), len(data) // 2)) % (1 << 8 * width)
        at = _place(data, rng)
        changed[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return bytes(changed)


def _repeat(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    at, length = _place(data, rng), rng.choice((4, 188, 4_096, 32_768))
    return (data[:at] + data[at : at + length] * rng.choice((2, 3, 50)) + data[at + length :])[:LARGEST]


def _drop(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 16, 1_024, 16_384)) :]


def _fill(data: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    at, length = _place(data, rng), rng.choice((8, 256, 8_192))
    part = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return data[:at] + part + data[at + length :]


MUTATIONS: dict[str, Mutation] = {
    "flips": _flips,
    "cut": _cut,
    "splice": _splice,
    "sizes": _sizes,
    "repeat": _repeat,
    "drop": _drop,
    "fill": _fill,
}


@dataclass(slots=True)
class Outcome:
    """Result of one file; `faults` are pairs of a kind of fault and its details."""

    number: int
    kind: str
    mutation: str
    ending: str = ""
    seconds: float = 0.0
    faults: list[tuple[str, str]] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=120.0, help="start no more files after so many minutes")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that one file may take")
    parser.add_argument("--only", type=int, help="the number of the one file to try, which is kept")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        seeds = Path(name, "seeds")
        make_seeds(seeds)
        if chosen.only is not None:
            print(one(chosen.only, chosen.seed, str(seeds), str(Path(tempfile.mkdtemp())), chosen.limit, keep=True))
            return 0
        print(describe())
        started = time.monotonic()
        found = list(_all(chosen, seeds, Path(name)))
    return _told(found, time.monotonic() - started)


def make_seeds(folder: Path) -> None:
    """Write a recording of each kind.

    Raises:
        subprocess.SubprocessError: ffmpeg failed or took too long.

    """
    folder.mkdir(parents=True)
    for name, arguments in KINDS.items():
        command = [ffmpeg(), "-nostdin", "-v", "error", "-y", *arguments, str(folder / name)]
        subprocess.run(command, check=True, timeout=120)


@cache
def ffmpeg() -> str:
    """Return the path of the ffmpeg to test."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _all(chosen: argparse.Namespace, seeds: Path, folder: Path) -> Iterator[Outcome]:
    """Yield the outcome of each file; few are submitted in advance, so that the limit on minutes takes effect."""
    until = time.monotonic() + chosen.minutes * 60
    numbers = iter(range(chosen.files))
    running: dict[Future[Outcome], int] = {}
    done = 0
    with ProcessPoolExecutor(chosen.processes, mp_context=get_context("spawn")) as pool:
        while True:
            while len(running) < 2 * chosen.processes and time.monotonic() < until:
                number = next(numbers, None)
                if number is None:
                    break
                running[pool.submit(one, number, chosen.seed, str(seeds), str(folder), chosen.limit)] = number
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number = running.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    yield Outcome(number, "", "", "died", faults=[("crash", "the process died")])
                    return
                done += 1
                for fault, seen in outcome.faults:
                    print(f"{fault}: file {number}, {outcome.kind}, {outcome.mutation}: {seen}", flush=True)
                if done % 100 == 0:
                    print(f"{done} files", file=sys.stderr, flush=True)
                yield outcome


def one(number: int, seed: int, seeds: str, folder: str, limit_s: float, *, keep: bool = False) -> Outcome:
    """Mutate one file, run the steps on it, and return the outcome."""
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 -- repeatable, not secret
    kind = list(KINDS)[number % len(KINDS)]
    mutation = rng.choice(list(MUTATIONS))
    others = [path.read_bytes() for path in sorted(Path(seeds).iterdir())]
    data = MUTATIONS[mutation](Path(seeds, kind).read_bytes(), rng, others)
    outcome = Outcome(number, kind, mutation)
    root, temporary = Path(folder, f"store-{number}"), Path(folder, f"tmp-{number}")
    temporary.mkdir(parents=True)
    tempfile.tempdir = str(temporary)
    store = Store.open(str(root))
    key = f"audio/{kind}"
    Path(root, key).write_bytes(data)
    started = time.monotonic()
    made = _stepped(store, key, outcome)
    outcome.seconds = time.monotonic() - started
    if outcome.seconds > limit_s:
        outcome.faults.append(("hang", f"{outcome.seconds:.0f} s"))
    if children := _children():
        outcome.faults.append(("hang", f"processes {children} are still there"))
    if left := [str(path.relative_to(temporary)) for path in temporary.rglob("*")]:
        outcome.faults.append(("litter", f"temporary folder: {left}"))
    _judge_store(store, key, made, outcome)
    if keep:
        print(f"kept in {root}")
    else:
        shutil.rmtree(root)
        shutil.rmtree(temporary)
    return outcome


def _stepped(store: Store, key: str, outcome: Outcome) -> Audio | None:
    """Run the steps; return the record of `audio` if all of them succeeded."""
    decoder = MediaDecoder(ffmpeg(), floor_s=60.0)
    step = "video"
    try:
        video.materialise(store, key, decoder)
        step = "audio"
        made = audio.materialise(store, key, decoder)
        step = "transcript"
        said, _ = transcript.materialise(
            store,
            key,
            transcript.TranscriptTools(InProcessTranscriber(ScriptedEngine(), decoder.ffmpeg), decoder.ffmpeg),
        )
    except TranscriptionError as error:
        outcome.ending = f"failed in {step}"
        if isinstance(error, TransientFailure):
            outcome.faults.append(("retried", str(error)[:300]))
        return None
    except Exception:  # noqa: BLE001 -- any other exception is a fault
        outcome.ending = f"crashed in {step}"
        outcome.faults.append(("crash", traceback.format_exc()[-1_500:]))
        return None
    outcome.ending = "green" if made.is_whole and not made.warnings else "warned"
    if abs(said.duration - made.duration) > 0.1:
        outcome.faults.append(("wrong green", f"{made.duration} s extracted, {said.duration} s transcribed"))
    return made


def _judge_store(store: Store, key: str, made: Audio | None, outcome: Outcome) -> None:
    """Check the contents of the store, and that truncation was detected."""
    whole = {
        media_keys.flac(key): media_keys.audio_record(key),
        media_keys.poster(key): media_keys.video_record(key),
        media_keys.transcript(key, ".txt"): media_keys.transcript(key),
    }
    for artefact, record in whole.items():
        if store.exists(artefact) and not store.exists(record):
            outcome.faults.append(("litter", f"{artefact} without {record}"))
    odd = [str(path) for path in Path(store.url).rglob("*") if "#" in path.name or path.name.startswith(".")]
    if odd:
        outcome.faults.append(("litter", f"store: {odd}"))
    if made is None:
        return
    flac = store.read(media_keys.flac(key))
    samples = int.from_bytes(flac[21:26], "big") & (1 << 36) - 1
    if hashlib.sha256(flac).hexdigest() != made.sha256 or samples != round(made.duration * media.SAMPLE_RATE):
        outcome.faults.append(("wrong green", f"{samples} samples in the FLAC, {made.duration} s in the record"))
    short = made.duration < SECONDS - TOLERANCE_S
    if outcome.ending == "green" and short:
        outcome.ending = "green, short"
        if outcome.mutation == "cut" and outcome.kind not in UNKNOWABLE:
            outcome.faults.append(("wrong green", f"{made.duration:.1f} s of {SECONDS} s without a word"))


def _children() -> list[int]:
    """Return the child processes that still run."""
    own = os.getpid()
    found = []
    for path in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += [int(word) for word in (path / "children").read_text().split()]
    return [child for child in found if child != own and not _is_tracker(child)]


def _is_tracker(pid: int) -> bool:
    """Return whether the process is multiprocessing's resource tracker, or has ended."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def _told(found: list[Outcome], wall_s: float) -> int:
    endings = Counter(outcome.ending for outcome in found)
    faults = Counter(fault for outcome in found for fault, _ in outcome.faults)
    slowest = max(found, key=lambda outcome: outcome.seconds)
    print(f"{len(found)} files of {len(KINDS)} kinds in {wall_s:.0f} s; slowest {slowest.seconds:.1f} s")
    for ending, count in endings.most_common():
        print(f"- {ending}: {count}")
    short = Counter(f"{item.kind} ({item.mutation})" for item in found if item.ending == "green, short")
    print(f"green and short: {dict(short.most_common())}")
    for fault in ("crash", "hang", "litter", "retried", "wrong green"):
        print(f"{fault}: {faults[fault]} ({'held' if not faults[fault] else 'MISSED'})")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
