"""A real worker process with a FAKE engine: `python -m transcription_assets_tests.workers.scripted_worker`.

It serves requests; in an Indexed Job, and with the arguments of a job (`work MANIFEST --shard N`), it does a shard.
It takes `DECODE_S` seconds for a window, and kills itself while it decodes (or extracts) one of `POISON` seconds. It
looks for its coordinator every `HEARTBEAT_S` seconds.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from functools import partial

from transcription_assets import settings
from transcription_assets.cli import work
from transcription_assets.pipeline import audio, video
from transcription_assets.speech import DecodedWindow, PlannedWindow
from transcription_assets.storage import Store
from transcription_assets.wiring import Services
from transcription_assets.workers import manifest as manifests
from transcription_assets.workers.manifest import Stage
from transcription_assets.workers.worker import StageWork, WholeRecordings
from transcription_assets_tests.chain import no_model, script
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine


@dataclass(slots=True)
class PoisonedEngine(ScriptedEngine):
    """FAKE engine that dies of some windows."""

    def _decode(self, plan: PlannedWindow) -> DecodedWindow:
        time.sleep(float(os.environ.get("DECODE_S", "0")))
        if str(round(plan.length)) == os.environ.get("POISON"):
            os.kill(os.getpid(), signal.SIGKILL)
        return ScriptedEngine._decode(self, plan)  # noqa: SLF001 -- slots: there is no `super()` without arguments


def extract(services: Services, store: Store, key: str) -> object:
    """Extract the audio of a recording, or die of it."""
    probed = video.load(store, key)
    if probed is not None and str(round(probed.probe.duration or 0)) == os.environ.get("POISON"):
        os.kill(os.getpid(), signal.SIGKILL)
    return audio.materialise(store, key, services.decoder)


def stage_work(services: Services, stage: Stage) -> StageWork:
    """Return the real work of a stage, with the FAKE engine and encoder."""
    if stage == "audio":
        return WholeRecordings(stage, audio.options(services.decoder), partial(extract, services))
    return services.stage_work(stage)


if __name__ == "__main__":
    output = work.own_output()
    manifests.HEARTBEAT_S = float(os.environ.get("HEARTBEAT_S", manifests.HEARTBEAT_S))
    services = Services(settings.load(), no_model)
    services.__dict__.update(engine=PoisonedEngine(script()), encoder=HashEncoder())
    index, arguments = os.environ.get("JOB_COMPLETION_INDEX"), sys.argv[1:]
    stage: Stage = "transcript"
    if "--stage" in arguments:
        at = arguments.index("--stage")
        stage = arguments[at + 1]  # type: ignore[assignment]
        del arguments[at : at + 2]
    if "--shard" in arguments:
        wanted = iter([(arguments[1], int(arguments[3]))])
    else:
        wanted = work.requested() if index is None else iter([(arguments[-1], int(index))])
    work.run(services.store, partial(stage_work, services, stage), output, wanted)
