"""The segmentation network (pyannote segmentation-3.0): who of at most three voices speaks in each frame of 10 s.

Its classes are sets of voices: none, one of three, two of three. So it marks overlap, and needs no threshold. The names
of the modules are those of the published weights.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

WINDOW = 160_000
"""Samples of its input: 10 s."""
FRAMES = 589
"""Frames of its output."""
FRAME_HOP = 270
"""Samples between frames: 16.9 ms."""
FRAME_SPAN = 991
"""Samples that one frame depends on; its time is their middle."""
VOICES = 3
CLASSES = ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
"""The voices of each class."""
_KERNEL = 251
_FILTERS = 40
_LOWEST_HZ = 50.0
_NARROWEST_HZ = 50.0
_HALF_RATE = 8000.0


def load(path: Path) -> "nn.Module":
    """Return the network with the weights at `path`, ready for inference.

    Raises:
        OSError: the file cannot be read.
        KeyError: the file has no weights.
        RuntimeError: the weights are those of another network.
        pickle.UnpicklingError: the file holds anything but tensors and plain values.

    """
    import torch

    network: nn.Module = _classes()()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    network.eval()
    return network


@cache
def _classes() -> Any:  # noqa: C901 -- the layers need torch, which is imported only when speakers are wanted
    import torch
    from torch import nn
    from torch.nn import functional

    class BandPass(nn.Module):
        """Convolution with 40 learned band-pass filters, each in two phases."""

        window_: "Tensor"
        n_: "Tensor"

        def __init__(self) -> None:
            super().__init__()
            half = _KERNEL // 2
            self.low_hz_ = nn.Parameter(torch.zeros(_FILTERS, 1))
            self.band_hz_ = nn.Parameter(torch.zeros(_FILTERS, 1))
            self.register_buffer("window_", torch.zeros(half))
            self.register_buffer("n_", torch.zeros(1, half))

        def filters(self) -> "Tensor":
            """Return the filters, shape (80, 1, 251): even phases, then odd ones."""
            low = _LOWEST_HZ + self.low_hz_.abs()
            high = (low + _NARROWEST_HZ + self.band_hz_.abs()).clamp(_LOWEST_HZ, _HALF_RATE)
            below, above, half_time = low @ self.n_, high @ self.n_, self.n_ / 2
            width = 2 * (high - low)
            even = (above.sin() - below.sin()) / half_time * self.window_
            odd = (below.cos() - above.cos()) / half_time * self.window_
            both = torch.cat(
                [
                    torch.cat([even, width, even.flip(1)], 1),
                    torch.cat([odd, torch.zeros_like(width), -odd.flip(1)], 1),
                ]
            )
            return (both / torch.cat([width, width])).unsqueeze(1)

        def forward(self, x: "Tensor") -> Any:
            return functional.conv1d(x, self.filters(), stride=10)

    class Filters(nn.Module):
        """The filters under the name of the weights."""

        def __init__(self) -> None:
            super().__init__()
            self.filterbank = BandPass()

        def forward(self, x: "Tensor") -> Any:
            return self.filterbank(x)

    class Front(nn.Module):
        """(batch, 1, samples) to (batch, 60, frames)."""

        def __init__(self) -> None:
            super().__init__()
            self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
            self.conv1d = nn.ModuleList([Filters(), nn.Conv1d(2 * _FILTERS, 60, 5), nn.Conv1d(60, 60, 5)])
            self.norm1d = nn.ModuleList([nn.InstanceNorm1d(size, affine=True) for size in (2 * _FILTERS, 60, 60)])

        def forward(self, x: "Tensor") -> Any:
            x = self.wav_norm1d(x)
            for number, (convolution, norm) in enumerate(zip(self.conv1d, self.norm1d, strict=True)):
                x = convolution(x)
                x = functional.leaky_relu(norm(functional.max_pool1d(x if number else x.abs(), 3)))
            return x

    class Network(nn.Module):
        """(batch, samples) to the class of each frame, (batch, frames)."""

        def __init__(self) -> None:
            super().__init__()
            self.sincnet = Front()
            self.lstm = nn.LSTM(60, 128, 4, batch_first=True, bidirectional=True)
            self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
            self.classifier = nn.Linear(128, len(CLASSES))

        def forward(self, samples: "Tensor") -> Any:
            x, _ = self.lstm(self.sincnet(samples.unsqueeze(1)).transpose(1, 2))
            for layer in self.linear:
                x = functional.leaky_relu(layer(x))
            return self.classifier(x).argmax(-1)

    return Network
