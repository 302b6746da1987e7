"""PyTorch: exported programs (``.pt2``) and state dicts (``.pt``, ``.pth``), the latter with or without their network.

A state dict is loaded with ``weights_only=True``. With ``--model package.module:factory`` the factory's module takes it
and is exported to ONNX at the input size; the factory is the user's own code and is run, nothing of the file is.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.checkpoints import Checkpoint
from edgeseg.checkpoints._content import TORCH_LEGACY, checked_weights, sha256
from edgeseg.checkpoints.onnx import checked
from edgeseg.core import plugins
from edgeseg.core.arrays import Array
from edgeseg.core.errors import CheckpointError

if TYPE_CHECKING:
    import onnx

SUFFIXES = (".pt", ".pth", ".pt2")
PACKAGES = ("torch", "onnxscript")
EXTRA = "torch"
OPSET = 18
"""The oldest that the exporter writes by itself, and one that every runtime here has long known."""
_NESTED = ("state_dict", "model_state_dict", "model", "net", "ema", "weights")


def sniff(path: Path, head: bytes) -> bool:
    """A zip archive with a pickle or an exported program, or the file of an older `torch.save`."""
    if head.startswith(TORCH_LEGACY):
        return True
    return bool(_kind(path)) if head.startswith(b"PK") else False


def _kind(path: Path) -> str:
    """``program``, ``script`` or ``pickle``: what a zip archive of PyTorch holds; empty for another one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""
    last = {name.rsplit("/", 1)[-1] for name in names}
    if "archive_format" in last or "serialized_exported_program.json" in last:
        return "program"
    if "data.pkl" in last:
        return "script" if any("/code/" in name for name in names) else "pickle"
    return ""


def read(path: Path, *, factory: str = "", input_size: tuple[int, int] | None = None) -> Checkpoint:
    """A graph from a program or with `factory`; else the weights, for an architecture that knows their names."""
    plugins.require("torch", extra="torch", what="reading PyTorch files")
    kind = _kind(path)
    if kind == "program":
        return _program(path)
    if kind == "script":
        raise CheckpointError(
            f"{path} is TorchScript, which carries code",
            "export it to ONNX (torch.onnx.export) or save its state_dict()",
        )
    if factory:
        return from_state_dict(path, factory=factory, input_size=input_size)
    arrays, notes = _state_dict(path)
    return Checkpoint(path, "torch", sha256([path]), weights=checked_weights(path, arrays), notes=tuple(notes))


def from_state_dict(path: Path, *, factory: str, input_size: tuple[int, int] | None) -> Checkpoint:
    """Weights (``.pt``, ``.pth``, ``.safetensors``) in the module that `factory` makes, exported at `input_size`.

    Raises:
        CheckpointError: The factory does not give a module, the weights are not its weights (the first that is missing,
            unexpected or misshapen is named), or the module cannot be exported.
    """
    torch: Any = plugins.require("torch", extra="torch", what="--model")
    if input_size is None:
        raise CheckpointError(
            "--model exports the network for one size, and none was given", "--input-size WIDTHxHEIGHT"
        )
    arrays, notes = _state_dict(path)
    weights = checked_weights(path, arrays)
    module = _made(factory)
    _check_names(path, factory, {name: tuple(value.shape) for name, value in module.state_dict().items()}, weights)
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    width, height = input_size
    model = _exported(path, module.eval(), (torch.zeros(1, 3, height, width),))
    model, more = checked(path, model)
    metadata = {"factory": factory, "exported_by": f"torch {torch.__version__}"}
    return Checkpoint(path, "torch", sha256([path]), model=model, metadata=metadata, notes=(*notes, *more))


def _program(path: Path) -> Checkpoint:
    from edgeseg.checkpoints._pt2 import check

    torch: Any = plugins.require("torch", extra="torch", what="reading .pt2 files")
    content = path.read_bytes()
    check(path, content)
    try:
        with _quiet():
            program = torch.export.load(io.BytesIO(content))
    except Exception as error:  # torch raises whatever its parts raise
        raise CheckpointError(
            f"{path} cannot be loaded: {_first(error)}", "export it again with this PyTorch"
        ) from error
    model, notes = checked(path, _exported(path, program, None))
    metadata = {"exported_by": f"torch {torch.__version__}"}
    return Checkpoint(path, "torch", sha256([path]), model=model, metadata=metadata, notes=tuple(notes))


