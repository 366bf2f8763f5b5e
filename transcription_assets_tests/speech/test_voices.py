"""Silero's detector in pieces: the same voices, in a fraction of the memory."""

import numpy as np

from transcription_assets.media import find_ffmpeg, read_samples
from transcription_assets.speech import SAMPLE_RATE
from transcription_assets.speech.voices import FRAMES_AT_ONCE, Pieces, voiced_regions
from transcription_assets_tests import demo


class Watched:
    """The real network; counts what it is given at once."""

    def __init__(self, network: object) -> None:
        self.network = network
        self.given: list[int] = []

    def run(self, outputs: object, inputs: dict[str, np.ndarray]) -> object:
        self.given.append(len(inputs["input"]))
        return self.network.run(outputs, inputs)  # type: ignore[attr-defined]


def test_a_long_window_is_given_to_the_detector_in_pieces_and_the_voices_are_the_same() -> None:
    from faster_whisper.vad import get_vad_model

    samples = np.concatenate(list(read_samples(demo.BEES, ffmpeg=find_ffmpeg())))
    padded = np.pad(samples, (0, -len(samples) % 512))
    detector = get_vad_model.__wrapped__()  # one of its own
    watched = Watched(detector.session)
    at_once = detector(padded)
    detector.session = Pieces(watched)
    in_pieces = detector(padded)
    assert len(at_once) > 3 * FRAMES_AT_ONCE
    assert max(watched.given) == FRAMES_AT_ONCE  # or a long recording takes 0.2 GB more
    np.testing.assert_allclose(in_pieces, at_once, atol=1e-5)
    assert at_once.max() > 0.9  # somebody speaks
    assert at_once.min() < 0.1  # and pauses


def test_the_detector_that_finds_the_voices_is_given_pieces() -> None:
    from faster_whisper.vad import get_vad_model

    voiced_regions(np.zeros(SAMPLE_RATE, np.float32))
    assert isinstance(get_vad_model().session, Pieces)
