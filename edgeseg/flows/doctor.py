"""What is installed and reachable, and the command that mends the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass

from edgeseg import __version__, backends, checkpoints
from edgeseg.backends.tflite import fallback as onnx2tf
from edgeseg.core import environments, npm, plugins
from edgeseg.core.environments import Environment
from edgeseg.core.errors import unknown
from edgeseg.core.npm import Bundle
from edgeseg.devices import pi_emulated
from edgeseg.devices.browser.runtimes import BUNDLE

TOOLS = (onnx2tf.ENVIRONMENT,)
"""Separate environments that are no checkpoint format."""

STAND_IN = "pi-emulated"
"""The device that has to be installed before it can be used."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        kind: ``edgeseg``, ``backend``, ``checkpoint``, ``tool`` or ``device``.
        name: Which one.
        ready: Whether it can be used now.
        detail: Version, or what is missing.
        mend: The command that makes it ready; empty if it is.
    """

    kind: str
    name: str
    ready: bool
    detail: str
    mend: str = ""


def doctor() -> list[Check]:
    """Look at everything; imports nothing heavy and changes nothing."""
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    checks = [Check("edgeseg", __version__, True, python)]
    for name in backends.names():
        backend = backends.load(name)
        checks.append(_package("backend", name, backend.package, backend.extra))
    for name in checkpoints.formats():
        checks.append(_checkpoint(name))
    checks.extend(_environment("tool", tool.name, tool) for tool in TOOLS)
    checks.append(_stand_in())
    checks.append(_browser())
    return checks


def installable() -> dict[str, Environment | Bundle]:
    """What ``doctor --install`` can fetch, by name."""
    found: dict[str, Environment | Bundle] = {tool.name: tool for tool in TOOLS}
    found[BUNDLE.name] = BUNDLE
    for name in checkpoints.formats():
        environment = getattr(plugins.load(checkpoints.__name__, name), "ENVIRONMENT", None)
        if environment is not None:
            found[environment.name] = environment
    return found


def install(name: str, *, say: Callable[[str], None]) -> str:
    """Make one of the separate environments or the stand-in of a Pi, or fetch the runtimes of the page.

    Returns:
        Its folder.

    Raises:
        EdgesegError: Nothing of that name can be installed, or the installation failed.
    """
    known = installable()
    plugin, _, detail = name.partition(":")
    if plugin == STAND_IN:
        return str(pi_emulated.install(say, pi_emulated.which(detail)[1]))
    if name not in known:
        raise unknown("thing to install", name, {*known, STAND_IN})
    wanted = known[name]
    if isinstance(wanted, Bundle):
        return str(npm.install(wanted, say=say))
    return str(environments.install(wanted, say=say))


def _package(kind: str, name: str, package: str, extra: str) -> Check:
    if importlib.util.find_spec(package) is None:
        return Check(kind, name, False, f"{package} is not installed", f"pip install 'edgeseg[{extra}]'")
    return Check(kind, name, True, f"{package} {_version(package)}")


def _checkpoint(name: str) -> Check:
    """A format is ready unless its module names an environment or a package that is missing."""
    module = plugins.load(checkpoints.__name__, name)
    environment: Environment | None = getattr(module, "ENVIRONMENT", None)
    if environment is not None:
        return _environment("checkpoint", name, environment)
    for package in getattr(module, "PACKAGES", ()):
        check = _package("checkpoint", name, package, getattr(module, "EXTRA", ""))
        if not check.ready:
            return check
    return Check("checkpoint", name, True, "built in")


def _browser() -> Check:
    """The device `browser`: its packages, then the runtimes of its page."""
    for package in ("aiohttp", "cryptography", "segno"):
        check = _package("device", "browser", package, "browser")
        if not check.ready:
            return check
    if not npm.is_installed(BUNDLE):
        return Check("device", "browser", False, f"needs its runtimes, {BUNDLE.download}", BUNDLE.install_command)
    return Check("device", "browser", True, f"runtimes {npm.folder(BUNDLE)}")


def _environment(kind: str, name: str, environment: Environment) -> Check:
    if environments.is_installed(environment):
        return Check(kind, name, True, f"environment {environments.folder(environment)}")
    size = f", {environment.download}" if environment.download else ""
    return Check(kind, name, False, f"needs an environment of its own{size}", environment.install_command)


def _stand_in() -> Check:
    place = pi_emulated.installed()
    if place is not None:
        return Check("device", STAND_IN, True, f"root folder {place}")
    return Check("device", STAND_IN, False, "needs a root folder of its own, 250 MB", pi_emulated.INSTALL_COMMAND)


def _version(package: str) -> str:
    for name in (package, package.replace("_", "-")):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"
