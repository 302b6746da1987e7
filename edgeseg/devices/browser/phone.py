"""One phone, tablet or laptop that has opened the page and tapped Start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeseg import __version__
from edgeseg.core.arrays import Array
from edgeseg.core.device import WorkerLost
from edgeseg.core.errors import DeviceUnreachable
from edgeseg.core.job import Item
from edgeseg.core.measurement import Hello, parse
from edgeseg.core.records import RecordError
from edgeseg.devices.browser.runtimes import BACKENDS
from edgeseg.devices.browser.worker import RELOADS, BrowserWorker, Shelf, readable_hello
from edgeseg.transports.visitor import Reloaded, Visitor, VisitorGone, VisitorSilent


class Phone:
    """A device that came by itself.

    Args:
        visitor: Its page.
        shelf: Where files for it are put.

    Raises:
        DeviceUnreachable: What it says of itself is no greeting.
    """

    name = "browser"

    def __init__(self, visitor: Visitor, shelf: Shelf) -> None:
        self._visitor, self._shelf = visitor, shelf
        try:
            hello = parse(visitor.about)
        except RecordError as error:
            raise DeviceUnreachable(f"a page joined without a greeting: {error.message}") from error
        if not isinstance(hello, Hello):
            raise DeviceUnreachable(f"a page joined with {hello.kind!r} instead of a greeting")
        try:
            self._hello = readable_hello(hello)
        except WorkerLost as error:
            raise DeviceUnreachable(error.message) from error
        self._hello.software["edgeseg"] = __version__

    @property
    def title(self) -> str:
        """What a person calls it: ``Pixel 8 (1f3a)``."""
        device = self._hello.device
        return f"{device.get('board') or 'a browser'} ({device.get('id', '?')})"

    @property
    def accelerators(self) -> tuple[str, ...]:
        """What it can compute with beside its processor: ``webgpu``, unless a program on the processor plays the GPU."""
        device = self._hello.device
        return ("webgpu",) if device.get("webgpu") and device.get("webgpu_software") == "no" else ()

    def probe(self) -> Hello:
        """See `edgeseg.core.device.Device.probe`: what the page said when it joined."""
        return self._hello

    def start(self, items: Sequence[tuple[Item, Path]], frames: Sequence[Array], *, timeout_s: float) -> BrowserWorker:
        """See `edgeseg.core.device.Device.start`."""
        for item, _ in items:
            if item.backend not in BACKENDS:
                raise WorkerLost(f"{item.backend} does not run in a browser")
        return BrowserWorker(self._visitor, self._shelf, items, frames, timeout_s=timeout_s)

    def show(self, what: str, share: float) -> None:
        """Put on the page what is being done, and how much of the whole is done."""
        if not self._visitor.gone:
            self._visitor.send({"id": 0, "show": {"what": what, "share": round(share, 4)}}, quiet=True)

    def finish(self, rows: Sequence[Mapping[str, object]], *, timeout_s: float = 20.0) -> None:
        """Put the final table on the page, and wait until it is there; a page that is gone is not waited for."""
        if self._visitor.gone:
            return
        for _ in range(1 + RELOADS):
            life = self._visitor.life
            self._visitor.clear()
            self._visitor.send({"id": -1, "end": {"rows": list(rows)}})
            try:
                while self._visitor.receive(life=life, timeout_s=timeout_s).partition(b"\n")[0] != b"-1":
                    pass
            except Reloaded:
                continue
            except (VisitorGone, VisitorSilent, KeyboardInterrupt):
                pass
            return

    def close(self) -> None:
        """Nothing is held: the page and the server live on until the reception ends."""

    def interrupt(self) -> None:
        """Whoever waits for this phone gets a KeyboardInterrupt."""
        self._visitor.interrupt()
