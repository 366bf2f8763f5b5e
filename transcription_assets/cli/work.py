"""The worker command: do a shard of a manifest; launchers start it."""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from queue import Queue
from typing import IO

import click

from transcription_assets import settings
from transcription_assets.errors import PermanentFailure, TranscriptionError
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.storage import Store, temporary
from transcription_assets.wiring import Services, locate_installed
from transcription_assets.workers import manifest as manifests
from transcription_assets.workers.manifest import STAGES, Stage
from transcription_assets.workers.worker import ExitCode, StageWork, Worker

Work = tuple[str, int]
"""Identifier of a manifest, and number of a shard."""


@click.command()
@click.argument("manifest", required=False, default="")
@click.option(
    "--shard",
    type=click.IntRange(0),
    envvar="JOB_COMPLETION_INDEX",
    help="Number of the shard; by default the index that Kubernetes gives a pod of an Indexed Job.",
)
@click.option(
    "--stage",
    type=click.Choice(STAGES),
    default="transcript",
    show_default=True,
    help="Step that the manifest is for: `audio` extracts, `transcript` decodes, `embeddings` encodes.",
)
@click.option("--serve", is_flag=True, hidden=True, help="Read `MANIFEST SHARD` lines from the input until it ends.")
def work(manifest: str, shard: int | None, stage: Stage, *, serve: bool) -> None:
    """Do one shard of a MANIFEST, as a worker of a run; progress is written as JSON lines.

    Exit code 0: all of it is done; 65: a recording failed, and a retry does not help; 75: a retry may help. It needs
    the store, the weights, and the settings of the run.
    """
    if bool(manifest) == serve or (manifest and shard is None):
        raise click.UsageError("a worker needs a MANIFEST and --shard")
    logging.getLogger().setLevel(logging.WARNING)
    output = own_output()
    try:
        chosen = settings.load()
        services = Services(chosen, locate_installed(chosen))
        store = services.store
    except TranscriptionError as error:
        write(output, event="error", reason=str(error), transient=error.transient)
        sys.exit(ExitCode.TRANSIENT if error.transient else ExitCode.PERMANENT)
    wanted = requested() if serve else iter([(manifest, shard or 0)])
    run(store, partial(services.stage_work, stage), output, wanted)


def run(store: Store, stage_work: Callable[[], StageWork], output: IO[str], wanted: Iterator[Work]) -> None:
    """Work on shards one after another, and exit with the code of the last; the weights load before the first.

    Raises:
        SystemExit: the work ended.

    """
    failure: TranscriptionError | None = None
    try:
        what = stage_work()
        what.load()
    except TranscriptionError as error:
        failure = error
    except Exception as error:  # noqa: BLE001 -- of a library; every shard is refused with it
        failure = PermanentFailure(f"the model cannot be loaded ({error}): download it again")
    code = ExitCode.DONE
    for identifier, shard in wanted:
        try:
            if failure is not None:
                raise failure
            changed = partial(_progress, output)
            code = Worker(store, what, changed).run(manifests.load(store, identifier), shard)
            write(output, event="done", code=int(code))
        except TranscriptionError as error:
            code = ExitCode.TRANSIENT if error.transient else ExitCode.PERMANENT
            write(output, event="error", reason=str(error), transient=error.transient)
    sys.exit(code)


def write(output: IO[str], **event: object) -> None:
    """Write an event as a line of JSON."""
    output.write(f"{json.dumps(event)}\n")
    output.flush()


def _progress(output: IO[str], status: ShardStatus) -> None:
    write(output, event="progress", status=asdict(status))


def own_output() -> IO[str]:
    """Return the standard output for events only; whatever libraries print goes to the standard error."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return output


def requested() -> Iterator[Work]:
    """Yield the work that is read from the standard input; when that ends, the coordinator has ended, so exit at once.

    It is read in a thread, so that a worker ends while it decodes.
    """
    lines: Queue[str] = Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        temporary.end()
        os._exit(ExitCode.TRANSIENT)

    threading.Thread(target=read, name="requests", daemon=True).start()
    while True:
        identifier, shard = lines.get().split()
        yield identifier, int(shard)
