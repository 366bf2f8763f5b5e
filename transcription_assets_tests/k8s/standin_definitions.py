"""The real definitions with fake models and short retry delays, for the pods of the stand-in cluster.

FAKE: the engine appends a line to a file for each recording that it transcribes, and waits in the middle of it while
a file `hold-<seconds>` exists beside the store.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from transcription_assets import settings
from transcription_assets.defs import batch

batch.RETRIES = dg.RetryPolicy(max_retries=2, delay=0.2)  # before the assets use it

from transcription_assets import definitions  # noqa: E402
from transcription_assets.speech import DecodedWindow, PlannedWindow  # noqa: E402
from transcription_assets_tests.fake_resources import HashEncoding, ScriptedSpeech  # noqa: E402
from transcription_assets_tests.fakes import HashEncoder, ScriptedEngine  # noqa: E402


@dataclass(slots=True)
class WitnessedEngine(ScriptedEngine):
    """FAKE: a scripted engine that logs the recordings it transcribes."""

    folder: Path = Path()
    group_s: float = 1.0

    def _decode(self, plan: PlannedWindow) -> DecodedWindow:
        """Log the recording, wait while it is held, then return the scripted result."""
        seconds = round(plan.length)
        with (self.folder / "heard").open("a", encoding="utf-8") as heard:
            heard.write(f"{seconds}\n")
        while (self.folder / f"hold-{seconds}").exists():
            time.sleep(0.02)
        return ScriptedEngine._decode(self, plan)  # noqa: SLF001 -- slots: there is no `super()` without arguments


chosen = settings.load()
real = definitions.build(chosen)
defs = dg.Definitions(
    assets=real.assets,
    jobs=real.jobs,
    executor=real.executor,
    resources={
        **(real.resources or {}),
        "speech": ScriptedSpeech(scripted=WitnessedEngine(folder=Path(chosen.store).parent)),
        "encoder": HashEncoding(encoder=HashEncoder()),
    },
)
