"""Storage of one decoded track on local disk, its frames placed at the times of a player.

Gaps between frames become silence, and overlaps are dropped. Samples have 16 bits, with an exponent per block for
precision at low levels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transcription_assets.media.ffmpeg_process import SAMPLE_RATE
from transcription_assets.media.mixing import FRAME, Samples, levels, mixed, weights

TOLERANCE = SAMPLE_RATE // 10
"""Deviation in samples (0.1 s) that is ignored: containers round timestamps, and sound cards drift."""

LONGEST_OVERLAP = SAMPLE_RATE // 2
"""Overlap in samples that is dropped in a row; after it, timestamps were set back and all frames are used again."""

BLOCK = 10 * SAMPLE_RATE
_FULL = 32_768
_MOST_DOUBLINGS = 15


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
        offset = at + self._set_back - self.position
        tolerance = TOLERANCE if self._started else 0
        silence = offset if offset > tolerance else 0
        drop = min(-offset, count) if offset < -tolerance else 0
        if self._started and drop:
            self._dropped_in_a_row += drop
            if not self.timed or self._set_back or self._dropped_in_a_row > LONGEST_OVERLAP:
                self._set_back -= offset
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


class Spool:
    """File that stores frames with timestamps and returns blocks of 10 s; silence takes no disk space.

    Memory use is constant. `apart` selects the first two channels; otherwise all are mixed with the weights of `layout`
    (equal if it is empty).

    Raises:
        OSError: the file cannot be created.

    """

    def __init__(self, path: Path, *, layout: str = "", apart: bool = False, timed: bool = True) -> None:
        self._file = path.open("w+b")
        self._layout, self._apart = layout, apart
        self._shares: Sequence[float] = ()
        self._pending: list[Samples] = []
        self._pending_count = 0
        self._doublings: list[int | None] = []
        self._powers: list[NDArray[np.float32]] = []
        self.channels = 2 if apart else 1
        self.timeline = Timeline(timed)
        self.size = 0
        """Bytes on disk; silence takes none."""
        self.rescued = 0
        """Number of samples in blocks whose channels an ordinary mix would have cancelled."""

    @property
    def length(self) -> int:
        """Number of samples per channel."""
        return self.timeline.position

    @property
    def powers(self) -> NDArray[np.float32]:
        """Mean power of each 0.1 s."""
        return np.concatenate(self._powers) if self._powers else np.zeros(0, np.float32)

    def add(self, at: int, samples: Samples) -> None:
        """Append a frame of shape (samples, channels) with its timestamp in samples; `channels` must not change.

        Raises:
            OSError: the disk is full or not available.

        """
        self._shares = self._shares or weights(samples.shape[1], self._layout)
        silence, drop = self.timeline.place(at, len(samples))
        self._skip(silence)
        self._append(samples[drop:])

    def finish(self) -> None:
        """Write the last block, which may be shorter than the others.

        Raises:
            OSError: the disk is full or not available.

        """
        if self._pending_count:
            self._write(np.concatenate(self._pending))
            self._pending, self._pending_count = [], 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def discard(self) -> None:
        """Free the disk space; the blocks cannot be read afterwards.

        Raises:
            OSError: the disk is not available.

        """
        self._file.truncate(0)
        self.size = 0

    def blocks(self) -> Iterator[Samples]:
        """Yield the blocks: float32 in [-1, 1), shape (samples, channels).

        Raises:
            OSError: the disk is not available.

        """
        for number in range(len(self._doublings)):
            block = self.block(number)
            if block is not None:
                yield block

    def block(self, number: int) -> Samples | None:
        """Return one block, None after the end.

        Raises:
            OSError: the disk is not available.

        """
        if number >= len(self._doublings):
            return None
        count = min(BLOCK, self.length - number * BLOCK)
        doublings = self._doublings[number]
        if doublings is None:
            return np.zeros((count, self.channels), np.float32)
        width = self.channels * 2
        self._file.seek(number * BLOCK * width)
        data = np.frombuffer(self._file.read(count * width), np.int16).reshape(-1, self.channels)
        return data.astype(np.float32) / np.float32(_FULL * 2**doublings)

    def _append(self, samples: Samples) -> None:
        while len(samples):
            part = samples[: BLOCK - self._pending_count]
            self._pending.append(part)
            self._pending_count += len(part)
            samples = samples[len(part) :]
            if self._pending_count == BLOCK:
                self.finish()

    def _skip(self, silence: int) -> None:
        """Append silence; whole blocks of it are not written, so that the file is sparse."""
        if not silence:
            return
        width = len(self._shares)
        first = min(silence, (BLOCK - self._pending_count) % BLOCK)
        self._append(np.zeros((first, width), np.float32))
        for _ in range((silence - first) // BLOCK):
            self._skip_block(BLOCK)
        self._append(np.zeros(((silence - first) % BLOCK, width), np.float32))

    def _skip_block(self, count: int) -> None:
        self._file.seek(count * self.channels * 2, 1)
        self._doublings.append(None)
        self._powers.append(np.zeros(-(-count // FRAME), np.float32))

    def _write(self, block: Samples) -> None:
        if self._apart:
            channels = block[:, :2] if block.shape[1] > 1 else np.repeat(block, 2, axis=1)
        else:
            mix = mixed(block, self._shares)
            channels = mix.samples[:, None]
            self.rescued += len(block) if mix.rescued else 0
        peak = float(np.abs(channels).max())
        if not peak:
            self._skip_block(len(block))
            return
        doublings = max(min(int(-np.log2(peak)), _MOST_DOUBLINGS), 0)
        self.size += self._file.write(to_16_bits(channels, doublings).tobytes())
        self._doublings.append(doublings)
        self._powers.append(levels(channels))


def to_16_bits(samples: Samples, doublings: int) -> NDArray[np.int16]:
    """Return the samples after this number of doublings, rounded to int16; louder ones than full scale are clipped."""
    scaled: Samples = np.rint(samples * np.float32(_FULL * 2**doublings))
    return np.clip(scaled, -_FULL, _FULL - 1).astype(np.int16)
