"""The algebra of lazy layouts: which dimension lies where, and which changes cost nothing.

A value has a *logical* shape, the one ONNX speaks of, and an *order*: physical dimension `p` of its tensor holds the
logical dimension `order[p]`. An ONNX Transpose then only renames logical dimensions, and many Reshapes can be done
where the data lies; a TRANSPOSE is written only when an operator insists on another order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = tuple[int, ...]
Order = tuple[int, ...]

NHWC: Order = (0, 2, 3, 1)
"""The order in which TFLite's spatial operators want an ONNX [N, C, H, W] value."""


def identity(rank: int) -> Order:
    """The order of a tensor that lies as ONNX says."""
    return tuple(range(rank))


def physical(shape: Sequence[int], order: Order) -> Shape:
    """Shape of the tensor that holds a value of this logical shape."""
    return tuple(int(shape[axis]) for axis in order)


def transposed(order: Order, permutation: Sequence[int]) -> Order:
    """Order of `Transpose(x, permutation)` on the untouched tensor of `x`."""
    return tuple(list(permutation).index(axis) for axis in order)


def dropped(order: Order, axes: Sequence[int]) -> Order:
    """Order after logical dimensions were removed; the others keep their places."""
    rest = [axis for axis in order if axis not in axes]
    ranks = sorted(rest)
    return tuple(ranks.index(axis) for axis in rest)


def inserted(order: Order, axes: Sequence[int]) -> Order:
    """Order after new logical dimensions of size 1 (positions in the result); they come first in the tensor."""
    rank = len(order) + len(axes)
    kept = [axis for axis in range(rank) if axis not in axes]
    return (*sorted(axes), *(kept[axis] for axis in order))


def reshape_groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Split a reshape into its smallest independent parts.

    Returns:
        Pairs (old dimensions, new dimensions) of equal size, in order. Dimensions of size 1 join a neighbour's pair, so
        every dimension is in exactly one.
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left: list[int] = []
        right: list[int] = []
        a = b = 1
        while True:
            if a < b or (a == b and not left and i < len(old)):
                left.append(i)
                a *= old[i]
                i += 1
            elif b < a or (a == b and not right and j < len(new)):
                right.append(j)
                b *= new[j]
                j += 1
            else:
                break
        groups.append((left, right))
    return groups


def reshaped(shape: Shape, order: Order, new: Shape) -> Order | None:
    """Order of `Reshape(x, new)` on the untouched data of `x`, or None if the data has to move first.

    Each independent part of the reshape is possible in place if its dimensions lie side by side, in rising order, in
    the tensor (dimensions of size 1 lie anywhere).
    """
    big = [axis for axis in order if shape[axis] != 1]
    placed: list[tuple[int, list[int]]] = []
    loose: list[int] = []
    for old_axes, new_axes in reshape_groups(shape, new):
        moving = [axis for axis in old_axes if shape[axis] != 1]
        if not moving:
            loose.extend(new_axes)
            continue
        start = big.index(moving[0])
        if big[start : start + len(moving)] != moving:
            return None
        placed.append((start, new_axes))
    result = list(loose)
    for _, new_axes in sorted(placed):
        result.extend(new_axes)
    return tuple(result)


def reshapable(shape: Shape, order: Order, new: Shape) -> Order:
    """The order nearest to `order` in which `Reshape(x, new)` can be done in place.

    Only dimensions of one part of the reshape that lie apart or upside down are brought together, at the place of the
    first of them.
    """
    place = {axis: index for index, axis in enumerate(order)}
    groups = [old_axes for old_axes, _ in reshape_groups(shape, new) if old_axes]

    def first(axes: list[int]) -> int:
        return min(place[axis] for axis in ([axis for axis in axes if shape[axis] != 1] or axes))

    return tuple(axis for axes in sorted(groups, key=first) for axis in axes)


def simplest_permutation(shape: Shape, permutation: Sequence[int]) -> tuple[Shape, Order]:
    """The same data movement with as few dimensions as possible.

    Returns:
        A shape to view the tensor in, and the permutation of its dimensions. Dimensions of size 1 are gone and
        neighbours that stay neighbours are one; an identity means that no data moves.
    """
    kept = [axis for axis in permutation if shape[axis] != 1]
    runs: list[list[int]] = []
    position = {axis: place for place, axis in enumerate(sorted(kept))}
    for axis in kept:
        if runs and position[axis] == position[runs[-1][-1]] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    ordered = sorted(runs)
    return tuple(math.prod(shape[axis] for axis in run) for run in ordered), tuple(ordered.index(run) for run in runs)


def merged_broadcast(shapes: Sequence[Shape], result: Shape) -> tuple[list[Shape], Shape]:
    """Merge neighbouring dimensions over which every operand broadcasts alike.

    Args:
        shapes: Operand shapes, all of the rank of `result`.
        result: The broadcast shape.

    Returns:
        The operand shapes and the result's shape with fewer dimensions, same elements in the same order.
    """
    kept: list[list[int]] = []
    patterns: list[tuple[bool, ...]] = []
    for axis, size in enumerate(result):
        if size == 1:
            continue
        pattern = tuple(shape[axis] == 1 for shape in shapes)
        if patterns and patterns[-1] == pattern:
            kept[-1].append(axis)
        else:
            kept.append([axis])
            patterns.append(pattern)
    return (
        [tuple(math.prod(shape[axis] for axis in run) for run in kept) for shape in shapes],
        tuple(math.prod(result[axis] for axis in run) for run in kept),
    )
