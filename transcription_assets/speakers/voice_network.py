"""The voice network (CAM++ of 3D-Speaker): log mel features of one voice to a vector of 192 numbers.

A convolutional front end over time and frequency, then three blocks of densely connected time-delay layers, each with a
gate computed from the mean of the whole input and of pieces of it, then the mean and deviation over time. The names of
the modules are those of the published weights.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

DIMENSION = 192
_CHANNELS = 32
_BOTTLENECK = 128
_BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Number of layers and dilation of each block."""
_PIECE = 100
"""Frames (20 ms each) whose mean is the local context of a gate."""


def load(path: Path) -> "nn.Module":
    """Return the network with the weights at `path`, ready for inference.

    Raises:
        OSError: the file cannot be read.
        RuntimeError: the weights are those of another network.
        pickle.UnpicklingError: the file holds anything but tensors.

    """
    import torch

    network: Any = _classes()()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.head.to(memory_format=torch.channels_last)  # 10 % faster on a CPU
    evaluated: nn.Module = network.eval()
    return evaluated


@cache
def _classes() -> Any:  # noqa: C901 -- the layers need torch, which is imported only when speakers are wanted
    import torch
    from torch import nn
    from torch.nn import functional

    class Residual(nn.Module):
        """Two convolutions over frequency and time; `stride` halves the frequencies."""

        def __init__(self, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(_CHANNELS, _CHANNELS, 3, (stride, 1), 1, bias=False)
            self.bn1 = nn.BatchNorm2d(_CHANNELS)
            self.conv2 = nn.Conv2d(_CHANNELS, _CHANNELS, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(_CHANNELS)
            self.shortcut = nn.Sequential()
            if stride > 1:
                self.shortcut.append(nn.Conv2d(_CHANNELS, _CHANNELS, 1, (stride, 1), bias=False))
                self.shortcut.append(nn.BatchNorm2d(_CHANNELS))

        def forward(self, x: "Tensor") -> Any:
            inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            return functional.relu(inner + self.shortcut(x))

    class FrontEnd(nn.Module):
        """(batch, 80, frames) to (batch, 320, frames)."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, _CHANNELS, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(_CHANNELS)
            self.layer1 = nn.Sequential(Residual(2), Residual(1))
            self.layer2 = nn.Sequential(Residual(2), Residual(1))
            self.conv2 = nn.Conv2d(_CHANNELS, _CHANNELS, 3, (2, 1), 1, bias=False)
            self.bn2 = nn.BatchNorm2d(_CHANNELS)

        def forward(self, x: "Tensor") -> Any:
            x = functional.relu(self.bn1(self.conv1(x.unsqueeze(1))))
            x = self.layer2(self.layer1(x))
            return functional.relu(self.bn2(self.conv2(x))).flatten(1, 2)

    class Activation(nn.Module):
        """Normalisation, then ReLU."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.batchnorm = nn.BatchNorm1d(channels)

        def forward(self, x: "Tensor") -> Any:
            return functional.relu(self.batchnorm(x))

    class First(nn.Module):
        """Time-delay layer that halves the frames."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Conv1d(10 * _CHANNELS, 128, 5, 2, 2, bias=False)
            self.nonlinear = Activation(128)

        def forward(self, x: "Tensor") -> Any:
            return self.nonlinear(self.linear(x))

    class Gated(nn.Module):
        """Dilated convolution times a gate computed from the means of the whole and of pieces."""

        def __init__(self, dilation: int) -> None:
            super().__init__()
            self.linear_local = nn.Conv1d(_BOTTLENECK, 32, 3, 1, dilation, dilation, bias=False)
            self.linear1 = nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1)
            self.linear2 = nn.Conv1d(_BOTTLENECK // 2, 32, 1)

        def forward(self, x: "Tensor") -> Any:
            # One value of the gate for each piece: it is computed before it is repeated over the frames.
            means = functional.avg_pool1d(x, _PIECE, _PIECE, ceil_mode=True) + x.mean(-1, keepdim=True)
            gate = torch.sigmoid(self.linear2(functional.relu(self.linear1(means))))
            return self.linear_local(x) * gate.repeat_interleave(_PIECE, -1)[..., : x.shape[-1]]

    class Layer(nn.Module):
        """One densely connected layer: adds 32 channels."""

        def __init__(self, channels: int, dilation: int) -> None:
            super().__init__()
            self.nonlinear1 = Activation(channels)
            self.linear1 = nn.Conv1d(channels, _BOTTLENECK, 1, bias=False)
            self.nonlinear2 = Activation(_BOTTLENECK)
            self.cam_layer = Gated(dilation)

        def forward(self, x: "Tensor") -> Any:
            return self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))

    class Block(nn.ModuleDict):
        def __init__(self, channels: int, layers: int, dilation: int) -> None:
            super().__init__({f"tdnnd{n + 1}": Layer(channels + 32 * n, dilation) for n in range(layers)})

        def forward(self, x: "Tensor") -> Any:
            for layer in self.values():
                x = torch.cat([x, layer(x)], 1)
            return x

    class Narrow(nn.Module):
        """Normalisation and a projection to half of the channels."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.nonlinear = Activation(channels)
            self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

        def forward(self, x: "Tensor") -> Any:
            return self.linear(self.nonlinear(x))

    class Last(nn.Module):
        """Projection to the vector, normalised without learned scale."""

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.linear = nn.Conv1d(channels, DIMENSION, 1, bias=False)
            self.nonlinear = nn.ModuleDict({"batchnorm": nn.BatchNorm1d(DIMENSION, affine=False)})

        def forward(self, x: "Tensor") -> Any:
            return self.nonlinear["batchnorm"](self.linear(x.unsqueeze(-1)).squeeze(-1))

    class Network(nn.Module):
        """(batch, frames, 80) to (batch, 192)."""

        def __init__(self) -> None:
            super().__init__()
            self.head = FrontEnd()
            self.xvector = nn.ModuleDict({"tdnn": First()})
            channels = 128
            for number, (layers, dilation) in enumerate(_BLOCKS, 1):
                self.xvector[f"block{number}"] = Block(channels, layers, dilation)
                channels += 32 * layers
                self.xvector[f"transit{number}"] = Narrow(channels)
                channels //= 2
            self.xvector["out_nonlinear"] = Activation(channels)
            self.xvector["dense"] = Last(2 * channels)

        def forward(self, features: "Tensor") -> Any:
            x = self.head(features.transpose(1, 2))
            for name, step in self.xvector.items():
                if name != "dense":
                    x = step(x)
            return self.xvector["dense"](torch.cat([x.mean(-1), x.std(-1)], 1))

    return Network
