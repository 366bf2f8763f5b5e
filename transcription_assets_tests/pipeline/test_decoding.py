"""Decoding of stored recordings into checkpoints, after kills, lost windows and damage. FAKE models of `spelling`."""

import wave
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from transcription_assets.domain import media_keys
from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment, Word
from transcription_assets.errors import PermanentFailure, TransientFailure
from transcription_assets.pipeline import decoding, window_plan
from transcription_assets.pipeline.checkpoints import Checkpoints
from transcription_assets.pipeline.decoding import DecodeRequest, InProcessTranscriber
from transcription_assets.speech import (
    SAMPLE_RATE,
    DecodedWindow,
    Samples,
    SpeechResult,
    windowing,
    windows,
)
from transcription_assets.speech import whisper as whispering
from transcription_assets.speech.decoder import Choose, Chunk, Decoded
from transcription_assets.storage import Store
from transcription_assets_tests import recordings
from transcription_assets_tests.speech.spelling import SpellingDecoder, engine, loud, said, spelling, texts

FFMPEG = recordings.wheel_ffmpeg()


@pytest.fixture(autouse=True)
def _scripted_voices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "voiced_regions", loud)
    monkeypatch.setattr(windowing, "WINDOW_S", 20.0)
    monkeypatch.setattr(whispering, "WINDOW_S", 20.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


class KilledError(BaseException):
    """Simulated end of the process."""


@dataclass
class DyingDecoder(SpellingDecoder):
    """Fake decoder: end the process in the batch with the word number `dies_at`."""

    dies_at: int = 0

    def decode(self, batch: Sequence[Chunk], choose: Choose) -> list[Decoded]:
        found = super().decode(batch, choose)
        if any(int(word.word) >= self.dies_at for item in found for word in item.segment.words):
            raise KilledError
        return found


def put(store: Store, key: str, *sides: Samples) -> DecodeRequest:
    """Store samples as extracted audio, one channel each, and return the request to decode them."""
    path = Path(store.url) / "samples.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(sides))
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.stack(sides, axis=1) * 32768).astype("<i2").tobytes())
    flac = recordings.make(Path(store.url) / media_keys.flac(key), "-i", str(path))
    plan = window_plan.make(str(flac), key, channels=len(sides), duration=len(sides[0]) / SAMPLE_RATE, ffmpeg=FFMPEG)
    assert len(plan.channels) == len(sides)
    return DecodeRequest(key, f"1|{plan.digest}", plan)


def run(store: Store, decoder: SpellingDecoder, *requests: DecodeRequest) -> dict[str, Exception | None]:
    transcriber = InProcessTranscriber(engine(decoder), FFMPEG)
    return {request.key: error for request, error in transcriber.decode(store, requests, lambda _key, _seconds: None)}


def result(store: Store, request: DecodeRequest) -> SpeechResult:
    return replace(decoding.merged(store, request, engine(SpellingDecoder()).options), wall_s=0.0)


