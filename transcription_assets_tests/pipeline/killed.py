"""Process that is killed with SIGKILL during its n-th step, so that no cleanup code runs.

Run as a program, it reads `url n` lines. For each line it forks a child that processes the recording in the store at
that URL and kills itself during the n-th of the instrumented calls; the answer is `killed`, or the names of all calls
if the child survived. It forks because importing everything again would take longer than the rest; libraries that the
steps import when they need them are imported before the first fork for the same reason. None is used before it; the
event loop that LanceDB starts when it is imported is idle then, and LanceDB starts it again in the child.
"""

import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import obstore

from transcription_assets import media
from transcription_assets.pipeline import embeddings
from transcription_assets.search import schema
from transcription_assets.search.index import Index
from transcription_assets.storage import Store
from transcription_assets.storage.bucket import Bucket
from transcription_assets_tests.chain import PASSAGE_S, Chain
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine

KEY = "video/talks/a.mp4"
CHILD_S = 300
"""Seconds after which a child counts as hung; it needs some seconds."""
IMPORTED_BEFORE = (
    "boto3",
    "faster_whisper",
    "icu4py.breakers",
    "lancedb",
    "numpy.random",
    "onnxruntime",
    "pysubs2",
    "transcription_assets.cli.process",
)


@dataclass(slots=True)
class Assassin:
    """Count the calls, and kill the process during call number `strikes_at`."""

    strikes_at: int
    calls: list[str] = field(default_factory=list)

    def is_due(self, name: str) -> bool:
        self.calls.append(name)
        return len(self.calls) == self.strikes_at

    def after(self, owner: Any, name: str) -> None:
        """Kill the process when the call has done its work but has not returned."""
        work = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            due = self.is_due(name)
            result = work(*args, **options)
            return die() if due else result

        setattr(owner, name, call)

    def half_way(self, owner: Any, name: str) -> None:
        """Kill the process when half of a file has been sent to the store."""
        work = getattr(owner, name)

        def call(store: Store, path: str, data: bytes | Path) -> None:
            if self.is_due(f"{name} {path}"):
                objects = store._backend.objects  # noqa: SLF001 - the object store that it writes to
                obstore.put(objects, path, half(data if isinstance(data, bytes) else data.read_bytes()))
            work(store, path, data)

        setattr(owner, name, call)

    def as_soon_as(self, store: Store, name: str, part: str) -> None:
        """Kill the process while rows are written, as soon as a new file appears below this part of the table."""
        replace = Index.replace

        def call(*args: Any) -> int:
            if self.is_due(name):
                threading.Thread(target=lie_in_wait, args=(store, part, store.list(part)), daemon=True).start()
                replace(*args)
                die()
            return replace(*args)

        Index.replace = call  # type: ignore[method-assign]


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def half(data: bytes) -> Iterator[bytes]:
    yield data[: len(data) // 2]
    die()


def lie_in_wait(store: Store, part: str, before: list[str]) -> None:
    while store.list(part) == before:
        time.sleep(0.002)
    die()


def process(url: str, strikes_at: int) -> list[str]:
    """Process the recording; return the calls that were made, if the process survives."""
    store = Store.open(url)
    assassin = Assassin(strikes_at)
    for work in ("probe", "extract_speech"):
        assassin.after(media, work)
    assassin.after(ScriptedEngine, "_decode")
    for work in ("write", "upload"):
        assassin.half_way(Store, work)
    assassin.after(Store, "delete")
    table = schema.table_name(embeddings.recipe_of(str(HashEncoder().model), PASSAGE_S))
    assassin.as_soon_as(store, "replace, a version begun", f"lancedb/{table}.lance/_versions")
    assassin.as_soon_as(store, "replace, rows written", f"lancedb/{table}.lance/data")
    assassin.after(Bucket, "_copied")
    assassin.after(Store, "move_when_done")
    Chain(store, done_prefix=True).run(KEY)
    return assassin.calls


def in_a_child(work: Callable[[], list[str]]) -> str:
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(writing, "; ".join(work()).encode())
        except BaseException:  # noqa: BLE001 - the child must never continue in its parent's code
            traceback.print_exc()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        if not select.select([answer], [], [], CHILD_S)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hung"
        said = answer.read()
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else said


if __name__ == "__main__":
    for library in IMPORTED_BEFORE:
        import_module(library)
    for line in sys.stdin:
        url, _, number = line.rstrip("\n").rpartition(" ")
        print(in_a_child(lambda url=url, number=number: process(url, int(number))), flush=True)  # type: ignore[misc] # noqa: T201
