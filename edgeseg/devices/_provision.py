"""What a worker needs on a board: a virtual environment in its cache folder with numpy and the runtimes in use.

A board with internet installs them with pip. For one without, the wheels are resolved here for its Python, C library
and processor, pushed, and unpacked into the environment, for which the board needs no pip.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgeseg import backends
from edgeseg.core import atomic, environments, process
from edgeseg.core.device import WorkerLost
from edgeseg.core.errors import EdgesegError, MissingDependency
from edgeseg.devices._board import Board
from edgeseg.devices._store import Store
from edgeseg.transports.ssh import Ssh

INSTALL_S = 1800
NARROW = ("onnx", "openvino")
"""Backends without wheels for 32-bit systems; LiteRT has none either, but older systems carry tflite_runtime."""
OLDEST_GLIBC = 17

_VENV = r"""
set -e
[ -f "$1/made" ] && exit 0
rm -rf "$1"; mkdir -p "$(dirname "$1")"
"$2" -m venv $3 "$1"
touch "$1/made"
"""
_READY = r"""cat "$1/ready-$2" 2>/dev/null; exit 0"""
_PIP = r"""
mkdir -p "$1/tmp"; export TMPDIR=$1/tmp; env=$2; name=$3; shift 3
"$env/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-input --only-binary :all: "$@" || exit
rm -rf "$TMPDIR"; printf '%s' "$1" > "$env/ready-$name"
"""
_INSTALLED = r"""cd "$1" 2>/dev/null && for one in unpacked-*; do echo "${one#unpacked-}"; done; exit 0"""
_UNPACK = r"""
import pathlib, shutil, sys, sysconfig, zipfile
env, label, requirement, *wheels = sys.argv[1:]
site = pathlib.Path(sysconfig.get_path("purelib"))
for wheel in map(pathlib.Path, wheels):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for data in site.glob("*.data"):
        for kind in ("purelib", "platlib"):
            if (data / kind).is_dir():
                shutil.copytree(data / kind, site, dirs_exist_ok=True)
        shutil.rmtree(data)
    (pathlib.Path(env) / ("unpacked-" + wheel.name)).touch()
(pathlib.Path(env) / ("ready-" + label)).write_text(requirement)
"""

Resolve = Callable[[Board, Sequence[str]], list[Path]]


class Provision:
    """The environment of one board.

    Args:
        ssh: The connection.
        board: What it is.
        store: Its files.
        offline: Push wheels instead of installing from the internet.
        say: Told what takes long.
        resolve: Gives the wheels for requirements; only used offline.
    """

    def __init__(
        self,
        ssh: Ssh,
        board: Board,
        store: Store,
        *,
        offline: bool,
        say: Callable[[str], None],
        resolve: Resolve | None = None,
    ) -> None:
        self._ssh, self._board, self._store = ssh, board, store
        self._offline, self._say, self._resolve = offline, say, resolve or download
        self._ready: dict[str, str] = {}
        self._venv = f"{store.root}/envs/py{board.version[0]}.{board.version[1]}{'-offline' if offline else ''}"

    def python(self, names: Sequence[str]) -> str:
        """The command of an interpreter that has numpy and the runtimes of these backends; installs what is missing.

        Raises:
            WorkerLost: There is no such runtime for this board.
            MissingDependency: It cannot be installed.
            DeviceUnreachable: The connection broke.
        """
        if self._board.bits == 32:
            return self._system(names)
        self._have("numpy", "numpy")
        for name in names:
            package = backends.load(name).package.replace("_", "-")
            if package != "numpy":
                self._have(name, package)
        return f"{self._venv}/bin/python"

    def _have(self, label: str, package: str) -> None:
        if label in self._ready:
            return
        wanted = [package] if label == "numpy" else [package, self._ready["numpy"]]
        there = self._ssh.run(_READY, [self._venv, label], timeout_s=30).stdout.strip()
        pinned = _as_here(package)
        if there and there.partition("==")[0] == package and (pinned in (there, package) or label == "numpy"):
            self._ready[label] = there
            return
        self._say(f"{self._ssh.address}: installing {pinned} (once)")
        tries = [[pinned, *wanted[1:]], wanted] if pinned != package else [wanted]
        for number, requirements in enumerate(tries):
            try:
                self._install(label, requirements)
                break
            except MissingDependency as error:
                if number + 1 == len(tries) or "atching distribution" not in error.message:
                    raise
                self._say(f"{self._ssh.address}: there is no {pinned} for its Python; the newest that there is instead")
        script = 'exec "$1" -c "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))" "$2"'
        found = self._ssh.run(script, [f"{self._venv}/bin/python", package], timeout_s=60)
        if found.returncode != 0:
            raise MissingDependency(f"{package} on {self._ssh.address} cannot be used: {found.last_words}")
        self._ready[label] = f"{package}=={found.stdout.strip()}"
        self._ssh.run('printf %s "$3" > "$1/ready-$2"', [self._venv, label, self._ready[label]], timeout_s=30)

    def _install(self, label: str, requirements: Sequence[str]) -> None:
        self._make_venv()
        if self._offline:
            self._unpack(label, requirements)
            return
        done = self._ssh.run(_PIP, [self._store.root, self._venv, label, *requirements], timeout_s=INSTALL_S)
        if done.returncode != 0:
            raise _not_installed(self._ssh, requirements[0], done.stderr or done.last_words)

    def _make_venv(self) -> None:
        options = ["--without-pip"] if self._offline else []
        done = self._ssh.run(_VENV, [self._venv, self._board.python, *options], timeout_s=300)
        if done.returncode != 0:
            raise _not_installed(self._ssh, "a virtual environment", done.stdout + done.stderr)

    def _unpack(self, label: str, requirements: Sequence[str]) -> None:
        wheels = self._resolve(self._board, requirements)
        done = set(self._ssh.run(_INSTALLED, [self._venv], timeout_s=30).stdout.split())
        missing = [wheel for wheel in wheels if wheel.name not in done]
        places = self._store.put("wheels", [{wheel.name: wheel} for wheel in missing])
        paths = [f"{place}/{wheel.name}" for place, wheel in zip(places, missing, strict=True)]
        script = 'exec "$@"'
        words = [f"{self._venv}/bin/python", "-c", _UNPACK, self._venv, label, requirements[0], *paths]
        unpacked = self._ssh.run(script, words, timeout_s=INSTALL_S)
        self._store.forget("wheels")  # a third of a gigabyte of a memory card: what is unpacked is not needed again
        if unpacked.returncode != 0:
            raise _not_installed(self._ssh, requirements[0], unpacked.stderr or unpacked.last_words)

    def _system(self, names: Sequence[str]) -> str:
        """The board's own Python on a 32-bit system, where tflite_runtime may be there already."""
        where = f"{self._ssh.address} has a 32-bit system ({self._board.os or self._board.arch})"
        for name in names:
            if name in NARROW:
                raise WorkerLost(
                    f"{where}, for which {backends.load(name).package} has no wheels: install the 64-bit Pi OS"
                )
        modules = ["numpy", *(["tflite_runtime"] if "tflite" in names else [])]
        done = self._ssh.run('exec "$1" -c "$2"', [self._board.python, f"import {', '.join(modules)}"], timeout_s=60)
        if done.returncode != 0:
            raise WorkerLost(
                f"{where}, for which LiteRT has no wheels, and {' and '.join(modules)} "
                f"cannot be imported there: {done.last_words}"
            )
        return self._board.python