def _exported(path: Path, network: Any, arguments: tuple[Any, ...] | None) -> onnx.ModelProto:
    torch: Any = plugins.require("torch", extra="torch", what="exporting to ONNX")
    plugins.require("onnxscript", extra="torch", what="exporting PyTorch to ONNX")
    try:
        with _quiet(), torch.no_grad():
            exported = torch.onnx.export(network, arguments or (), dynamo=True, opset_version=OPSET, verbose=False)
    except Exception as error:  # torch raises whatever its parts raise
        raise CheckpointError(
            f"PyTorch cannot export {path} to ONNX: {_first(error)}",
            "export it yourself (torch.onnx.export), and give the .onnx",
        ) from error
    model: onnx.ModelProto = exported.model_proto
    return model


def _state_dict(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Parameter name to array, from wherever in the file it is; and what was done to find it."""
    if not _kind(path) and not _is_legacy(path):
        from edgeseg.checkpoints import safetensors

        return safetensors.tensors(path)[0], []
    torch: Any = plugins.require("torch", extra="torch", what="reading PyTorch files")
    try:
        with _quiet():
            document = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its parts raise
        asked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks for {asked.group(1)[:80]}: refused, and nothing of it was run" if asked else _first(error)
        raise CheckpointError(
            f"{path} cannot be loaded as plain weights: {what}",
            "save the weights alone: torch.save(model.state_dict(), 'weights.pt'); is the file whole?",
        ) from error
    notes = []
    for key in _NESTED:
        inner = document.get(key) if isinstance(document, Mapping) else None
        if isinstance(inner, Mapping) and inner:
            document = inner
            notes.append(f"the weights were found under {key!r}")
            break
    if not isinstance(document, Mapping) or not document:
        raise CheckpointError(
            f"{path} holds a {type(document).__name__}, not a state dict", "torch.save(model.state_dict(), …)"
        )
    stranger = next((key for key, value in document.items() if not isinstance(value, torch.Tensor)), None)
    if stranger is not None:
        raise CheckpointError(
            f"{path}: under {str(stranger)!r} there is a {type(document[stranger]).__name__}, not a tensor",
            "save the weights alone: torch.save(model.state_dict(), 'weights.pt')",
        )
    if all(str(name).startswith("module.") for name in document):
        document = {str(name).removeprefix("module."): value for name, value in document.items()}
        notes.append("the prefix 'module.' of DataParallel was taken off")
    return {str(name): _array(torch, value) for name, value in document.items()}, notes


def _is_legacy(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(len(TORCH_LEGACY)) == TORCH_LEGACY


def _array(torch: Any, tensor: Any) -> Array:
    plain = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    array: Array = (plain.float() if plain.dtype == torch.bfloat16 else plain).contiguous().numpy()
    return array


def _made(factory: str) -> Any:
    """Call the user's factory, found as Python would find it when started in the working folder."""
    torch: Any = plugins.require("torch", extra="torch", what="--model")
    name, _, attribute = factory.partition(":")
    if not name or not attribute:
        raise CheckpointError(
            f"--model {factory!r} is not of the form package.module:factory", "--model mynet.models:build"
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        made: Any = importlib.import_module(name)
        for part in attribute.split("."):
            made = getattr(made, part)
        module = made()
    except Exception as error:  # the user's own code
        raise CheckpointError(
            f"--model {factory}: {type(error).__name__}: {_first(error)}",
            "it is called without arguments, from the working folder",
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not isinstance(module, torch.nn.Module):
        raise CheckpointError(
            f"--model {factory} gives a {type(module).__name__}, not a torch.nn.Module", "return the network"
        )
    return module


def _check_names(path: Path, factory: str, wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, Array]) -> None:
    hint = f"is {factory} the network that these weights are of?"
    missing = [name for name in wanted if name not in given]
    if missing:
        raise CheckpointError(f"{path} lacks {missing[0]} ({len(missing)} of {len(wanted)} tensors are missing)", hint)
    unexpected = [name for name in given if name not in wanted]
    if unexpected:
        raise CheckpointError(
            f"{path} has {unexpected[0]}, which {factory} has not ({len(unexpected)} unexpected tensors)", hint
        )
    for name, shape in wanted.items():
        if given[name].shape != shape:
            raise CheckpointError(
                f"{path}: {name} has the shape {list(given[name].shape)}, {factory} wants {list(shape)}", hint
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints and warns of what is no concern of the user's; errors are raised anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
