"""What is pushed to a phone so that the worker of a Pi runs there too: a Python with its own loader and C library, numpy, and the
runtimes in use.

Android has another C library than the wheels of PyPI are made for, so all of it comes along: the interpreter and the libraries
out of Debian's arm64 packages, the rest out of the aarch64 wheels, both fetched here and only unpacked. Nothing has to be
compiled, nothing on the phone is changed, and no root is needed, here or there. What a worker never imports stays here.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.metadata
import importlib.util
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgeseg import backends
from edgeseg.core import atomic, environments
from edgeseg.core.device import WorkerLost
from edgeseg.core.errors import MissingDependency
from edgeseg.devices import _provision, _standin_base
from edgeseg.devices._board import Board

INSTALL_COMMAND = "edgeseg doctor --install android"
SIZE = "170 MB"
SUITE = "bookworm"
PYTHON = (3, 11)
GLIBC = (2, 36)
PACKAGES = (
    "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal", "libc6", "libstdc++6", "libgcc-s1", "zlib1g",
)  # fmt: skip
LOADER = "ld-linux-aarch64.so.1"
RUN = "run"
"""The script that runs the interpreter with its own loader."""

_LIBRARIES = (
    LOADER, "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2",
    "libstdc++.so.6", "libgcc_s.so.1", "libz.so.1", "libexpat.so.1", "libffi.so.8", "libbz2.so.1.0", "liblzma.so.5",
)  # fmt: skip
_STANDARD = (
    "test/*", "distutils/*", "pydoc_data/*", "unittest/*", "venv/*", "wsgiref/*", "xmlrpc/*", "curses/*", "dbm/*",
    "sqlite3/*", "http/*", "multiprocessing/*", "asyncio/*", "idlelib/*", "lib2to3/*", "ensurepip/*", "__phello__/*",
    "lib-dynload/*test*", "lib-dynload/_codecs_*", "lib-dynload/_sqlite3*", "lib-dynload/_ssl*", "lib-dynload/_hashlib*",
    "lib-dynload/_curses*", "lib-dynload/_dbm*", "lib-dynload/nis*", "lib-dynload/readline*", "lib-dynload/_crypt*",
    "lib-dynload/xxlimited*", "lib-dynload/_lsprof*", "lib-dynload/ossaudiodev*", "lib-dynload/_uuid*",
    "*/__pycache__/*", "*.whl", "config-*", "pydoc.py", "turtle*.py", "*.deb",
)  # fmt: skip
"""Files of Python's standard library that no worker imports, as patterns below its folder."""
_WHEELS = (
    "*/tests/*", "*.pyi", "*.pyx", "*.pxd", "*.h", "*.a", "*.dist-info/RECORD", "*/include/*", "*/ThirdPartyNotices.txt",
    "numpy/f2py/*", "numpy/_core/_simd.*", "numpy/typing/*", "numpy/_pyinstaller/*", "numpy/distutils/*",
    "onnxruntime/transformers/*", "onnxruntime/quantization/*", "onnxruntime/tools/*", "onnxruntime/datasets/*",
    "onnxruntime/capi/libonnxruntime.so*", "onnxruntime/capi/training/*",
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so", "ai_edge_litert/aot/*", "ai_edge_litert/tools/*",
    "ai_edge_litert/vendors/*", "ai_edge_litert/schema_py_generated.py",
    "openvino/libs/libopenvino_[!i]*_frontend.so*", "openvino/libs/libopenvino_auto*", "openvino/libs/libopenvino_hetero*",
    "openvino/libs/libopenvino_c.so*", "openvino/tools/*", "openvino/cmake/*", "openvino/torch/*",
    "openvino_telemetry*", "packaging*", "protobuf*", "google/*", "tqdm*", "flatbuffers*",
)  # fmt: skip
"""The same of the wheels, and whole wheels that are required and not imported (numpy is a part of its own)."""
_SCRIPT = f"""here=${{0%/*}}
export PYTHONHOME="$here" PYTHONNOUSERSITE=1 LC_ALL=C.UTF-8
exec "$here/lib/{LOADER}" --library-path "$here/lib" "$here/bin/python" "$@"
"""


@dataclass(frozen=True)
class Part:
    """A folder that is pushed as it is.

    Attributes:
        name: What it is.
        folder: Where it is here.
    """

    name: str
    folder: Path

    @property
    def files(self) -> Mapping[str, Path]:
        """Path in the folder to file."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in sorted(found)}

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in self.files.values())


def root() -> Path:
    """Where all parts are, or would be; others are left out, others are unpacked: another folder."""
    text = "\n".join([SUITE, *PACKAGES, *_LIBRARIES, *_STANDARD, *_WHEELS, _SCRIPT])
    return environments.cache_root() / "bundles" / f"android-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def installed() -> Path | None:
    """The folder; None if `install` has not made it."""
    return root() if (root() / "python").is_dir() else None


def install(say: Callable[[str], None]) -> Path:
    """Fetch everything that the backends which are installed here need on a phone.

    Raises:
        MissingDependency: A tool is missing, or a package cannot be fetched.
    """
    target = root()
    if not (target / "python").is_dir():
        tools = {"mmdebstrap": "mmdebstrap"}
        if lacking := _standin_base.missing(tools):
            raise MissingDependency(f"android needs {', '.join(lacking)}", f"sudo apt install {' '.join(lacking)}")
        say(f"android: Python of Debian {SUITE} for arm64 in {target}")
        with atomic.folder(target / "python") as folder, tempfile.TemporaryDirectory(prefix="edgeseg-") as scratch:
            archive = Path(scratch) / "debian.tar"
            # Without a chroot it needs no root.
            options = ["--mode=chrootless", "--format=tar", f"--include={','.join(PACKAGES)}"]
            _standin_base.unpack(SUITE, archive, options)
            _python(archive, folder)
    for name in ("numpy", *_here()):
        part = _wheels(name, say)
        say(f"android: {name} is there ({part.size_bytes / 1e6:.0f} MB)")
    return target


def require() -> None:
    """Raises MissingDependency unless `install` was called once."""
    if installed() is None:
        raise MissingDependency(f"what is pushed to a phone ({SIZE}) is not here", INSTALL_COMMAND)


def parts(names: Sequence[str], say: Callable[[str], None] = lambda line: None) -> tuple[Part, list[Part]]:
    """The interpreter, and numpy with the runtimes of these backends.

    Args:
        names: Backends.
        say: Told what takes long.

    Raises:
        MissingDependency: Nothing is installed; the hint has the command.
        WorkerLost: There is no such runtime for Arm.
    """
    require()
    runtimes = [name for name in names if backends.load(name).package != "numpy"]
    return Part("python", root() / "python"), [_wheels(name, say) for name in ("numpy", *runtimes)]


def _here() -> list[str]:
    """Backends whose runtime is installed on this machine."""
    found = [name for name in backends.names() if backends.load(name).package != "numpy"]
    return [name for name in found if importlib.util.find_spec(backends.load(name).package)]


def _python(archive: Path, folder: Path) -> None:
    """Take the interpreter, its standard library and the C libraries out of Debian's packages, and write `RUN`."""
    standard = f"usr/lib/python{PYTHON[0]}.{PYTHON[1]}/"
    with tarfile.open(archive) as opened:
        known = {member.name.removeprefix("./"): member for member in opened.getmembers()}

        def take(name: str, target: Path) -> None:
            member = known[name]
            while member.issym():
                there = (
                    member.linkname
                    if member.linkname.startswith("/")
                    else f"{PurePosixPath(name).parent}/{member.linkname}"
                )
                name = str(PurePosixPath(there.lstrip("/")))
                member = known[name]
            source = opened.extractfile(member)
            assert source is not None, "it is a file"
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
            target.chmod(0o755 if member.mode & 0o100 else 0o644)

        for name, member in known.items():
            rest = name.removeprefix(standard)
            if name.startswith(standard) and not member.isdir() and not _left_out(rest, _STANDARD):
                take(name, folder / "lib" / f"python{PYTHON[0]}.{PYTHON[1]}" / rest)
        take(f"usr/bin/python{PYTHON[0]}.{PYTHON[1]}", folder / "bin/python")
        places = ("lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib")
        for library in _LIBRARIES:
            where = next((f"{place}/{library}" for place in places if f"{place}/{library}" in known), None)
            if where is None:
                raise MissingDependency(f"Debian's packages bring no {library}")
            take(where, folder / "lib" / library)
    (folder / "lib" / LOADER).chmod(0o755)
    (folder / RUN).write_text(_SCRIPT)


def _wheels(name: str, say: Callable[[str], None]) -> Part:
    """numpy, or a backend's runtime, unpacked; fetched if it is not here."""
    numpy = f"numpy=={importlib.metadata.version('numpy')}"
    package = "numpy" if name == "numpy" else backends.load(name).package.replace("_", "-")
    try:
        wanted = f"{package}=={importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        wanted = package
    target = root() / "wheels" / wanted.replace("==", "-")
    if not target.is_dir():
        say(f"android: fetching {wanted} for aarch64")
        board = Board("aarch64", 64, GLIBC, "", PYTHON, "", "", "")
        try:
            wheels = _provision.download(board, [wanted] if name == "numpy" else [wanted, numpy])
        except MissingDependency as error:
            raise WorkerLost(f"{error.message} ({INSTALL_COMMAND} fetches it, and needs internet)") from error
        with atomic.folder(target) as folder:
            for wheel in wheels:
                _unpack(wheel, folder, () if name == "numpy" else ("numpy*",))
    return Part(name, target)


def _unpack(wheel: Path, folder: Path, without: Sequence[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or _left_out(entry.filename, (*_WHEELS, *without)):
                continue
            archive.extract(entry, folder)


def _left_out(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
