"""Trial of the GPU path on a machine with one NVIDIA GPU; `benchmarks/gpu.sh` prepares and starts it.

python -m benchmarks.gpu --out FOLDER [--device cuda] [--model tiny.en] [--minutes 60] [--limit 420] [--only STEP ...]

Writes `gpu.json`, `gpu.md` and `gpu.log` to the folder. Each step is a process with a time limit, so that one that
crashes or hangs does not take the results of the others with it. `--device cpu` is the rehearsal without a GPU: it
measures the same on the CPU, and simulates what only a GPU can do.
"""

import argparse
import ctypes
import gc
import json
import logging
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import recordings, workers
from benchmarks.machine import MODELS, ROOT, descendants
from transcription_assets import media, models
from transcription_assets.domain.transcript import Word
from transcription_assets.evaluation import competitors, wer
from transcription_assets.evaluation.competitors import Configuration
from transcription_assets.speech import AudioSource, Hardware, Whisper, recognition, transcribe_one
from transcription_assets.speech.decoder import ChunkDecoder

PACKAGES = ("ctranslate2", "faster-whisper", "numpy", "onnxruntime", "av")
COMPUTE_TYPES = {"cuda": ("float16", "int8_float16"), "cpu": ("float32", "int8")}
BATCH_SIZES = {"cuda": (8, 16, 32, 64, 128), "cpu": (2, 4)}
OTHERS_BATCH_SIZES = {"cuda": (8, 16, 32), "cpu": (8,)}
TWO_WORKERS_BATCH = {"cuda": 16, "cpu": 0}
"""Batch size of the step `workers`: an hour is several groups, so that there is work for two."""
MEMORY_BATCH = {"cuda": 64, "cpu": 4}
MEMORY_MINUTES = 12
SIMULATED_LIMIT = 2
"""Chunks in a batch that fit into the simulated memory of the rehearsal."""
LARGEST_SHARE = 0.4
"""Share of the time limit that one step may use, so that the others get their turn."""
EVERY_S = 0.05
MEBIBYTE = 1 << 20
THREADS = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Trial:
    """What a step needs: device, model, minutes of long speech, and the file of its rows."""

    device: str
    model: str
    minutes: float
    out: Path

    @property
    def compute_type(self) -> str:
        """The engine's own choice on this device."""
        return "float16" if self.device == "cuda" else "int8"

    def engine(self, device: str, compute_type: str, batch_size: int = 0) -> Whisper:
        """Return the engine, not loaded."""
        hardware = Hardware(device, compute_type, cpu_threads=THREADS, batch_size=batch_size)
        path = models.locate(self.model, "speech", MODELS).path
        return Whisper(path, name=self.model, revision="", hardware=hardware)

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write the rows known so far, so that a step that is stopped keeps them."""
        self.out.write_text(json.dumps(rows), encoding="utf-8")


def main() -> int:
    """Run all steps, write the results, and return 1 if a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--minutes", type=float, default=60.0, help="of long speech")
    parser.add_argument("--limit", type=float, default=420.0, help="seconds for all steps")
    parser.add_argument("--only", nargs="+", choices=[*STEPS], default=[*STEPS])
    parser.add_argument("--step", choices=[*STEPS], help=argparse.SUPPRESS)
    parser.add_argument("--ballast", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.ballast is not None:
        return _hold_memory(chosen.ballast)
    if chosen.step:
        logging.basicConfig(level=logging.WARNING)
        STEPS[chosen.step](Trial(chosen.device, chosen.model, chosen.minutes, chosen.out))
        return 0
    chosen.out.mkdir(parents=True, exist_ok=True)
    document = {"machine": _machine(chosen.device), "model": chosen.model, "minutes": chosen.minutes, "steps": {}}
    deadline = time.monotonic() + chosen.limit
    with (chosen.out / "gpu.log").open("wb") as log:
        for name in chosen.only:
            left = deadline - time.monotonic()
            print(f"{name}: {left:.0f} s left", flush=True)
            document["steps"][name] = _step(name, chosen, max(1.0, min(left, LARGEST_SHARE * chosen.limit)), log)
            (chosen.out / "gpu.json").write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    report = _report(document)
    (chosen.out / "gpu.md").write_text(report, encoding="utf-8")
    print(report)
    return int(any(step["error"] for step in document["steps"].values()))


def _step(name: str, chosen: argparse.Namespace, limit_s: float, log: Any) -> dict[str, Any]:
    """Run a step as a process of its own; return its rows, its seconds, and its error, empty if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "--step", name, "--out", str(rows)]
        command += ["--device", chosen.device, "--model", chosen.model, "--minutes", str(chosen.minutes)]
        started, error = time.monotonic(), ""
        log.write(f"== {name}\n".encode())
        log.flush()
        with subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True) as process:
            try:
                if code := process.wait(limit_s):
                    error = f"exit code {code}: see gpu.log"
            except subprocess.TimeoutExpired:
                error = f"stopped after {limit_s:.0f} s"
            finally:
                for pid in [*descendants(process.pid), process.pid]:
                    _kill(pid)
        found = json.loads(rows.read_text(encoding="utf-8")) if rows.is_file() else []
    return {"rows": found, "seconds": round(time.monotonic() - started, 1), "error": error}


def _kill(pid: int) -> None:
    with suppress(OSError):
        os.kill(pid, 9)


def _machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    found: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "device": device,
        "processor": _processor(),
        "cores": THREADS,
        "load": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "cublas": os.environ.get("GPU_TRIAL_CUBLAS", ""),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False)
        found["gpu"] = answer.stdout.strip() or answer.stderr.strip()
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _words(trial: Trial) -> None:
    """Compare the engine's words on the demo's English recordings with those on the CPU, and both with their text."""
    truth = json.loads((recordings.DEMO.parent / "recordings.json").read_text(encoding="utf-8"))
    english = [entry for entry in truth if entry["language"] == "en"]
    said = " ".join(entry["text"] for entry in english)
    heard: dict[str, list[Word]] = {}
    rows: list[dict[str, Any]] = []
    for device, compute_type in [("cpu", "int8"), *((trial.device, item) for item in COMPUTE_TYPES[trial.device])]:
        name = f"{device} {compute_type}"
        engine = trial.engine(device, compute_type)
        started = time.monotonic()
        engine.load()
        loaded = time.monotonic()
        found = [transcribe_one(engine, _source(recordings.DEMO / entry["file"])) for entry in english]
        seconds = time.monotonic() - loaded
        heard[name] = [word for result in found for segment in result.segments for word in segment.words]
        text = _text(heard[name])
        other, shift = _differences(heard["cpu int8"], heard[name])
        rows.append(
            {
                "engine": name,
                "load s": round(loaded - started, 2),
                "decode s": round(seconds, 2),
                "words": len(text.split()),
                "WER %": round(100 * wer.errors(said, text, "en").rate, 2),
                "other words than the CPU": other,
                "largest shift of a word s": shift,
                "text": text,
            }
        )
        trial.write(rows)
        del engine
        gc.collect()


def _speed(trial: Trial) -> None:
    """Compare with faster-whisper's batched pipeline on long speech, in turns; loading is left out."""
    path = models.locate(trial.model, "speech", MODELS).path
    common = (trial.model, path, 5, trial.compute_type, THREADS, trial.device)
    entries = {"ours": Configuration("ours", *common)} | {
        f"faster-whisper batched, {size} at once": Configuration("batched", *common, size)
        for size in OTHERS_BATCH_SIZES[trial.device]
    }
    rows: dict[str, dict[str, Any]] = {}
    with _long_speech(trial.minutes) as (speech, seconds):
        for _ in range(2):
            for name, entry in entries.items():
                with _peak_memory(trial.device) as peak:
                    outcome = competitors.run(entry, [speech])
                row = rows.setdefault(name, {"system": name, "wall s": [], "CPU s": [], "memory MiB": 0})
                row["wall s"].append(round(outcome.wall_s, 2))
                row["CPU s"].append(round(outcome.cpu_s, 2))
                row["x real time"] = round(seconds / min(row["wall s"]), 1)
                row["memory MiB"] = max(row["memory MiB"], peak.mebibytes)
                row["words"] = len(outcome.texts[0].text.split())
                trial.write([*rows.values()])


def _batches(trial: Trial) -> None:
    """Measure decoding alone, planned before as the step `audio` does, with several batch sizes."""
    rows = []
    with _long_speech(trial.minutes) as (speech, seconds):
        started = time.monotonic()
        plans = recognition.plan(_source(speech))
        planning_s = time.monotonic() - started
        for size in BATCH_SIZES[trial.device]:
            with _peak_memory(trial.device) as peak:
                decoded = _apart(_decoded, trial, speech, plans, size)
            rows.append(
                {
                    "batch size": size,
                    "x real time": round(seconds / decoded["wall s"], 1),
                    **decoded,
                    "memory MiB": peak.mebibytes,
                    "planning s": round(planning_s, 1),
                }
            )
            trial.write(rows)


def _decoded(trial: Trial, speech: Path, plans: recognition.ChannelPlans, size: int) -> dict[str, Any]:
    """Decode the windows of a recording; return seconds, words, and the halvings of batches."""
    engine = trial.engine(trial.device, trial.compute_type, size)
    started = time.monotonic()
    engine.load()
    loaded = time.monotonic()
    jobs = recognition.window_jobs("long", _source(speech), plans)
    words = 0
    with _warnings() as halvings:
        for _, answer in recognition.decode_groups(
            engine, recognition.grouped(jobs, lambda job: job.plan.length, engine.group_s)
        ):
            if isinstance(answer, Exception):
                raise answer
            words += sum(len(segment.words) for segment in answer.segments)
    return {
        "wall s": round(time.monotonic() - loaded, 2),
        "load s": round(loaded - started, 2),
        "words": words,
        "halvings": halvings,
    }


def _workers(trial: Trial) -> None:
    """Decode with the product's launcher: one worker process, and two on the same device."""
    rows: list[dict[str, Any]] = []
    texts = []
    with _long_speech(trial.minutes) as (speech, seconds):
        for count in (1, 2):
            store = speech.parent / f"store-{count}"
            with _peak_memory(trial.device) as peak:
                batch_size = TWO_WORKERS_BATCH[trial.device]
                made, wall_s = workers.transcribed(
                    store, speech, count, trial.model, device=trial.device, batch_size=batch_size
                )
            texts.append(made.text)
            rows.append(
                {
                    "workers": count,
                    "wall s": round(wall_s, 2),
                    "x real time": round(seconds / wall_s, 1),
                    "memory MiB": peak.mebibytes,
                    "words": len(made.text.split()),
                    "same words as one": made.text == texts[0],
                }
            )
            trial.write(rows)


def _memory(trial: Trial) -> None:
    """Let memory run out during a batch: the engine halves it and ends with all words."""
    rows = []
    with _long_speech(min(trial.minutes, MEMORY_MINUTES)) as (speech, _):
        plans = recognition.plan(_source(speech))
        size = MEMORY_BATCH[trial.device]
        with _peak_memory(trial.device) as peak:
            unlimited = _apart(_decoded, trial, speech, plans, size)
        rows.append({"memory": "all", "left MiB": None, "peak MiB": peak.mebibytes, **unlimited, "error": ""})
        trial.write(rows)
        for share in (0.6, 0.4, 0.2):
            row = _apart(_limited, trial, speech, plans, peak.mebibytes, share)
            rows.append(row)
            trial.write(rows)
            if row["halvings"]:
                break


def _limited(trial: Trial, speech: Path, plans: recognition.ChannelPlans, peak_mb: int, share: float) -> dict[str, Any]:
    """Decode with only a share of the memory that batches need beyond the loaded model."""
    engine = trial.engine(trial.device, trial.compute_type, MEMORY_BATCH[trial.device])
    engine.load()
    jobs = recognition.window_jobs("long", _source(speech), plans)
    if trial.device == "cpu":
        _simulate_little_memory()
        held, left_mb = None, None
    else:
        transcribe_one(engine, _source(recordings.found(recordings.DEMO)[0]))  # libraries allocate at first use
        left_mb = max(64, round((peak_mb - _used_mb()) * share))
        held = _other_process(left_mb)
    words, error = 0, ""
    with _warnings() as halvings:
        for _, answer in recognition.decode_groups(
            engine, recognition.grouped(jobs, lambda job: job.plan.length, engine.group_s)
        ):
            if isinstance(answer, Exception):
                error = str(answer)
            else:
                words += sum(len(segment.words) for segment in answer.segments)
    if held is not None:
        held.kill()
        held.wait()
    name = "simulated limit" if trial.device == "cpu" else f"{share:.0%} of what batches need"
    return {"memory": name, "left MiB": left_mb, "words": words, "halvings": halvings, "error": error}


def _simulate_little_memory() -> None:
    """Let batches fail as they do on a GPU: CTranslate2 raises RuntimeError with this text."""
    original = ChunkDecoder.decode

    def decode(self: ChunkDecoder, batch: Any, choose: Any) -> Any:
        if len(batch) > SIMULATED_LIMIT:
            raise RuntimeError("CUDA failed with error out of memory")
        return original(self, batch, choose)

    ChunkDecoder.decode = decode  # type: ignore[method-assign]


def _other_process(left_mb: int) -> "subprocess.Popen[str]":
    """Start a process that takes the memory of the GPU except for `left_mb`; it is ready when this returns."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", os.devnull, "--ballast", str(left_mb)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        process.kill()
        raise RuntimeError("the memory of the GPU cannot be taken: see gpu.log")
    return process


def _hold_memory(left_mb: int) -> int:
    """Take the memory of the first GPU except for `left_mb` with plain allocations, until the input ends."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, place = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    steps: list[tuple[Any, ...]] = [
        (cuda.cuInit, 0),
        (cuda.cuDeviceGet, ctypes.byref(device), 0),
        (cuda.cuDevicePrimaryCtxRetain, ctypes.byref(context), device),
        (cuda.cuCtxSetCurrent, context),
        (cuda.cuMemGetInfo_v2, ctypes.byref(free), ctypes.byref(total)),
    ]
    for function, *arguments in steps:
        if code := function(*arguments):
            raise RuntimeError(f"{function.__name__} failed with {code}")
    size = max(0, free.value - left_mb * MEBIBYTE)
    if code := cuda.cuMemAlloc_v2(ctypes.byref(place), ctypes.c_size_t(size)):
        raise RuntimeError(f"cuMemAlloc of {size} bytes failed with {code}")
    print("ready", flush=True)
    sys.stdin.read()
    return 0


