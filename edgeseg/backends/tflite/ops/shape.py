"""Operators that move or choose elements: reshape, transpose, concat, split, slice, gather, pad, tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeseg.backends.tflite import layout
from edgeseg.backends.tflite.context import Context, Refused, Value, elements, lowers
from edgeseg.backends.tflite.layout import NHWC, Shape
from edgeseg.backends.tflite.ops.elementwise import binary, broadcast, named, scalar
from edgeseg.backends.tflite.ops.reduce import squeezed
from edgeseg.backends.tflite.prepare import Node
from edgeseg.core.arrays import Array

MAX_RANK = 5
"""SLICE, STRIDED_SLICE and PAD stop here."""


@lowers("Constant")
def constant(ctx: Context, node: Node) -> None:
    """A constant."""
    [(name, data)] = node.attributes.items()
    if name not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        raise Refused(f"its {name} is not a tensor of numbers")
    kind = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    ctx.bind_data(np.asarray(data, kind.get(name)))


@lowers("Shape")
def shape(ctx: Context, node: Node) -> None:
    """Known when the file is written."""
    sizes = ctx.input(0).shape[node.get("start", 0) : node.get("end", None)]
    ctx.bind_data(np.array(sizes, np.int64))


@lowers("Size")
def size(ctx: Context, node: Node) -> None:
    """Known when the file is written."""
    ctx.bind_data(np.array(elements(ctx.input(0).shape), np.int64))


@lowers("Transpose")
def transpose(ctx: Context, node: Node) -> None:
    """Nothing is written: the value's order changes."""
    value = ctx.input(0)
    permutation = node.get("perm", list(range(len(value.shape)))[::-1])
    new = tuple(value.shape[axis] for axis in permutation)
    ctx.bind_value(replace(value, shape=new, order=layout.transposed(value.order, permutation)))


def reshaped(ctx: Context, value: Value, new: Shape) -> Value:
    """A value in another logical shape, without moving data where that is possible."""
    source = value.order
    order = layout.reshaped(value.shape, source, new)
    if order is None:
        source = layout.reshapable(value.shape, source, new)
        order = layout.reshaped(value.shape, source, new)
    assert order is not None
    tensor = ctx.tensor(value, source)
    tensor = ctx.reshape(tensor, layout.physical(new, order))
    return Value(new, value.dtype, order, tensor, nonnegative=value.nonnegative)


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(ctx: Context, node: Node) -> None:
    """RESHAPE."""
    value = ctx.input(0)
    rank = len(value.shape)
    if node.op == "Reshape":
        given = ctx.integers("shape", 1, "shape") or []
        zero_copies = not node.get("allowzero", 0)
        new = [value.shape[axis] if size == 0 and zero_copies else size for axis, size in enumerate(given)]
        if -1 in new:
            rest = elements([size for size in new if size != -1])
            new[new.index(-1)] = elements(value.shape) // max(rest, 1)
    elif node.op == "Flatten":
        axis = int(node.get("axis", 1))
        axis += rank if axis < 0 else 0
        new = [elements(value.shape[:axis]), elements(value.shape[axis:])]
    elif node.op == "Squeeze":
        axes = ctx.integers("axes", 1, "axes")
        gone = [axis for axis in range(rank) if value.shape[axis] == 1] if axes is None else [a % rank for a in axes]
        new = [size for axis, size in enumerate(value.shape) if axis not in gone]
    else:
        axes = ctx.integers("axes", 1, "axes") or []
        places = sorted(axis % (rank + len(axes)) for axis in axes)
        new = list(value.shape)
        for place in places:
            new.insert(place, 1)
    if elements(new) != elements(value.shape):
        raise Refused(f"{value.shape} cannot become {tuple(new)}")
    ctx.bind_value(named(ctx, reshaped(ctx, value, tuple(new))))


