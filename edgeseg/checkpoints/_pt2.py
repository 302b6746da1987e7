"""Looking into a ``.pt2`` archive before PyTorch does: `torch.export.load` is no safe reader of files from others.

It unpickles sample inputs, custom objects and odd tensors without restriction, evaluates size expressions and guards as
Python, looks node targets up anywhere below `torch` (which reaches `torch.os`) and loads native libraries. What is let
through here are JSON graphs of ATen operators with raw tensors: what `torch.export.save` writes for a plain network.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeseg.core.errors import CheckpointError

_MEMBERS = re.compile(
    r"(models/\w+\.json|data/(weights|constants)/(\w+_config\.json|(weight|tensor)_\d+)|data/sample_inputs/\w+\.pt"
    r"|archive_format|archive_version|byteorder|version|\.format_version|\.storage_alignment|\.data/\w+|extra/.*)"
)
_TARGETS = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file)\w+\.\w+|torch\.ops\.higher_order\.wrap_with_(set_grad_enabled|autocast)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)|math\.(ceil|floor|trunc)"
)
_SYMBOL = re.compile(r"[suf]\d+|zuf\d+|L")
_FUNCTIONS = frozenset(
    [
        "Add",
        "Mul",
        "Pow",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CleanDiv",
        "TrueDiv",
        "IntTrueDiv",
        "FloatTrueDiv",
        "CeilDiv",
        "Max",
        "Min",
        "Abs",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "And",
        "Or",
        "Not",
        "Integer",
        "Float",
        "Rational",
        "Symbol",
        "ToFloat",
        "TruncToInt",
        "CeilToInt",
        "FloorToInt",
        "RoundToInt",
        "Identity",
        "floor",
        "ceiling",
        "positive",
        "integer",
        "True",
        "False",
    ]
)
_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant,
    ast.Subscript, ast.Attribute, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_METHODS = frozenset({"size", "stride", "storage_offset", "dim"})


def check(path: Path, content: bytes) -> None:
    """Refuse an archive with anything that could run something.

    Args:
        path: The file, for messages.
        content: Its bytes: what is checked has to be what is loaded.

    Raises:
        CheckpointError: It is damaged, of an old layout, or has what is not let through, which is named.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name.split("/", 1)[-1] for name in archive.namelist()]
            if len(set(archive.namelist())) != len(names):
                _refuse(path, "has two members of one name")
            if any(name.startswith("serialized_") for name in archive.namelist() + names):
                raise CheckpointError(
                    f"{path} is of the old layout of torch.export, whose weights are pickled",
                    "load and save it again with torch.export of PyTorch 2.9 or newer",
                )
            for full, name in zip(archive.namelist(), names, strict=True):
                if not _MEMBERS.fullmatch(name):
                    _refuse(path, f"holds {name[:80]!r}")
                if name.endswith(".json"):
                    _check_json(path, json.loads(archive.read(full)))
                elif name.endswith(".pt"):
                    _check_inputs(path, archive.read(full))
    except (zipfile.BadZipFile, ValueError, KeyError, RecursionError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is a damaged .pt2 archive: {str(error)[:120]}", "copy or export it again"
        ) from error


def _refuse(path: Path, what: str) -> None:
    raise CheckpointError(
        f"{path} {what}, which could run code while it is loaded: refused, and nothing of it was run",
        "export it to ONNX where you trust it (torch.onnx.export), and give the .onnx file",
    )


def _check_json(path: Path, document: object) -> None:
    for key, value in _entries(document):
        if key == "target" and isinstance(value, str) and not _TARGETS.fullmatch(value):
            _refuse(path, f"calls {value[:80]!r}")
        elif key == "use_pickle" and value is not False:
            _refuse(path, "has pickled tensors")
        elif key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
            _refuse(path, f"has the object {str(value)[:80]!r}")
        elif key == "expr_str":
            _check_expression(path, value)
        elif key in ("guards_code", "range_constraints") and value:
            for line in value:
                _check_expression(path, line)


def _entries(document: object) -> Iterator[tuple[str, Any]]:
    """All keys with their values, however deep."""
    todo = [document]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield from item.items()
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def _check_expression(path: Path, text: object) -> None:
    """Arithmetic on sizes and nothing else: this text is evaluated as Python by what loads it."""
    what = f"has the expression {str(text)[:80]!r}"
    if not isinstance(text, str) or len(text) > 10_000:
        return _refuse(path, what)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError):
        return _refuse(path, what)
    for node in ast.walk(tree):
        named = isinstance(node, ast.Name) and not (_SYMBOL.fullmatch(node.id) or node.id in _FUNCTIONS)
        reaches = isinstance(node, ast.Attribute) and node.attr not in _METHODS
        texts = isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.isidentifier()
        dunder = isinstance(node, ast.Constant) and isinstance(node.value, str) and "__" in node.value
        if named or reaches or texts or dunder or not isinstance(node, _NODES):
            return _refuse(path, what)
    return None


def _check_inputs(path: Path, content: bytes) -> None:
    """The sample inputs are a pickle; loaded here the safe way, because what follows falls back to the other."""
    import torch

    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # whatever it is, it is no plain tensor
        _refuse(path, "has sample inputs that are no plain tensors")
