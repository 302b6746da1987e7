# mypy: allow-subclassing-any
"""ConnectNet, the network of PP-HumanSeg, as a torch module whose state has PaddleSeg's own parameter names.

Source: "PP-HumanSeg: Connectivity-Aware Portrait Segmentation with a Large-Scale Teleconferencing Video Dataset"
(arXiv 2112.07146); the names are those of the published training checkpoints, so that one dict of arrays goes
from `.pdparams` into this module and from here into the exporter without a table of renamings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeseg.core.errors import CheckpointError

_EPSILON = 1e-5
_MOMENTUM = 0.1


class BatchNorm(nn.Module):
    """Batch norm over N, H, W with PaddleSeg's names: `weight`, `bias`, `_mean`, `_variance` (each ``[C]``)."""

    _mean: Tensor
    _variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("_mean", torch.zeros(channels))
        self.register_buffer("_variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[N, C, H, W]``; in training the running statistics follow with a momentum of 0.1."""
        return F.batch_norm(x, self._mean, self._variance, self.weight, self.bias, self.training, _MOMENTUM, _EPSILON)


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, and ReLU unless `relu` is false."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self._conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self._batch_norm = BatchNorm(outputs)
        self._relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` to ``[N, outputs, H / stride, W / stride]`` (rounded up)."""
        x = self._batch_norm(self._conv(x))
        return F.relu(x) if self._relu else x


class SeparableConv(nn.Module):
    """Depthwise 3x3 (no ReLU), then pointwise 1x1 with ReLU. `piontwise_conv` is spelled as in the checkpoints."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise_conv = ConvBN(inputs, inputs, 3, stride=stride, groups=inputs, relu=False)
        self.piontwise_conv = ConvBN(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` to ``[N, outputs, H / stride, W / stride]`` (rounded up)."""
        y: Tensor = self.piontwise_conv(self.depthwise_conv(x))
        return y


def _shuffle(first: Tensor, second: Tensor) -> Tensor:
    """Concatenate two equal halves and shuffle the channels in two groups: a0 b0 a1 b1 …"""
    return torch.stack((first, second), dim=2).flatten(1, 2)


class Unit(nn.Module):
    """A stride-1 unit: half of the channels pass, the other half goes through the branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self._half = half
        self._conv = ConvBN(half, half, 1)
        self._depthwise_separable_1 = SeparableConv(half, half)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape."""
        return _shuffle(x[:, : self._half], self._depthwise_separable_1(self._conv(x[:, self._half :])))


class DownUnit(nn.Module):
    """A stride-2 unit: both sides see the whole input, each gives half of the output channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self._depthwise_separable_0 = SeparableConv(inputs, half, stride=2)
        self._conv = ConvBN(inputs, half, 1)
        self._depthwise_separable_1 = SeparableConv(half, half, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` to ``[N, outputs, H / 2, W / 2]`` (rounded up)."""
        return _shuffle(self._depthwise_separable_0(x), self._depthwise_separable_1(self._conv(x)))


class ConnectNet(nn.Module):
    """RGB in, class logits out: 131,766 trained parameters for two classes (137,466 with the running statistics).

    The last layer ends in a ReLU, as in the published network: logits are never negative.
    """

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.conv_bn0 = ConvBN(3, 36, 3, stride=2)
        self.conv_bn1 = ConvBN(36, 18, 1)
        self.block1 = nn.Sequential(DownUnit(36, 72), *(Unit(72) for _ in range(3)))
        self.block2 = nn.Sequential(DownUnit(72, 144), *(Unit(144) for _ in range(7)))
        self.depthwise_separable0 = SeparableConv(144, 64)
        self.depthwise_separable1 = SeparableConv(82, 64)
        self.depthwise_separable2 = SeparableConv(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def coarse(self, image: Tensor) -> Tensor:
        """Logits at half of the input's size, before the last resize: ``[N, classes, H / 2, W / 2]`` (rounded up).

        Training measures its loss here where a mask of full size would only cost time.
        """
        stem = self.conv_bn0(image)
        shortcut = self.conv_bn1(stem)
        deep = self.block2(self.block1(F.max_pool2d(stem, 3, 2, 1)))
        deep = self.depthwise_separable0(deep)
        deep = F.interpolate(deep, size=shortcut.shape[2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.depthwise_separable2(self.depthwise_separable1(torch.cat((shortcut, deep), dim=1)))
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Normalised RGB ``[N, 3, H, W]`` (``(x / 255 - 0.5) / 0.5``) to logits ``[N, classes, H, W]``."""
        return F.interpolate(self.coarse(image), size=image.shape[2:], mode="bilinear", align_corners=False)


def load_arrays(network: nn.Module, arrays: Mapping[str, np.ndarray[Any, Any]], *, where: str) -> tuple[str, ...]:
    """Fill a network from arrays by name; every tensor of the network has to be there with its shape.

    Args:
        network: The module, usually `ConnectNet`.
        arrays: Name to array. Names that the network does not have are allowed: PaddleSeg writes 100 tensors that
            its graph never uses.
        where: What the arrays came from, for the error message.

    Returns:
        The names that were not used, sorted.

    Raises:
        CheckpointError: A tensor is missing or has another shape; the first such is named, nothing was changed.
    """
    state = network.state_dict()
    missing = sorted(set(state) - set(arrays))
    if missing:
        raise CheckpointError(
            f"{where}: not ConnectNet's weights: {len(missing)} of {len(state)} tensors are missing, first {missing[0]!r}",
            "--init takes a PaddleSeg .pdparams, an .npz or a .safetensors of PPHumanSegLite",
        )
    for name, tensor in state.items():
        if tuple(arrays[name].shape) != tuple(tensor.shape):
            raise CheckpointError(
                f"{where}: {name} has shape {tuple(arrays[name].shape)}, ConnectNet's has {tuple(tensor.shape)}"
            )
    network.load_state_dict({name: torch.from_numpy(np.array(arrays[name], dtype=np.float32)) for name in state})
    return tuple(sorted(set(arrays) - set(state)))
