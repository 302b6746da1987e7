"""What all formats share: hashing files, and looking at arrays before anybody computes with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import CheckpointError

TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The magic number, itself a pickle, that `torch.save` began files with before it wrote zip archives."""


def sha256(files: Iterable[Path]) -> str:
    """SHA-256, in hex, of the files' bytes one after another, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.name):
        with file.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def checked_weights(path: Path, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Weights that can be computed with: numbers only, finite, floating point as float32.

    Args:
        path: The checkpoint, for the message.
        arrays: Parameter name to array, any real dtype.

    Raises:
        CheckpointError: There is no array, or one holds something else than finite numbers; the first is named.
    """
    if not arrays:
        raise CheckpointError(f"{path} holds no tensors", "give the file that the training wrote its weights to")
    weights: dict[str, Array] = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise CheckpointError(
                f"tensor {name} in {path} has the type {array.dtype}, which is no number",
                "weights are float or integer",
            )
        if array.dtype.kind == "f":
            check_finite(path, name, array)
            with np.errstate(over="ignore"):
                narrow = np.ascontiguousarray(array, dtype=np.float32).reshape(array.shape)
            if array.dtype.itemsize > narrow.dtype.itemsize and not np.isfinite(narrow).all():
                raise CheckpointError(f"tensor {name} in {path} has values beyond float32", "train or save in float32")
            weights[name] = narrow
        else:
            weights[name] = array
    return weights


def check_finite(path: Path, name: str, array: Array, *, infinities: bool = True) -> None:
    """Refuse NaN, and infinities unless they are allowed (a graph may mask with them), naming the tensor."""
    good = np.isfinite(array) if infinities else ~np.isnan(array)
    bad = array.size - int(np.count_nonzero(good))
    if bad:
        what = "NaN" if np.isnan(array).any() else "infinity"
        raise CheckpointError(
            f"{what} in {name}: {bad} of its {array.size} values ({path})",
            "the training diverged or the file is damaged: use an earlier checkpoint",
        )
