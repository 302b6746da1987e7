"""A small web server that pages visit: files go out to them, orders wait for them, their answers come in.

It knows nothing of models. A page that joins becomes a `Visitor`, whom the host talks to as to a program behind a pipe:
`send` an order, `receive` an answer. The page fetches its orders (a request that waits until there is one) because a
WebSocket is refused by Safari behind a certificate that nobody signed.

What is served without the token is a fixed table of addresses, made before the server starts: the path of a request is
looked up in it as it stands and never becomes a path on the disk. Everything else wants the token, compared in constant
time; a Host header that is not ours is answered 421 (a name that was re-bound to this address), a foreign Origin 403.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.core import plugins
from edgeseg.core.errors import EdgesegError
from edgeseg.transports.certificate import Certificate
from edgeseg.transports.visitor import Visitor

if TYPE_CHECKING:
    from aiohttp import web

MAX_BODY = 8 << 20
"""Bytes of a request's body."""
MAX_VISITORS = 16
MAX_WAIT_S = 20.0
"""A page's request for orders is answered after so long even if there is none: proxies and radios cut longer ones."""

GUEST = "X-Edgeseg-Visitor"
"""Header that says which visitor speaks; the value is a secret between that page and us."""


@dataclass(frozen=True)
class Resource:
    """Something that is served.

    Attributes:
        content: The bytes, or the file that holds them.
        kind: Content type.
        lasting: Whether a browser may keep it: its address changes whenever its content does.
    """

    content: bytes | Path
    kind: str
    lasting: bool = False


