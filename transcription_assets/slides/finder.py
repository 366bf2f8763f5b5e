"""The slides of a recording: from its pictures, in order, to texts with their times.

A picture is examined in steps, each for those that pass the one before: has anything changed, is there text (at a low
resolution), is the text another one, what does it say. So film costs little, and a slide is read once.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from transcription_assets.media.pictures import Picture, Pixels
from transcription_assets.slides import sampling
from transcription_assets.slides.layout import letters, text_of
from transcription_assets.slides.reader import TextReader
from transcription_assets.slides.sampling import Mask, Schedule, Sketch, differ, mask_of, same_text, same_within, sketch

RETURN_S = 60.0
"""A slide that is shown again within this time, after the speaker or another picture, is the same one."""

Between = Callable[[float, float], Iterable[Picture]]
"""Function that returns closely spaced pictures between two seconds."""


@dataclass(frozen=True, slots=True)
class Slide:
    """A slide: its number from 1, its times in seconds, and its text with one line for each paragraph."""

    number: int
    start: float
    end: float
    text: str


@dataclass(slots=True)
class Counts:
    """Work that was done: pictures that were decoded, searched for text, and read; slides that were over the limit."""

    pictures: int = 0
    searched: int = 0
    read: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Seen:
    """A picture with its sketch; the cells of the sketch in which text was found, and those in which it was read.

    The first may include a pattern that moves, such as a film in a corner.
    """

    picture: Picture
    sketch: Sketch
    found: Mask
    text: Mask


@dataclass(frozen=True, slots=True)
class _Shown:
    """The slide that is shown now, or was shown last, as it was seen; `pixels` is the picture with most of its text."""

    slide: Slide
    seen: _Seen
    pixels: Pixels


@dataclass(slots=True)
class SlideFinder:
    """Finds the slides in the pictures of one recording; `between` gives more pictures to time a change exactly."""

    reader: TextReader
    between: Between
    counts: Counts = field(default_factory=Counts)
    reached: float = 0.0
    """Time of the last picture."""
    problem: str = ""
    """Why pictures were not examined, empty if all were."""
    _shown: _Shown | None = None
    _is_open: bool = False
    _found: int = 0
    _schedule: Schedule = field(default_factory=Schedule)
    _examined: tuple[float, Sketch] | None = None
    """Time and sketch of the last picture that was searched for text."""
    _since: list[tuple[float, Sketch]] = field(default_factory=list)
    """Pictures after it; those that equal it are represented by the last of them."""

    def slides(self, pictures: Iterable[Picture], end: float | None) -> Iterator[tuple[Slide, Pixels]]:
        """Yield each slide with its picture; `end` is the duration of the recording if it is known.

        After MOST_PICTURES no more are taken: durations may be unknown or wrong.

        Raises:
            Exception: any exception of the pictures or of the reader.

        """
        for picture in pictures:
            if self.counts.pictures >= sampling.MOST_PICTURES:
                self.problem = f"its slides were read until {self.reached:.0f} s only, as it has too many pictures"
                break
            self.counts.pictures += 1
            self.reached = picture.at
            if finished := self._take(picture):
                yield finished
        if self._shown:
            yield self._finished(self.reached if self.problem else max(self.reached, end or 0.0))

    def _take(self, picture: Picture) -> tuple[Slide, Pixels] | None:
        """Examine a picture; return the last slide if another one begins."""
        drawn = sketch(picture.pixels)
        if self._examined is not None and not differ(drawn, self._examined[1]):
            self._since = [(picture.at, drawn)]
            return None
        if not self._schedule.is_due(picture.at):
            self._since.append((picture.at, drawn))
            return None
        self.counts.searched += 1
        boxes = self.reader.find(picture.pixels)
        height, width = picture.pixels.shape[:2]
        mask = mask_of(boxes, width, height)
        seen = _Seen(picture, drawn, mask, mask)
        finished, has_text = None, False
        if boxes and self._is_shown_again(seen):
            has_text = True
        else:
            self._close(picture.at)
            if boxes:
                finished, has_text = self._read(seen)
        self._schedule.note(picture.at, has_text=has_text)
        self._examined, self._since = (picture.at, drawn), []
        return finished

    def _is_shown_again(self, seen: _Seen) -> bool:
        """Return whether the picture shows the last slide, whatever else changed; if so, the slide goes on."""
        last = self._shown
        if last is None or not self._is_recent(last, seen.picture.at):
            return False
        is_new = seen.found & ~last.seen.found
        if not same_within(last.seen.text | is_new, last.seen.sketch, seen.sketch):
            return False
        self._is_open = True
        return True

    def _is_recent(self, last: _Shown, at: float) -> bool:
        return self._is_open or at - last.slide.end <= RETURN_S

    def _read(self, seen: _Seen) -> tuple[tuple[Slide, Pixels] | None, bool]:
        """Read a picture that shows another text than the last slide.

        Return the last slide if this is a new one, and whether the picture has text.
        """
        at = seen.picture.at
        if not (sampling.may_have(self._found, at) and sampling.may_read(self.counts.read, at)):
            self.counts.dropped += 1
            return None, True
        self.counts.read += 1
        lines = self.reader.read(seen.picture.pixels)
        text = text_of(lines)
        height, width = seen.picture.pixels.shape[:2]
        seen = replace(seen, text=mask_of((line.box for line in lines), width, height))
        if letters(text) < sampling.LEAST_LETTERS:
            return None, False
        last = self._shown
        if last and self._is_recent(last, at) and same_text(last.slide.text, text):
            is_longer = letters(text) > letters(last.slide.text)
            slide = replace(last.slide, text=text) if is_longer else last.slide
            self._shown = _Shown(slide, seen, seen.picture.pixels if is_longer else last.pixels)
            self._is_open = True
            return None, True
        start = self._begin(seen)
        finished = self._finished(start) if last else None
        self._found += 1
        self._shown = _Shown(Slide(self._found, start, start, text), seen, seen.picture.pixels)
        self._is_open = True
        return finished, True

    def _begin(self, seen: _Seen) -> float:
        """Return when the text of a picture was first shown, after the picture that was examined before it."""
        first, earlier = seen.picture.at, self._examined[0] if self._examined else None
        for second, other in reversed(self._since):
            if not same_within(seen.text, seen.sketch, other):
                earlier = second
                break
            first = second
        if earlier is None:
            return first
        for picture in self.between(earlier, first):
            if same_within(seen.text, seen.sketch, sketch(picture.pixels)):
                return min(max(picture.at, earlier), first)
        return first

    def _close(self, at: float) -> None:
        """End the slide that is shown at the first picture since that does not show it, at latest at second `at`."""
        if self._shown is None or not self._is_open:
            return
        last = self._shown
        gone = (second for second, other in self._since if not same_within(last.seen.text, last.seen.sketch, other))
        self._shown = replace(last, slide=replace(last.slide, end=max(next(gone, at), last.slide.start)))
        self._is_open = False

    def _finished(self, end: float) -> tuple[Slide, Pixels]:
        """Return the last slide, which ends at second `end` at the latest; one that is still shown ends then."""
        assert self._shown  # noqa: S101 -- called with one only
        slide = self._shown.slide
        last = end if self._is_open else min(slide.end, end)
        return replace(slide, end=max(last, slide.start)), self._shown.pixels
