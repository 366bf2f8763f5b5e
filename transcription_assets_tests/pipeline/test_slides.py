"""The step `slides` of one recording, and its rows in the search table."""

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image  # noqa: TID253 -- thumbnails are compared with pictures

from transcription_assets import models, settings
from transcription_assets.cli.process import Report, process
from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure
from transcription_assets.media.pictures import Pixels
from transcription_assets.pipeline import failure_notes, records, slides, video
from transcription_assets.pipeline.slides import SlideTools
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.slides import sampling
from transcription_assets.slides.layout import MOST_CHARACTERS
from transcription_assets.slides.local import LocalReader
from transcription_assets.slides.reader import Line, TextReader
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.chain import Chain
from transcription_assets_tests.slides import pictures
from transcription_assets_tests.slides.pictures import ScriptedReader

KEY = "video/a.mp4"
DECODER = MediaDecoder(recordings.wheel_ffmpeg())
TEXTS = {1: ["First heading", "One item"], 2: ["Second heading"]}


@dataclass
class BreakingReader(ScriptedReader):
    """FAKE: fails at the second slide, as a library does that meets a bug."""

    def read(self, pixels: Pixels) -> list[Line]:
        if pictures.number_of(pixels) == 2:
            raise IndexError("a bug")
        return super().read(pixels)


def tools(reader: ScriptedReader | None = None, decoder: MediaDecoder = DECODER) -> SlideTools:
    return SlideTools(reader or ScriptedReader(dict(TEXTS)), decoder)


def probed(store: Store, key: str = KEY) -> Store:
    video.materialise(store, key, DECODER)
    return store


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a probed talk of two slides, 6 s each."""
    root = tmp_path_factory.mktemp("talk")
    pictures.talk(root / KEY, [(pictures.slide(number, *TEXTS[number]), 6.0) for number in TEXTS])
    probed(Store.open(str(root)))
    return root


@pytest.fixture
def store(talk: Path, tmp_path: Path) -> Store:
    """A copy of that store."""
    shutil.copytree(talk, tmp_path, dirs_exist_ok=True)
    return Store.open(str(tmp_path))


def test_the_record_is_written_and_reused(store: Store) -> None:
    reader, done = ScriptedReader(dict(TEXTS)), list[float]()
    made = slides.materialise(store, KEY, tools(reader), done.append)
    assert [slide.text for slide in made.slides] == ["First heading\nOne item", "Second heading"]
    assert [slide.start for slide in made.slides] == pytest.approx([0.0, 6.0], abs=0.25)
    assert made.slides[-1].end == pytest.approx(12.0, abs=0.3)
    assert (made.has_video, made.problem, made.counts.dropped) == (True, "", 0)
    assert done == sorted(done)
    assert slides.load(store, KEY) == replace(made, reused=True)
    assert slides.materialise(store, KEY, tools(reader)).reused
    assert reader.read_numbers == [1, 2]


def test_thumbnails_are_of_the_slides(store: Store, tmp_path: Path) -> None:
    made = slides.materialise(store, KEY, tools())
    assert store.list(media_keys.slide_pictures(KEY)) == [media_keys.slide_picture(KEY, number) for number in TEXTS]
    for number in TEXTS:
        with Image.open(tmp_path / media_keys.slide_picture(KEY, number)) as picture:
            assert picture.size == (320, 180)
            assert pictures.number_of(np.array(picture.convert("RGB"))) == number
    assert len(slides.thumbnails(store, made, 6)) == 2


def test_another_reader_reads_again_and_leaves_no_old_pictures(store: Store) -> None:
    slides.materialise(store, KEY, tools())
    again = slides.materialise(store, KEY, tools(ScriptedReader({1: TEXTS[1]}, model="other@1")))
    assert (again.reused, again.model, len(again.slides)) == (False, "other@1", 1)
    assert store.list(media_keys.slide_pictures(KEY)) == [media_keys.slide_picture(KEY, 1)]


@pytest.mark.parametrize("name", ["audio/a.mp3", "audio/a.wav"])
def test_sound_with_or_without_a_cover_has_an_empty_record(name: str, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    make = recordings.mp3_with_cover if name.endswith("mp3") else recordings.tone
    make(tmp_path / name)
    reader = ScriptedReader({})
    made = slides.materialise(probed(store, name), name, tools(reader))
    assert (made.has_video, made.slides, made.problem) == (False, (), "")
    assert reader.found == 0


def test_a_recording_that_was_not_probed_is_refused(tmp_path: Path) -> None:
    recordings.video(tmp_path / KEY)
    with pytest.raises(PermanentFailure) as caught:
        slides.materialise(Store.open(str(tmp_path)), KEY, tools())
    assert (caught.value.key, caught.value.step) == (KEY, "slides")


def test_a_damaged_picture_stream_has_a_record(store: Store, tmp_path: Path) -> None:
    """The pictures are damaged. The sound of an MP4 whose index is whole stays readable, so the recording goes on."""
    whole = tmp_path / "whole.mp4"
    pictures.talk(whole, [(pictures.slide(1, "x"), 8.0)], "-movflags", "+faststart")
    data = bytearray(whole.read_bytes())
    start = data.index(b"mdat") + 4
    for at in range(start, start + (len(data) - start) // 2):
        data[at] = at * 97 % 256
    (tmp_path / KEY).write_bytes(data)
    video.materialise(store, KEY, DECODER)
    made = slides.materialise(store, KEY, tools())
    assert (made.slides, made.counts.pictures, bool(made.problem)) == ((), 0, True)
    assert slides.load(store, KEY) is not None
    assert failure_notes.load(store, KEY) is None


def test_a_bug_of_the_reader_keeps_the_slides_before_it(store: Store) -> None:
    made = slides.materialise(store, KEY, tools(BreakingReader(dict(TEXTS))))
    assert "IndexError" in made.problem
    assert [slide.number for slide in made.slides] == []
    assert slides.load(store, KEY) is not None


def test_the_time_limit_keeps_what_was_found(store: Store) -> None:
    made = slides.materialise(store, KEY, tools(decoder=replace(DECODER, floor_s=0.0, per_second=0.0)))
    assert (made.slides, bool(made.problem)) == ((), True)
    again = slides.materialise(store, KEY, tools())
    assert (len(again.slides), again.problem, again.reused) == (2, "", False)


def test_too_many_pictures_are_a_problem(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_PICTURES", 1)
    monkeypatch.setattr(sampling, "interval", lambda _duration: sampling.EVERY_S)
    made = slides.materialise(store, KEY, tools())
    assert (made.counts.pictures, len(made.slides), bool(made.problem)) == (1, 1, True)


def test_ten_thousand_words_are_bounded(store: Store) -> None:
    reader = ScriptedReader({1: ["word"] * 10_000})
    made = slides.materialise(store, KEY, tools(reader))
    assert 0 < len(made.slides[0].text) <= MOST_CHARACTERS


def test_a_cut_each_second_has_bounded_work(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    pictures.talk(tmp_path / KEY, [(pictures.film_frame(number), 1.0) for number in range(60)], "-g", "1", rate=1)
    reader = ScriptedReader({})
    started = time.process_time()
    made = slides.materialise(probed(store), KEY, tools(reader))
    assert made.slides == ()
    assert made.counts.pictures <= 60 / sampling.EVERY_S + 1
    assert reader.found < 15
    assert time.process_time() - started < 10


def test_damaged_records_are_made_again(store: Store) -> None:
    slides.materialise(store, KEY, tools())
    records.write(store, media_keys.slides(KEY), {"version": slides.VERSION, "slides": [{"number": "x"}]})
    assert slides.load(store, KEY) is None
    assert not slides.materialise(store, KEY, tools()).reused


@pytest.fixture(scope="session")
def local_reader() -> LocalReader:
    """The reader with the weights of the catalogue."""
    return LocalReader(models.pull("pp-ocrv6-small", "ocr", settings.load().models_dir))


@pytest.mark.models
def test_upright_sloping_and_vertical_text_is_read(local_reader: LocalReader) -> None:
    flat = Image.fromarray(pictures.slide(1, "Quarterly results", "Costs fell by 12 percent"))
    turned = flat.rotate(90, expand=True, fillcolor=(245, 240, 230))
    sloping = flat.rotate(-6, fillcolor=(245, 240, 230))
    for picture in (flat, sloping, turned):
        large = picture.resize((picture.width * 2, picture.height * 2))
        found = {line.text for line in local_reader.read(np.array(large))}
        assert {"Quarterly results", "Costs fell by 12 percent"} <= found


@pytest.mark.models
def test_film_and_noise_have_no_text(local_reader: LocalReader) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (360, 640, 3), np.uint8)
    assert local_reader.read(noise) == []
    assert [local_reader.find(pictures.film_frame(seed)) for seed in range(5)] == [[]] * 5


@pytest.mark.models
def test_damaged_weights_name_the_pull_command(tmp_path: Path) -> None:
    for name in ("detection.onnx", "recognition.onnx"):
        (tmp_path / name).write_bytes(b"no network")
    reader = LocalReader(models.Located(tmp_path, "x", "1"))
    with pytest.raises(PermanentFailure) as caught:
        reader.find(pictures.slide(1, "x"))
    assert "models pull" in caught.value.hint


@pytest.fixture(scope="module")
def short_talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A talk of two slides, 5 s each, which the scripted engine transcribes."""
    parts = [(pictures.slide(number, *TEXTS[number]), 5.0) for number in TEXTS]
    return pictures.talk(tmp_path_factory.mktemp("talk") / "a.mp4", parts)


