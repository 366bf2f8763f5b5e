"""The next sound is made ready while one is heard, and nothing is lost, mixed up or left behind by it."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcription_assets import keys
from transcription_assets.ahead import Ahead
from transcription_assets.failures import PermanentFailure
from transcription_assets.speech import SAMPLE_RATE
from transcription_assets.steps import audio, transcript, video
from transcription_assets.steps.sounds import Sounds
from transcription_assets.steps.video import Decoder
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.fakes import ScriptedEngine

FFMPEG = recordings.wheel_ffmpeg()
DECODER = Decoder(FFMPEG)
SECONDS = (2, 3, 4)


@given(items=st.lists(st.integers()), depth=st.integers(1, 5))
def test_the_same_items_come_in_the_same_order(items: list[int], depth: int) -> None:
    assert list(Ahead(items, depth)) == items


@given(items=st.lists(st.integers()), depth=st.integers(1, 5))
def test_an_error_comes_where_it_was_and_again_for_who_asks_again(items: list[int], depth: int) -> None:
    def broken() -> Iterator[int]:
        yield from items
        raise PermanentFailure("here")

    ahead = Ahead(broken(), depth)
    assert [next(ahead) for _ in items] == items
    for _ in range(2):
        with pytest.raises(PermanentFailure, match="here"):
            next(ahead)


def test_the_next_item_is_made_while_the_one_before_is_worked_on() -> None:
    made = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        made.set()
        yield 2

    ahead = Ahead(items(), 1)
    assert next(ahead) == 1
    assert made.wait(30), "the GPU would wait for the decoder"
    assert list(ahead) == [2]


@given(taken=st.integers(0, 3), depth=st.integers(1, 3))
def test_whoever_stops_early_leaves_no_thread_and_an_unclosed_source_behind(taken: int, depth: int) -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    ahead = Ahead(endless(), depth)
    for _ in range(taken):
        next(ahead)
    ahead.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
    with pytest.raises(StopIteration):
        next(ahead)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(str(tmp_path / "store"))
    for length in SECONDS:
        key = f"audio/{length}.wav"
        recordings.tone(tmp_path / "store" / key, length, rate=16_000)
        video.materialise(store, key, DECODER)
        audio.materialise(store, key, DECODER)
    return store


BATCH = [f"audio/{length}.wav" for length in SECONDS]


def test_each_recording_has_its_own_sound_and_the_next_is_ready(store: Store) -> None:
    with Sounds(store, FFMPEG, BATCH, lambda _key: True) as sounds:
        for length, key in zip(SECONDS, BATCH, strict=True):
            with sounds.of(key) as blocks:
                waiting = sounds._next  # noqa: SLF001 -- that it is ready is all that this is for
                assert waiting is not None
                ready = waiting.result(30)
                assert (ready.key if ready else "") == (BATCH[SECONDS.index(length) + 1] if length < 4 else "")
                assert sum(map(len, blocks)) / SAMPLE_RATE == pytest.approx(length, abs=0.1)


def test_a_recording_that_is_skipped_is_neither_opened_nor_in_the_way(store: Store) -> None:
    with Sounds(store, FFMPEG, BATCH, lambda key: key != BATCH[1]) as sounds:
        with sounds.of(BATCH[0]) as blocks:
            list(blocks)
        with sounds.of(BATCH[2]) as blocks:
            assert sum(map(len, blocks)) / SAMPLE_RATE == pytest.approx(4, abs=0.1)


def test_what_is_wrong_with_the_next_recording_is_told_when_it_is_its_turn(store: Store) -> None:
    store.delete(keys.flac(BATCH[1]))
    with Sounds(store, FFMPEG, BATCH, lambda _key: True) as sounds:
        with sounds.of(BATCH[0]) as blocks:
            assert np.concatenate(list(blocks)).size
        with pytest.raises(PermanentFailure), sounds.of(BATCH[1]) as blocks:
            list(blocks)


def test_no_decoder_is_left_when_a_batch_ends_in_the_middle(store: Store) -> None:
    with (
        pytest.raises(RuntimeError),
        Sounds(store, FFMPEG, BATCH, lambda _key: True) as sounds,
        sounds.of(BATCH[0]),
    ):
        raise RuntimeError("the engine is broken")
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(store.url) not in listed.stdout


def test_a_batch_is_transcribed_as_its_recordings_alone_are(store: Store) -> None:
    engine = ScriptedEngine()
    with transcript.sounds(store, BATCH, engine, FFMPEG) as sounds:
        made = [transcript.materialise(store, key, engine, FFMPEG, batch=sounds)[0] for key in BATCH]
    assert [item.text for item in made] == [f"These are {length} seconds." for length in SECONDS]
    assert engine.heard == list(SECONDS)
    with transcript.sounds(store, BATCH, engine, FFMPEG) as sounds:
        assert all(transcript.materialise(store, key, engine, FFMPEG, batch=sounds)[1] for key in BATCH)
    assert engine.heard == list(SECONDS), "what is there is not decoded again"