@pytest.mark.parametrize("channels", [1, 2])
def test_killed_run_repeats_at_most_one_window(channels: int, store: Store) -> None:
    words = said(240.0, pause=0.7)
    later = [replace(word, word=f" {int(word.word) + 1000}") for word in words]
    sides = [spelling(words, 240.0), spelling(later, 240.0)][:channels]
    request, other = (put(store, f"audio/{name}.wav", *sides) for name in "ab")
    first = DyingDecoder(dies_at=int(words[-1].word) * 9 // 10 + 1000 * (channels - 1))
    with pytest.raises(KilledError):
        run(store, first, request)
    again, at_once = SpellingDecoder(), SpellingDecoder()
    assert run(store, again, request) == {request.key: None}
    assert run(store, at_once, other) == {other.key: None}
    heard = result(store, request)
    assert heard == result(store, other)
    assert sorted(texts(heard)) == sorted(word.word for word in (*words, *later)[: channels * len(words)])
    decoded = [sum(map(sum, decoder.batches)) for decoder in (first, again, at_once)]
    assert decoded[0] + decoded[1] - decoded[2] <= 20.0, "at most 20 s are decoded twice"


def test_next_run_decodes_only_lost_windows(store: Store) -> None:
    words = said(240.0, pause=0.7)
    request = put(store, "audio/a.wav", spelling(words, 240.0))
    lost = SpellingDecoder(failing_on=frozenset({len(words) // 4}))
    assert isinstance(run(store, lost, request)[request.key], ValueError)
    before = request.checkpoints(store).present()
    assert 0 < len(before) < len(request.lengths)
    assert run(store, SpellingDecoder(), request) == {request.key: None}
    assert texts(result(store, request)) == [word.word for word in words]


def test_damaged_checkpoint_is_decoded_again(store: Store) -> None:
    words = said(60.0)
    request = put(store, "audio/a.wav", spelling(words, 60.0))
    run(store, SpellingDecoder(), request)
    path = store.list(media_keys.checkpoints(request.key))[0]
    store.write(path, b"{")
    with pytest.raises(TransientFailure):
        result(store, request)
    run(store, SpellingDecoder(), request)
    assert texts(result(store, request)) == [word.word for word in words]


def test_checkpoint_write_error_fails_only_its_recording(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [put(store, f"audio/{name}.wav", spelling(said(30.0), 30.0)) for name in "ab"]
    write = Checkpoints.put

    def full(self: Checkpoints, window: tuple[int, int], done: DecodedWindow) -> None:
        if self.key == requests[0].key:
            raise PermanentFailure("no space left")
        write(self, window, done)

    monkeypatch.setattr(Checkpoints, "put", full)
    first, second = run(store, SpellingDecoder(), *requests).values()
    assert isinstance(first, PermanentFailure)
    assert second is None


def test_progress_never_decreases_and_ends_at_the_duration(store: Store) -> None:
    """With two channels, progress must not start again at zero for the second one."""
    samples = spelling(said(60.0), 60.0)
    request = put(store, "audio/a.wav", samples, spelling(said(60.0, first=900), 60.0))
    seconds: list[float] = []
    transcriber = InProcessTranscriber(engine(SpellingDecoder()), FFMPEG)
    assert list(transcriber.decode(store, [request], lambda _key, done: seconds.append(done))) == [(request, None)]
    assert seconds == sorted(seconds)
    assert seconds[-1] == pytest.approx(60.0)
    assert len({*seconds}) > 4


def test_truncated_extracted_audio_is_a_transient_failure(store: Store) -> None:
    request = put(store, "audio/a.wav", spelling(said(60.0), 60.0))
    whole = store.read(media_keys.flac(request.key))
    store.write(media_keys.flac(request.key), whole[: len(whole) // 2])
    error = run(store, SpellingDecoder(), request)[request.key]
    assert isinstance(error, TransientFailure | PermanentFailure)


@given(st.integers(0, 40))
@examples(max_examples=20)
def test_window_round_trips_through_json(count: int) -> None:
    words = tuple(said(20.0)[:count])
    text = "".join(word.word for word in words)
    segment = Segment(0, 0.0, 9.0, text, words, -0.1, 0.0, 1.0, True, "de", 0.7, "loop", "left")  # noqa: FBT003
    made = DecodedWindow(5.0, 25.0, (segment,), (Region(5.5, 9.0),), {"de": 3.5}, 1.25)
    assert windows.from_json(made.to_json()) == made


def test_window_plan_round_trips_through_the_store(store: Store) -> None:
    made = put(store, "audio/a.wav", spelling([Word(1.0, 2.0, " 7", 0.9)], 50.0)).plan
    window_plan.write(store, "audio/a.wav", made)
    assert window_plan.load(store, "audio/a.wav", made.sound) == made
    assert window_plan.load(store, "audio/a.wav", "another sound") is None
