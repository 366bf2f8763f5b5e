"""What the real networks make of sound that is not a clean conversation: a clear result, and never an exception."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from transcription_assets import media, models
from transcription_assets.speakers.diariser import Bounds, Diarisation
from transcription_assets.speakers.local import LocalDiariser
from transcription_assets.speech import SAMPLE_RATE, Samples, vad

pytestmark = pytest.mark.models

DEMO = Path(__file__).resolve().parents[2] / "demo" / "recordings"
RUTH, NARRATOR = "talks/bees-on-the-library-roof.mp4", "stories/the-wizard-of-the-opera-house.mp4"


@pytest.fixture(scope="module")
def real() -> LocalDiariser:
    return LocalDiariser(models.pull("campplus-segmentation", "voice", models.default_folder()))


@cache
def recorded(name: str) -> Samples:
    return np.concatenate(list(media.read_samples(str(DEMO / name), ffmpeg=media.find_ffmpeg())))


def said(name: str, start: float, end: float) -> Samples:
    """Return a part of a recording of one voice, with the level of the others."""
    part = recorded(name)[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    return (part * 0.05 / np.sqrt(np.square(part).mean())).astype(np.float32)


def quiet(seconds: float) -> Samples:
    return np.random.default_rng(2).normal(0, 1e-4, round(seconds * SAMPLE_RATE)).astype(np.float32)


def diarised(real: LocalDiariser, samples: Samples, bounds: Bounds | None = None) -> Diarisation:
    """Return who speaks in the samples, after the same voice activity detection as in the pipeline."""
    sound = samples.astype(np.float32)
    voiced = [(region.start, region.end) for region in vad.voiced_regions(sound)]
    found = real.diarise([sound], voiced, bounds or Bounds())
    assert {turn.label for turn in found.turns} == set(found.voiceprints)
    assert all(0.0 <= turn.start < turn.end for turn in found.turns)
    assert all(np.isclose(np.linalg.norm(vector), 1.0, atol=1e-3) for vector in found.voiceprints.values())
    return found


def conversation() -> Samples:
    return np.concatenate(
        [
            part
            for at in (2.0, 20.0, 38.0)
            for part in (said(RUTH, at, at + 7.0), quiet(0.4), said(NARRATOR, at, at + 7.0), quiet(0.4))
        ]
    )


def telephone(samples: Samples) -> Samples:
    """Return what is left of the samples at a rate of 8 kHz, in the band of a telephone."""
    from scipy.signal import butter, resample_poly, sosfilt

    narrow = sosfilt(butter(4, [300, 3400], "bandpass", fs=SAMPLE_RATE, output="sos"), samples)
    return resample_poly(resample_poly(narrow, 1, 2), 2, 1).astype(np.float32)


def music(seconds: float) -> Samples:
    """Return chords with overtones that change twice a second, over a drum."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    rng = np.random.default_rng(4)
    pitches = 110.0 * 2 ** (rng.integers(0, 24, (3, round(2 * seconds) + 1)) / 12)
    chords = pitches[:, (2 * time).astype(int)]
    phase = 2 * np.pi * np.cumsum(chords, axis=1) / SAMPLE_RATE
    tones = sum(np.sin(part * phase).sum(0) / part for part in range(1, 6))
    drum = rng.normal(0, 1, len(time)) * np.exp(-20 * (time % 0.5))
    return (0.03 * tones + 0.05 * drum).astype(np.float32)


def test_two_voices_are_two_speakers_on_a_telephone(real: LocalDiariser) -> None:
    assert len(diarised(real, conversation()).voiceprints) == 2
    assert len(diarised(real, telephone(conversation())).voiceprints) == 2


def test_music_has_no_speaker(real: LocalDiariser) -> None:
    assert diarised(real, music(20.0)).voiceprints == {}


def test_noise_between_words_is_no_speaker(real: LocalDiariser) -> None:
    noise = np.random.default_rng(5).normal(0, 0.05, 5 * SAMPLE_RATE).astype(np.float32)
    samples = np.concatenate([said(RUTH, 2.0, 10.0), noise, said(RUTH, 12.0, 20.0), noise])
    assert len(diarised(real, samples).voiceprints) == 1


def test_one_word_is_one_speaker_or_none(real: LocalDiariser) -> None:
    found = diarised(real, np.concatenate([quiet(5.0), said(NARRATOR, 3.0, 3.5), quiet(5.0)]))
    assert len(found.voiceprints) <= 1


def test_two_at_once_all_the_time_are_marked(real: LocalDiariser) -> None:
    found = diarised(real, said(RUTH, 2.0, 32.0) + said(NARRATOR, 2.0, 32.0))
    assert 1 <= len(found.voiceprints) <= 3
    assert sum(turn.end - turn.start for turn in found.turns if turn.overlap) > 5.0


def test_a_voice_that_becomes_muffled_is_one_speaker(real: LocalDiariser) -> None:
    from scipy.signal import butter, sosfilt

    muffled = sosfilt(butter(2, 1500, fs=SAMPLE_RATE, output="sos"), said(RUTH, 20.0, 38.0)) / 4
    samples = np.concatenate([said(RUTH, 2.0, 20.0), muffled.astype(np.float32), said(RUTH, 38.0, 50.0)])
    assert len(diarised(real, samples).voiceprints) == 1


def test_thirty_voices_need_no_bound(real: LocalDiariser) -> None:
    from scipy.signal import resample_poly

    voices = [
        resample_poly(said((RUTH, NARRATOR)[number % 2], 2.0 + number, 6.0 + number), 100, 70 + 2 * number)
        for number in range(30)
    ]
    found = diarised(real, np.concatenate([part for voice in voices for part in (voice, quiet(0.3))]))
    assert 4 <= len(found.voiceprints) <= 40
    limited = diarised(real, np.concatenate(voices), Bounds(most=3))
    assert len(limited.voiceprints) == 3


def test_clipped_and_tiny_sound_raise_nothing(real: LocalDiariser) -> None:
    assert diarised(real, np.clip(said(RUTH, 2.0, 12.0) * 100, -1, 1)).turns
    for length in (0, 1, 399, 400, 16_000):
        assert diarised(real, quiet(1.0)[:length]).turns == ()
