"""Networks whose parameters come without a graph: weights in, ONNX graph and ModelSpec out.

A plug-in module has:

- `DEFAULT_SIZE`: (width, height) that the network was made for;
- `SIGNATURE`: names of parameters by which a checkpoint is recognised as this network;
- `build(weights, *, size, head) -> (onnx.ModelProto, ModelSpec)`.
"""

from __future__ import annotations

from collections.abc import Collection

from edgeseg.core import plugins
from edgeseg.core.errors import CheckpointError

PACKAGE = "edgeseg.architectures"


def recognise(parameters: Collection[str]) -> str:
    """The name of the architecture that has these parameters.

    Raises:
        CheckpointError: None of the known ones has them.
    """
    known = plugins.names(PACKAGE)
    present = set(parameters)
    for name in known:
        if present.issuperset(plugins.load(PACKAGE, name).SIGNATURE):
            return name
    first = min(present, default="nothing")
    raise CheckpointError(
        f"the {len(present)} tensors of this checkpoint ({first}, …) belong to no architecture that edgeseg knows",
        f"known: {', '.join(known)}; name one with --arch to see what is missing, or export your network to ONNX first",
    )