@dataclass(frozen=True)
class Settings:
    """How a server is run.

    Attributes:
        host: Address that it binds to, and that its link has.
        port: 0: any free one.
        certificate: None: plain HTTP.
        isolated: Whether pages are cross-origin isolated (COOP and COEP), which threads need.
        script_hashes: Of inline scripts that pages may run, as a Content-Security-Policy writes them.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Certificate | None = None
    isolated: bool = True
    script_hashes: tuple[str, ...] = ()


@dataclass
class _Refused(Exception):
    status: int
    reason: str = field(default="")


class Server:
    """A running server, in a thread of its own.

    Args:
        resources: Path, e.g. ``/page.css``, to what is served there without a token.
        settings: How.
        joined: Told of each new visitor, in the server's thread; an EdgesegError that it raises turns the visitor away.

    Raises:
        EdgesegError: The address cannot be bound to.
        MissingDependency: The package aiohttp is not installed.
    """

    def __init__(
        self,
        resources: Mapping[str, Resource],
        settings: Settings,
        *,
        joined: Callable[[Visitor], None],
    ) -> None:
        plugins.require("aiohttp", extra="browser", what="the device browser")
        self._resources = dict(resources)
        self._settings = settings
        self._welcome = b"{}"
        self._joined = joined
        self._visitors: dict[str, Visitor] = {}
        self._files: dict[str, Resource] = {}
        self.token = secrets.token_urlsafe(24)
        self.port = 0
        self._hosts: frozenset[str] = frozenset()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        started: list[BaseException | None] = []
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started, ready), name="edgeseg-http", daemon=True)
        self._thread.start()
        ready.wait()
        if started[0] is not None:
            self._thread.join()
            raise EdgesegError(
                f"no server can be started at {settings.host} port {settings.port}: {started[0]}",
                "name another --port, or leave it out",
            ) from started[0]

    @property
    def origin(self) -> str:
        """``https://192.168.1.5:8443``."""
        scheme = "https" if self._settings.certificate else "http"
        return f"{scheme}://{_bracketed(self._settings.host)}:{self.port}"

    @property
    def link(self) -> str:
        """The address to open; the token stands behind the #, so it is in no request line and no log."""
        return f"{self.origin}/#t={self.token}"

    def greet(self, document: Mapping[str, object]) -> None:
        """Set the JSON document that a page gets when it shows the token, before it joins."""
        self._welcome = json.dumps(document).encode()

    def offer(self, content: bytes) -> str:
        """Serve something to visitors who show the token; returns its path, which cannot be guessed."""
        path = f"/api/file/{secrets.token_urlsafe(12)}"
        self._files[path] = Resource(content, "application/octet-stream")
        return path

    def withdraw(self, path: str) -> None:
        """Serve it no longer."""
        self._files.pop(path, None)

    def close(self) -> None:
        """End the server and everything that it serves; safe to call twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10.0)
        self._files.clear()

    def _serve(self, started: list[BaseException | None], ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run(started, ready))
        except OSError as error:
            started.append(error)
        finally:
            ready.set()
            self._loop.close()

    async def _run(self, started: list[BaseException | None], ready: threading.Event) -> None:
        from aiohttp import web

        settings = self._settings
        application = web.Application(client_max_size=MAX_BODY)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            context = settings.certificate.context if settings.certificate else None
            site = web.TCPSite(runner, settings.host, settings.port, ssl_context=context)
            await site.start()
            self.port = runner.addresses[0][1]
            names = {_bracketed(settings.host), *(("localhost",) if settings.host == "127.0.0.1" else ())}
            self._hosts = frozenset(f"{name}:{self.port}" for name in names)
            started.append(None)
            ready.set()
            await self._stop.wait()
        finally:
            for visitor in self._visitors.values():
                visitor.leave()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        try:
            response = await self._routed(request)
        except _Refused as refusal:
            response = web.Response(status=refusal.status, text=refusal.reason)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=error.reason)
        response.headers.update(self._headers())
        return response

    async def _routed(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Host", "") not in self._hosts:
            raise _Refused(421)
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] not in self._hosts:
            raise _Refused(403)
        # As it was sent: nothing is decoded, so that nothing can be smuggled past the tables.
        path = request.raw_path.partition("?")[0]
        if request.method in ("GET", "HEAD") and path in self._resources:
            return self._sent(request, self._resources[path])
        if not path.startswith("/api/"):
            raise _Refused(404)
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            raise _Refused(403)
        if request.method == "GET" and path in self._files:
            return self._sent(request, self._files[path])
        handler = {
            ("GET", "/api/welcome"): self._welcomed,
            ("POST", "/api/join"): self._join,
            ("GET", "/api/orders"): self._orders,
            ("POST", "/api/answer"): self._answered,
            ("POST", "/api/gone"): self._gone,
        }.get((request.method, path))
        if handler is None:
            raise _Refused(404)
        return await handler(request)

    async def _welcomed(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        return web.Response(body=self._welcome, content_type="application/json")

    async def _join(self, request: web.Request) -> web.StreamResponse:
        """A new visitor, or one whose page was loaded again."""
        from aiohttp import web

        about = await request.read()
        known = self._visitors.get(request.headers.get(GUEST, ""))
        if known is not None:
            known.rejoin(about)
            return web.json_response({"visitor": known.secret, "life": known.life})
        if len(self._visitors) >= MAX_VISITORS:
            raise _Refused(403, "enough visitors")
        visitor = Visitor(self._loop, about)
        try:
            self._joined(visitor)
        except EdgesegError as error:
            raise _Refused(403, error.message) from error
        self._visitors[visitor.secret] = visitor
        return web.json_response({"visitor": visitor.secret, "life": visitor.life})

    async def _orders(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        visitor = self._visitor(request)
        orders = await visitor.orders(_number(request, "after"), MAX_WAIT_S)
        return web.json_response({"orders": orders})

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        visitor = self._visitor(request)
        if not visitor.accept(_number(request, "serial"), await request.read()):
            raise _Refused(403, "too many answers")
        return web.Response()

    async def _gone(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        self._visitor(request).wave()
        return web.Response()

    def _visitor(self, request: web.Request) -> Visitor:
        visitor = self._visitors.get(request.headers.get(GUEST, ""))
        if visitor is None or _number(request, "life") != visitor.life:
            raise _Refused(403, "not this page")
        return visitor

    def _sent(self, request: web.Request, resource: Resource) -> web.StreamResponse:
        from aiohttp import web

        headers = {"Content-Type": resource.kind}
        headers["Cache-Control"] = "private, max-age=604800, immutable" if resource.lasting else "no-store"
        if isinstance(resource.content, bytes):
            return web.Response(body=resource.content, headers=headers)
        packed = resource.content.with_name(f"{resource.content.name}.gz")
        if "gzip" in request.headers.get("Accept-Encoding", "") and packed.is_file():
            headers["Content-Encoding"] = "gzip"
            return web.Response(body=packed.read_bytes(), headers=headers)
        return web.Response(body=resource.content.read_bytes(), headers=headers)

    def _headers(self) -> dict[str, str]:
        scripts = " ".join(("'self'", "'wasm-unsafe-eval'", *(f"'{one}'" for one in self._settings.script_hashes)))
        headers = {
            "Content-Security-Policy": (
                f"default-src 'none'; script-src {scripts}; worker-src 'self' blob:; connect-src 'self'; "
                "img-src 'self' blob: data:; media-src 'self' blob: mediastream:; style-src 'self'; "
                "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "SAMEORIGIN",
            "Referrer-Policy": "no-referrer",
            "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        if self._settings.isolated:
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
            headers["Cross-Origin-Embedder-Policy"] = "require-corp"
        return headers


def _number(request: web.Request, name: str) -> int:
    text: Any = request.query.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise _Refused(403, f"{name} has to be a number")
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
