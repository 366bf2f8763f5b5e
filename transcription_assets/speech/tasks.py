"""State of the recordings that are being transcribed: windows of audio to decode, and their results."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from transcription_assets.domain.chunking import Region
from transcription_assets.domain.transcript import Segment
from transcription_assets.speech import alignment, assembly, languages
from transcription_assets.speech.decoded_window import DecodedWindow
from transcription_assets.speech.engine import AudioSource, SpeechResult
from transcription_assets.speech.windowing import AudioWindow, cut_windows


@dataclass(slots=True)
class RecordingState:
    """State of one recording; `done` and `votes` (voiced seconds by language) hold its finished windows by channel.

    Once the first window was yielded, the reading thread changes only `windows_read`, `read` and `error`.
    """

    sound: AudioSource
    done: list[list[DecodedWindow]]
    votes: dict[str, float] = field(default_factory=dict)
    windows_read: int = 0
    windows_decoded: int = 0
    elapsed_s: float = 0.0
    read: bool = False
    error: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether its result is known: an error, or all windows decoded."""
        return self.error is not None or (self.read and self.windows_decoded == self.windows_read)

    def end(self, channel: int) -> float:
        """Return the end of the finished windows of a channel, in seconds of the recording."""
        return self.done[channel][-1].end if self.done[channel] else 0.0

    def tell(self) -> None:
        """Report the progress in seconds: the mean of the channels."""
        self.sound.progress(sum(map(self.end, range(self.sound.channels))) / self.sound.channels)


@dataclass(frozen=True, slots=True)
class WindowTask:
    """A window of a recording to be decoded; `start` in seconds of the recording."""

    hearing: RecordingState
    channel: int
    start: float
    cut: AudioWindow

    def keep(self, segments: Iterable[Segment], votes: Mapping[str, float], more: Iterable[Region] = ()) -> None:
        """Store the finished window and write its checkpoint. All times count from the window's start.

        `more` are voiced regions that VAD left out.

        Raises:
            TranscriptionError: the checkpoint cannot be stored.

        """
        hearing = self.hearing
        if self.start != hearing.end(self.channel):
            return  # the previous window failed, and this one would take its place
        end = self.start + self.cut.length
        done = hearing.done[self.channel]
        voiced = sorted([*self.cut.voiced, *more], key=lambda region: region.start)
        timed = alignment.aligned(segments, self.cut.samples, voiced)
        done.append(assembly.window(self.start, end, timed, voiced, votes))
        hearing.windows_decoded += 1
        hearing.tell()
        # The last window of a channel needs a checkpoint only if another channel follows: else nearly all is done.
        if not self.cut.last or (len(done) > 1 and self.channel + 1 < hearing.sound.channels):
            hearing.sound.checkpoints[self.channel, len(done) - 1] = done[-1]


Found = tuple[RecordingState, WindowTask | None]


def read(sounds: Iterable[AudioSource]) -> Iterator[Found]:
    """Yield each recording without a window, then with each of its windows that have no checkpoint.

    Raises:
        Exception: any exception of the iterable `sounds` itself; errors of reading one are in `RecordingState.error`.

    """
    for sound in sounds:
        hearing = RecordingState(sound, done=[[] for _ in range(sound.channels)])
        yield hearing, None
        try:
            # Before the first window is yielded: afterwards `done` and `votes` belong to the decoding thread.
            starts = [_resumed(hearing, channel) for channel in range(sound.channels)]
            for channel, start in enumerate(starts):
                yield from _windows(hearing, channel, start)
        except Exception as error:  # noqa: BLE001 -- the error is the result of this recording
            hearing.error = error
        hearing.read = True


def timed(found: Iterable[Found]) -> Iterator[Found]:
    """Yield the items of `found`, and add the time spent waiting for each to its recording.

    Reading in the background while others are decoded is not counted.
    """
    clock = time.monotonic()
    for hearing, work in found:
        hearing.elapsed_s += time.monotonic() - clock
        yield hearing, work
        clock = time.monotonic()


def answers(queue: deque[RecordingState], fixed_language: str) -> Iterator[SpeechResult | Exception]:
    """Yield and remove the results at the head of the queue, up to the first recording that is not finished."""
    while queue and queue[0].finished:
        hearing = queue.popleft()
        if hearing.error is not None:
            yield hearing.error
            continue
        try:
            made = assembly.heard(hearing.done, fixed_language=fixed_language)
        except Exception as error:  # noqa: BLE001 -- the error is the result of this recording
            yield error
            continue
        yield replace(made, wall_s=round(hearing.elapsed_s, 3))


def share_time(seconds: float, load: Sequence[WindowTask]) -> None:
    """Distribute the wall time of windows decoded together over their recordings, by voiced time."""
    voiced = [1.0 + sum(region.length for region in work.cut.voiced) for work in load]
    for work, share in zip(load, voiced, strict=True):
        work.hearing.elapsed_s += seconds * share / sum(voiced)


def _windows(hearing: RecordingState, channel: int, start: float) -> Iterator[tuple[RecordingState, WindowTask]]:
    for cut in cut_windows(hearing.sound.read(channel, start)):
        if hearing.error is not None:
            return  # its result is known, so the rest need not be read
        hearing.windows_read += 1
        yield hearing, WindowTask(hearing, channel, start, cut)
        start += cut.length


def _resumed(hearing: RecordingState, channel: int) -> float:
    """Load the checkpoints of a channel; return the start of the next window in seconds."""
    done = hearing.done[channel]
    while (kept := hearing.sound.checkpoints.get((channel, len(done)))) is not None:
        if kept.start != hearing.end(channel):
            break  # left by a run with other window boundaries
        done.append(kept)
        languages.count(hearing.votes, kept.languages)
    return hearing.end(channel)
