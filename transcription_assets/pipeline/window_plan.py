"""The window plan of a recording (`extracted/<key>.plan.json`): its windows with their voiced regions.

The step `audio` makes it on a CPU, so that the transcript's workers know all windows before they decode any, and a GPU
never waits for voice activity detection.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256

import numpy as np

from transcription_assets import media
from transcription_assets.domain import media_keys
from transcription_assets.errors import PermanentFailure, UndecodableSpeech
from transcription_assets.pipeline import records
from transcription_assets.speech import AudioSource, PlannedWindow, Samples, recognition
from transcription_assets.storage import Store, temporary

VERSION = "1"
LENGTH_TOLERANCE_S = 0.05
"""Difference in seconds between the known and the decoded length, which may be rounded."""
SAME_SHARE = 0.05
"""Channels whose difference has at most this share of their level (RMS) contain the same voice."""
APART_SHARE = 0.25
"""Share of the blocks with speech in which channels must differ to count as two speakers."""
QUIETEST = 0.001
"""Minimum level (RMS, full scale 1.0) of a block with speech."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """The windows of each channel; a single list if the channels are mixed. `sound` is the SHA-256 of the FLAC."""

    sound: str
    channels: tuple[tuple[PlannedWindow, ...], ...]
    version: str = VERSION

    @property
    def duration(self) -> float:
        """Length of the recording in seconds."""
        return max((windows[-1].end for windows in self.channels if windows), default=0.0)

    @property
    def digest(self) -> str:
        """Digest of the window boundaries; checkpoints are valid for one of them."""
        boundaries = [[window.end for window in windows] for windows in self.channels]
        return sha256(json.dumps([self.version, boundaries]).encode()).hexdigest()


def load(store: Store, key: str, sound: str) -> WindowPlan | None:
    """Return the plan; None if there is none of this audio that this release can read.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    found = records.load(store, media_keys.window_plan(key), WindowPlan, VERSION)
    return found if found and found.sound == sound else None


def write(store: Store, key: str, plan: WindowPlan) -> None:
    """Write the plan.

    Raises:
        TranscriptionError: the store refuses or does not answer.

    """
    store.write(media_keys.window_plan(key), json.dumps(asdict(plan)).encode())


def make(
    flac: str, sound: str, *, channels: int, duration: float, ffmpeg: str, window_s: float | None = None
) -> WindowPlan:
    """Read the extracted audio on local disk and return its plan; `duration` is its known length in seconds.

    `window_s` is the maximum length of a window, by default that of `plan_windows`.

    Raises:
        UndecodableSpeech: the audio cannot be decoded, or not to `duration`.
        TransientFailure: the disk fails.

    """
    hint = "materialise `audio` again"
    try:
        source = audio_source(flac, channels if _are_different(flac, channels, ffmpeg) else 1, ffmpeg)
        plan = WindowPlan(sound, tuple(map(tuple, recognition.plan(source, window_s))))
    except PermanentFailure as error:
        raise UndecodableSpeech(f"its extracted audio cannot be decoded: {error}", step="audio", hint=hint) from error
    if abs(plan.duration - duration) > LENGTH_TOLERANCE_S:
        raise UndecodableSpeech(
            f"{plan.duration:.1f} s of {duration:.1f} s of its extracted audio can be decoded; {hint}",
            step="audio",
            hint=hint,
        )
    return plan


def ensure(store: Store, key: str, sound: str, *, channels: int, duration: float, ffmpeg: str) -> WindowPlan:
    """Return the plan; make it if an earlier release extracted the audio.

    Raises:
        UndecodableSpeech: the audio cannot be decoded.
        PermanentFailure: access to the store is denied.
        TransientFailure: the store or the disk fails.

    """
    found = load(store, key, sound)
    if found is None:
        with local_flac(store, key) as flac:
            found = make(flac, sound, channels=channels, duration=duration, ffmpeg=ffmpeg)
        write(store, key, found)
    return found


@contextmanager
def local_flac(store: Store, key: str) -> Iterator[str]:
    """Yield ffmpeg's input for the extracted audio; copied from a bucket, as a signed URL could expire while in use.

    Raises:
        TranscriptionError: the store refuses or does not answer, or the disk is full.

    """
    if store.is_local:
        yield store.readable_url(media_keys.flac(key))
        return
    with temporary.folder() as folder:
        flac = folder / "speech.flac"
        store.fetch(media_keys.flac(key), flac)
        yield str(flac)


def audio_source(flac: str, channels: int, ffmpeg: str, vocabulary: tuple[str, ...] = ()) -> AudioSource:
    """Return the extracted audio as input of the speech engine; `flac` is a path or a URL."""
    return AudioSource(_reader(lambda: flac, ffmpeg, channels), channels, vocabulary)


def stored_source(store: Store, key: str, channels: int, ffmpeg: str, vocabulary: tuple[str, ...]) -> AudioSource:
    """Return the extracted audio in the store, with a new signed URL for each read."""
    return AudioSource(
        _reader(lambda: store.readable_url(media_keys.flac(key)), ffmpeg, channels), channels, vocabulary
    )


def _reader(place: Callable[[], str], ffmpeg: str, channels: int) -> Callable[[int, float], Iterator[Samples]]:
    def read(channel: int, start: float) -> Iterator[Samples]:
        return media.read_samples(place(), ffmpeg=ffmpeg, start=start, channel=channel if channels > 1 else None)

    return read


def _are_different(flac: str, channels: int, ffmpeg: str) -> bool:
    """Return whether two channels contain two speakers; many stereo files contain the same voice twice.

    All of the audio is compared: a call may start with an announcement in both channels, a talk with stereo music.
    """
    if channels < 2:  # noqa: PLR2004 -- one channel has no second speaker
        return False
    sides = (media.read_samples(flac, ffmpeg=ffmpeg, channel=number) for number in range(2))
    answers = [answer for blocks in zip(*sides, strict=False) if (answer := _differ(*blocks)) is not None]
    return sum(answers) > APART_SHARE * len(answers)


def _differ(left: Samples, right: Samples) -> bool | None:
    """Return whether the channels of a block contain different voices; None if it is too quiet for speech."""
    loudness = float(np.sqrt(np.square(left).mean() + np.square(right).mean()))
    if loudness < QUIETEST:
        return None
    return float(np.sqrt(np.square(left - right).mean())) > SAME_SHARE * loudness
