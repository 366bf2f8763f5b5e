"""A real worker process with a FAKE engine: `python -m transcription_assets_tests.workers.scripted_worker`.

It serves requests; in an Indexed Job, and with the arguments of a job (`work MANIFEST --shard N`), it decodes a shard.
It takes `DECODE_S` seconds for a window, and kills itself while it decodes one of `POISON` seconds.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass

from transcription_assets import settings
from transcription_assets.cli import work
from transcription_assets.speech import DecodedWindow, PlannedWindow
from transcription_assets.wiring import Services
from transcription_assets_tests.chain import no_model, script
from transcription_assets_tests.fakes import ScriptedEngine


@dataclass(slots=True)
class PoisonedEngine(ScriptedEngine):
    """FAKE engine that dies of some windows."""

    def _decode(self, plan: PlannedWindow) -> DecodedWindow:
        time.sleep(float(os.environ.get("DECODE_S", "0")))
        if str(round(plan.length)) == os.environ.get("POISON"):
            os.kill(os.getpid(), signal.SIGKILL)
        return ScriptedEngine._decode(self, plan)  # noqa: SLF001 -- slots: there is no `super()` without arguments


if __name__ == "__main__":
    output = work.own_output()
    services = Services(settings.load(), no_model)
    services.__dict__.update(engine=PoisonedEngine(script()))
    index, arguments = os.environ.get("JOB_COMPLETION_INDEX"), sys.argv[1:]
    if "--shard" in arguments:
        wanted = iter([(arguments[1], int(arguments[3]))])
    else:
        wanted = work.requested() if index is None else iter([(arguments[-1], int(index))])
    work.run(services, output, wanted)