STEPS: dict[str, Callable[[Trial], None]] = {
    "words": _words,
    "speed": _speed,
    "workers": _workers,
    "memory": _memory,
    "batches": _batches,
}


class Peak:
    """Maximum of the memory in use: of the whole GPU, or of this process and its descendants in the rehearsal."""

    def __init__(self) -> None:
        self.mebibytes = 0

    def note(self, mebibytes: int) -> None:
        """Note a sample."""
        self.mebibytes = max(self.mebibytes, mebibytes)


@contextmanager
def _peak_memory(device: str) -> Iterator[Peak]:
    """Sample the memory in use every EVERY_S."""
    peak, over = Peak(), threading.Event()
    read = _used_mb if device == "cuda" else _resident_mb

    def watch() -> None:
        while not over.wait(EVERY_S):
            peak.note(read())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _used_mb() -> int:
    """Return the memory in use on the first GPU in MiB, of all processes, as the driver states it."""
    try:
        return _by_library()
    except OSError:  # the library is not where the linker looks; this takes longer
        query = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout)


def _by_library() -> int:
    class Memory(ctypes.Structure):
        _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))

    library = ctypes.CDLL("libnvidia-ml.so.1")
    handle, memory = ctypes.c_void_p(), Memory()
    for function, *arguments in (
        (library.nvmlInit_v2,),
        (library.nvmlDeviceGetHandleByIndex_v2, 0, ctypes.byref(handle)),
        (library.nvmlDeviceGetMemoryInfo, handle, ctypes.byref(memory)),
    ):
        if code := function(*arguments):
            raise RuntimeError(f"{function.__name__} failed with {code}")
    return int(memory.used // MEBIBYTE)


def _resident_mb() -> int:
    """Return the resident memory of this process and all its descendants in MiB."""
    pages = 0
    for pid in (os.getpid(), *descendants(os.getpid())):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") // MEBIBYTE


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect the engine's messages about batches that do not fit into memory."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "does not fit" in (message := record.getMessage()):
                found.append(message)

    handler = Handler()
    logging.getLogger("transcription_assets").addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger("transcription_assets").removeHandler(handler)


def _apart(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call the function in a new process, so that the memory of the last call is free."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def _long_speech(minutes: float) -> Iterator[tuple[Path, float]]:
    """Make a recording of the demo's English speech, repeated; yield it with its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        repeated, path = Path(folder) / "repeated.mp4", Path(folder) / "long.flac"
        recordings.long(repeated, minutes * 60, recordings.english())
        recordings.make("-i", repeated, "-vn", "-ac", "1", "-ar", "16000", path)
        yield path, recordings.seconds(path)


def _source(path: Path) -> AudioSource:
    ffmpeg = media.find_ffmpeg()
    return AudioSource(lambda _channel, start: media.read_samples(path, ffmpeg=ffmpeg, start=start))


def _text(words: Sequence[Word]) -> str:
    return "".join(word.word for word in words).strip()


def _differences(reference: Sequence[Word], found: Sequence[Word]) -> tuple[int, float]:
    """Return the number of words that differ, and the largest difference of the starts of equal words in seconds."""
    left, right = ([word.word.strip() for word in words] for words in (reference, found))
    equal = SequenceMatcher(a=left, b=right, autojunk=False).get_matching_blocks()
    shifts = [
        abs(reference[block.a + number].start - found[block.b + number].start)
        for block in equal
        for number in range(block.size)
    ]
    return max(len(left), len(right)) - len(shifts), round(max(shifts, default=0.0), 3)


def _report(document: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [", ".join(f"{name} {value}" for name, value in document["machine"].items() if value)]
    if document["machine"]["device"] == "cpu":
        lines.append("\n**A rehearsal on the CPU: no GPU was used.** Memory is resident memory.")
    lines.append(f"\nModel {document['model']}, {document['minutes']:g} minutes of long speech.")
    for name, step in document["steps"].items():
        lines.append(f"\n## {name} ({step['seconds']} s)\n")
        if step["error"]:
            lines.append(f"**Failed**: {step['error']}\n")
        columns = list(dict.fromkeys(column for row in step["rows"] for column in row if column != "text"))
        if columns:
            lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
            lines += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in step["rows"]]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
