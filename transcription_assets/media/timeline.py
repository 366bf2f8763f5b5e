"""Place decoded frames on the clock of a player. Pure: timestamps in, silence and overlaps out."""

from dataclasses import dataclass, field

from transcription_assets.media.source import SAMPLE_RATE

TOLERANCE = SAMPLE_RATE // 10
"""Timestamps of containers are rounded and sound cards drift: below 0.1 s frames simply follow each other."""

LONGEST_OVERLAP = SAMPLE_RATE // 2
"""Frames whose time was written already are dropped for so long; then the clock has been set back, and all are kept."""


@dataclass(slots=True)
class Timeline:
    """Position (in samples) of what was placed, and what was found on the way.

    `gap` and `overlap` count the samples of silence between frames and the samples dropped. The silence before the
    first frame is no gap: a sound track may begin late. Without `timed`, timestamps were counted by ffmpeg and not read
    from the container: they may run too slowly where the sample rate changes, so nothing is dropped for them.
    """

    timed: bool = True
    position: int = 0
    gap: int = 0
    overlap: int = 0
    _started: bool = field(default=False, repr=False)
    _set_back: int = field(default=0, repr=False)
    _dropped_in_a_row: int = field(default=0, repr=False)

    def place(self, at: int, count: int) -> tuple[int, int]:
        """Place a frame of `count` samples with the timestamp `at`; the first one exactly, later ones by tolerance.

        Returns:
            The samples of silence to write before it, and how many of its first samples to drop.

        """
        ahead = at + self._set_back - self.position
        tolerance = TOLERANCE if self._started else 0
        silence = ahead if ahead > tolerance else 0
        drop = min(-ahead, count) if ahead < -tolerance else 0
        if self._started and drop:
            self._dropped_in_a_row += drop
            if not self.timed or self._set_back or self._dropped_in_a_row > LONGEST_OVERLAP:
                self._set_back -= ahead
                drop = 0
        if not drop:
            self._dropped_in_a_row = 0
        if self._started:
            self.gap += silence
            self.overlap += drop
        self._started = self._started or count > drop
        self.position += silence + count - drop
        return silence, drop

    @property
    def is_set_back(self) -> bool:
        """Return whether timestamps ran backwards, so that the container's clock and this one differ."""
        return self._set_back > 0
