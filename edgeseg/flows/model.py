"""From a checkpoint to the reference model: the ONNX graph that stands for it, and its spec."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg import architectures, checkpoints
from edgeseg.checkpoints import Checkpoint
from edgeseg.core import plugins
from edgeseg.core.errors import CheckpointError
from edgeseg.core.manifest import Source
from edgeseg.core.spec import ModelSpec
from edgeseg.graph import pin, segmentation
from edgeseg.graph.segmentation import Told

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class ModelRequest:
    """Which network, and what the user says about it.

    Attributes:
        checkpoint: The file or folder.
        arch: Architecture of a checkpoint that holds weights only; empty to recognise it.
        factory: ``package.module:factory`` of a PyTorch state dict.
        size: (width, height) of the network's input in pixels; None for what the checkpoint or architecture says.
        head: ``logits``, ``softmax`` or ``argmax``, for architectures that edgeseg builds; empty for its default.
        name: What to call the model; empty for the architecture's name or the file's.
        told: What the user says about the pictures.
    """

    checkpoint: Path
    arch: str = ""
    factory: str = ""
    size: tuple[int, int] | None = None
    head: str = ""
    name: str = ""
    told: Told = Told()


@dataclass(frozen=True)
class ReferenceModel:
    """The unmodified fp32 ONNX of a checkpoint, with static shapes."""

    model: onnx.ModelProto
    spec: ModelSpec
    source: Source
    assumed: tuple[str, ...]


def read_model(request: ModelRequest) -> ReferenceModel:
    """Read a checkpoint of any known format.

    Raises:
        CheckpointError: It cannot be read, or belongs to no known architecture.
        GraphError: It is no segmentation network, or its input size is open and none was given.
    """
    if request.arch and request.arch not in plugins.names(architectures.PACKAGE):
        plugins.load(architectures.PACKAGE, request.arch)  # raises, naming the known ones
    read = checkpoints.read(request.checkpoint, factory=request.factory, input_size=request.size)
    source = Source(path=str(request.checkpoint), format=read.format, sha256=read.sha256)
    if read.weights is None:
        assert read.model is not None
        return _from_graph(request, read.model, source, read.notes)
    arch = request.arch or _recognised(read)
    module = plugins.load(architectures.PACKAGE, arch)
    size = request.size or _size_in(read.metadata) or module.DEFAULT_SIZE
    head = {"head": request.head} if request.head else {}
    model, spec = module.build(read.weights, size=size, **head)
    told = request.told
    spec = replace(
        spec,
        name=request.name or spec.name,
        color=told.color or spec.color,
        mean=told.mean or spec.mean,
        std=told.std or spec.std,
        classes=told.classes or spec.classes,
    )
    return ReferenceModel(model, spec, replace(source, architecture=arch), tuple(read.notes))


def _recognised(read: Checkpoint) -> str:
    try:
        return architectures.recognise(read.weights or {})
    except CheckpointError as error:
        if read.format != "torch":
            raise
        raise CheckpointError(
            error.message, f"{error.hint}; or build it with --model package.module:factory"
        ) from error


def _from_graph(
    request: ModelRequest, model: onnx.ModelProto, source: Source, notes: tuple[str, ...]
) -> ReferenceModel:
    if request.arch or request.head:
        flag = "--arch" if request.arch else "--head"
        raise CheckpointError(
            f"{request.checkpoint} holds a whole graph, {flag} is for checkpoints that hold weights only",
            f"leave {flag} out",
        )
    model = pin.pin_input(model, request.size)
    name = request.name or _slug(request.checkpoint)
    spec, assumed = segmentation.describe(model, name, request.told)
    return ReferenceModel(model, replace(spec, name=name), source, (*notes, *assumed))


def _size_in(metadata: object) -> tuple[int, int] | None:
    """The input size that a checkpoint's own metadata names (``input_size`` = ``WxH``)."""
    text = metadata.get("input_size", "") if isinstance(metadata, dict) else ""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def _slug(path: Path) -> str:
    """A folder name made of a checkpoint's file name; generic names take their folder's name along."""
    stem = path.stem if path.suffix else path.name
    if stem.lower() in ("model", "inference", "best_model", "checkpoint", "weights"):
        stem = f"{path.resolve().parent.name}-{stem}"
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "model"
