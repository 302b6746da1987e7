"""A concatenation of a concatenation becomes one.

Every concatenation copies all that it joins, and what was joined in two steps is copied twice. XNNPACK joins no more than
four values at a time and is given more in steps (see `unshuffle`); other runtimes take any number.
"""

from __future__ import annotations

from edgeseg.graph import channels
from edgeseg.graph.net import Net
from edgeseg.graph.rewriting import Rewrite, Target


def apply(net: Net, target: Target) -> int:
    """Flatten all that nobody else reads; returns how many concatenations are gone."""
    count = 0
    for node in list(net.nodes):
        while channels.is_concat(net, node) and _flattened(net, node):
            count += 1
    return count


def _flattened(net: Net, node: object) -> bool:
    makers, readers = net.makers(), net.readers()
    inputs: list[str] = list(node.input)  # type: ignore[attr-defined]
    for place, name in enumerate(inputs):
        maker = makers.get(name)
        if maker is None or not channels.is_concat(net, maker) or inputs.count(name) > 1:
            continue
        if net.sole_reader(name, readers) is None:
            continue
        inputs[place : place + 1] = maker.input
        node.input[:] = inputs  # type: ignore[attr-defined]
        net.remove([maker])
        return True
    return False


REWRITE = Rewrite(order=68, pays=("onnx-int8",), apply=apply, carries=True)
