"""Resize: the TFLite flavour whose sampling positions are the same, else gathers or an exact matrix product."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeseg.backends.tflite.context import Context, Refused, Value, lowers
from edgeseg.backends.tflite.layout import NHWC
from edgeseg.backends.tflite.ops.shape import gathered
from edgeseg.backends.tflite.prepare import Node
from edgeseg.core.arrays import Array

_FLAVOURS: tuple[tuple[bool, bool], ...] = ((True, False), (False, False), (False, True))
"""(half_pixel_centers, align_corners)"""


class Axis:
    """How one dimension is sampled: sizes, scale, and the position in the input of every output element.

    `positions` are exact, for interpolation. `single` are computed in float32 as ONNX Runtime does: where a formula
    lands on the edge between two elements, its rounding decides which one is the nearest.
    """

    def __init__(self, size: int, out: int, scale: float, transform: str) -> None:
        self.size, self.out, self.scale = size, out, scale
        self.positions = _positions(size, out, scale, transform, np.float64)
        self.single = _positions(size, out, scale, transform, np.float32)


def _positions(size: int, out: int, factor: float, transform: str, real: Any) -> Array:
    """Sampling positions by ONNX's `coordinate_transformation_mode`."""
    x: Array = np.arange(out, dtype=real)
    scale, half = real(factor), real(0.5)
    if out == 1 and transform in ("pytorch_half_pixel", "align_corners"):
        return np.zeros_like(x)
    match transform:
        case "half_pixel" | "pytorch_half_pixel":
            x = (x + half) / scale - half
        case "half_pixel_symmetric":
            offset = real(size) / 2 * (1 - real(out) / (scale * real(size)))
            x = offset + (x + half) / scale - half
        case "asymmetric":
            x = x / scale
        case "align_corners":
            x = x * real(size - 1) / real(out - 1)
        case _:
            raise Refused(f"its coordinate_transformation_mode is {transform!r}")
    return x


@lowers("Resize", "Upsample")
def resize(ctx: Context, node: Node) -> None:
    """RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR where they agree with ONNX to the last sample."""
    value = ctx.input(0)
    mode = node.get("mode", "nearest")
    old = node.op == "Upsample" or ctx.opset < 11
    transform = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else node.get("nearest_mode", "round_prefer_floor")
    axes = _axes(ctx, node, value, transform, old)
    moving = [axis for axis, sampling in enumerate(axes) if sampling.out != sampling.size or not _still(sampling)]
    if len(value.shape) == 4 and set(moving) <= {2, 3}:
        tensor = ctx.tensor(value, NHWC)
        rows, columns = axes[2], axes[3]
        result = None
        if mode == "linear" and not node.get("antialias", 0):
            result = _bilinear(ctx, tensor, rows, columns)
        elif mode == "nearest":
            result = _nearest(ctx, tensor, rows, columns, rounding)
        if result is not None:
            ctx.bind(result, NHWC, nonnegative=value.nonnegative)
            return
    order = NHWC if len(value.shape) == 4 else value.order
    tensor = ctx.tensor(value, order)
    for place, axis in enumerate(order):
        if axis in moving:
            if mode == "nearest":
                tensor = gathered(ctx, tensor, place, _nearest_indices(axes[axis], rounding))
            elif mode in ("linear", "cubic"):
                tensor = _product(ctx, tensor, place, _matrix(axes[axis], node, mode))
            else:
                raise Refused(f"its mode is {mode!r}")
    ctx.bind(tensor, order, nonnegative=value.nonnegative and mode != "cubic")


def _still(axis: Axis) -> bool:
    return bool(np.allclose(axis.positions, np.arange(axis.size), atol=1e-9))


def _axes(ctx: Context, node: Node, value: Value, transform: str, old: bool) -> list[Axis]:
    """The sampling of every logical dimension, from scales or sizes."""
    rank = len(value.shape)
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused("it keeps the aspect ratio")
    sizes, scales = None, node.get("scales", None)
    if scales is None and node.op == "Upsample":
        scales = ctx.constant(1, "scales")
    elif scales is None:
        found = ctx.optional(1 if old else 2, "scales")
        scales = found if found is not None and found.size else None
        sizes = None if scales is not None or old else ctx.constant(3, "sizes")
    chosen = [axis % rank for axis in node.get("axes", list(range(rank)))]
    axes = [Axis(size, size, 1.0, "asymmetric") for size in value.shape]
    for index, axis in enumerate(chosen):
        size = value.shape[axis]
        if sizes is not None:
            out = int(sizes[index])
            scale = out / size
        else:
            assert scales is not None
            scale = float(scales[index])
            out = math.floor(size * scale + 1e-6)
            if transform == "align_corners" and abs(size * scale - out) > 1e-6:
                raise Refused(
                    f"it aligns corners at {size * scale:g} elements, which ONNX and its runtimes read differently"
                )
        if out < 1:
            raise Refused("its result is empty")
        axes[axis] = Axis(size, out, scale, transform)
    return axes