def chain_of(folder: Path, talk: Path, reader: TextReader) -> Chain:
    store = Store.open(str(folder / "store"))
    store.put_media(KEY, talk)
    return Chain(store, reader=reader)


def test_process_makes_slides_searchable(short_talk: Path, tmp_path: Path) -> None:
    chain = chain_of(tmp_path, short_talk, ScriptedReader(dict(TEXTS)))
    assert chain.run(KEY).done == [KEY]
    rows = chain.rows()
    assert rows.filter(kind="slide")["text"].to_list() == ["First heading One item", "Second heading"]
    assert rows.filter(kind="speech").height > 0
    assert chain.run(KEY).reused == [KEY]


def test_process_goes_on_without_slides_and_says_so(short_talk: Path, tmp_path: Path) -> None:
    chain = chain_of(tmp_path, short_talk, BreakingReader(dict(TEXTS)))
    report = chain.run(KEY)
    assert report.done == [KEY]
    assert "IndexError" in report.incomplete[KEY]
    tools = chain.tools
    del tools.__dict__["slide_tools"]  # the weights are missing
    (tmp_path / "store" / media_keys.slides(KEY)).unlink()
    again = Report()
    for _ in process(tools, [KEY], lambda _step: None, again):
        pass
    assert again.failed == {}
    assert "pp-ocrv6-small" in again.incomplete[KEY]


def test_slides_that_are_turned_off_leave_the_search(short_talk: Path, tmp_path: Path) -> None:
    chain = chain_of(tmp_path, short_talk, ScriptedReader(dict(TEXTS)))
    chain.run(KEY)
    chain.reader = None
    chain.run(KEY)
    assert set(chain.rows()["kind"]) == {"speech"}
