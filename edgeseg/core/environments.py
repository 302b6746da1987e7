"""Virtual environments of their own, for tools that pin packages which ours cannot live with.

An `Environment` is a name, the requirements and the Python versions they exist for. It is made in the cache folder when
the user asks for it (`install`), never silently, and is used through its interpreter (`run`). A marker file is written
last, so that an installation that was killed, or is still running, is never taken for a finished one.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edgeseg.core import atomic, process
from edgeseg.core.errors import EdgesegError, MissingDependency
from edgeseg.core.records import RecordError, from_json, to_json

MARKER = "edgeseg-environment.json"
Version = tuple[int, int]


@dataclass(frozen=True)
class Environment:
    """What has to be installed.

    Attributes:
        name: Short name, part of the folder's name.
        requirements: Requirement specifiers, pinned: they alone (with `pythons`) decide which folder it is.
        pythons: Python versions that the requirements have wheels for, the best first.
        install_command: What the user types to get it.
        probe: Python code that must run in it before it counts as installed, e.g. ``import paddle``.
        download: How much is downloaded or filled, said before it starts, e.g. ``1.5 GB``.
    """

    name: str
    requirements: tuple[str, ...]
    pythons: tuple[Version, ...]
    install_command: str
    probe: str = ""
    download: str = ""


@dataclass(frozen=True)
class Installed:
    """What the marker of a finished environment says: its packages are exactly these."""

    name: str
    requirements: tuple[str, ...]
    python: str
    packages: tuple[str, ...]
    schema_version: int = 1


def cache_root() -> Path:
    """The folder of everything that can be made again: ``EDGESEG_CACHE_DIR``, or the platform's cache folder."""
    given = os.environ.get("EDGESEG_CACHE_DIR")
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgeseg"))


def folder(environment: Environment) -> Path:
    """Where the environment is, or would be: other pins are another folder."""
    pins = json.dumps([sorted(environment.requirements), sorted(environment.pythons)])
    return cache_root() / "envs" / f"{environment.name}-{hashlib.sha256(pins.encode()).hexdigest()[:12]}"


def is_installed(environment: Environment) -> bool:
    """Whether it is there and finished, and the Python that it was made from still exists."""
    place = folder(environment)
    return (place / MARKER).is_file() and _python(place).exists()


def python(environment: Environment) -> Path:
    """The interpreter of an installed environment.

    Raises:
        MissingDependency: It is not installed; the hint has the command.
    """
    if not is_installed(environment):
        size = f" ({environment.download})" if environment.download else ""
        raise MissingDependency(
            f"the separate {environment.name} environment{size} is not installed", environment.install_command
        )
    return _python(folder(environment))


def run(
    environment: Environment,
    arguments: Sequence[str],
    *,
    timeout_s: float,
    cwd: Optional[Path] = None,
    variables: Optional[Mapping[str, str]] = None,
) -> process.Finished:
    """Run the environment's interpreter, e.g. with ``["-m", "tool", "--flag"]``.

    Args:
        environment: An installed environment.
        arguments: What follows ``python -I`` (isolated: no user packages, and the working folder is not on the path).
        timeout_s: It and its children are killed after so many seconds.
        cwd: Working folder.
        variables: Environment variables on top of ours.

    Raises:
        MissingDependency: The environment is not installed.
        process.Timeout: The limit passed.
    """
    command = [str(python(environment)), "-I", *arguments]
    return process.run(command, timeout_s=timeout_s, cwd=cwd, variables={**_clean_variables(), **(variables or {})})


def install(
    environment: Environment, *, say: Callable[[str], None] = lambda line: None, timeout_s: float = 3600
) -> Path:
    """Make the environment, unless it is there already; waits for another process that is making it.

    Args:
        environment: What to install.
        say: Is told each step, one line each.
        timeout_s: Limit for each step.

    Returns:
        Its folder.

    Raises:
        MissingDependency: No suitable Python, or the packages cannot be installed; nothing half-made is ever used.
    """
    place = folder(environment)
    with _locked(place):
        if is_installed(environment):
            say(f"{environment.name}: already in {place}")
            return place
        base = find_python(environment)
        shutil.rmtree(place, ignore_errors=True)  # what an interrupted installation left
        try:
            installed = _make(environment, base, place, say, timeout_s)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        atomic.write_text(place / MARKER, to_json(installed, indent=2) + "\n")
    say(f"{environment.name}: ready in {place}")
    return place


def find_python(environment: Environment) -> Path:
    """An interpreter of one of the wanted versions: ours, one on PATH, pyenv's or uv's; the best version first.

    Raises:
        MissingDependency: None of the versions is on this machine.
    """
    for version in environment.pythons:
        for candidate in _candidates(version):
            if _is_version(candidate, version):
                return candidate
    wanted = ", ".join(f"{major}.{minor}" for major, minor in environment.pythons)
    major, minor = environment.pythons[0]
    raise MissingDependency(
        f"the {environment.name} environment needs Python {wanted}, and none of them was found",
        f"uv python install {major}.{minor} (or: apt install python{major}.{minor} python{major}.{minor}-venv), "
        f"then {environment.install_command}",
    )


