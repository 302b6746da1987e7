"""Between integer convolutions the largest of a window is picked before it is rounded.

``max(round(x)) = round(max(x))``: rounding to a scale keeps the order. OpenVINO's integer pooling takes 32 channels at a
time on AVX2 and gathers what is left byte by byte: 36 channels cost it more than any convolution of PP-HumanSeg, ten
times what the same pooling costs in float. The convolution in front writes float then, and both its rounded copies.
"""

from __future__ import annotations

from edgeseg.core.marks import UNROUNDED
from edgeseg.graph import channels
from edgeseg.graph.net import Net
from edgeseg.graph.rewriting import Rewrite, Target

WHOLE = 32
"""Channels that integer pooling takes at a time."""


def apply(net: Net, target: Target) -> int:
    """Mark every pooling by maximum right behind a convolution whose channels leave a rest."""
    if target.precision != "int8":
        return 0
    count = 0
    makers = net.makers()
    for node in net.nodes:
        if node.op_type != "MaxPool" or len(node.output) != 1 or not net.is_image(node.input[0]):
            continue
        maker = makers.get(node.input[0])
        while maker is not None and channels.is_unary(net, maker):
            maker = makers.get(maker.input[0])
        if maker is None or maker.op_type != "Conv" or net.shapes[node.input[0]][1] % WHOLE == 0:
            continue
        node.doc_string = UNROUNDED
        count += 1
    return count


REWRITE = Rewrite(order=95, pays=("openvino-int8",), apply=apply, carries=True)
