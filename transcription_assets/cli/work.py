"""The worker command: decode a shard of a manifest; launchers start it."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from queue import Queue
from typing import IO

import click

from transcription_assets import settings
from transcription_assets.errors import TranscriptionError
from transcription_assets.pipeline.shard_status import ShardStatus
from transcription_assets.wiring import Services, locate_installed
from transcription_assets.workers import manifest as manifests
from transcription_assets.workers.worker import ExitCode, Worker

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
@click.option("--serve", is_flag=True, hidden=True, help="Read `MANIFEST SHARD` lines from the input until it ends.")
def work(manifest: str, shard: int | None, *, serve: bool) -> None:
    """Decode one shard of a MANIFEST into checkpoints, as a worker of a run; progress is written as JSON lines.

    Exit code 0: all of it is done; 65: a recording failed, and a retry does not help; 75: a retry may help. It needs
    the store, the weights, and the settings of the run.
    """
    if bool(manifest) == serve or (manifest and shard is None):
        raise click.UsageError("a worker needs a MANIFEST and --shard")
    output = own_output()
    chosen = settings.load()
    run(Services(chosen, locate_installed(chosen)), output, requested() if serve else iter([(manifest, shard or 0)]))


def run(services: Services, output: IO[str], wanted: Iterator[Work]) -> None:
    """Decode shards one after another, and exit with the code of the last one."""

    def tell(**event: object) -> None:
        output.write(f"{json.dumps(event)}\n")
        output.flush()

    def changed(status: ShardStatus) -> None:
        current = sorted({key for key, _, _ in status.current})
        failed = {key: asdict(item) for key, item in status.failed.items()}
        done = {"share": round(status.share, 3), "windows": len(status.done), "failed": failed}
        tell(event="progress", recordings=current, **done)

    with suppress(Exception):  # the work raises the same again
        services.engine.load()
    code = ExitCode.DONE
    for identifier, shard in wanted:
        try:
            worker = Worker(services.store, services.engine, services.decoder.ffmpeg, changed)
            code = worker.run(manifests.load(services.store, identifier), shard)
            tell(event="done", manifest=identifier, shard=shard, code=int(code))
        except TranscriptionError as error:
            code = ExitCode.TRANSIENT if error.transient else ExitCode.PERMANENT
            tell(event="error", manifest=identifier, shard=shard, reason=str(error), transient=error.transient)
    sys.exit(code)


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
        os._exit(ExitCode.TRANSIENT)

    threading.Thread(target=read, name="requests", daemon=True).start()
    while True:
        identifier, shard = lines.get().split()
        yield identifier, int(shard)
