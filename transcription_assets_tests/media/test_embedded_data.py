"""Recordings whose samples are the bytes of another FLAC, which decoders take for frames of the extracted one."""

import wave
from pathlib import Path

import numpy as np
import pytest

from transcription_assets import media
from transcription_assets.domain import media_keys
from transcription_assets.errors import UndecodableSpeech
from transcription_assets.pipeline import audio, video, window_plan
from transcription_assets.pipeline.video import MediaDecoder
from transcription_assets.storage import Store
from transcription_assets_tests import recordings

KEY = "audio/damaged.wav"


@pytest.fixture
def decoder(ffmpeg: str) -> MediaDecoder:
    return MediaDecoder(ffmpeg, floor_s=60.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a folder with a WAV of 16 kHz whose second half is a FLAC of noise, byte for byte."""
    noise = "anoisesrc=r=16000:d=2:a=0.05:seed=1"
    flac = recordings.make(tmp_path / "a.flac", "-f", "lavfi", "-i", noise, "-sample_fmt", "s16")
    embedded = np.frombuffer(flac.read_bytes()[: flac.stat().st_size // 2 * 2], ">i2")
    quiet = np.random.default_rng(0).integers(-9_000, 9_000, 32_000)
    target = tmp_path / "inbox" / KEY
    target.parent.mkdir(parents=True)
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.concatenate([quiet, embedded]).astype("<i2").tobytes())
    return Store.open(str(tmp_path / "inbox"))


def decoded_s(store: Store, decoder: MediaDecoder) -> float:
    blocks = media.read_samples(store.readable_url(media_keys.flac(KEY)), ffmpeg=decoder.ffmpeg)
    return sum(map(len, blocks)) / media.SAMPLE_RATE


def test_embedded_flac_is_extracted_to_its_full_length(store: Store, decoder: MediaDecoder) -> None:
    video.materialise(store, KEY, decoder)
    made = audio.materialise(store, KEY, decoder)
    assert made.warnings[-1] == audio.EMBEDDED_DATA
    assert decoded_s(store, decoder) == pytest.approx(made.duration, abs=0.01)
    plan = window_plan.load(store, KEY, made.sha256)
    assert plan is not None
    assert plan.duration == pytest.approx(made.duration, abs=0.01)


def test_plan_of_a_shorter_flac_is_undecodable(store: Store, decoder: MediaDecoder) -> None:
    video.materialise(store, KEY, decoder)
    made = audio.materialise(store, KEY, decoder)
    with pytest.raises(UndecodableSpeech):
        window_plan.make(
            store.readable_url(media_keys.flac(KEY)),
            made.sha256,
            channels=1,
            duration=made.duration + 0.5,
            ffmpeg=decoder.ffmpeg,
        )


def test_audio_without_plan_that_cannot_be_decoded_is_replaced(store: Store, decoder: MediaDecoder) -> None:
    video.materialise(store, KEY, decoder)
    made = audio.materialise(store, KEY, decoder)
    store.delete(window_plan_name := media_keys.window_plan(KEY))
    store.write(media_keys.flac(KEY), store.read(media_keys.flac(KEY))[:40_000])
    assert audio.materialise(store, KEY, decoder).sha256 == made.sha256
    assert store.exists(window_plan_name)
    assert decoded_s(store, decoder) == pytest.approx(made.duration, abs=0.01)
