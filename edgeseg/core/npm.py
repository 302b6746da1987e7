"""Files of pinned npm packages, fetched once through npm into the cache, for pages that may load nothing from elsewhere.

A `Bundle` names packages with the integrity that npm's lock files state (the sha512 of the archive), and the files that
are wanted of each. Only these are unpacked, by name; nothing of a package is ever executed here. A marker is written
last, so that an installation that was killed is never taken for a finished one.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core import atomic, environments, process
from edgeseg.core.errors import MissingDependency

MARKER = "edgeseg-bundle.json"
_PACKED_FROM = 4096
"""Files above so many bytes also get a gzip copy: a runtime's WebAssembly shrinks to a quarter on the air."""


@dataclass(frozen=True)
class Package:
    """One pinned package.

    Attributes:
        name: As npm knows it.
        version: Exact.
        integrity: ``sha512-`` and the base64 digest of the archive, as in a ``package-lock.json``.
        folder: Folder of the bundle that its files go to.
        files: Wanted files, as paths inside the package.
    """

    name: str
    version: str
    integrity: str
    folder: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Bundle:
    """Packages that are installed together.

    Attributes:
        name: Short name, part of the folder's name.
        packages: What it is made of.
        install_command: What the user types to get it.
        download: How much is downloaded, said before it starts.
    """

    name: str
    packages: tuple[Package, ...]
    install_command: str
    download: str = ""

    @property
    def digest(self) -> str:
        """Short hash of all pins: other pins are another bundle."""
        pins = json.dumps([[one.name, one.version, one.integrity, one.folder, one.files] for one in self.packages])
        return hashlib.sha256(pins.encode()).hexdigest()[:12]


def folder(bundle: Bundle) -> Path:
    """Where the bundle is, or would be."""
    return environments.cache_root() / "npm" / f"{bundle.name}-{bundle.digest}"


def is_installed(bundle: Bundle) -> bool:
    """Whether it is there and finished."""
    return (folder(bundle) / MARKER).is_file()


def files(bundle: Bundle) -> dict[str, Path]:
    """The files of an installed bundle: ``<folder>/<path in the package>`` to the file.

    Raises:
        MissingDependency: It is not installed; the hint has the command.
    """
    if not is_installed(bundle):
        size = f" ({bundle.download})" if bundle.download else ""
        raise MissingDependency(f"the {bundle.name} runtimes{size} are not installed", bundle.install_command)
    place = folder(bundle)
    return {
        f"{package.folder}/{name}": place / package.folder / name
        for package in bundle.packages
        for name in package.files
    }


def install(bundle: Bundle, *, say: Callable[[str], None] = lambda line: None, timeout_s: float = 900) -> Path:
    """Fetch the bundle, unless it is there already.

    Args:
        bundle: What to fetch.
        say: Is told each step, one line each.
        timeout_s: Limit for each package.

    Returns:
        Its folder.

    Raises:
        MissingDependency: There is no npm, a package cannot be had, or is not the one that was pinned.
    """
    place = folder(bundle)
    if is_installed(bundle):
        say(f"{bundle.name}: already in {place}")
        return place
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependency(
            f"the {bundle.name} runtimes come through npm, and there is no npm",
            f"apt install npm (or Node.js from nodejs.org), then {bundle.install_command}",
        )
    with atomic.folder(place) as rest, tempfile.TemporaryDirectory(prefix="edgeseg-npm-") as scratch:
        for package in bundle.packages:
            say(f"{bundle.name}: fetching {package.name} {package.version}")
            archive = _fetch(npm, package, Path(scratch), bundle, timeout_s)
            check(archive.read_bytes(), package, bundle.install_command)
            unpack(archive, package, rest / package.folder)
        marker = {"schema_version": 1, "packages": [f"{one.name}@{one.version}" for one in bundle.packages]}
        (rest / MARKER).write_text(json.dumps(marker, indent=2) + "\n")
    say(f"{bundle.name}: ready in {place}")
    return place


def check(archive: bytes, package: Package, install_command: str = "") -> None:
    """Refuse an archive that is not the pinned one.

    Raises:
        MissingDependency: Its sha512 is another.
    """
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if not hmac.compare_digest(found, package.integrity):
        raise MissingDependency(
            f"{package.name} {package.version} is not the archive that was pinned: its integrity is {found[:20]}…",
            f"look at what stands between here and the registry (npm config get registry), then {install_command}",
        )


def unpack(archive: Path, package: Package, place: Path) -> None:
    """Write the wanted files below `place`, each large one with a gzip copy beside it.

    Raises:
        MissingDependency: The package lacks one of them.
    """
    with tarfile.open(archive, "r:gz") as opened:
        for name in package.files:
            try:
                source = opened.extractfile(f"package/{name}")
            except KeyError:
                source = None
            if source is None:
                raise MissingDependency(f"{package.name} {package.version} has no file {name}")
            content = source.read()
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            if len(content) >= _PACKED_FROM:
                target.with_name(f"{target.name}.gz").write_bytes(gzip.compress(content, 6, mtime=0))


def _fetch(npm: str, package: Package, scratch: Path, bundle: Bundle, timeout_s: float) -> Path:
    wanted = f"{package.name}@{package.version}"
    # `pack` downloads the archive and does nothing else: no dependency is resolved, no script of a package runs.
    command = [npm, "pack", wanted, "--json", "--ignore-scripts", "--pack-destination", str(scratch)]
    before = set(scratch.iterdir())
    try:
        done = process.run(command, timeout_s=timeout_s, cwd=scratch)
    except process.Timeout as error:
        raise MissingDependency(f"{wanted} cannot be fetched: {error.message}", bundle.install_command) from error
    made = set(scratch.iterdir()) - before
    if done.returncode != 0 or len(made) != 1:
        wrong = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        raise MissingDependency(
            f"{wanted} cannot be fetched: {wrong[0].strip() if wrong else done.last_words}",
            f"npm view {wanted} shows whether npm reaches its registry; then {bundle.install_command}",
        )
    return made.pop()