@lowers("Concat")
def concat(ctx: Context, node: Node) -> None:
    """CONCATENATION in the layout that most of the data has already."""
    values = ctx.inputs()
    rank = len(values[0].shape)
    axis = int(node.attributes["axis"]) % rank
    weights: dict[layout.Order, int] = {}
    for value in values:
        if value.data is None:
            weights[value.order] = weights.get(value.order, 0) + elements(value.shape)
    order = max(weights, key=lambda key: weights[key])
    tensors = [ctx.tensor(value, order) for value in values]
    place = order.index(axis)
    new = list(ctx.shape_of(tensors[0]))
    new[place] = sum(ctx.shape_of(tensor)[place] for tensor in tensors)
    if len(tensors) == 1:
        ctx.bind_value(values[0])
        return
    result = ctx.emit("CONCATENATION", tensors, new, axis=place)
    ctx.bind(result, order, nonnegative=all(value.nonnegative for value in values))


@lowers("Split")
def split(ctx: Context, node: Node) -> None:
    """SPLIT into equal parts, SPLIT_V otherwise."""
    value = ctx.input(0)
    axis = int(node.get("axis", 0)) % len(value.shape)
    parts = ctx.integers("split", 1, "split")
    whole, count = value.shape[axis], len(node.outputs)
    if parts is None:
        step = -(-whole // count)
        parts = [step] * (count - 1) + [whole - step * (count - 1)]
    if min(parts) < 1:
        raise Refused("one of its parts is empty")
    if count == 1:
        ctx.bind_value(value)
        return
    tensor = ctx.tensor(value)
    place = value.order.index(axis)
    held = ctx.shape_of(tensor)
    shapes = [[part if index == place else full for index, full in enumerate(held)] for part in parts]
    where = ctx.builder.constant(np.int32(place))
    if len(set(parts)) == 1:
        results = ctx.emit_many("SPLIT", [where, tensor], shapes, value.dtype, numSplits=count)
    else:
        results = ctx.emit_many("SPLIT_V", [tensor, ctx.ints(parts), where], shapes, numSplits=count)
    for index, result in enumerate(results):
        if node.outputs[index]:
            ctx.builder.tensors[result].name = node.outputs[index]
            ctx.bind(result, value.order, output=index, nonnegative=value.nonnegative)


@lowers("Slice")
def slice_(ctx: Context, node: Node) -> None:
    """SLICE, STRIDED_SLICE, or a GATHER for each dimension that runs backwards."""
    value = ctx.input(0)
    rank = len(value.shape)
    starts = ctx.integers("starts", 1, "starts") or []
    ends = ctx.integers("ends", 2, "ends") or []
    axes = ctx.integers("axes", 3, "axes") or list(range(len(starts)))
    steps = ctx.integers("steps", 4, "steps") or [1] * len(starts)
    ranges = [range(size) for size in value.shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= rank
        full = range(value.shape[axis])
        ranges[axis] = full[_bound(start, step) : _bound(end, step, value.shape[axis]) : step]
    if any(len(chosen) == 0 for chosen in ranges):
        raise Refused("its result is empty")
    ctx.bind_value(named(ctx, chosen_ranges(ctx, value, ranges)))


def _bound(bound: int, step: int, size: int | None = None) -> int | None:
    """A Python slice bound for an ONNX one; going backwards, an end before the first element has no Python number."""
    if size is not None and step < 0 and bound < -size:
        return None
    return bound


def chosen_ranges(ctx: Context, value: Value, ranges: Sequence[range]) -> Value:
    """The elements of a value in a range along each logical dimension."""
    tensor = ctx.tensor(value)
    held = ctx.shape_of(tensor)
    if len(held) > MAX_RANK and any(len(ranges[axis]) != value.shape[axis] for axis in value.order):
        for place, axis in enumerate(value.order):
            if ranges[axis] != range(value.shape[axis]):
                tensor = gathered(ctx, tensor, place, list(ranges[axis]))
        return replace(value, shape=tuple(map(len, ranges)), tensor=tensor, data=None)
    for place, axis in enumerate(value.order):
        if ranges[axis].step < 0 and len(ranges[axis]) > 1:
            tensor = gathered(ctx, tensor, place, list(ranges[axis]))
    forward = [
        range(held_size) if ranges[axis].step < 0 and len(ranges[axis]) > 1 else ranges[axis]
        for axis, held_size in zip(value.order, ctx.shape_of(tensor), strict=True)
    ]
    new = [len(part) for part in forward]
    begins = [part.start for part in forward]
    if all(part.step == 1 or len(part) == 1 for part in forward):
        if new != list(ctx.shape_of(tensor)):
            tensor = ctx.emit("SLICE", [tensor, ctx.ints(begins), ctx.ints(new)], new)
    else:
        ends = [part[-1] + 1 for part in forward]
        strides = [max(part.step, 1) for part in forward]
        tensor = ctx.emit("STRIDED_SLICE", [tensor, ctx.ints(begins), ctx.ints(ends), ctx.ints(strides)], new)
    return Value(tuple(map(len, ranges)), value.dtype, value.order, tensor, nonnegative=value.nonnegative)


def gathered(ctx: Context, tensor: int, place: int, indices: Sequence[int] | Array) -> int:
    """Elements by index along one physical dimension."""
    new = list(ctx.shape_of(tensor))
    new[place] = len(indices)
    return ctx.emit("GATHER", [tensor, ctx.ints(np.asarray(indices))], new, axis=place, batchDims=0)


@lowers("Gather")
def gather(ctx: Context, node: Node) -> None:
    """GATHER; one index is a SLICE. Negative indices count from the end."""
    value, picks = ctx.inputs()
    axis = int(node.get("axis", 0)) % len(value.shape)
    limit = value.shape[axis]
    if picks.data is None:
        indices = broadcast(
            ctx,
            "SELECT_V2",
            [
                broadcast(ctx, "LESS", [picks, scalar(0, np.int32)], np.dtype(np.bool_)),
                binary(ctx, "ADD", picks, scalar(limit, np.int32)),
                picks,
            ],
        )
        _gather_nd(ctx, value, axis, ctx.plain(indices), picks.shape)
        return
    chosen = np.where(picks.data < 0, picks.data + limit, picks.data)
    if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= limit:
        raise Refused(f"an index is outside of the {limit} elements")
    if chosen.ndim == 0:
        ranges = [range(size) for size in value.shape]
        ranges[axis] = range(int(chosen), int(chosen) + 1)
        ctx.bind_value(named(ctx, squeezed(ctx, chosen_ranges(ctx, value, ranges), [axis])))
    elif chosen.ndim == 1:
        tensor = ctx.tensor(value)
        result = gathered(ctx, tensor, value.order.index(axis), chosen)
        ctx.bind(result, value.order, nonnegative=value.nonnegative)
    else:
        _gather_nd(ctx, value, axis, ctx.ints(chosen), chosen.shape)


def _gather_nd(ctx: Context, value: Value, axis: int, indices: int, shape: Shape) -> None:
    new = (*value.shape[:axis], *shape, *value.shape[axis + 1 :])
    tensor = ctx.plain(value)
    ctx.bind(ctx.emit("GATHER", [tensor, indices], new, axis=axis, batchDims=0), layout.identity(len(new)))


@lowers("GatherND")
def gather_nd(ctx: Context, node: Node) -> None:
    """GATHER_ND."""
    value, picks = ctx.inputs()
    if node.get("batch_dims", 0):
        raise Refused("it has batch dimensions")
    data = ctx.constant(1, "indices")
    depth = data.shape[-1]
    chosen = np.where(data < 0, data + np.array(value.shape[:depth]), data)
    if (chosen < 0).any() or (chosen >= np.array(value.shape[:depth])).any():
        raise Refused("an index is outside of the data")
    new = (*picks.shape[:-1], *value.shape[depth:])
    ctx.bind(ctx.emit("GATHER_ND", [ctx.plain(value), ctx.ints(chosen)], new), layout.identity(len(new)))


@lowers("Pad")
def pad(ctx: Context, node: Node) -> None:
    """PAD, PADV2 or MIRROR_PAD; negative padding is a SLICE, and other modes gather their borders."""
    value = ctx.input(0)
    rank = len(value.shape)
    mode = node.get("mode", "constant")
    amounts = ctx.integers("pads", 1, "pads") or []
    axes = [axis % rank for axis in (ctx.integers("", 3, "axes") or range(rank))]
    pads = [(0, 0)] * rank
    for index, axis in enumerate(axes):
        pads[axis] = (amounts[index], amounts[index + len(axes)])
    cut = [range(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(value.shape, pads, strict=True)]
    if any(len(part) == 0 for part in cut):
        raise Refused("its negative padding leaves nothing")
    if any(min(pair) < 0 for pair in pads):
        value = chosen_ranges(ctx, value, cut)
        pads = [(max(0, a), max(0, b)) for a, b in pads]
    tensor = ctx.tensor(value)
    here = [pads[axis] for axis in value.order]
    if not any(sum(pair) for pair in here):
        ctx.bind_value(value)
        return
    fill = ctx.optional(2, "value") if ctx.has(2) else None
    number = float(node.get("value", 0.0)) if fill is None or fill.size == 0 else fill.reshape(-1)[0]
    new = [n + sum(pair) for n, pair in zip(ctx.shape_of(tensor), here, strict=True)]
    if mode == "constant":
        if rank > MAX_RANK:
            raise Refused(f"it pads {rank} dimensions; TFLite's PAD has {MAX_RANK}")
        if value.dtype == np.bool_:
            raise Refused("it pads booleans")
        amount = ctx.ints(np.array(here))
        if number == 0:
            result = ctx.emit("PAD", [tensor, amount], new)
        else:
            filler = ctx.builder.constant(np.array(number, value.dtype))
            result = ctx.emit("PADV2", [tensor, amount, filler], new)
    elif mode == "reflect" and rank <= 4 and value.dtype == np.float32:
        if any(max(pair) >= n for n, pair in zip(ctx.shape_of(tensor), here, strict=True)):
            raise Refused("it reflects more than there is")
        result = ctx.emit("MIRROR_PAD", [tensor, ctx.ints(np.array(here))], new, mode="REFLECT")
    else:
        result = tensor
        for place, pair in enumerate(here):
            if sum(pair):
                border = np.pad(np.arange(ctx.shape_of(result)[place]), pair, mode=mode)
                result = gathered(ctx, result, place, border)
    ctx.bind(result, value.order, nonnegative=value.nonnegative and (mode != "constant" or number >= 0))


@lowers("Expand")
def expand(ctx: Context, node: Node) -> None:
    """BROADCAST_TO."""
    value = ctx.input(0)
    target = ctx.integers("", 1, "shape") or []
    new = tuple(int(size) for size in np.broadcast_shapes(value.shape, tuple(target)))
    wide = ctx.aligned(value, len(new))
    tensor = ctx.tensor(wide)
    there = layout.physical(new, wide.order)
    if ctx.shape_of(tensor) != there:
        tensor = ctx.emit("BROADCAST_TO", [tensor, ctx.ints(there)], there)
    ctx.bind(tensor, wide.order, nonnegative=value.nonnegative)


@lowers("Tile")
def tile(ctx: Context, node: Node) -> None:
    """TILE."""
    value = ctx.input(0)
    repeats = ctx.integers("", 1, "repeats") or []
    if min(repeats, default=1) < 1:
        raise Refused("its result is empty")
    tensor = ctx.tensor(value)
    here = [repeats[axis] for axis in value.order]
    new = [n * times for n, times in zip(ctx.shape_of(tensor), here, strict=True)]
    ctx.bind(ctx.emit("TILE", [tensor, ctx.ints(here)], new), value.order, nonnegative=value.nonnegative)


@lowers("DepthToSpace", "SpaceToDepth")
def blocks(ctx: Context, node: Node) -> None:
    """DEPTH_TO_SPACE, SPACE_TO_DEPTH; mode CRD differs in the order of the channels."""
    value = ctx.input(0)
    if len(value.shape) != 4:
        raise Refused(f"it works on {len(value.shape)} dimensions")
    batch, channels, height, width = value.shape
    block = int(node.attributes["blocksize"])
    tensor = ctx.tensor(value, NHWC)
    if node.op == "SpaceToDepth":
        depth = channels * block * block
        new = (batch, height // block, width // block, depth)
        result = ctx.emit("SPACE_TO_DEPTH", [tensor], new, blockSize=block)
        if node.get("mode", "DCR") == "CRD":
            result = gathered(ctx, result, 3, np.arange(depth).reshape(block * block, channels).T.reshape(-1))
    else:
        depth = channels // (block * block)
        if node.get("mode", "DCR") == "CRD":
            tensor = gathered(ctx, tensor, 3, np.arange(channels).reshape(depth, block * block).T.reshape(-1))
        result = ctx.emit("DEPTH_TO_SPACE", [tensor], (batch, height * block, width * block, depth), blockSize=block)
    ctx.bind(result, NHWC, nonnegative=value.nonnegative)
