"""What is pushed to a phone: what is taken out of Debian's packages and of wheels, and what is left here."""

import io
import tarfile
import zipfile

import pytest

from edgeseg.core import process
from edgeseg.core.errors import MissingDependency
from edgeseg.devices import _phone_bundle, _standin_base
from edgeseg.devices._phone_bundle import Part

STANDARD = "./usr/lib/python3.11"


def debian(path, *, without=""):
    """An archive like mmdebstrap's: libraries by their names and through links, absolute and relative."""
    with tarfile.open(path, "w") as archive:

        def file(name, content=b"x", mode=0o644):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))

        def link(name, target):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)

        file("./usr/bin/python3.11", b"python", 0o755)
        file(f"{STANDARD}/os.py", b"os")
        file(f"{STANDARD}/json/decoder.py")
        file(f"{STANDARD}/test/support.py")
        file(f"{STANDARD}/lib-dynload/_ssl.cpython-311-aarch64-linux-gnu.so")
        file(f"{STANDARD}/lib-dynload/_ctypes.cpython-311-aarch64-linux-gnu.so")
        file("./usr/share/doc/python3.11/copyright")
        file("./lib/aarch64-linux-gnu/ld-2.36.so", b"loader", 0o755)
        link("./lib/ld-linux-aarch64.so.1", "/lib/aarch64-linux-gnu/ld-2.36.so")
        for library in _phone_bundle._LIBRARIES[1:]:
            if library != without:
                file(f"./lib/aarch64-linux-gnu/{library}.9", library.encode())
                link(f"./lib/aarch64-linux-gnu/{library}", f"{library}.9")


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Packages and wheels as they would be fetched; the commands that would fetch them."""
    monkeypatch.setenv("EDGESEG_CACHE_DIR", str(tmp_path / "cache"))
    commands = []

    def run(command, **limits):
        commands.append(command)
        debian(next(word for word in command if word.endswith(".tar")))
        return process.Finished(0, "", "")

    def download(board, requirements):
        assert (board.arch, board.version) == ("aarch64", (3, 11))
        wheel = tmp_path / f"{requirements[0].partition('==')[0]}-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in ("numpy/core.py", "numpy/tests/test_core.py", "numpy/f2py/main.py", "onnxruntime/capi/session.so",
                         "onnxruntime/capi/libonnxruntime.so.1", "onnxruntime/tools/convert.py", "google/protobuf/x.py",
                         "numpy-1.dist-info/METADATA", "numpy-1.dist-info/RECORD"):  # fmt: skip
                archive.writestr(name, "content")
        return [wheel]

    monkeypatch.setattr(_standin_base.process, "run", run)
    monkeypatch.setattr(_phone_bundle._provision, "download", download)
    monkeypatch.setattr(_standin_base, "missing", lambda tools: [])
    monkeypatch.setattr(_phone_bundle, "_here", lambda: ["onnx"])
    return commands


def test_what_is_installed_and_what_is_not(fetched):
    told: list[str] = []
    assert _phone_bundle.installed() is None
    folder = _phone_bundle.install(told.append)
    assert _phone_bundle.installed() == folder
    python, (numpy, onnx) = _phone_bundle.parts(["onnx"])
    names = set(python.files)
    assert {"run", "bin/python", "lib/ld-linux-aarch64.so.1", "lib/libc.so.6", "lib/python3.11/os.py"} <= names
    assert "lib/python3.11/lib-dynload/_ctypes.cpython-311-aarch64-linux-gnu.so" in names
    assert not [name for name in names if "test" in name or "_ssl" in name or "doc" in name]
    assert (folder / "python/lib/libc.so.6").read_text() == "libc.so.6"
    assert (folder / "python/lib/ld-linux-aarch64.so.1").read_text() == "loader"
    assert (folder / "python/bin/python").stat().st_mode & 0o111
    assert set(numpy.files) >= {"numpy/core.py", "numpy-1.dist-info/METADATA"}
    assert not [name for name in numpy.files if "tests" in name or "f2py" in name or "RECORD" in name]
    assert set(onnx.files) == {"onnxruntime/capi/session.so"}
    (command,) = fetched
    assert command[0] == "mmdebstrap"
    assert "--mode=chrootless" in command, "no root is needed"
    _phone_bundle.install(told.append)
    assert len(fetched) == 1, "what is there is not fetched again"


def test_packages_that_lack_a_library_are_no_bundle(fetched, monkeypatch):
    def run(command, **limits):
        debian(next(word for word in command if word.endswith(".tar")), without="libm.so.6")
        return process.Finished(0, "", "")

    monkeypatch.setattr(_standin_base.process, "run", run)
    with pytest.raises(MissingDependency, match=r"bring no libm\.so\.6"):
        _phone_bundle.install(print)
    assert _phone_bundle.installed() is None


def test_no_mmdebstrap(fetched, monkeypatch):
    monkeypatch.setattr(_standin_base, "missing", lambda tools: ["mmdebstrap"])
    with pytest.raises(MissingDependency, match="android needs mmdebstrap") as caught:
        _phone_bundle.install(print)
    assert caught.value.hint == "sudo apt install mmdebstrap"


def test_the_size_of_a_part(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(bytes(10))
    assert Part("p", tmp_path).size_bytes == 10
    assert list(Part("p", tmp_path).files) == ["a/b"]
