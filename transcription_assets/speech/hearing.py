"""Recordings in the middle of being heard: from sounds to windows that wait to be decoded, and back to answers."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from transcription_assets.chunks import Region
from transcription_assets.speech import alignment, languages, merge
from transcription_assets.speech.engine import Heard, Sound
from transcription_assets.speech.window import Window
from transcription_assets.speech.windows import Cut, windows
from transcription_assets.transcript import Segment


@dataclass(slots=True)
class Hearing:
    """One recording. From its first window on, the thread that reads it changes `windows_read` and `read` only."""

    sound: Sound
    done: list[list[Window]]
    votes: dict[str, float] = field(default_factory=dict)
    windows_read: int = 0
    windows_heard: int = 0
    took_s: float = 0.0
    read: bool = False
    error: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether it has its answer: an error, or every window heard."""
        return self.error is not None or (self.read and self.windows_heard == self.windows_read)

    def end(self, channel: int) -> float:
        """Where the windows of this channel that are done end, in seconds of the recording."""
        return self.done[channel][-1].end if self.done[channel] else 0.0

    def tell(self) -> None:
        """Tell who watches how much of it is done: of two channels, half of what is done of both."""
        self.sound.progress(sum(map(self.end, range(self.sound.channels))) / self.sound.channels)


@dataclass(frozen=True, slots=True)
class Work:
    """A window of a recording that waits to be decoded; `start` in seconds of the recording."""

    hearing: Hearing
    channel: int
    start: float
    cut: Cut

    def keep(self, segments: Iterable[Segment], votes: Mapping[str, float], more: Iterable[Region] = ()) -> None:
        """Store the finished window until the recording is done. All times count from the window's start.

        `more` are regions in which somebody speaks besides those of the voice detector.
        """
        hearing = self.hearing
        if self.start != hearing.end(self.channel):
            return  # one before it is lost, and this one would stand in its place
        end = self.start + self.cut.length
        done = hearing.done[self.channel]
        voiced = sorted([*self.cut.voiced, *more], key=lambda region: region.start)
        timed = alignment.aligned(segments, self.cut.samples, voiced)
        done.append(merge.window(self.start, end, timed, voiced, votes))
        hearing.windows_heard += 1
        hearing.tell()
        # The last one is nearly all: kept only for a channel that is waited for by the next.
        if not self.cut.last or (len(done) > 1 and self.channel + 1 < hearing.sound.channels):
            hearing.sound.kept[self.channel, len(done) - 1] = done[-1]


Found = tuple[Hearing, Work | None]


def read(sounds: Iterable[Sound]) -> Iterator[Found]:
    """First each recording by itself, then its windows, one by one; those that are kept are not read again."""
    for sound in sounds:
        hearing = Hearing(sound, done=[[] for _ in range(sound.channels)])
        yield hearing, None
        try:
            # All before the first window: from then on what is kept and voted belongs to the thread that hears.
            starts = [_resumed(hearing, channel) for channel in range(sound.channels)]
            for channel, start in enumerate(starts):
                yield from _windows(hearing, channel, start)
        except Exception as error:  # noqa: BLE001 -- what is wrong with one recording is its own answer
            hearing.error = error
        hearing.read = True


def timed(found: Iterable[Found]) -> Iterator[Found]:
    """The same; each recording is charged for the wait for it, not for what is read while others are heard."""
    clock = time.monotonic()
    for hearing, work in found:
        hearing.took_s += time.monotonic() - clock
        yield hearing, work
        clock = time.monotonic()


def answers(queue: deque[Hearing], fixed_language: str) -> Iterator[Heard | Exception]:
    """Take the answers from the head of the queue; those behind one that is not finished wait for their turn."""
    while queue and queue[0].finished:
        hearing = queue.popleft()
        if hearing.error is not None:
            yield hearing.error
            continue
        try:
            made = merge.heard(hearing.done, fixed_language=fixed_language)
        except Exception as error:  # noqa: BLE001 -- what is wrong with one recording is its own answer
            yield error
            continue
        yield replace(made, wall_s=round(hearing.took_s, 3))


def shared_out(seconds: float, load: Sequence[Work]) -> None:
    """Count the time that windows took together, to each by how much is said in it."""
    voiced = [1.0 + sum(region.length for region in work.cut.voiced) for work in load]
    for work, share in zip(load, voiced, strict=True):
        work.hearing.took_s += seconds * share / sum(voiced)


def _windows(hearing: Hearing, channel: int, start: float) -> Iterator[tuple[Hearing, Work]]:
    for cut in windows(hearing.sound.read(channel, start)):
        if hearing.error is not None:
            return  # it has its answer: the rest of ten hours would be read for nothing
        hearing.windows_read += 1
        yield hearing, Work(hearing, channel, start, cut)
        start += cut.length


def _resumed(hearing: Hearing, channel: int) -> float:
    """Take over the windows that are kept; returns where the next one starts (seconds)."""
    done = hearing.done[channel]
    while (kept := hearing.sound.kept.get((channel, len(done)))) is not None:
        if kept.start != hearing.end(channel):
            break  # left of a run that cut elsewhere
        done.append(kept)
        languages.count(hearing.votes, kept.languages)
    return hearing.end(channel)
