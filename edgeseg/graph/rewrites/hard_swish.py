"""Hard swishes and hard sigmoids that exporters spell out in several nodes are put back into one.

``x * Clip(x + 3, 0, 6) / 6`` with the division anywhere, and ``x * HardSigmoid(x)``: quantised node by node each of them would
be rounded, and none is an integer kernel. As one operator it is rounded once behind, and every runtime gets the form that it
computes in integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeseg.graph.net import Net, attribute
from edgeseg.graph.rewriting import Rewrite, Target

if TYPE_CHECKING:
    import onnx

FIRST_OPSET = 14
"""From here on there is HardSwish."""

_CLOSE = 1e-6


@dataclass(frozen=True)
class _Term:
    """A value as ``factor * HardSigmoid(x)``, or ``factor * HardSwish(x)``, with slope 1/6."""

    kind: str
    x: str
    factor: float


def apply(net: Net, target: Target) -> int:
    """Put together all that there are; what nobody reads then goes by itself."""
    if net.opset < FIRST_OPSET:
        return 0
    makers = net.makers()
    found = []
    for node in net.nodes:
        term = _term(net, makers, node.output[0]) if node.output else None
        if term is not None and abs(term.factor - 1.0) <= _CLOSE and node.op_type != term.kind:
            found.append((node, term))
    for node, term in found:
        net.remove([node])
        ends = {"alpha": 1 / 6, "beta": 0.5} if term.kind == "HardSigmoid" else {}
        net.add(term.kind, [term.x], node.output[0], **ends)
    return len(found)


def _term(net: Net, makers: Mapping[str, onnx.NodeProto], name: str) -> _Term | None:
    node = makers.get(name)
    if node is None:
        return None
    if node.op_type == "HardSigmoid":
        alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
        fits = abs(alpha - 1 / 6) <= _CLOSE and abs(beta - 0.5) <= _CLOSE
        return _Term("HardSigmoid", node.input[0], 1.0) if fits else None
    if node.op_type == "HardSwish":
        return _Term("HardSwish", node.input[0], 1.0)
    if node.op_type == "Clip":
        return _clipped(net, makers, node)
    if node.op_type not in ("Mul", "Div"):
        return None
    for place in (0, 1):
        number = _number(net, node.input[1 - place])
        if number and (place == 0 or node.op_type == "Mul"):
            term = _term(net, makers, node.input[place])
            factor = number if node.op_type == "Mul" else 1 / number
            return _Term(term.kind, term.x, term.factor * factor) if term is not None else None
    if node.op_type == "Mul":
        for place in (0, 1):
            term = _term(net, makers, node.input[place])
            if term is not None and term.kind == "HardSigmoid" and term.x == node.input[1 - place]:
                return _Term("HardSwish", term.x, term.factor)
    return None


def _clipped(net: Net, makers: Mapping[str, onnx.NodeProto], node: onnx.NodeProto) -> _Term | None:
    """``Clip(x + 3, 0, 6)`` is 6 times the hard sigmoid."""
    ends = [_number(net, name) for name in node.input[1:3]]
    plus = makers.get(node.input[0])
    if ends != [0.0, 6.0] or plus is None or plus.op_type != "Add":
        return None
    for place in (0, 1):
        if _number(net, plus.input[place]) == 3.0:
            return _Term("HardSigmoid", plus.input[1 - place], 6.0)
    return None


def _number(net: Net, name: str) -> float | None:
    """A constant of one element."""
    data = net.constants.get(name)
    return float(data.reshape(-1)[0]) if data is not None and data.size == 1 and data.ndim <= 1 else None


REWRITE = Rewrite(order=11, pays=("any-int8",), apply=apply)
