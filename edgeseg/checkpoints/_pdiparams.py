"""Walking through a ``.pdiparams`` file: paddle2onnx takes one that is cut short without a word, so we look first.

The file is a row of tensors without names. Each is: version (uint32, 0), number of levels of detail (uint64, each a
uint64 length and as many bytes), version (uint32, 0), length of the type (int32), the type (a protocol buffer: field 1
the element type, field 2 the sizes), and the elements.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from edgeseg.core.errors import CheckpointError

_ITEM_BYTES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16}
"""Bytes of an element by VarType: bool, int16, int32, int64, float16, 32, 64, uint8, int8, bfloat16, complex64, 128."""


def check_whole(path: Path) -> int:
    """Count the tensors, making sure that the last one ends where the file does.

    Raises:
        CheckpointError: The file is cut short or damaged; says in which tensor.
    """
    size, count = path.stat().st_size, 0
    with path.open("rb") as handle:
        while handle.tell() < size:
            try:
                end = _end_of_tensor(handle, size)
            except (ValueError, struct.error, IndexError) as error:
                raise CheckpointError(
                    f"{path} is cut short or damaged in tensor {count}: {error}", "copy or download it again"
                ) from error
            handle.seek(end)
            count += 1
    return count


def _end_of_tensor(handle: BinaryIO, size: int) -> int:
    version, levels = struct.unpack("<IQ", handle.read(12))
    if version != 0 or levels > 8:
        raise ValueError("it does not start as a tensor does")
    for _ in range(levels):
        (length,) = struct.unpack("<Q", handle.read(8))
        handle.seek(min(length, size), 1)
    version, length = struct.unpack("<Ii", handle.read(8))
    if version != 0 or not 0 < length <= 4096:
        raise ValueError("its type is not described")
    kind, sizes = _type(handle.read(length))
    if kind not in _ITEM_BYTES:
        raise ValueError(f"it has the unknown element type {kind}")
    end = handle.tell() + math.prod(sizes) * _ITEM_BYTES[kind]
    if end > size:
        raise ValueError(f"{end - size} bytes are missing")
    return end


def _type(content: bytes) -> tuple[int, list[int]]:
    """Element type and sizes of a TensorDesc: two fields of variable-length integers, the second repeated."""
    kind, sizes, place = -1, [], 0
    while place < len(content):
        tag, place = _varint(content, place)
        value, place = _varint(content, place)
        if tag == 0x08:
            kind = value
        elif tag == 0x10:
            sizes.append(value)
        else:
            raise ValueError("its type has an unknown field")
    if any(size >= 1 << 40 for size in sizes):
        raise ValueError("its sizes are no sizes")
    return kind, sizes


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number in its type does not end")
