"""The Silero detector in pieces: the same regions in a fraction of the memory."""

from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from transcription_assets.domain.chunking import Region, uncovered
from transcription_assets.media import find_ffmpeg, read_samples
from transcription_assets.speech import SAMPLE_RATE
from transcription_assets.speech.vad import BLOCK_FRAMES, FRAMES_AT_ONCE, Pieces, blocks, voiced_regions
from transcription_assets_tests import demo
from transcription_assets_tests.speech import backgrounds


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

    voiced_regions(np.zeros(SAMPLE_RATE, np.float32))
    assert isinstance(get_vad_model().session, Pieces)


def test_two_threads_wrap_the_session_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from faster_whisper import vad

    detector = vad.get_vad_model.__wrapped__()  # one of its own
    first, second = (Thread(target=voiced_regions, args=(np.zeros(SAMPLE_RATE, np.float32),)) for _ in range(2))

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
