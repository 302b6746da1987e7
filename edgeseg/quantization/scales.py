"""Scales: how real numbers become 8-bit integers, for activations and for weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeseg.core.arrays import Array

LEVELS = 255
"""Steps of an 8-bit scale."""

_TOP = 127
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


def scale_from(low: float, high: float) -> Scale:
    """The scale from exactly `low` on, which is below zero, to `high` or a little more."""
    zero = int(-low * LEVELS / max(high - low, -low))
    return Scale(float(np.float32(-low / zero)), zero) if zero else scale_of(low, high)


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
    weight: Array, bias: Array | None, source: Scale, means: Array | None = None, *, paired: bool = True
) -> Weights:
    """Weights per output channel, and the bias with what rounding took from the channel's mean put back.

    Rounded weights shift the mean of a channel by the rounding error times the mean of the input, a shift that adds up
    along a network; the bias can take it back for nothing (bias correction, Nagel et al. 2019, section 4.2).

    Args:
        weight: [O, I, kh, kw], float32; I is 1 for a depthwise convolution.
        bias: [O], float32.
        source: Scale of the input.
        means: [C] mean of the input per channel, for the correction; None for none.
        paired: Keep within what kernels can add that sum two neighbouring products in 16 bits, as x86 does before
            VNNI (`vpmaddubsw` saturates): see `_pair_limit`.
    """
    outputs = weight.shape[0]
    flat = weight.reshape(outputs, -1).astype(np.float64)
    offset = np.zeros(outputs) if bias is None else bias.astype(np.float64)
    steps = steps_of(weight, paired=paired)
    # A channel of tiny weights with a large bias: the bias has to fit in 32 bits.
    steps = np.maximum(steps, np.abs(offset) / (source.step * _BIAS_LIMIT)).astype(np.float32)
    stored = np.clip(np.rint(flat / steps[:, None]), -_TOP, _TOP)
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


def steps_of(weight: Array, *, paired: bool = True) -> Array:
    """The step of each output channel of weights [O, I, kh, kw]; see `quantise_weights`."""
    largest = np.abs(weight.reshape(weight.shape[0], -1)).max(axis=1).astype(np.float64)
    steps = np.maximum(largest, max(float(largest.max()), 1e-12) * 1e-6) / _TOP
    return np.maximum(steps, _pair_limit(weight)) if paired else steps


def _pair_limit(weight: Array) -> Array:
    """The smallest step of each output channel with which no pair of products can leave 16 bits.

    Such kernels multiply unsigned activations (to 255) with signed weights and add neighbours along the input channels
    in 16 bits: two weights of one sign may come to 128 together. That costs a channel part of a bit only where its two
    largest neighbours point the same way, where storing all weights in 7 bits would cost every channel a whole one.

    Args:
        weight: [O, I, kh, kw]; a depthwise kernel (I = 1) adds no neighbours.
    """
    outputs, inputs = weight.shape[:2]
    if inputs == 1:
        return np.zeros(outputs)
    rows = weight.transpose(0, 2, 3, 1).astype(np.float64)
    if inputs % 2:  # then a pair may reach over to the next tap
        flat = np.pad(rows.reshape(outputs, -1), [(0, 0), (0, 1)])
        sums = flat[:, :-1] + flat[:, 1:]
    else:
        sums = rows.reshape(outputs, -1, 2).sum(axis=2)
    return np.asarray(np.abs(sums).max(axis=1) / _TOP)  # 128 less the half that each of the two may be rounded up by
