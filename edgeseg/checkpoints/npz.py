"""NumPy archives (``.npz``): one array per parameter name. Never unpickles; looks at sizes before it inflates anything."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from edgeseg.checkpoints import Checkpoint
from edgeseg.checkpoints._content import checked_weights, sha256
from edgeseg.core.arrays import Array
from edgeseg.core.errors import CheckpointError

SUFFIXES = (".npz",)
_RATIO_LIMIT = 200
"""Trained weights hardly compress; deflate cannot do better than about 1030 to 1, and a bomb comes near that."""
_SMALL = 1 << 26
"""Bytes below which any ratio is harmless: zeros compress well."""


def sniff(path: Path, head: bytes) -> bool:
    """A zip archive whose members are arrays."""
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def read(path: Path, *, factory: str = "", input_size: tuple[int, int] | None = None) -> Checkpoint:
    """Weights under the names of the archive's members; see `edgeseg.checkpoints.read`."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive)
            arrays = {info.filename.removesuffix(".npy"): _member(path, archive, info) for info in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is a damaged .npz archive: {str(error)[:160]}", "copy or download it again"
        ) from error
    return Checkpoint(path, "npz", sha256([path]), weights=checked_weights(path, arrays))


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    inflated = sum(info.file_size for info in archive.infolist())
    on_disk = path.stat().st_size
    if inflated > _SMALL and inflated > _RATIO_LIMIT * on_disk:
        raise CheckpointError(
            f"{path} has {on_disk} bytes and would inflate to {inflated}: refused", "save it again with numpy.savez"
        )


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One array; its header has to promise what the archive's directory promises before a byte is allocated for it."""
    with archive.open(info) as member:
        shape, dtype = _header(path, info.filename, member)
    wanted = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or not 0 <= info.file_size - wanted <= 1 << 16:  # what remains is the header
        raise CheckpointError(
            f"{path}: {info.filename} claims {wanted} bytes of {dtype}, and {info.file_size} are there",
            "arrays of numbers only (no objects); save it again with numpy.savez",
        )
    with archive.open(info) as member:
        array: Array = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _header(path: Path, name: str, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise CheckpointError(f"{path}: {name} is written in .npy version {version}", "save it again with numpy.savez")
    shape, _, dtype = read(member)
    return shape, dtype
