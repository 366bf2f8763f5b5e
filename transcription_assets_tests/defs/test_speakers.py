"""The asset `speakers` beside `transcript`, with a scripted diariser."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray

from transcription_assets import definitions
from transcription_assets.defs.resources import DiariserResource
from transcription_assets.domain.chunking import Region
from transcription_assets.domain.speakers import Turn
from transcription_assets.domain.transcript import Span
from transcription_assets.errors import PermanentFailure
from transcription_assets.pipeline import transcript
from transcription_assets.pipeline.speakers import SpeakerTools
from transcription_assets.settings import Settings
from transcription_assets.speakers.diariser import Bounds, Diarisation, silent
from transcription_assets.speech import Samples, windowing
from transcription_assets_tests import recordings
from transcription_assets_tests.graph_runs import Graph
from transcription_assets_tests.pipeline.test_speakers import ScriptedDiariser

BROKEN_S = 3


@dataclass
class BreakingDiariser(ScriptedDiariser):
    """FAKE: fails for a recording of BROKEN_S seconds."""

    def diarise(
        self,
        blocks: Iterable[Samples],
        voiced: Sequence[Span],
        bounds: Bounds,
        progress: Callable[[float], None] = silent,
    ) -> Diarisation:
        if round(voiced[-1][1]) == BROKEN_S:
            raise PermanentFailure("these voices break everything")
        return super().diarise(blocks, voiced, bounds, progress)


class Diarising(DiariserResource):
    """FAKE: two speakers, one after the other."""

    def open(self) -> SpeakerTools:
        turns = (Turn(0.0, 1.0, "1"), Turn(1.0, 60.0, "2"))
        answer = Diarisation(turns, {"1": (1.0, 0.0), "2": (0.0, 1.0)})
        return SpeakerTools(BreakingDiariser(answer), recordings.wheel_ffmpeg())


@pytest.fixture
def voiced(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAKE voice activity detection: all of a recording is speech."""

    def everything(samples: NDArray[np.float32]) -> list[Region]:
        return [Region(0.0, len(samples) / 16_000)]

    monkeypatch.setattr(windowing, "voiced_regions", everything)


@pytest.mark.usefixtures("voiced")
def test_words_get_the_speakers_before_they_are_searchable(graph: Graph) -> None:
    graph.diariser = Diarising()
    batch = graph.drop(2, 4)
    result = graph.run(batch)
    assert result.success
    assert graph.materialised("speakers") == batch
    assert graph.evaluations(result, "speakers") == {("attributed", key): 1 for key in batch}
    assert [graph.metadata("speakers", key)["speakers"] for key in batch] == [2, 2]
    made = transcript.load(graph.store, batch[1])
    assert made is not None
    assert [segment.speaker for segment in made.segments] == ["Speaker 1", "Speaker 2"]
    assert set(graph.passages()["speakers"].explode().to_list()) == {"Speaker 1", "Speaker 2"}


@pytest.mark.usefixtures("voiced")
def test_recording_without_its_speakers_goes_no_further(graph: Graph) -> None:
    graph.diariser = Diarising()
    batch = graph.drop(2, BROKEN_S, 4)
    good = [batch[0], batch[2]]
    result = graph.run(batch)
    assert result.success
    assert graph.materialised("transcript") == batch
    assert graph.materialised("speakers") == good
    assert graph.materialised("embeddings") == good
    assert graph.statuses("speakers", batch)[batch[1]] == "FAILED"


@pytest.mark.parametrize(("speakers", "present"), [("mixed", False), ("channels", False), ("voices", True)])
def test_graph_has_the_asset_only_if_voices_are_told_apart(tmp_path: Path, speakers: str, present: bool) -> None:  # noqa: FBT001
    made = definitions.build(Settings(store=str(tmp_path), speakers=speakers))  # type: ignore[arg-type]
    graph = made.resolve_asset_graph()
    assert (dg.AssetKey("speakers") in graph.get_all_asset_keys()) is present
    parents = graph.get(dg.AssetKey("embeddings")).parent_keys
    assert (dg.AssetKey("speakers") in parents) is present
    dg.Definitions.validate_loadable(made)
