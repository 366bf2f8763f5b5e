"""The asset `slides` beside `audio`, alone and together with `speakers`, with a scripted reader."""

from itertools import chain, combinations
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from transcription_assets import definitions
from transcription_assets.defs import assets
from transcription_assets.defs.batch import RETRIES
from transcription_assets.defs.jobs import recordings as partitions
from transcription_assets.defs.resources import SlideReaderResource
from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.media.pictures import Pixels
from transcription_assets.pipeline import failure_notes
from transcription_assets.pipeline.slides import SlideTools
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.settings import Settings
from transcription_assets.slides.reader import Line
from transcription_assets_tests.defs.test_speakers import Diarising
from transcription_assets_tests.graph_runs import Graph, retries
from transcription_assets_tests.slides import pictures
from transcription_assets_tests.slides.pictures import ScriptedReader

TEXTS = {1: ["First heading"], 2: ["Second heading"]}
BROKEN = 3
OPTIONAL = tuple(chain.from_iterable(combinations(assets.OPTIONAL, count) for count in range(3)))


class BreakingReader(ScriptedReader):
    """FAKE: a bug at slide BROKEN."""

    def read(self, pixels: Pixels) -> list[Line]:
        if pictures.number_of(pixels) == BROKEN:
            raise IndexError("a bug")
        return super().read(pixels)


class Reading(SlideReaderResource):
    """FAKE: two texts."""

    def open(self, decoder: MediaDecoder) -> SlideTools:
        return SlideTools(BreakingReader(dict(TEXTS)), decoder)


class Missing(SlideReaderResource):
    """FAKE: the weights are not installed."""

    def open(self, decoder: MediaDecoder) -> SlideTools:  # noqa: ARG002 -- that of the resource
        raise PermanentFailure("the model pp-ocrv6-small is not installed")


class Flaky(SlideReaderResource):
    """FAKE: the disk fails while the second recording is read."""

    def open(self, decoder: MediaDecoder) -> SlideTools:
        return SlideTools(FlakyReader(dict(TEXTS)), decoder)


class FlakyReader(ScriptedReader):
    """FAKE: fails at slide 2, each time."""

    def read(self, pixels: Pixels) -> list[Line]:
        if pictures.number_of(pixels) == 2:
            raise TransientFailure("the disk does not answer")
        return super().read(pixels)


def drop(graph: Graph, name: str, *numbers: int) -> str:
    """Add a talk that shows these slides, 4 s each, and return its key."""
    key = f"video/{name}.mp4"
    pictures.talk(graph.root / key, [(pictures.slide(number, f"Text {number}" * number), 4.0) for number in numbers])
    graph.instance.add_dynamic_partitions(str(partitions.name), [key])
    return key


def failed_checks(graph: Graph, result: dg.ExecuteInProcessResult) -> list[str]:
    """Return the recordings for which the check `examined` warns."""
    found = graph.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations: list[Any] = [entry.get_dagster_event().event_specific_data for entry in found]
    return sorted(one.partition for one in evaluations if one.check_name == "examined" and not one.passed)


def test_slides_are_searchable_and_in_the_metadata(graph: Graph) -> None:
    graph.slide_reader = Reading()
    key = drop(graph, "a", 1, 2)
    result = graph.run([key])
    assert result.success
    assert graph.evaluations(result, "slides") == {("examined", key): 1}
    shown = graph.passages().filter(kind="slide")
    assert shown["text"].to_list() == ["First heading", "Second heading"]
    metadata = graph.metadata("slides", key)
    assert metadata["slides"] == 2
    assert "Second heading" in metadata["texts"]
    assert len(metadata["contact_sheet"]) < 1000
    assert graph.store.exists(media_keys.slide_picture(key, 2))


def test_pictures_that_break_everything_do_not_stop_the_words(graph: Graph) -> None:
    graph.slide_reader = Reading()
    batch = [drop(graph, "a", BROKEN), drop(graph, "b", 1)]
    result = graph.run(batch)
    assert result.success
    assert graph.materialised("embeddings") == batch
    assert graph.materialised("slides") == batch
    assert "IndexError" in graph.metadata("slides", batch[0])["problem"]


def test_missing_weights_do_not_stop_the_words(graph: Graph) -> None:
    graph.slide_reader = Missing()
    batch = [drop(graph, "a", 1), drop(graph, "b", 2)]
    result = graph.run(batch)
    assert result.success
    assert retries(graph.instance, result) == 0
    assert graph.materialised("slides") == graph.materialised("embeddings") == batch
    assert "pp-ocrv6-small" in graph.metadata("slides", batch[0])["problem"]
    assert failed_checks(graph, result) == batch
    assert [failure_notes.load(graph.store, key) for key in batch] == [None, None]


def test_a_last_attempt_that_fails_does_not_stop_the_words(graph: Graph) -> None:
    graph.slide_reader = Flaky()
    batch = [drop(graph, "a", 1), drop(graph, "b", 2)]
    result = graph.run(batch)
    assert result.success
    assert retries(graph.instance, result) == RETRIES.max_retries
    assert graph.materialised("slides") == graph.materialised("embeddings") == batch
    assert failed_checks(graph, result) == batch[1:]
    assert not graph.store.exists(media_keys.slides(batch[1]))
    graph.slide_reader = Reading()
    assert graph.run(batch[1:]).success
    assert graph.passages().filter(kind="slide")["media_key"].to_list() == batch


def test_sound_goes_on_without_slides(graph: Graph) -> None:
    graph.slide_reader = Reading()
    batch = graph.drop(2)
    assert graph.run(batch).success
    assert graph.metadata("slides", batch[0])["slides"] == 0
    assert graph.materialised("embeddings") == batch


def test_both_optional_assets_can_be_combined(graph: Graph) -> None:
    graph.slide_reader, graph.diariser = Reading(), Diarising()
    key = drop(graph, "a", 1)
    assert graph.run([key]).success
    assert graph.materialised("speakers") == graph.materialised("slides") == graph.materialised("embeddings") == [key]


@pytest.mark.parametrize("optional", OPTIONAL)
def test_graph_has_the_optional_assets_of_the_settings(tmp_path: Path, optional: tuple[str, ...]) -> None:
    speakers = "voices" if "speakers" in optional else "mixed"
    made = definitions.build(Settings(store=str(tmp_path), speakers=speakers, slides="slides" in optional))  # type: ignore[arg-type]
    graph = made.resolve_asset_graph()
    parents = {key.to_user_string() for key in graph.get(dg.AssetKey("embeddings")).parent_keys}
    assert parents == {"transcript", *optional}
    present = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert present & set(assets.OPTIONAL) == set(optional)
    selected = made.resolve_job_def("process_recordings").asset_layer.selected_asset_keys
    assert {dg.AssetKey(name) for name in optional} < set(selected)
    dg.Definitions.validate_loadable(made)
