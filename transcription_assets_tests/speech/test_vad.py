"""The Silero detector in pieces (the same regions in a fraction of the memory), and detection by energy without it."""

from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from transcription_assets.domain.chunking import Region, uncovered
from transcription_assets.media import find_ffmpeg, read_samples
from transcription_assets.speech import SAMPLE_RATE, Samples
from transcription_assets.speech.vad import (
    BLOCK_FRAMES,
    FRAMES_AT_ONCE,
    Pieces,
    active_regions,
    blocks,
    unexplained,
    voiced_regions,
)
from transcription_assets_tests import demo
from transcription_assets_tests.speech import backgrounds

BURST = Region(12.0, 18.0)


class Watched:
    """The real network; it records the size of each input."""

    def __init__(self, network: object) -> None:
        self.network = network
        self.given: list[int] = []

    def run(self, outputs: object, inputs: dict[str, np.ndarray]) -> object:
        self.given.append(len(inputs["input"]))
        return self.network.run(outputs, inputs)  # type: ignore[attr-defined]


def test_detection_in_pieces_finds_the_same_regions() -> None:
    from faster_whisper.vad import get_vad_model

    samples = np.concatenate(list(read_samples(demo.BEES, ffmpeg=find_ffmpeg())))
    padded = np.pad(samples, (0, -len(samples) % 512))
    detector = get_vad_model.__wrapped__()  # one of its own
    watched = Watched(detector.session)
    at_once = detector(padded)
    detector.session = Pieces(watched)
    in_pieces = detector(padded)
    assert len(at_once) > 3 * FRAMES_AT_ONCE
    assert max(watched.given) == FRAMES_AT_ONCE  # otherwise a long recording takes 0.2 GB more
    assert (in_pieces >= at_once - 1e-5).all(), "a new state adds speech and removes none"
    quiet = np.zeros(len(at_once), bool)
    for first, last in blocks(at_once.reshape(-1)):
        quiet[first:last] = True
    np.testing.assert_allclose(in_pieces[~quiet], at_once[~quiet], atol=1e-5)
    assert at_once.max() > 0.9  # speech
    assert at_once.min() < 0.1  # and pauses


def test_voice_detection_processes_audio_in_pieces() -> None:
    from faster_whisper.vad import get_vad_model

    voiced_regions(np.ones(SAMPLE_RATE, np.float32))
    assert isinstance(get_vad_model().session, Pieces)


def test_digital_silence_is_not_processed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("faster_whisper.vad.get_vad_model")
    assert voiced_regions(np.zeros(SAMPLE_RATE * 600, np.float32)) == []
    with pytest.raises(ImportError):
        voiced_regions(np.ones(SAMPLE_RATE, np.float32))


def test_two_threads_wrap_the_session_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from faster_whisper import vad

    detector = vad.get_vad_model.__wrapped__()  # one of its own
    first, second = (Thread(target=voiced_regions, args=(np.ones(SAMPLE_RATE, np.float32),)) for _ in range(2))

    def get_vad_model() -> object:
        if second.ident is None:
            second.start()
            second.join(timeout=0.5)  # long enough to finish before the first, unless a lock prevents it
        return detector

    monkeypatch.setattr(vad, "get_vad_model", get_vad_model)
    first.start()
    for thread in (first, second):
        thread.join()
    assert isinstance(detector.session, Pieces)
    assert not isinstance(detector.session.network, Pieces)


@pytest.mark.parametrize(
    ("background", "path", "start", "loudness", "highest_hz"),
    [
        ("brown", demo.BEES, 6.0, 0.03, 3400.0),
        ("brown", demo.BEES, 6.0, 1.0, 3400.0),
        ("hum", demo.BREAD, 10.0, 0.1, 2000.0),
        ("white", demo.WIZARD, 0.0, 1.0, 8000.0),
        ("silence", demo.WIZARD, 0.0, 0.1, 3400.0),
    ],
)
def test_speech_after_a_minute_of_noise_is_found_from_its_first_word(
    background: str, path: Path, start: float, loudness: float, highest_hz: float
) -> None:
    """The state of the detector misses speech after ten seconds of steady noise."""
    spoken = np.concatenate([*read_samples(path, ffmpeg=find_ffmpeg(), start=start, duration=10.0)])
    samples = backgrounds.after(60.0, background, backgrounds.telephone(spoken, loudness, highest_hz))
    just_before = 58.0
    alone = voiced_regions(samples[int(just_before * SAMPLE_RATE) :])
    wanted = [Region(region.start + just_before, region.end + just_before) for region in alone]
    missed = sum(gap.length for gap in uncovered(wanted, voiced_regions(samples)))
    assert missed < 0.1 * sum(region.length for region in alone)


def test_only_long_regions_without_speech_are_checked_again() -> None:
    voice, pause, silence = [0.9] * 50, [0.1] * 20, [0.0] * (2 * BLOCK_FRAMES + 10)
    found = list(blocks(np.array([*voice, *pause, *voice, *silence], np.float32)))
    assert found == [(120, 245), (245, 370), (370, 380)]


def noise(seconds: float, level: float) -> Samples:
    return np.random.default_rng(5).normal(0, level, int(seconds * SAMPLE_RATE)).astype(np.float32)


def with_burst(background: float, level: float) -> Samples:
    samples = noise(30.0, background)
    first, last = int(BURST.start * SAMPLE_RATE), int(BURST.end * SAMPLE_RATE)
    samples[first:last] += noise(BURST.length, level)
    return samples


@pytest.mark.parametrize(("background", "level"), [(0.0, 0.001), (0.0001, 0.001), (0.01, 0.1)])
def test_sound_louder_than_its_background_is_active(background: float, level: float) -> None:
    [found] = active_regions(with_burst(background, level))
    assert found.start == pytest.approx(BURST.start, abs=0.1)
    assert found.end == pytest.approx(BURST.end, abs=0.1)


@pytest.mark.parametrize("level", [0.0, 0.001, 0.3])
def test_silence_and_steady_noise_are_not_active(level: float) -> None:
    assert active_regions(noise(30.0, level)) == []


@pytest.mark.parametrize("samples", [0, 1, 600, 5000])
def test_very_short_audio_is_not_active(samples: int) -> None:
    assert active_regions(noise(samples / SAMPLE_RATE, 0.1)) == []


def test_a_word_at_the_end_is_active() -> None:
    samples = np.zeros(int(21.0 * SAMPLE_RATE), np.float32)
    samples[20 * SAMPLE_RATE :] = noise(1.0, 0.1)
    [found] = active_regions(samples)
    assert found.start == pytest.approx(20.0, abs=0.1)


def test_activity_inside_voiced_regions_is_not_unexplained() -> None:
    samples = with_burst(0.001, 0.1)
    assert len(unexplained(samples, [])) == 1
    assert unexplained(samples, [BURST]) == []
    [left] = unexplained(samples, [Region(12.0, 14.0)])
    assert left.start == pytest.approx(14.5, abs=0.1)
    assert unexplained(samples, [Region(13.5, 18.0)]) == [], "one or two seconds are not a gap"