def download(board: Board, requirements: Sequence[str]) -> list[Path]:
    """Resolve requirements here for a board, into the cache folder.

    pip takes environment markers (``platform_machine == …``) from the Python that it runs in, not from the board; the
    runtimes' requirements have none that matters.

    Raises:
        MissingDependency: There is no such wheel, or no internet here either.
    """
    name = "_".join([board.arch, f"glibc{board.glibc[1]}", f"cp{board.version[0]}{board.version[1]}", *requirements])
    place = environments.cache_root() / "wheels" / name.replace("==", "-")
    if not place.is_dir():
        with atomic.folder(place) as folder:
            done = process.run([*_download_command(board, folder), *requirements], timeout_s=INSTALL_S)
            if done.returncode != 0:
                lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.last_words]
                raise MissingDependency(
                    f"{requirements[0]} cannot be fetched for {board.arch}, Python {board.version[0]}.{board.version[1]}, "
                    f"glibc {board.glibc[0]}.{board.glibc[1]}: {lines[-1].removeprefix('ERROR: ')}",
                    "--offline needs internet on this machine; without --offline the board fetches it itself",
                )
    return sorted(place.glob("*.whl"))


def _download_command(board: Board, folder: Path) -> list[str]:
    major, minor = board.version
    tags = [f"manylinux_2_{number}_{board.arch}" for number in range(board.glibc[1], OLDEST_GLIBC - 1, -1)]
    tags += [f"manylinux2014_{board.arch}", f"linux_{board.arch}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--only-binary", ":all:", "--dest", str(folder), "--implementation", "cp"]
    command += ["--python-version", f"{major}.{minor}", "--abi", f"cp{major}{minor}", "--abi", "abi3", "--abi", "none"]
    return command + [word for tag in tags for word in ("--platform", tag)]


def _as_here(package: str) -> str:
    """The same version as on this machine, so that a difference in the masks is the device's; else any."""
    try:
        return f"{package}=={importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


_REASONS: Mapping[str, str] = {
    "No space left": "make room on the board (df -h ~): the runtimes need up to 400 MB",
    "ensurepip": "on the board: sudo apt install python3-venv; or here: --offline, which needs no pip there",
    "name resolution": "the board has no internet: --offline fetches the wheels here and pushes them",
    "Failed to establish": "the board has no internet: --offline fetches the wheels here and pushes them",
    "NewConnectionError": "the board has no internet: --offline fetches the wheels here and pushes them",
}


def _not_installed(ssh: Ssh, what: str, told: str) -> EdgesegError:
    hint = next((hint for word, hint in _REASONS.items() if word in told), "")
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if "rror" in line] or lines or ["no reason was given"]
    return MissingDependency(f"{what} cannot be installed on {ssh.address}: {errors[-1]}", hint)
