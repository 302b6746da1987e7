"""PaddleSeg training checkpoints (``.pdparams``): a pickled dict of numpy arrays, read without Paddle and without unpickling.

Besides the tensors Paddle writes ``StructuredToParameterName@@`` (its internal names, of no use here) and, for tensors
beyond 1 GiB under pickle protocols 2 and 3, pieces with ``UnpackBigParamInfor@@`` that says how they go together.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edgeseg.checkpoints import Checkpoint
from edgeseg.checkpoints._content import TORCH_LEGACY, checked_weights, sha256
from edgeseg.checkpoints._pickle import Ndarray, interpret
from edgeseg.core.arrays import Array
from edgeseg.core.errors import CheckpointError

SUFFIXES = (".pdparams",)
_NAMES = "StructuredToParameterName@@"
_PIECES = "UnpackBigParamInfor@@"


def sniff(path: Path, head: bytes) -> bool:
    """A pickle with a protocol number (2 or newer) that is not PyTorch's."""
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 9 and not head.startswith(TORCH_LEGACY)


def read(path: Path, *, factory: str = "", input_size: tuple[int, int] | None = None) -> Checkpoint:
    """Weights under the names that PaddleSeg gives them; see `edgeseg.checkpoints.read`."""
    content = path.read_bytes()
    document = interpret(path, content)
    if not isinstance(document, dict):
        raise CheckpointError(
            f"{path} holds a {type(document).__name__}, not a dictionary of tensors", "give the .pdparams file"
        )
    arrays: dict[str, Array] = {}
    seen: dict[int, Array] = {}
    total = 0
    for key, value in document.items():
        if key in (_NAMES, _PIECES) or value is None or isinstance(value, (str, int, float)):
            continue  # the epoch, a version string, …: nothing to compute with
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Ndarray):
            value = value[1]  # (Paddle's own name, tensor)
        if not isinstance(value, Ndarray):
            raise CheckpointError(
                f"{path}: under {str(key)!r} there is a {type(value).__name__}, not a tensor",
                "give the weights (.pdparams), not the optimizer's state (.pdopt)",
            )
        if id(value) not in seen:
            seen[id(value)] = _array(path, str(key), value)
            total += seen[id(value)].nbytes
        if total > len(content):  # pieces of one string under many names would fill the memory
            raise CheckpointError(f"{path} claims more tensor data than it has bytes", "copy or download it again")
        arrays[str(key)] = seen[id(value)]
    pieces = document.get(_PIECES)
    if pieces is not None:
        arrays = _joined(path, arrays, pieces)
    return Checkpoint(path, "pdparams", sha256([path]), weights=checked_weights(path, arrays))


def _array(path: Path, key: str, value: Ndarray) -> Array:
    try:
        return value.array(f"tensor {key}")
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}", "copy or download it again") from error


def _joined(path: Path, arrays: dict[str, Array], pieces: Any) -> dict[str, Array]:
    """Put tensors together that Paddle has cut: name to ``{"OriginShape": shape, "slices": [names of flat pieces]}``."""
    import numpy as np

    whole = dict(arrays)
    try:
        for name, plan in pieces.items():
            shape, names = tuple(int(size) for size in plan["OriginShape"]), list(plan["slices"])
            flat = np.concatenate([whole.pop(piece).reshape(-1) for piece in names])
            if math.prod(shape) != flat.size:
                raise ValueError(
                    f"its pieces have {flat.size} values, its shape {list(shape)} needs {math.prod(shape)}"
                )
            whole[str(name)] = flat.reshape(shape)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: a tensor that was saved in pieces cannot be joined: {error}", "copy it again"
        ) from error
    return whole
