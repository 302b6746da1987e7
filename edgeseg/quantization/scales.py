"""Scales: how real numbers become 8-bit integers, for activations and for weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeseg.core.arrays import Array

LEVELS = 255
"""Steps of an 8-bit scale."""

_BIAS_LIMIT = 2.0**30


@dataclass(frozen=True)
class Scale:
    """An affine scale of 255 steps: ``real = step * (stored - zero)`` with `stored` in 0..255.

    The same numbers serve signed 8 bits, with 128 subtracted from `zero` and from what is stored.
    """

    step: float
    zero: int

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and largest number that it can hold."""
        return -self.zero * self.step, (LEVELS - self.zero) * self.step


def scale_of(low: float, high: float) -> Scale:
    """The scale that holds [low, high]; zero is always one of its numbers, because padding is zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-12:
        return Scale(1.0 / LEVELS, 0)
    step = (high - low) / LEVELS
    return Scale(float(np.float32(step)), int(np.clip(round(-low / step), 0, LEVELS)))


@dataclass(frozen=True)
class Weights:
    """A convolution's weights as integers.

    Attributes:
        stored: [O, I, kh, kw], int8, symmetric.
        steps: [O], float32: ``real = steps * stored``.
        bias: [O], int32, in steps of the input's step times `steps`.
    """

    stored: Array
    steps: Array
    bias: Array

    def real(self) -> Array:
        """The weights that the integers stand for, float32."""
        return self.stored.astype(np.float32) * self.steps[:, None, None, None]


def quantise_weights(
    weight: Array, bias: Array | None, source: Scale, means: Array | None = None, *, top: int = 127
) -> Weights:
    """Weights per output channel, and the bias with what rounding took from the channel's mean put back.

    Rounded weights shift the mean of a channel by the rounding error times the mean of the input, a shift that adds up
    along a network; the bias can take it back for nothing (bias correction, Nagel et al. 2019, section 4.2).

    Args:
        weight: [O, I, kh, kw], float32; I is 1 for a depthwise convolution.
        bias: [O], float32.
        source: Scale of the input.
        means: [C] mean of the input per channel, for the correction; None for none.
        top: Largest stored weight: 127, or 63 where a kernel adds two products in 16 bits (x86 before VNNI).
    """
    outputs = weight.shape[0]
    flat = weight.reshape(outputs, -1).astype(np.float64)
    offset = np.zeros(outputs) if bias is None else bias.astype(np.float64)
    largest = np.abs(flat).max(axis=1)
    steps = np.maximum(largest, max(float(largest.max()), 1e-12) * 1e-6) / top
    # A channel of tiny weights with a large bias: the bias has to fit in 32 bits.
    steps = np.maximum(steps, np.abs(offset) / (source.step * _BIAS_LIMIT)).astype(np.float32)
    stored = np.clip(np.rint(flat / steps[:, None]), -top, top)
    if means is not None and means.size:
        lost = (flat - stored * steps[:, None]).reshape(weight.shape)
        if weight.shape[1] == 1 and means.size == outputs:
            offset = offset + lost.sum(axis=(1, 2, 3)) * means
        elif weight.shape[1] == means.size:
            offset = offset + lost.sum(axis=(2, 3)) @ means
    whole = np.rint(offset / (source.step * steps.astype(np.float64)))
    return Weights(
        stored.reshape(weight.shape).astype(np.int8), steps, np.clip(whole, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    )
