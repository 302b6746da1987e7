"""Paddle inference models: Paddle 3 (``.json`` + ``.pdiparams``) and Paddle 2 (``.pdmodel`` + ``.pdiparams``).

Only paddle2onnx can read them, and it needs paddlepaddle and an old onnx. So it lives in an environment of its own,
which `install` makes when the user says so, and runs in its own process with a time limit.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgeseg.checkpoints import HEAD_BYTES, Checkpoint
from edgeseg.checkpoints._content import sha256
from edgeseg.checkpoints._pdiparams import check_whole
from edgeseg.checkpoints.onnx import checked, parsed
from edgeseg.core import environments, process
from edgeseg.core.environments import Environment
from edgeseg.core.errors import CheckpointError

SUFFIXES = (".pdmodel", ".pdiparams")
ENVIRONMENT = Environment(
    name="paddle",
    # paddlepaddle imports setuptools and paddle2onnx packaging without asking for them.
    requirements=("paddlepaddle==3.3.1", "paddle2onnx==2.1.0", "setuptools==80.9.0", "packaging==25.0"),
    pythons=((3, 11), (3, 10), (3, 12), (3, 9)),
    install_command="edgeseg doctor --install paddle",
    probe="import paddle2onnx, paddle",
    download="1.5 GB",
)
OPSET = 13
"""What paddle2onnx is asked for; it goes higher by itself where an operator needs it."""
TIMEOUT_S = 600.0

# `optimize_tool`: the default folds constants with a package that it installs from the network on the way.
_CHILD = """
import sys
import paddle2onnx
content = paddle2onnx.export(
    sys.argv[1], sys.argv[2], None, opset_version=int(sys.argv[4]), auto_upgrade_opset=True, optimize_tool="None"
)
with open(sys.argv[3], "wb") as out:
    out.write(content)
"""


def sniff(path: Path, head: bytes) -> bool:
    """Either of the two files, or a folder that has a program."""
    if path.is_dir():
        return bool(_found(path, _is_program))
    return _is_program(head) or _is_parameters(head)


def install(say: Callable[[str], None] = lambda line: None) -> Path:
    """Make the environment that reading needs (1.5 GB); nothing is done if it is there.

    Args:
        say: Is told each step, one line each.

    Returns:
        Its folder.

    Raises:
        MissingDependency: No suitable Python, no network, no space.
    """
    return environments.install(ENVIRONMENT, say=say)


def read(path: Path, *, factory: str = "", input_size: tuple[int, int] | None = None) -> Checkpoint:
    """The network as paddle2onnx writes it, sizes as the model has them; see `edgeseg.checkpoints.read`."""
    program, parameters = files(path)
    tensors = check_whole(parameters)
    environments.python(ENVIRONMENT)  # before any work: says what to type
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as name:
        # Paddle finds the parameters by the program's name, and tells its two formats apart by the suffix.
        folder = Path(name)
        stem = folder / ("model.json" if _head(program).lstrip()[:1] == b"{" else "model.pdmodel")
        stem.symlink_to(program.resolve())
        (folder / "model.pdiparams").symlink_to(parameters.resolve())
        content = _converted(path, stem, folder / "model.pdiparams", folder / "model.onnx")
    model, notes = checked(path, parsed(path, content))
    metadata = {
        "program": program.name,
        "parameters": parameters.name,
        "tensors": str(tensors),
        "converted_by": ENVIRONMENT.requirements[1],
    }
    digest = sha256([program, parameters])
    return Checkpoint(path, "paddle-inference", digest, model=model, metadata=metadata, notes=tuple(notes))


def files(path: Path) -> tuple[Path, Path]:
    """Program and parameters of an inference model, given its folder or either of the two files.

    Raises:
        CheckpointError: One of them is missing, or there are several to choose from.
    """
    if path.is_dir():
        program = _only(path, path, _is_program, "programs")
        return program, _partner(program, _is_parameters, "parameters (.pdiparams)")
    if _is_parameters(_head(path)):
        return _partner(path, _is_program, "program (.json or .pdmodel)"), path
    return path, _partner(path, _is_parameters, "parameters (.pdiparams)")


def _converted(path: Path, program: Path, parameters: Path, out: Path) -> bytes:
    arguments = ["-c", _CHILD, str(program), str(parameters), str(out), str(OPSET)]
    variables = {"POLYGRAPHY_AUTOINSTALL_DEPS": "0", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = environments.run(ENVIRONMENT, arguments, timeout_s=TIMEOUT_S, cwd=out.parent, variables=variables)
    except process.Timeout as error:
        raise CheckpointError(f"{path}: paddle2onnx: {error.message}", "is it a segmentation network?") from error
    if done.returncode != 0 or not out.is_file():
        raise CheckpointError(
            f"paddle2onnx cannot convert {path}: {_reason(done)}",
            "are program and parameters of the same export, and whole? PaddleSeg's tools/export.py makes them again",
        )
    return out.read_bytes()


def _reason(done: process.Finished) -> str:
    """The line that says what is wrong, out of the pages of native traceback."""
    text = done.stderr + "\n" + done.stdout
    for pattern in (r"\(\w+\) ([A-Z]\w+Error.*?)(?:\n|$)", r"Failed to convert PaddlePaddle model: (.*?)(?:\n|$)"):
        found = re.search(pattern, text)
        if found:
            return found.group(1).strip()[:200]
    return done.last_words[:200]


def _head(path: Path) -> bytes:
    with path.open("rb") as handle:
        return handle.read(HEAD_BYTES)


def _is_program(head: bytes) -> bool:
    """Paddle 3: JSON that names its magic. Paddle 2: a ProgramDesc, whose first block has index 0 and no parent."""
    if head.lstrip()[:1] == b"{":
        return re.search(rb'"magic"\s*:\s*"pir"', head) is not None
    if head[:1] != b"\n":
        return False
    length = next((index for index in range(1, 6) if head[index : index + 1] < b"\x80"), 5)
    return head[length + 1 : length + 15] == b"\x08\x00\x10" + b"\xff" * 9 + b"\x01\x1a"


def _is_parameters(head: bytes) -> bool:
    """Tensors one after another, each: version 0, level of detail 0, version 0, length of its type, then the type."""
    return head[:16] == bytes(16) and 2 <= int.from_bytes(head[16:20], "little") <= 256 and head[20:21] == b"\x08"


def _found(folder: Path, kind: Callable[[bytes], bool]) -> list[Path]:
    found = []
    for file in sorted(folder.iterdir()):
        try:
            if file.is_file() and kind(_head(file)):
                found.append(file)
        except OSError:
            continue
    return found


def _partner(file: Path, kind: Callable[[bytes], bool], what: str) -> Path:
    """The other file: the one of the same name, or the only one of its kind in the folder."""
    found = [other for other in _found(file.parent, kind) if other != file]
    same = [other for other in found if other.stem == file.stem]
    if not found:
        raise CheckpointError(f"{file} has no {what} beside it", "an inference model is two files: copy both")
    return same[0] if len(same) == 1 else _only(file, file.parent, kind, what)


def _only(path: Path, folder: Path, kind: Callable[[bytes], bool], what: str) -> Path:
    found = _found(folder, kind)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise CheckpointError(f"{path}: which of the {what} is meant is not clear: {names}", "give the file itself")
    return found[0]
