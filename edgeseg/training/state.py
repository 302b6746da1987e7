"""What a run leaves on disk: the weights for users, and all that is needed to go on after a kill."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeseg.core import atomic
from edgeseg.core.arrays import Array
from edgeseg.core.errors import CheckpointError

_VERSION = 1


@dataclass
class RunState:
    """A run between two epochs.

    Attributes:
        network: The weights being trained.
        average: Their exponential moving average, which is what is validated and shipped.
        optimizer: With its moments.
        epoch: Epochs done.
        records: The JSON line of every epoch done, as plain dicts.

    Random numbers need no place here: order and augmentation are drawn from (seed, epoch, picture).
    """

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    epoch: int
    records: list[dict[str, Any]]


def state_path(out: Path) -> Path:
    """Where the state of the run that writes `out` lies."""
    return out.with_name(out.name + ".resume")


def save_state(path: Path, state: RunState, fingerprint: Mapping[str, Any]) -> None:
    """Replace the state file, or leave the old one.

    Raises:
        CheckpointError: It cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "version": _VERSION,
            "fingerprint": dict(fingerprint),
            "network": state.network.state_dict(),
            "average": state.average.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "epoch": state.epoch,
            "records": state.records,
        },
        buffer,
    )
    write(path, buffer.getvalue())


def load_state(path: Path, state: RunState, fingerprint: Mapping[str, Any]) -> None:
    """Fill `state` from a state file.

    Raises:
        CheckpointError: There is none, it is damaged, or it belongs to a run with other settings.
    """
    try:
        saved = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
        if saved["version"] != _VERSION:
            raise CheckpointError(f"{path} has version {saved['version']}, this edgeseg reads {_VERSION}", _AGAIN)
        for key in sorted(set(fingerprint) | set(saved["fingerprint"])):
            before, now = saved["fingerprint"].get(key), fingerprint.get(key)
            if before != now:
                raise CheckpointError(f"{path} is of a run with {key} {before!r}, now it is {now!r}", _AGAIN)
        state.network.load_state_dict(saved["network"])
        state.average.load_state_dict(saved["average"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.epoch = saved["epoch"]
        state.records = saved["records"]
    except FileNotFoundError as error:
        raise CheckpointError(f"there is nothing to resume: {path} does not exist", "leave --resume away") from error
    except (RuntimeError, KeyError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}: {error}", _AGAIN) from error


_AGAIN = "leave --resume away to begin again, or give the settings that the run was started with"


def save_weights(path: Path, network: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write a network's weights as `.safetensors` (metadata in its header) or `.npz`.

    Raises:
        CheckpointError: The suffix is another one, or the file cannot be written; an old file stays as it was.
    """
    arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in network.state_dict().items()}
    write(path, _encode(path, arrays, metadata))


def check_suffix(path: Path) -> None:
    """Refuse a file name that `save_weights` cannot write, before hours are spent.

    Raises:
        CheckpointError: The suffix is neither `.safetensors` nor `.npz`.
    """
    if path.suffix not in (".safetensors", ".npz"):
        raise CheckpointError(f"weights cannot be written as {path.name!r}", "name --out *.safetensors or *.npz")


def _encode(path: Path, arrays: dict[str, Array], metadata: Mapping[str, str]) -> bytes:
    check_suffix(path)
    if path.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()
    from safetensors.numpy import save

    return save(arrays, metadata=dict(metadata))


def write(path: Path, content: bytes) -> None:
    """`atomic.write_bytes` with an error that users understand."""
    try:
        atomic.write_bytes(path, content)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CheckpointError(
            f"{path} cannot be written: {reason}",
            "what was there before is untouched; make room and go on with --resume",
        ) from error
