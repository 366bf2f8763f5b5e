"""The asset `slides` beside `audio`, alone and together with `speakers`, with a scripted reader."""

from itertools import chain, combinations
from pathlib import Path

import dagster as dg
import pytest

from transcription_assets import definitions
from transcription_assets.defs import assets
from transcription_assets.defs.jobs import recordings as partitions
from transcription_assets.defs.resources import SlideReaderResource
from transcription_assets.domain import media_keys
from transcription_assets.media.pictures import Pixels
from transcription_assets.pipeline.slides import SlideTools
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.settings import Settings
from transcription_assets.slides.reader import Line
from transcription_assets_tests.defs.test_speakers import Diarising
from transcription_assets_tests.graph_runs import Graph
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


def drop(graph: Graph, name: str, *numbers: int) -> str:
    """Add a talk that shows these slides, 4 s each, and return its key."""
    key = f"video/{name}.mp4"
    pictures.talk(graph.root / key, [(pictures.slide(number, f"Text {number}" * number), 4.0) for number in numbers])
    graph.instance.add_dynamic_partitions(str(partitions.name), [key])
    return key


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
