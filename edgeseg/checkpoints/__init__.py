"""Checkpoints on disk, to named weights or to an ONNX graph. One plug-in file per format, found by content.

A format is a module of this package with::

    SUFFIXES: tuple[str, ...]  # by which a file too damaged to be recognised is still called by its name
    def sniff(path: Path, head: bytes) -> bool: ...
    def read(path: Path, *, factory: str, input_size: tuple[int, int] | None) -> Checkpoint: ...

A format that needs more than edgeseg brings has an `ENVIRONMENT` (see `edgeseg.core.environments`), or `PACKAGES` with
the `EXTRA` that installs them; doctor reads these. `sniff` is given the file's first bytes, imports nothing heavy and never raises for a file that is something else.
Nothing in a checkpoint is ever run: pickles are interpreted, not loaded (see `edgeseg.checkpoints.pdparams`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgeseg.core import plugins
from edgeseg.core.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    import onnx

HEAD_BYTES = 4096
"""How much of a file `sniff` is shown."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds: exactly one of `weights` and `model`.

    Attributes:
        path: As given by the user.
        format: Name of the plug-in that read it, e.g. ``pdparams``.
        sha256: Of the file; of all its files in the order of their names, one after another, if it has several.
        weights: Parameter name to array; floating point as float32, finite. An architecture makes the graph.
        model: A whole graph, checked, with the sizes that the file gives (see `edgeseg.graph.pin`).
        metadata: What the file says about itself.
        notes: What was changed while reading, in sentences for the user.
    """

    path: Path
    format: str
    sha256: str
    weights: Mapping[str, np.ndarray[Any, Any]] | None = None
    model: onnx.ModelProto | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert (self.weights is None) != (self.model is None)


class Format(Protocol):
    """What a format's module offers."""

    SUFFIXES: tuple[str, ...]

    def sniff(self, path: Path, head: bytes) -> bool:
        """Whether the file (or the folder: `head` is empty) is of this format, by its content."""
        ...

    def read(self, path: Path, *, factory: str, input_size: tuple[int, int] | None) -> Checkpoint:
        """Read it; see `read` of the package."""
        ...


def formats() -> list[str]:
    """The names of all formats."""
    return plugins.names(__name__)


def recognise(path: Path) -> str:
    """The name of the format of a file or folder, by its content.

    Raises:
        CheckpointError: There is no such file, it cannot be read, or no format recognises it.
    """
    head = _head(path)
    plugin = {name: cast(Format, plugins.load(__name__, name)) for name in formats()}
    for name, module in plugin.items():
        if module.sniff(path, head):
            return name
    for name, module in plugin.items():
        if head and path.suffix in module.SUFFIXES:
            return name
    known = ", ".join(formats())
    if path.is_dir():
        raise CheckpointError(
            f"the folder {path} holds no Paddle inference model (.json or .pdmodel with .pdiparams)",
            f"give the checkpoint file itself; known formats: {known}",
        )
    what = f"is none of the known formats (it starts with {head[:8]!r})" if head else "is empty"
    raise CheckpointError(
        f"{path} {what}", f"known formats: {known}; a download cut short or a web page saved in its place?"
    )


def read(path: Path, *, factory: str = "", input_size: tuple[int, int] | None = None) -> Checkpoint:
    """Read a checkpoint of any known format.

    Args:
        path: The file; for a Paddle inference model also its folder or either of its two files.
        factory: ``package.module:factory`` that makes the `torch.nn.Module` for a state dict of PyTorch.
        input_size: (width, height) in pixels, where a graph has to be traced or exported for a size (PyTorch).

    Raises:
        CheckpointError: The file is missing, damaged, unknown, unsafe, or holds values that are not finite.
        MissingDependency: The format needs a package or environment that is not installed.
    """
    path = Path(path)
    plugin = cast(Format, plugins.load(__name__, recognise(path)))
    try:
        return plugin.read(path, factory=factory, input_size=input_size)
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror or error}", "check the path and its permissions"
        ) from error
    except MemoryError as error:
        raise CheckpointError(f"{path} does not fit into memory", "is it the checkpoint that you mean?") from error


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            return b""
        with path.open("rb") as handle:
            return handle.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}", "check the path") from error
    except OSError as error:
        raise CheckpointError(
            f"cannot read {path}: {error.strerror or error}", "check the path and its permissions"
        ) from error