def installed() -> dict[Path, Optional[Installed]]:
    """All environments in the cache, old pins too: folder to its marker, None for an unfinished one."""
    found: dict[Path, Optional[Installed]] = {}
    root = cache_root() / "envs"
    for place in sorted(root.iterdir()) if root.is_dir() else []:
        if not place.is_dir():
            continue
        try:
            found[place] = from_json(Installed, (place / MARKER).read_bytes(), where=str(place / MARKER))
        except (OSError, RecordError):
            found[place] = None
    return found


def remove(environment: Environment) -> bool:
    """Delete the environment; False if there was none."""
    place = folder(environment)
    with _locked(place):
        there = place.exists()
        (place / MARKER).unlink(missing_ok=True)  # first, so that a deletion that is cut short leaves an unfinished one
        shutil.rmtree(place, ignore_errors=True)
    return there


def _make(environment: Environment, base: Path, place: Path, say: Callable[[str], None], timeout_s: float) -> Installed:
    uv = _uv()
    size = f" ({environment.download})" if environment.download else ""
    say(f"{environment.name}: new environment in {place} with {base}")
    if uv:
        _step([uv, "venv", "--quiet", "--no-project", "--python", str(base), str(place)], environment, timeout_s)
        pip = [uv, "pip"]
        target = ["--python", str(_python(place))]
    else:
        _step([str(base), "-m", "venv", str(place)], environment, timeout_s)
        pip = [str(_python(place)), "-I", "-m", "pip", "--disable-pip-version-check"]
        target = []
    say(f"{environment.name}: installing {', '.join(environment.requirements)}{size}")
    # Wheels only: a source distribution would run its build script, and need compilers.
    _step(
        [*pip, "install", "--quiet", "--only-binary", ":all:", *target, *environment.requirements],
        environment,
        timeout_s,
    )
    if environment.probe:
        say(f"{environment.name}: trying it out")
        _step([str(_python(place)), "-I", "-c", environment.probe], environment, timeout_s)
    frozen = _step([*pip, "freeze", "--quiet", *target], environment, timeout_s).stdout.split("\n")
    version = _step(
        [str(_python(place)), "-I", "-c", "import platform; print(platform.python_version())"], environment, 60
    )
    return Installed(
        environment.name,
        tuple(environment.requirements),
        version.stdout.strip(),
        tuple(sorted(line.strip() for line in frozen if line.strip())),
    )


def _step(command: list[str], environment: Environment, timeout_s: float) -> process.Finished:
    try:
        done = process.run(command, timeout_s=timeout_s, variables=_clean_variables())
    except process.Timeout as error:
        raise MissingDependency(
            f"the {environment.name} environment cannot be installed: {error.message}", environment.install_command
        ) from error
    if done.returncode != 0:
        if "ensurepip" in done.stdout + done.stderr:
            raise MissingDependency(
                f"the {environment.name} environment cannot be installed: this Python has no ensurepip",
                f"apt install python3-venv (or install uv), then {environment.install_command}",
            )
        lines = [line.strip(" ×│╰─▶") for line in done.stderr.splitlines()[-6:] if line.strip()]
        text = done.last_words if "Traceback" in done.stderr or not lines else "; ".join(lines)
        raise MissingDependency(
            f"the {environment.name} environment cannot be installed: {text}",
            f"mend what is named above (network, disk space), then {environment.install_command}",
        )
    return done


def _python(place: Path) -> Path:
    return place / "bin" / "python"


def _uv() -> str:
    """Path of uv: on PATH, or beside our interpreter; empty if there is none."""
    beside = Path(sys.executable).parent / "uv"
    return shutil.which("uv") or (str(beside) if beside.is_file() else "")


def _candidates(version: Version) -> Iterator[Path]:
    name = f"{version[0]}.{version[1]}"
    yield Path(getattr(sys, "_base_executable", sys.executable))
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        if directory and (Path(directory) / f"python{name}").is_file():
            yield Path(directory) / f"python{name}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from sorted(pyenv.glob(f"{name}.*/bin/python"), reverse=True)
    uv = _uv()
    if uv:
        command = [uv, "python", "find", "--no-project", "--system", "--offline", name]
        with contextlib.suppress(EdgesegError, OSError):
            found = process.run(command, timeout_s=30, variables=_clean_variables())
            if found.returncode == 0 and found.stdout.strip():
                yield Path(found.stdout.strip())


def _is_version(candidate: Path, version: Version) -> bool:
    """Whether it really starts and is a 64-bit CPython of that version: a pyenv shim exists without its version."""
    code = "import sys, venv; print(sys.implementation.name, sys.version_info[0], sys.version_info[1], sys.maxsize > 2**32)"
    try:
        answer = process.run([str(candidate), "-I", "-c", code], timeout_s=30, variables=_clean_variables())
    except (OSError, EdgesegError):
        return False
    return answer.returncode == 0 and answer.stdout.split() == ["cpython", str(version[0]), str(version[1]), "True"]


def _clean_variables() -> dict[str, str]:
    """Our environment variables without those that would lead another interpreter to our packages."""
    ours = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT"}
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    return {**kept, "PYTHONNOUSERSITE": "1", "UV_PYTHON_DOWNLOADS": "never", "PIP_NO_INPUT": "1"}


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Let one process at a time make or remove a folder; the lock dies with its process."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{place.name}.lock").open("w") as handle:
        if importlib.util.find_spec("fcntl"):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
