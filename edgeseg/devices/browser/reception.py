"""Where phones arrive: the server with our page and the runtimes, and the phones that have tapped Start."""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeseg import __version__
from edgeseg.core import npm, records
from edgeseg.core.errors import EdgesegError
from edgeseg.core.spec import ModelSpec
from edgeseg.devices.browser import runtimes
from edgeseg.devices.browser.phone import Phone
from edgeseg.devices.browser.worker import Shelf
from edgeseg.transports import certificate
from edgeseg.transports.http import Resource, Server, Settings
from edgeseg.transports.visitor import Visitor

PAGE = Path(__file__).parent / "page"
PORT = 8443
"""Tried first: a browser keeps what a page remembers by address and port, so a phone is known again in the next run."""


@dataclass(frozen=True)
class Shown:
    """An artifact that the page lists, and offers for its camera."""

    name: str
    backend: str
    precision: str
    size_bytes: int
    spec: ModelSpec
    file: Path


@dataclass(frozen=True)
class Invitation:
    """What a person has to know to come.

    Attributes:
        link: The address, with the token.
        fingerprint: SHA-256 of the certificate; empty without HTTPS.
        lost: What cannot be measured this way; empty if everything can.
    """

    link: str
    fingerprint: str
    lost: str


class Reception:
    """See the module. It is a context: the server ends with it.

    Args:
        shown: What the page says will be measured.
        about: More for the page: numbers of threads, pictures, seconds.
        arrived: Told of each phone, in the server's thread.
        lan: Whether other machines on the network can come; otherwise only this one.
        plain: Whether to speak HTTP on the network, without a certificate.
        port: 0: the usual one, or any free one.
        isolated: Whether pages are cross-origin isolated.

    Raises:
        MissingDependency: A package, or the page's runtimes, are not installed.
        EdgesegError: The port is taken, or there is no network.
    """

    def __init__(
        self,
        shown: Sequence[Shown],
        about: Mapping[str, object],
        *,
        arrived: Callable[[Phone], None],
        lan: bool = False,
        plain: bool = False,
        port: int = 0,
        isolated: bool = True,
    ) -> None:
        self._arrived = arrived
        base = f"/runtime/{runtimes.BUNDLE.digest}/"
        imports = json.dumps({"imports": {name: base + path for name, path in runtimes.IMPORTS.items()}})
        resources, hashes = _resources(base, imports)
        host = lan_address() if lan else "127.0.0.1"
        made = certificate.make([host]) if lan and not plain else None
        self._server = _started(resources, Settings(host, port, made, isolated, hashes), self._join)
        self._shelf = Shelf(self._server.offer, self._server.withdraw)
        self._server.greet(
            {
                "edgeseg": __version__,
                "runtimes": {"base": base, "versions": runtimes.VERSIONS},
                "artifacts": [self._listed(one) for one in shown],
                **about,
            }
        )
        lost = "" if made or not lan else "without HTTPS a browser gives one thread, no WebGPU and no camera"
        self.invitation = Invitation(self._server.link, made.fingerprint if made else "", lost)

    def __enter__(self) -> Reception:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()

    def _join(self, visitor: Visitor) -> None:
        self._arrived(Phone(visitor, self._shelf))

    def _listed(self, one: Shown) -> dict[str, object]:
        return {
            "name": one.name,
            "backend": one.backend,
            "precision": one.precision,
            "size_bytes": one.size_bytes,
            "spec": records.to_dict(one.spec),
            "file": self._server.offer(one.file.read_bytes()),
        }


def lan_address() -> str:
    """The address of this machine in its network; asks the routing table, sends nothing.

    Raises:
        EdgesegError: There is no network.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that documentation is written with: nobody is there
            return str(probe.getsockname()[0])
        except OSError as error:
            raise EdgesegError(
                f"this machine is in no network: {error.strerror}", "connect it, or leave out --lan"
            ) from error


def _started(resources: dict[str, Resource], settings: Settings, joined: Callable[[Visitor], None]) -> Server:
    """The server at the wanted port; if none is wanted, at the usual one or any that is free."""
    if settings.port:
        return Server(resources, settings, joined=joined)
    try:
        usual = Settings(settings.host, PORT, settings.certificate, settings.isolated, settings.script_hashes)
        return Server(resources, usual, joined=joined)
    except EdgesegError:
        return Server(resources, settings, joined=joined)


def _resources(base: str, imports: str) -> tuple[dict[str, Resource], tuple[str, ...]]:
    """Every address that is served without the token, and the hashes of inline scripts."""
    found = {}
    for path in sorted(PAGE.iterdir()):
        content = path.read_bytes()
        if path.suffix == ".html":
            content = content.replace(b"{{imports}}", imports.encode())
        found[f"/{path.name}"] = Resource(content, _kind(path))
    found["/"] = found.pop("/index.html")
    for name, path in npm.files(runtimes.BUNDLE).items():
        found[base + name] = Resource(path, _kind(path), lasting=True)
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    return found, (f"sha256-{digest}",)


def _kind(path: Path) -> str:
    known = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
    kind = known.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
