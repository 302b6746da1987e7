"""Safetensors: a JSON header and raw tensors. The names in it are the network's parameter names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgeseg.checkpoints import Checkpoint
from edgeseg.checkpoints._content import checked_weights, sha256
from edgeseg.core import plugins
from edgeseg.core.arrays import Array
from edgeseg.core.errors import CheckpointError

SUFFIXES = (".safetensors",)
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_HEADER_LIMIT = 100_000_000
"""The format's own limit, in bytes."""


def sniff(path: Path, head: bytes) -> bool:
    """Eight bytes of header length, then JSON."""
    if len(head) < 10 or not 2 <= int.from_bytes(head[:8], "little") <= _HEADER_LIMIT:
        return False
    return head[8:9] == b"{" and head[9:64].lstrip()[:1] in (b'"', b"}")


def read(path: Path, *, factory: str = "", input_size: tuple[int, int] | None = None) -> Checkpoint:
    """Weights under the names of the file; with `factory` they are those of a PyTorch module."""
    if factory:
        from edgeseg.checkpoints import torch

        return torch.from_state_dict(path, factory=factory, input_size=input_size)
    arrays, metadata = tensors(path)
    return Checkpoint(path, "safetensors", sha256([path]), weights=checked_weights(path, arrays), metadata=metadata)


def tensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """All tensors by name (bfloat16 as float32) and the header's own metadata.

    Raises:
        CheckpointError: The file is damaged, or has a type that numpy has no like of.
    """
    library: Any = plugins.require("safetensors", extra="", what="reading safetensors")
    content = path.read_bytes()
    try:
        entries = library.deserialize(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (library.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is a damaged safetensors file: {error}", "copy or download it again") from error
    arrays = {name: _array(path, name, entry) for name, entry in entries}
    metadata = header.get("__metadata__") or {}
    return arrays, {str(key): str(value) for key, value in metadata.items()}


def _array(path: Path, name: str, entry: dict[str, Any]) -> Array:
    kind, shape = entry["dtype"], entry["shape"]
    if kind == "BF16":  # the upper half of a float32
        wide = np.frombuffer(entry["data"], dtype="<u2").astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32).reshape(shape)
    if kind not in _DTYPES:
        raise CheckpointError(f"tensor {name} in {path} has the type {kind}, which is not read", "save it as float32")
    return np.frombuffer(entry["data"], dtype=_DTYPES[kind]).reshape(shape)
