"""PaddleSeg pickles: arrays come out; whatever else a pickle can ask for is refused, and nothing of it runs."""

import collections
import contextlib
import os
import pickle
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeseg import checkpoints
from edgeseg.checkpoints import pdparams
from edgeseg.core.errors import CheckpointError

PROTOCOLS = [2, 3, 4, 5]
WEIGHTS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "bn._mean": np.array([-1.5, 0.25], np.float32),
    "count": np.array(3, np.int64),
}


def saved(path: Path, document: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(document, protocol=protocol))
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    weights = checkpoints.read(path).weights
    assert weights is not None
    return dict(weights)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = saved(tmp_path / "net.pdparams", WEIGHTS, protocol)
    assert checkpoints.read(path).format == "pdparams"
    found = read(path)
    assert list(found) == list(WEIGHTS)
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None, max_examples=40)
@given(
    array=arrays.arrays(
        st.sampled_from(
            [
                np.float32,
                np.float16,
                np.float64,
                np.int8,
                np.int64,
                np.uint16,
                np.bool_,
                np.dtype(">f4"),
                np.dtype(">i2"),
            ]
        ),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    fortran=st.booleans(),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, protocol: int, array: np.ndarray, fortran: bool) -> None:
    if array.dtype.kind == "f":
        array = np.clip(np.nan_to_num(array.astype(np.float64)), -1000, 1000).astype(array.dtype)
    array = np.asfortranarray(array) if fortran else array
    found = read(saved(tmp_path_factory.mktemp("trip") / "a.pdparams", {"w": array}, protocol))["w"]
    wanted = array.astype(np.float32) if array.dtype.kind == "f" else array
    np.testing.assert_array_equal(found, wanted)
    assert found.shape == array.shape


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ordered_dictionaries_scalars_names_and_strangers(tmp_path: Path, protocol: int) -> None:
    document = collections.OrderedDict(WEIGHTS)
    document["scale"] = np.float32(0.5)  # type: ignore[assignment]
    document["StructuredToParameterName@@"] = {"conv.weight": "conv2d_0.w_0"}  # type: ignore[assignment]
    document["epoch"] = 7  # type: ignore[assignment]
    document["version"] = "2.6"  # type: ignore[assignment]
    document["empty"] = np.zeros((0, 3), np.float32)
    found = read(saved(tmp_path / "net.pdparams", document, protocol))
    assert set(found) == {*WEIGHTS, "scale", "empty"}
    assert found["scale"] == np.float32(0.5)


class Named:
    """Pickled the way Paddle writes a tensor outside a state dict: a call of `tuple` with name and array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self) -> Any:
        return (tuple, (("linear_0.w_0", self.array),))


def test_named_tensors(tmp_path: Path) -> None:
    found = read(saved(tmp_path / "net.pdparams", {"w": Named(WEIGHTS["conv.weight"])}))
    np.testing.assert_array_equal(found["w"], WEIGHTS["conv.weight"])


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_tensors_in_pieces_are_joined(tmp_path: Path, protocol: int) -> None:
    flat = WEIGHTS["conv.weight"].reshape(-1)
    document = {
        "conv.weight@@.0": flat[:10],
        "conv.weight@@.1": flat[10:],
        "UnpackBigParamInfor@@": {
            "conv.weight": {"OriginShape": (2, 3, 2, 2), "slices": ["conv.weight@@.0", "conv.weight@@.1"]}
        },
    }
    found = read(saved(tmp_path / "net.pdparams", document, protocol))
    assert list(found) == ["conv.weight"]
    np.testing.assert_array_equal(found["conv.weight"], WEIGHTS["conv.weight"])


@pytest.mark.parametrize(
    "plan",
    [
        {"w": {"OriginShape": (9,), "slices": ["a"]}},
        {"w": {"OriginShape": (2,), "slices": ["gone"]}},
        {"w": {"OriginShape": (4,), "slices": ["a", "a"]}},
        {"w": {"OriginShape": "xy", "slices": ["a"]}},
        {"w": {"slices": ["a"]}},
        {"w": {"OriginShape": (2,), "slices": [["a"]]}},
        [1, 2],
    ],
)
def test_pieces_that_do_not_fit_are_refused(tmp_path: Path, plan: object) -> None:
    with pytest.raises(CheckpointError, match="saved in pieces cannot be joined"):
        read(saved(tmp_path / "net.pdparams", {"a": np.zeros(2, np.float32), "UnpackBigParamInfor@@": plan}))


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    raw = WEIGHTS["bn._mean"].tobytes()
    text = b"U" + bytes([len(raw)]) + raw  # SHORT_BINSTRING, where Python 3 writes bytes
    content = (
        b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + text
        + b"tbs."
    )
    assert list(pickle.loads(content, encoding="latin1")) == ["w"]
    (tmp_path / "net.pdparams").write_bytes(content)
    np.testing.assert_array_equal(read(tmp_path / "net.pdparams")["w"], WEIGHTS["bn._mean"])


# Attacks
class Calls:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, *PROTOCOLS])
@pytest.mark.parametrize(
    "wrap", [lambda attack: attack, lambda attack: {**WEIGHTS, "x": attack}, lambda a: [[a], (a,)]]
)
@pytest.mark.parametrize("name", ["system", "eval", "exec", "popen", "getattr"])
def test_code_is_not_run(tmp_path: Path, name: str, wrap: Any, protocol: int) -> None:
    sentinel = tmp_path / "sentinel"
    attacks: dict[str, object] = {
        "system": Calls(os.system, f"touch {sentinel}"),
        "eval": Calls(eval, f"open({str(sentinel)!r}, 'w').close()"),
        "exec": Calls(exec, f"open({str(sentinel)!r}, 'w').close()"),
        "popen": Calls(subprocess.Popen, ["touch", str(sentinel)]),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
    }
    path = saved(tmp_path / "net.pdparams", wrap(attacks[name]), protocol)
    names = {"system": "(posix|nt).system", "popen": "Popen"}  # older protocols use the module names of Python 2
    with pytest.raises(CheckpointError) as error:
        checkpoints.read(path)
    assert re.search(names.get(name, name), error.value.message)
    assert "refused, and nothing of the file was run" in error.value.message
    assert "\n" not in error.value.message + error.value.hint
    assert not sentinel.exists()
    if name == "system":
        pickle.loads(path.read_bytes())
        assert sentinel.exists()  # the attack is a real one


HEAD = b"\x80\x04"
TRICKS = {
    "allowed name, then attribute path": HEAD + b"cnumpy\nndarray.__class__\n.",
    "numpy's own loader": HEAD + b"cnumpy\nload\n(X\x03\x00\x00\x00abctR.",
    "state on the class": HEAD + b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00xK\x01sb.",
    "state on a function": HEAD + b"cnumpy._core.multiarray\n_reconstruct\nN}X\x0c\x00\x00\x00__defaults__Ns\x86b.",
    "instance of ndarray": HEAD + b"cnumpy\nndarray\n)\x81.",
    "call of ndarray": HEAD + b"cnumpy\nndarray\nK\xff\x85R.",
    "old-style instance": HEAD + b"(ios\nsystem\n.",
    "object": HEAD + b"(cnumpy\nndarray\no.",
    "persistent id": HEAD + b"X\x01\x00\x00\x00xQ.",
    "extension": HEAD + b"\x82\x01.",
    "buffer out of band": b"\x80\x05\x97.",
    "a set": HEAD + b"\x8f.",
    "calling a string": HEAD + b"X\x02\x00\x00\x00os)R.",
    "memo that is not there": HEAD + b"h\x07.",
    "memo index of 4 billion": HEAD + b"Nr\xff\xff\xff\xff}.",
    "no end": HEAD + b"}",
    "nothing on the stack": HEAD + b".",
    "mark missing": HEAD + b"t.",
    "key that is a list": HEAD + b"}]Ns.",
    "odd number of items": HEAD + b"}(Nu.",
    "string that claims an exabyte": HEAD + b"\x8e\xff\xff\xff\xff\xff\xff\xff\x0f.",
    "protocol 9": b"\x80\x09}.",
    "attribute of the interpreter": HEAD + b"c_codecs\ndecode\n.",
    "encode with a codec that runs": HEAD + b"c_codecs\nencode\nX\x01\x00\x00\x00xX\x03\x00\x00\x00bz2\x86R.",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_are_refused(tmp_path: Path, trick: str) -> None:
    (tmp_path / "net.pdparams").write_bytes(TRICKS[trick])
    with pytest.raises(CheckpointError):
        checkpoints.read(tmp_path / "net.pdparams")


def test_a_nested_structure_that_doubles_costs_nothing(tmp_path: Path) -> None:
    laughs = HEAD + b")q\x00" + b"0h\x00h\x00\x86q\x00" * 5000 + b"."
    (tmp_path / "net.pdparams").write_bytes(laughs)
    with pytest.raises(CheckpointError, match="holds a tuple"):
        checkpoints.read(tmp_path / "net.pdparams")


def claimed(shape: bytes, raw: bytes, dtype: bytes = b"f4") -> bytes:
    """A pickle of one array whose shape, dtype and content are given as opcodes."""
    dtype = b"cnumpy\ndtype\nX" + struct.pack("<I", len(dtype)) + dtype + b"\x89\x88\x87R"
    return (
        HEAD
        + b"}X\x01\x00\x00\x00wcnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
        + shape
        + dtype
        + b"\x89"
        + raw
        + b"tbs."
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claimed(b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", b"C\x04abcd"), r"tensor w claims 4398046511104 bytes"),
        (claimed(b"J\xff\xff\xff\xff\x85", b"C\x04abcd"), "a shape was expected"),
        (claimed(b"K\x01\x85", b"]N\x61", b"O8"), r"arrays of dtype 'O8' are no weights"),
        (claimed(b"K\x01\x85", b"]N\x61"), "array of objects is no weight"),
        (claimed(b"K\x01\x85", b"C\x04abcd", b"S4"), "arrays of dtype 'S4' are no weights"),
        (claimed(b"K\x01\x85", b"C\x10abcdabcdabcdabcd", b"c16"), "arrays of dtype 'c16' are no weights"),
        (claimed(b"K\x01\x85", b"C\x04abcd", b"f4,f4"), "are no weights"),
        (claimed(b"X\x01\x00\x00\x00a", b"C\x04abcd"), "a shape was expected"),
    ],
)
def test_arrays_are_not_believed(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "net.pdparams").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(tmp_path / "net.pdparams")


def test_one_string_under_many_names_does_not_fill_the_memory(tmp_path: Path) -> None:
    raw = b"B" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b"\x94"
    body = bytearray(HEAD + raw + b"0cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R\x940}(")
    for index in range(2000):
        key = f"w{index}".encode()
        body += b"X" + struct.pack("<I", len(key)) + key
        body += b"cnumpy._core.numeric\n_frombuffer\n(h\x00h\x01J" + struct.pack("<i", 1 << 18) + b"\x85tR"
    (tmp_path / "net.pdparams").write_bytes(body + b"u.")
    with pytest.raises(CheckpointError, match="claims more tensor data than it has bytes"):
        checkpoints.read(tmp_path / "net.pdparams")


def test_encoding_one_string_again_and_again_does_not_fill_the_memory(tmp_path: Path) -> None:
    body = HEAD + b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"\x940]"
    body += b"c_codecs\nencode\nh\x00\x85R\x61" * 5000
    (tmp_path / "net.pdparams").write_bytes(body + b".")
    with pytest.raises(CheckpointError, match="makes more of its content than there is"):
        checkpoints.read(tmp_path / "net.pdparams")


# Damage
@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_short_anywhere(tmp_path: Path, protocol: int, data: st.DataObject) -> None:
    content = pickle.dumps(WEIGHTS, protocol=protocol)
    path = tmp_path / "net.pdparams"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CheckpointError) as error:
        checkpoints.read(path)
    assert error.value.hint


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(2, 2000), value=st.binary(min_size=1, max_size=4), protocol=st.sampled_from(PROTOCOLS))
def test_changed_bytes_are_an_error_or_other_numbers(
    tmp_path: Path, position: int, value: bytes, protocol: int
) -> None:
    content = bytearray(pickle.dumps(WEIGHTS, protocol=protocol))
    position %= len(content)
    content[position : position + len(value)] = value
    (tmp_path / "net.pdparams").write_bytes(content)
    with contextlib.suppress(CheckpointError):  # and no other exception
        read(tmp_path / "net.pdparams")


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_what_is_not_finite_is_named(tmp_path: Path, value: float, what: str) -> None:
    bad = WEIGHTS["conv.weight"].copy()
    bad[0, 1, 0, 1] = value
    with pytest.raises(CheckpointError, match=rf"{what} in conv\.weight: 1 of its 24 values"):
        read(saved(tmp_path / "net.pdparams", {**WEIGHTS, "conv.weight": bad}))


def test_beyond_float32(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tensor w in .* has values beyond float32"):
        read(saved(tmp_path / "net.pdparams", {"w": np.array([1e300])}))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "holds no tensors"),
        ({"epoch": 3}, "holds no tensors"),
        ([1, 2], "holds a list, not a dictionary of tensors"),
        ({"LR_Scheduler": {"last_epoch": 3}}, "under 'LR_Scheduler' there is a dict, not a tensor"),
    ],
)
def test_other_documents(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read(saved(tmp_path / "net.pdparams", document))


def test_sniff_looks_at_the_content(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", WEIGHTS)
    assert checkpoints.recognise(path) == "pdparams"
    assert not pdparams.sniff(path, b"PK\x03\x04")


def test_the_real_checkpoint(shared: Path) -> None:
    read = checkpoints.read(shared / "checkpoints" / "pphumanseg_lite_portrait" / "model.pdparams")
    assert read.weights is not None
    assert len(read.weights) == 340
    assert read.weights["conv_bn0._conv.weight"].shape == (36, 3, 3, 3)
    assert all(array.dtype == np.float32 for array in read.weights.values())
