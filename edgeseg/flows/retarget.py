"""One calibration, and for each runtime the integer network that it likes: rewrites behind the choice of scales.

Only rewrites that carry scales are applied here (`edgeseg.graph.rewriting.Rewrite.carries`): the integer weights are those of
the one choice, in another order and with zeros between them, and every value has the scale that was chosen for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import GraphError
from edgeseg.core.marks import INTEGER
from edgeseg.core.spec import ModelSpec
from edgeseg.flows.choice import Choice
from edgeseg.graph import frames, rewriting
from edgeseg.graph.rewriting import Rewritten, Target
from edgeseg.quantization import placement, qdq
from edgeseg.quantization.parts import Placement
from edgeseg.quantization.qdq import Spelling
from edgeseg.quantization.scales import Scale, Weights

if TYPE_CHECKING:
    import onnx


BETWEEN = ("SpaceToDepth", "Transpose", "Cast", "Sub", "Mul", "Gather")
"""What may be put between the picture and the first integer layer: what comes of it is what the picture was."""


@dataclass(frozen=True)
class Retargeted:
    """A choice as one runtime gets it.

    Attributes:
        model: The Q/DQ graph.
        applied: Names of the rewrites that changed something.
    """

    model: onnx.ModelProto
    applied: tuple[str, ...]


def retarget(
    choice: Choice,
    spec: ModelSpec,
    target: Target,
    spelling: Spelling,
    rewrites: tuple[str, ...],
    *,
    bytewise: bool = False,
) -> Retargeted:
    """Write a choice for one runtime.

    Args:
        choice: Of the network that all runtimes share.
        spec: Its spec.
        target: The runtime.
        spelling: How it likes its Q/DQ graph.
        rewrites: Names of rewrites that carry scales.
        bytewise: Whether it takes frames of bytes (`edgeseg.graph.frames`) and prepares them in float.
    """
    placed = choice.placement
    weights = qdq.weights_of(placed, choice.scales, choice.seen, spelling)
    groups = placed.group_of()
    sources = {layer.name: choice.scales[groups[layer.source].name].step for layer in placed.layers}
    reals = _holding(
        placed,
        {
            name: (one.real(), one.bias * (sources[name] * one.steps.astype(np.float64)))
            for name, one in weights.items()
        },
    )
    rewritten = _rewritten(reals, spec, target, rewrites, bytewise=bytewise)
    if not rewritten.applied:
        return Retargeted(qdq.write(placed, choice.scales, choice.seen, spelling, weights=weights), ())
    # The same once more with every weight replaced by the step of its channel: where it went, and which are padding.
    steps = _holding(
        placed,
        {
            name: (np.broadcast_to(one.steps[:, None, None, None], one.stored.shape), one.bias)
            for name, one in weights.items()
        },
    )
    moved = placement.place(_rewritten(steps, spec, target, rewrites, bytewise=bytewise).model)
    after = _placed(rewritten.model, frozenset(weights))
    alike = {layer.name: layer for layer in moved.layers}
    found = {
        layer.name: _integers(
            after.weights[layer.weight],
            moved.weights[alike[layer.name].weight],
            moved.weights[alike[layer.name].bias],
        )
        for layer in after.layers
    }
    scales = _scales(placed, choice.scales, after)
    return Retargeted(qdq.write(after, scales, {}, spelling, weights=found), rewritten.applied)


def _rewritten(
    model: onnx.ModelProto, spec: ModelSpec, target: Target, rewrites: tuple[str, ...], *, bytewise: bool
) -> Rewritten:
    if not bytewise:
        return rewriting.rewrite(model, spec, target, rewrites)
    found = rewriting.rewrite(frames.take_frames(model, spec, merged=False), frames.frame_spec(spec), target, rewrites)
    return Rewritten(found.model, (frames.NAME, *found.applied))


def _holding(placed: Placement, held: Mapping[str, tuple[Array, Array]]) -> onnx.ModelProto:
    """The float network with other weights and biases in its integer layers, in single precision."""
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(placed.model)
    for layer in placed.layers:
        node = model.graph.node[layer.node]
        names = [f"{layer.name}.weight.held", f"{layer.name}.bias.held"]
        node.input[:] = [layer.source, *names]
        node.doc_string = INTEGER
        model.graph.initializer.extend(
            numpy_helper.from_array(data.astype(np.float32), name)
            for name, data in zip(names, held[layer.name], strict=True)
        )
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _placed(model: onnx.ModelProto, known: frozenset[str]) -> Placement:
    """The placement with the integer layers that there were; what a rewrite has added stays in float."""
    everything = placement.place(model)
    added = [layer.name for layer in everything.layers if layer.name not in known]
    return placement.place(model, floating=added) if added else everything


def _integers(weight: Array, steps: Array, bias: Array) -> Weights:
    """Weights as they were before they became real numbers, in their new places."""
    step = steps.reshape(len(steps), -1).max(axis=1)
    step[step == 0] = step.max()  # a channel of zeros has any
    stored = np.rint(weight / step[:, None, None, None])
    return Weights(stored.astype(np.int8), step.astype(np.float32), bias.astype(np.int32))


def _scales(before: Placement, scales: Mapping[str, Scale], after: Placement) -> dict[str, Scale]:
    """Group name to the scale that its tensors had; one that is new has that of what it was moved from."""
    old = before.group_of()
    makers = {name: node for node in after.model.graph.node for name in node.output}
    found = {}
    for group in after.groups:
        names = {old[tensor].name for tensor in group.tensors if tensor in old}
        source = group.tensors[0]
        while not names and (maker := makers.get(source)) is not None and maker.op_type in BETWEEN:
            source = maker.input[0]
            names = {old[source].name} if source in old else names
        if len(names) != 1:
            raise GraphError(
                f"no single scale was chosen for the tensor {group.name!r}",
                "edgeseg quantize --no-rewrites, and report it",
            )
        found[group.name] = scales[names.pop()]
    return found
