"""General clean-up of an exported graph with onnxsim: constants folded, batch norm fused, shape arithmetic gone.

onnxsim runs native passes over whatever graph it is given, and has been seen to end its process on odd ones. So it runs
in a process of its own with a time limit, and a graph that it cannot take stays as it is.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core import process

if TYPE_CHECKING:
    import onnx

# Two optional packages that onnxsim only reports with take it seconds to import; None makes them absent.
_CHILD = """
import sys
sys.modules.update(torch=None, sympy=None)
import onnx, onnxsim
before = onnx.load(sys.argv[1])
after, _ = onnxsim.simplify(before)
onnx.save(after, sys.argv[2])
"""


def simplify(model: onnx.ModelProto, *, timeout_s: float = 120) -> tuple[onnx.ModelProto, str]:
    """A graph that computes the same with fewer nodes.

    Args:
        model: A valid graph, its inputs static (see `edgeseg.graph.pin`) so that shape arithmetic can be folded.
        timeout_s: After so many seconds the graph is left as it is.

    Returns:
        The simplified graph and what was done, e.g. ``onnxsim 0.4.36: 799 -> 153 nodes``; or `model` itself and why it
        was left. The result passes `onnx.checker` and has the same inputs and outputs. That it also computes the same is
        for parity to show.
    """
    import importlib.metadata

    import onnx

    try:
        tool = f"onnxsim {importlib.metadata.version('onnxsim')}"
    except importlib.metadata.PackageNotFoundError:
        return model, "not simplified: onnxsim is not installed (pip install onnxsim)"
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        try:
            before.write_bytes(model.SerializeToString())
            done = process.run([sys.executable, "-c", _CHILD, str(before), str(after)], timeout_s=timeout_s)
            if done.returncode != 0:
                return model, f"{tool} was not applied: {done.last_words[:160]}"
            simplified = onnx.load_model_from_string(after.read_bytes())
            onnx.checker.check_model(simplified, full_check=True)
        except Exception as error:  # whatever is wrong with what the tool left, `model` is as good as before
            return model, f"{tool} was not applied: {str(error).strip().splitlines()[0][:160]}"
    changed = _interface_change(model, simplified)
    if changed:
        return model, f"{tool} was not applied: it changed {changed}"
    return simplified, f"{tool}: {len(model.graph.node)} -> {len(simplified.graph.node)} nodes"


def _interface_change(before: onnx.ModelProto, after: onnx.ModelProto) -> str:
    """What a caller would notice of another graph: empty, or the first input or output that differs."""
    weights = {tensor.name for model in (before, after) for tensor in model.graph.initializer}
    for kind in ("input", "output"):
        old = {value.name: value for value in getattr(before.graph, kind) if value.name not in weights}
        new = {value.name: value for value in getattr(after.graph, kind) if value.name not in weights}
        if list(old) != list(new):
            return f"the {kind}s from {list(old)} to {list(new)}"
        for name, value in old.items():
            if value.type.tensor_type.elem_type != new[name].type.tensor_type.elem_type:
                return f"the type of the {kind} {name}"
            was, now = ([dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in (value, new[name]))
            if was and (len(was) != len(now) or any(a > 0 and a != b for a, b in zip(was, now, strict=True))):
                return f"the shape of the {kind} {name} from {was} to {now}"
    return ""