def _bilinear(ctx: Context, tensor: int, rows: Axis, columns: Axis) -> int | None:
    for half, corners in _FLAVOURS:
        if all(
            np.allclose(
                np.clip(_tflite_positions(axis, half, corners), 0, axis.size - 1),
                np.clip(axis.positions, 0, axis.size - 1),
                atol=1e-6,
            )
            for axis in (rows, columns)
        ):
            return _emit(ctx, "RESIZE_BILINEAR", tensor, rows, columns, half, corners)
    return None


def _tflite_positions(axis: Axis, half: bool, corners: bool) -> Array:
    """Where TFLite's bilinear resize samples (reference kernel `ComputeInterpolationValues`)."""
    x = np.arange(axis.out, dtype=np.float64)
    if corners and axis.out > 1:
        return x * (axis.size - 1) / (axis.out - 1)
    return (x + 0.5) * axis.size / axis.out - 0.5 if half else x * axis.size / axis.out


def _nearest(ctx: Context, tensor: int, rows: Axis, columns: Axis, rounding: str) -> int | None:
    wanted = [_nearest_indices(axis, rounding) for axis in (rows, columns)]
    for half, corners in ((False, False), (True, False), (False, True)):
        found = [_tflite_nearest(axis, half, corners) for axis in (rows, columns)]
        if all(np.array_equal(a, b) for a, b in zip(wanted, found, strict=True)):
            return _emit(ctx, "RESIZE_NEAREST_NEIGHBOR", tensor, rows, columns, half, corners)
    return None


def _nearest_indices(axis: Axis, rounding: str) -> Array:
    """The input element of every output element by ONNX's `nearest_mode`."""
    modes: dict[str, Callable[[Any], Any]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda c: np.ceil(c - 0.5),
        "round_prefer_ceil": lambda c: np.floor(c + 0.5),
    }
    if rounding not in modes:
        raise Refused(f"its nearest_mode is {rounding!r}")
    return np.asarray(np.clip(modes[rounding](axis.single), 0, axis.size - 1), np.int64)


def _tflite_nearest(axis: Axis, half: bool, corners: bool) -> Array:
    """The element that TFLite picks (reference kernel `GetNearestNeighbor`), in its float32 arithmetic."""
    x = np.arange(axis.out, dtype=np.float32)
    if corners and axis.out > 1:
        scale = np.float32(axis.size - 1) / np.float32(axis.out - 1)
    else:
        scale = np.float32(axis.size) / np.float32(axis.out)
    position = (x + np.float32(0.5 if half else 0.0)) * scale
    picked = np.floor(position + np.float32(0.5)) if corners else np.floor(position)
    return np.asarray(np.clip(picked, 0, axis.size - 1), np.int64)


def _emit(ctx: Context, kind: str, tensor: int, rows: Axis, columns: Axis, half: bool, corners: bool) -> int:
    batch, _, _, channels = ctx.shape_of(tensor)
    if (rows.out, columns.out) == (rows.size, columns.size):
        return tensor
    shape = (batch, rows.out, columns.out, channels)
    target = ctx.ints((rows.out, columns.out))
    return ctx.emit(kind, [tensor, target], shape, halfPixelCenters=half, alignCorners=corners)


def _matrix(axis: Axis, node: Node, mode: str) -> Array:
    """The interpolation along one dimension as a matrix [out, size].

    Cubic weights: Keys 1981 with coefficient `cubic_coeff_a`. With antialias the kernel is stretched by the reduction.
    Elements outside take the border's value, or no part at all with `exclude_outside`.
    """
    a = float(node.get("cubic_coeff_a", -0.75))
    stretch = min(axis.scale, 1.0) if node.get("antialias", 0) else 1.0
    support = (1.0 if mode == "linear" else 2.0) / stretch
    exclude = bool(node.get("exclude_outside", 0))

    def weight(distance: Array) -> Array:
        x = np.abs(distance)
        if mode == "linear":
            return np.maximum(0.0, 1.0 - x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    matrix = np.zeros((axis.out, axis.size))
    for row, position in enumerate(axis.positions):
        taps = np.arange(math.floor(position - support), math.ceil(position + support) + 1)
        weights = weight((taps - position) * stretch)
        if exclude:
            weights = np.where((taps >= 0) & (taps < axis.size), weights, 0.0)
        np.add.at(matrix[row], np.clip(taps, 0, axis.size - 1), weights / weights.sum())
    return matrix


def _product(ctx: Context, tensor: int, place: int, matrix: Array) -> int:
    """Apply a matrix [out, size] along one physical dimension."""
    shape = ctx.shape_of(tensor)
    before, after = math.prod(shape[:place]), math.prod(shape[place + 1 :])
    flat = ctx.reshape(tensor, (before, shape[place], after))
    left = ctx.floats(np.broadcast_to(matrix[None], (before, *matrix.shape)) if before <= 4 else matrix[None])
    new = (before, matrix.shape[0], after)
    product = ctx.emit("BATCH_MATMUL", [left, flat], new, np.float32, adjX=False, adjY=False)
    return ctx.reshape(product, (*shape[:place], matrix.shape[0], *shape[place + 1 :]))
