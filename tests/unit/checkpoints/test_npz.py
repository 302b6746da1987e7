"""NumPy archives: nothing is unpickled, and nothing is inflated on the archive's word alone."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeseg import checkpoints
from edgeseg.core.errors import CheckpointError

WEIGHTS = {"conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "count": np.array([1, 2], np.int64)}


def archive(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as handle:
        for name, content in members.items():
            handle.writestr(name, content)
    return path


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=True)
    return out.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_both_kinds_and_any_suffix(tmp_path: Path, save: object) -> None:
    save(tmp_path / "a.npz", **WEIGHTS)  # type: ignore[operator]
    (tmp_path / "a.npz").rename(tmp_path / "a.pdparams")
    read = checkpoints.read(tmp_path / "a.pdparams")
    assert read.format == "npz"
    assert read.weights is not None
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(read.weights[name], array)
    assert list(read.weights) == list(WEIGHTS)


@settings(deadline=None, max_examples=60)
@given(
    array=arrays.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.uint8, np.int64, np.bool_, np.dtype(">f4")]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    fortran=st.booleans(),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, fortran: bool) -> None:
    if array.dtype.kind == "f":
        array = np.clip(np.nan_to_num(array.astype(np.float64)), -1000, 1000).astype(array.dtype)
    path = tmp_path_factory.mktemp("trip") / "a.npz"
    np.savez(path, w=np.asarray(array, order="F" if fortran else "C"))
    weights = checkpoints.read(path).weights
    assert weights is not None
    np.testing.assert_array_equal(weights["w"], array.astype(np.float32) if array.dtype.kind == "f" else array)
    assert weights["w"].shape == array.shape


class Attack:
    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> object:
        return (open, (str(self.sentinel), "w"))


def test_a_pickled_member_is_not_run(tmp_path: Path) -> None:
    content = npy(np.array([1], dtype=object)).split(b"\n")[0] + b"\n" + pickle.dumps([Attack(tmp_path / "sentinel")])
    path = archive(tmp_path / "a.npz", {"w.npy": content})
    with pytest.raises(CheckpointError, match=r"w\.npy claims 8 bytes of object"):
        checkpoints.read(path)
    assert not (tmp_path / "sentinel").exists()
    np.load(path, allow_pickle=True)["w"]
    assert (tmp_path / "sentinel").exists()  # the attack is a real one


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    content = npy(np.zeros(40 << 20, np.float32))
    path = archive(tmp_path / "a.npz", {"w.npy": content}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CheckpointError, match=r"would inflate to 16777\d+: refused"):
        checkpoints.read(path)


def test_zeros_of_a_common_size_are_no_bomb(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", w=np.zeros(1 << 20, np.float32))
    assert checkpoints.read(tmp_path / "a.npz").weights is not None


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(5,)", "(-1,)", "(1, 'x')"])
def test_a_header_that_claims_another_size(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = b"\x93NUMPY\x01\x00" + len(header + b"\n").to_bytes(2, "little") + header + b"\n" + bytes(16)
    with pytest.raises(CheckpointError, match=r"w\.npy claims|damaged"):
        checkpoints.read(archive(tmp_path / "a.npz", {"w.npy": content}))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_short_anywhere(tmp_path: Path, data: st.DataObject) -> None:
    np.savez_compressed(tmp_path / "whole.npz", **WEIGHTS)
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CheckpointError):
        checkpoints.read(tmp_path / "a.npz")


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **WEIGHTS)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[200] ^= 255  # inside the first array: the archive's own checksum tells
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged \.npz archive: Bad CRC"):
        checkpoints.read(tmp_path / "a.npz")


def test_nan_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"bn.bias": np.array([np.nan, np.nan, 1], np.float32)})
    with pytest.raises(CheckpointError, match=r"NaN in bn\.bias: 2 of its 3 values"):
        checkpoints.read(tmp_path / "a.npz")


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([1j]), np.array(["2020-01-01"], "datetime64[D]")])
def test_what_is_no_number(tmp_path: Path, array: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", w=array)
    with pytest.raises(CheckpointError, match=r"tensor w in .* has the type .*, which is no number"):
        checkpoints.read(tmp_path / "a.npz")
