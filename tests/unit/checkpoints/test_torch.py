"""PyTorch files: plain weights and plain graphs come out; code in them is not run, and a mismatch is named."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeseg import checkpoints
from edgeseg.checkpoints import _pt2
from edgeseg.core.errors import CheckpointError
from tests.unit.graph.networks import noise, run

torch = pytest.importorskip("torch", reason="pip install 'edgeseg[torch]'")
SIZE = (40, 24)


@pytest.fixture
def exporter(need: Callable[..., None]) -> None:
    need("onnxscript", "pip install 'edgeseg[torch]'")


FACTORIES = """
import torch

class Net(torch.nn.Module):
    def __init__(self, channels=4):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(channels)
        self.head = torch.nn.Conv2d(channels, 2, 1)

    def forward(self, image):
        scores = self.head(torch.relu(self.norm(self.conv(image))))
        return torch.nn.functional.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=False)

def build():
    return Net()

def wider():
    return Net(8)

def other():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))

def extended():
    net = Net()
    net.extra = torch.nn.Linear(2, 2)
    return net

def broken():
    raise RuntimeError("no such backbone")

def text():
    return "a network"
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the user's in the working folder, found without being on Python's path."""
    name = f"factories_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": name}
    exec(FACTORIES, space)
    torch.manual_seed(0)
    space["net"] = space["build"]().eval()
    space["module"] = name
    return space


def outputs(net: Any, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(net(torch.from_numpy(image)).numpy())


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.pdparams"])
def test_a_state_dict_without_factory_is_weights(tmp_path: Path, factories: Any, name: str, legacy: bool) -> None:
    state = factories["net"].state_dict()
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    read = checkpoints.read(tmp_path / name)
    assert read.format == "torch"
    assert read.weights is not None
    assert list(read.weights) == list(state)
    for key, tensor in state.items():
        np.testing.assert_array_equal(read.weights[key], tensor.numpy())


def test_nested_wrapped_and_half_precision(tmp_path: Path, factories: Any) -> None:
    state = {
        f"module.{key}": value.bfloat16() if value.is_floating_point() else value
        for key, value in factories["net"].state_dict().items()
    }
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "net.pt")
    read = checkpoints.read(tmp_path / "net.pt")
    assert read.weights is not None
    assert set(read.weights) == set(factories["net"].state_dict())
    assert read.weights["conv.weight"].dtype == np.float32
    assert read.notes == (
        "the weights were found under 'state_dict'",
        "the prefix 'module.' of DataParallel was taken off",
    )


class Attack:
    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.sentinel}",))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("factory", ["", "module:build"])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, factories: Any, legacy: bool, factory: str) -> None:
    path = tmp_path / "net.pt"
    torch.save({"w": Attack(tmp_path / "sentinel")}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"asks for posix\.system: refused, and nothing of it was run"):
        checkpoints.read(path, factory=factory, input_size=SIZE)
    assert not (tmp_path / "sentinel").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "sentinel").exists()  # the attack is a real one


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "holds a dict, not a state dict"),
        ([1], "holds a list, not a state dict"),
        ({"w": torch.ones(1), "lr": 0.1}, "under 'lr' there is a float, not a tensor"),
        ({"w": torch.tensor([1.0, float("nan")])}, "NaN in w: 1 of its 2 values"),
        ({"w": torch.ones(1, dtype=torch.complex64)}, "complex64, which is no number"),
    ],
)
def test_other_documents(tmp_path: Path, document: object, message: str) -> None:
    torch.save(document, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(tmp_path / "net.pt")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl", "version"):
            archive.writestr(f"net/{name}", b"")
    with pytest.raises(CheckpointError, match="is TorchScript, which carries code"):
        checkpoints.read(tmp_path / "net.pt")


def test_cut_short(tmp_path: Path, factories: Any) -> None:
    torch.save(factories["net"].state_dict(), tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    for end in (1, 10, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "net.pt").write_bytes(content[:end])
        with pytest.raises(CheckpointError):
            checkpoints.read(tmp_path / "net.pt")


# --model
@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("wider", r"conv\.weight has the shape \[4, 3, 3, 3\], .* wants \[8, 3, 3, 3\]"),
        ("other", r"lacks 0\.weight \(2 of 2 tensors are missing\)"),
        ("extended", r"lacks extra\.weight \(2 of 11 tensors are missing\)"),
        ("broken", "RuntimeError: no such backbone"),
        ("text", r"gives a str, not a torch\.nn\.Module"),
        ("gone", "AttributeError"),
    ],
)
def test_a_factory_that_does_not_fit(tmp_path: Path, factories: Any, factory: str, message: str) -> None:
    torch.save(factories["net"].state_dict(), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(tmp_path / "net.pt", factory=f"{factories['module']}:{factory}", input_size=SIZE)


def test_an_unexpected_tensor_is_named(tmp_path: Path, factories: Any) -> None:
    torch.save({**factories["net"].state_dict(), "aux.weight": torch.ones(1)}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"has aux\.weight, which .*:build has not \(1 unexpected"):
        checkpoints.read(tmp_path / "net.pt", factory=f"{factories['module']}:build", input_size=SIZE)


@pytest.mark.parametrize(
    ("factory", "size", "message"),
    [
        ("a:b", None, "none was given"),
        ("ab", SIZE, "is not of the form"),
        ("no_such_module_:b", SIZE, "ModuleNotFoundError"),
    ],
)
def test_what_has_to_be_given(
    tmp_path: Path, factories: Any, factory: str, size: tuple[int, int] | None, message: str
) -> None:
    torch.save(factories["net"].state_dict(), tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(tmp_path / "net.pt", factory=factory, input_size=size)


@pytest.mark.slow
@pytest.mark.usefixtures("exporter")
@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_the_exported_network_computes_the_same(tmp_path: Path, factories: Any, name: str) -> None:
    if name.endswith("pt"):
        torch.save(factories["net"].state_dict(), tmp_path / name)
    else:
        from safetensors.torch import save_file

        save_file(factories["net"].state_dict(), tmp_path / name)
    read = checkpoints.read(tmp_path / name, factory=f"{factories['module']}:build", input_size=SIZE)
    assert read.model is not None
    (image,) = read.model.graph.input
    assert [dim.dim_value for dim in image.type.tensor_type.shape.dim] == [1, 3, 24, 40]
    data = noise(24, 40)
    np.testing.assert_allclose(run(read.model, data, image.name), outputs(factories["net"], data), atol=1e-5)


# .pt2
@pytest.fixture(scope="module")
def exported() -> bytes:
    """A saved program; made once, because tracing takes seconds."""
    space: dict[str, Any] = {"__name__": "exported"}
    exec(FACTORIES, space)
    torch.manual_seed(0)
    out = io.BytesIO()
    torch.export.save(torch.export.export(space["build"]().eval(), (torch.zeros(1, 3, 24, 40),)), out)
    return out.getvalue()


@pytest.fixture
def program(tmp_path: Path, exported: bytes) -> Path:
    (tmp_path / "net.pt2").write_bytes(exported)
    return tmp_path / "net.pt2"


@pytest.mark.slow
@pytest.mark.usefixtures("exporter")
def test_a_program_computes_the_same(program: Path, factories: Any) -> None:
    program.rename(program.with_suffix(".bin"))
    read = checkpoints.read(program.with_suffix(".bin"))
    assert read.format == "torch"
    assert read.model is not None
    data = noise(24, 40)
    name = read.model.graph.input[0].name
    np.testing.assert_allclose(run(read.model, data, name), outputs(factories["net"], data), atol=1e-5)


@pytest.mark.slow
def test_a_program_with_dynamic_sizes_is_let_through(tmp_path: Path, factories: Any) -> None:
    sizes = {2: torch.export.Dim("h", min=8, max=512), 3: torch.export.Dim("w", min=8, max=512)}
    exported = torch.export.export(factories["net"], (torch.zeros(1, 3, 24, 40),), dynamic_shapes=(sizes,))
    torch.export.save(exported, tmp_path / "net.pt2")
    _pt2.check(tmp_path / "net.pt2", (tmp_path / "net.pt2").read_bytes())


def rewritten(path: Path, change: Callable[[str, bytes], bytes], **more: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        root = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, content in more.items():
            new.writestr(f"{root}/{name.replace('__', '/')}", content)
    return out.getvalue()


def deep(document: Any, key: str, value: object) -> bytes:
    """The JSON with every entry of a name set to a value."""

    def walk(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: value if name == key else walk(inner) for name, inner in item.items()}
        return [walk(inner) for inner in item] if isinstance(item, list) else item

    return json.dumps(walk(json.loads(document))).encode()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("target", "torch.os.system", r"calls 'torch\.os\.system'"),
        ("target", "torch.ops.aten.from_file.default", "calls"),
        ("target", "torch.load", "calls"),
        ("target", "_operator.methodcaller", "calls"),
        ("target", "#extension:x", "calls"),
        ("guards_code", ["__import__('os').system('touch x')"], "has the expression"),
        ("guards_code", ["L['x'].size()[2].__class__ == 1"], "has the expression"),
        ("guards_code", ["(lambda: 1)() == 1"], "has the expression"),
        ("range_constraints", {"__import__('os')": {}}, "has the expression"),
        ("use_pickle", True, "has pickled tensors"),
        ("path_name", "custom_obj_0", "has the object"),
    ],
)
def test_a_program_that_could_run_code_is_refused(program: Path, key: str, value: object, message: str) -> None:
    def change(name: str, content: bytes) -> bytes:
        return deep(content, key, value) if name.endswith(".json") else content

    program.write_bytes(rewritten(program, change))
    with pytest.raises(CheckpointError, match=f"{message}.*nothing of it was run"):
        checkpoints.read(program)


@pytest.mark.parametrize(
    "expression",
    ["__import__('os').system('id')", "s0.__class__", "[x for x in s0]", "open('x')", "exec", "9**9 if s0 else 1"],
)
def test_size_expressions_are_arithmetic_only(expression: str) -> None:
    with pytest.raises(CheckpointError, match="has the expression"):
        _pt2._check_expression(Path("net.pt2"), expression)


@pytest.mark.parametrize(
    "expression", ["s77", "2*s0 + 1", "FloorDiv(s0 - 1, 2) + 1", "Max(1, u0)", "L['x'].size()[2] <= 512"]
)
def test_size_expressions_of_torch_pass(expression: str) -> None:
    _pt2._check_expression(Path("net.pt2"), expression)


@pytest.mark.parametrize(
    "name", ["data__aotinductor__model__x.so", "data__constants__opaque_obj_0", "data__weights__model.pt"]
)
def test_other_members_are_refused(program: Path, name: str) -> None:
    program.write_bytes(rewritten(program, lambda _, content: content, **{name: b"x"}))
    with pytest.raises(CheckpointError, match=r"holds 'data/.*nothing of it was run"):
        checkpoints.read(program)


def test_sample_inputs_are_not_unpickled(program: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save((Attack(tmp_path / "sentinel"),), buffer)
    program.write_bytes(
        rewritten(program, lambda name, content: buffer.getvalue() if "sample_inputs" in name else content)
    )
    with pytest.raises(CheckpointError, match="sample inputs that are no plain tensors"):
        checkpoints.read(program)
    assert not (tmp_path / "sentinel").exists()


def test_the_old_layout_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", pickle.dumps(Attack(tmp_path / "sentinel")))
    with pytest.raises(CheckpointError, match=r"old layout of torch\.export, whose weights are pickled"):
        checkpoints.read(tmp_path / "net.pt2")


def test_a_program_that_is_cut_short(program: Path) -> None:
    content = program.read_bytes()
    for end in (10, len(content) // 2, len(content) - 1):
        program.write_bytes(content[:end])
        with pytest.raises(CheckpointError):
            checkpoints.read(program)
