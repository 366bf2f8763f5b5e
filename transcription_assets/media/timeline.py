"""Placement of decoded frames at the times of a player, with silence in gaps and without overlaps. Pure, no I/O."""

from dataclasses import dataclass, field

from transcription_assets.media.ffmpeg_input import SAMPLE_RATE

TOLERANCE = SAMPLE_RATE // 10
"""Deviation in samples (0.1 s) that is ignored: containers round timestamps, and sound cards drift."""

LONGEST_OVERLAP = SAMPLE_RATE // 2
"""Overlap in samples that is dropped in a row; after it, timestamps were set back and all frames are used again."""


@dataclass(slots=True)
class Timeline:
    """Position (in samples) after the frames placed so far, and the gaps and overlaps between them.

    `gap` and `overlap` count the samples of silence between frames and the samples dropped. The silence before the
    first frame is no gap: an audio track may begin late. If `timed` is False, ffmpeg counted the timestamps: they may
    advance too slowly after a change of the sample rate, so nothing is dropped.
    """

    timed: bool = True
    position: int = 0
    gap: int = 0
    overlap: int = 0
    _started: bool = field(default=False, repr=False)
    _set_back: int = field(default=0, repr=False)
    _dropped_in_a_row: int = field(default=0, repr=False)

    def place(self, at: int, count: int) -> tuple[int, int]:
        """Place a frame of `count` samples with the timestamp `at`; all but the first within TOLERANCE.

        Returns:
            The number of samples of silence to write before it, and the number of its first samples to drop.

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
        """True if timestamps ran backwards, so that positions differ from the timestamps of the container."""
        return self._set_back > 0
