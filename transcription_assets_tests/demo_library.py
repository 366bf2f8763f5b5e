"""The demo and difficult sound, processed by the graph with the real models: once for all processes of a test run.

Two test modules need the transcripts of the demo. Each runs in its own process, and the models take a minute of CPU
time.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from filelock import FileLock

from transcription_assets import settings
from transcription_assets.defs.resources import EncoderResource, SpeechResource
from transcription_assets_tests import demo, recordings
from transcription_assets_tests.graph_runs import Graph

TIMEOUT_S = 900
"""Timeout in seconds of tests that use the library: the first in each process may wait until another has made it."""
KEYS = {path: f"video/{path.relative_to(demo.FOLDER)}" for path in (demo.BEES, demo.BREAD, demo.WIZARD)}
SPEECHLESS = ("audio/silence.flac", "audio/noise.flac", "audio/tones.flac", "audio/rhythm.flac")
BOTH = "audio/two languages.flac"
"""The first ENGLISH_S seconds of BEES, then the first ITALIAN_S seconds of BREAD; both end in a pause."""
ENGLISH_S = 13.5
ITALIAN_S = 10.2
CENTRE = "audio/centre.flac"
"""The first seconds of WIZARD as 5.1 sound with a voice in the centre channel only."""
NO_COMPUTE_LOGS = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}
BATCH = sorted([*KEYS.values(), *SPEECHLESS, BOTH, CENTRE])


@dataclass(frozen=True, slots=True)
class DemoLibrary:
    """A completely processed store, to be read only, and the Dagster run that processed it."""

    graph: Graph
    run: dg.DagsterRun

    @property
    def keys(self) -> Sequence[str]:
        """Keys of all recordings, as the run got them."""
        return BATCH


@contextmanager
def opened(config: pytest.Config, factory: pytest.TempPathFactory) -> Iterator[DemoLibrary]:
    """Yield the library; the first process of the test run that needs it makes it, others wait."""
    own = factory.getbasetemp()
    shared = (own.parent if hasattr(config, "workerinput") else own) / "demo-library"
    shared.mkdir(exist_ok=True)
    made = shared / "run.json"
    with FileLock(shared / ".lock"):
        if not made.exists():
            for leftover in ("store", "dagster"):
                shutil.rmtree(shared / leftover, ignore_errors=True)
            _put(shared / "store")
            with _graph(shared) as graph:
                made.write_text(json.dumps(_processed(graph)), encoding="utf-8")
    with _graph(shared) as graph:
        run = graph.instance.get_run_by_id(json.loads(made.read_text(encoding="utf-8")))
        assert run is not None
        yield DemoLibrary(graph, run)


@contextmanager
def _graph(shared: Path) -> Iterator[Graph]:
    """Yield the graph with the real models; its Dagster instance is in a folder, which other processes can open."""
    home = shared / "dagster"
    home.mkdir(exist_ok=True)
    folder = str(settings.load().models_dir)
    with dg.DagsterInstance.local_temp(str(home), NO_COMPUTE_LOGS) as instance:
        yield Graph(
            shared / "store",
            instance,
            speech=SpeechResource(whisper_model="base", models_dir=folder),
            encoding=EncoderResource(name="all-MiniLM-L6-v2", models_dir=folder),
        )


def _processed(graph: Graph) -> str:
    """Process all recordings in one batch, and return the ID of the run."""
    graph.instance.add_dynamic_partitions("recordings", BATCH)
    result = graph.run(BATCH)
    reasons = [event.step_failure_data.user_failure_data for event in result.get_step_failure_events()]
    assert result.success, "\n".join(str(reason and reason.description) for reason in reasons)
    return result.run_id


def _put(root: Path) -> None:
    """Put the demo, a bilingual file, 5.1 audio and audio without speech into a new store."""
    for path, key in KEYS.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / key)
    recordings.silence(root / SPEECHLESS[0], 8.0)
    recordings.noise(root / SPEECHLESS[1], 8.0)
    recordings.music(root / SPEECHLESS[2], 8.0)
    recordings.speech_like(root / SPEECHLESS[3], 8.0)
    one_after_the_other = "[0:a]aresample=16000[a];[1:a]aresample=16000[b];[a][b]concat=n=2:v=0:a=1"
    inputs = ["-t", str(ENGLISH_S), "-i", str(demo.BEES), "-t", str(ITALIAN_S), "-i", str(demo.BREAD)]
    recordings.make(root / BOTH, *inputs, "-filter_complex", one_after_the_other)
    centre_only = "pan=5.1|FL=0*c0|FR=0*c0|FC=c0|LFE=0*c0|BL=0*c0|BR=0*c0"
    recordings.make(root / CENTRE, "-t", "11.5", "-i", str(demo.WIZARD), "-vn", "-af", centre_only)
