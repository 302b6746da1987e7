"""Safetensors under any suffix; damage is named."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save

from edgeseg import checkpoints
from edgeseg.core.errors import CheckpointError

WEIGHTS = {"conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "count": np.array([1, 2], np.int64)}


def by_hand(header: dict[str, object], data: bytes = b"", *, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("name", ["net.safetensors", "net.bin", "net.pdparams", "net.onnx"])
def test_any_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(save(WEIGHTS, metadata={"author": "someone"}))
    read = checkpoints.read(tmp_path / name)
    assert (read.format, dict(read.metadata)) == ("safetensors", {"author": "someone"})
    assert read.weights is not None
    assert set(read.weights) == set(WEIGHTS)
    for key, array in WEIGHTS.items():
        np.testing.assert_array_equal(read.weights[key], array)


@settings(deadline=None, max_examples=60)
@given(
    arrays.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.uint8, np.int64, np.bool_]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    if array.dtype.kind == "f":
        array = np.clip(np.nan_to_num(array.astype(np.float64)), -1000, 1000).astype(array.dtype)
    path = tmp_path_factory.mktemp("trip") / "a"
    path.write_bytes(save({"w": np.asarray(array)}))
    weights = checkpoints.read(path).weights
    assert weights is not None
    np.testing.assert_array_equal(weights["w"], array.astype(np.float32) if array.dtype.kind == "f" else array)
    assert weights["w"].shape == array.shape


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -0.5, 3.140625], np.float32)
    raw = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    path = tmp_path / "a"
    path.write_bytes(by_hand({"w": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}, raw))
    weights = checkpoints.read(path).weights
    assert weights is not None
    np.testing.assert_array_equal(weights["w"], values)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(end=st.integers(0, len(save(WEIGHTS)) - 1))
def test_cut_short_anywhere(tmp_path: Path, end: int) -> None:
    (tmp_path / "a.safetensors").write_bytes(save(WEIGHTS)[:end])
    with pytest.raises(CheckpointError):
        checkpoints.read(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        by_hand({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, b"abcd"),
        by_hand({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4 << 40]}}, b"abcd"),
        by_hand({"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8)),
        by_hand({"w": {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}}, b"abcd"),
        by_hand({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"abcd", length=90_000_000),
    ],
)
def test_headers_are_not_believed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged safetensors file"):
        checkpoints.read(tmp_path / "a")


def test_nan_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(save({"bn.bias": np.array([0, np.nan], np.float32)}))
    with pytest.raises(CheckpointError, match=r"NaN in bn\.bias: 1 of its 2 values"):
        checkpoints.read(tmp_path / "a")


def test_no_tensors(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(by_hand({"__metadata__": {"a": "b"}}))
    with pytest.raises(CheckpointError, match="holds no tensors"):
        checkpoints.read(tmp_path / "a")
