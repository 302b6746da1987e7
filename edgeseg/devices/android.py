"""An Android phone on a cable (or wherever adb reaches it): the worker of a Pi, with a Python and a C library of its own.

``android`` is the only device that adb sees; ``android:SERIAL`` or ``--host SERIAL`` is one of several. Everything that is put
there lies in one folder below ``/data/local/tmp``, which is removed when the device is let go of, unless ``--keep`` is given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeseg import backends
from edgeseg.core.arrays import Array
from edgeseg.core.device import TOOL, ConnectionLost, Settings, Worker, WorkerLost
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.core.job import Item
from edgeseg.core.measurement import Hello
from edgeseg.devices import _benchmark_model, _phone, _phone_bundle
from edgeseg.devices._benchmark_model import ToolWorker
from edgeseg.devices._remote import ShellDevice
from edgeseg.devices._remote import place as remote_job
from edgeseg.devices._store import Store
from edgeseg.transports.adb import USB_DEBUGGING, Adb

INSTALL_COMMAND = _phone_bundle.INSTALL_COMMAND
ROOM = "make room on the phone: Settings > Storage; or remove what edgeseg keeps there: edgeseg device clean android"

_CLEAN = (
    _phone.ALIVE
    + r"""
keep=$1; shift
for folder in "$@"; do
  [ -d "$folder" ] || continue
  for job in "$folder"/jobs/*; do
    [ -d "$job" ] || continue
    alive "$job" || continue
    [ "$keep" = busy ] && exit 0
    kill -s KILL -- "-$(cat "$job/pid")"
  done
  rm -rf "$folder" || exit
  echo "$folder"
done
"""
)


class AndroidDevice(ShellDevice):
    """See the module.

    Args:
        name: As the user calls it.
        adb: The way there.
        settings: What the user asked.
    """

    def __init__(self, name: str, adb: Adb, settings: Settings) -> None:
        super().__init__(name, adb, settings, ways_on=USB_DEBUGGING)
        self._adb = adb
        self._phone: _phone.AndroidPhone | None = None
        self._mask = ""
        self._compiled: set[str] = set()

    def probe(self) -> Hello:
        """See `edgeseg.core.device.Device.probe`: what the worker says, and what only Android knows."""
        hello = super().probe()
        assert self._phone is not None, "it is set up"
        about = {
            **hello.device,
            **self._phone.described(),
            "id": _short(self._phone.properties["ro.serialno"] or self._adb.serial),
        }
        if self._mask:
            about["cores_used"] = self._settings.cores
        return replace(hello, device=about, emulated=hello.emulated or self._phone.emulated)

    def start(self, items: Sequence[tuple[Item, Path]], frames: Sequence[Array], *, timeout_s: float) -> Worker:
        """See `edgeseg.core.device.Device.start`."""
        measured = [(item, folder) for item, folder in items if not _for_tool(item)]
        worker = super().start(measured, frames, timeout_s=timeout_s)
        if len(measured) == len(items):
            return worker
        try:
            return self._with_tool(worker, [(item, folder) for item, folder in items if _for_tool(item)])
        except EdgesegError as error:
            worker.close()
            raise (ConnectionLost if isinstance(error, DeviceUnreachable) else WorkerLost)(error.message) from error

    def clean(self) -> str:
        """Remove every trace of edgeseg from the phone; returns the folders that were removed."""
        self._adb.connect()
        done = self._adb.run(
            f'keep=$1; set -- {_phone.TEMPORARY}/edgeseg-*; set -- "$keep" "$@"; {_CLEAN}', ["none"], timeout_s=300
        )
        if done.returncode != 0:
            raise EdgesegError(f"what edgeseg keeps on {self._adb.address} cannot be removed: {done.last_words}")
        self._store = self._phone = None
        return ", ".join(done.stdout.split())

    def close(self) -> None:
        """Remove the folder, unless it is to be kept or another run uses it."""
        store, self._phone = self._store, None
        super().close()
        if store is None or self._settings.keep:
            return
        try:
            done = self._adb.run(_CLEAN, ["busy", store.root], timeout_s=120)
            why = "" if done.stdout else "another run uses it" if done.returncode == 0 else done.last_words
        except EdgesegError as error:
            why = error.message
        if why:
            self._settings.say(f"{store.root} was not removed ({why}); edgeseg device clean android does it")

    def _set_up(self) -> Store:
        if self._store is None or self._phone is None:
            if self._settings.benchmark_model:
                _benchmark_model.check(Path(self._settings.benchmark_model))
            _phone_bundle.require()  # before anything is touched: is there what has to be pushed?
            self._adb.connect()
            root = f"{_phone.TEMPORARY}/edgeseg-{_phone_bundle.root().name.rpartition('-')[2]}"
            self._phone = _phone.probe(self._adb, root)
            self._mask = self._phone.mask(self._settings.cores) if self._settings.cores else ""
            self._store = self._store or Store(self._adb, root, room=ROOM)
        return self._store

    def _with_tool(self, worker: Worker, items: Sequence[tuple[Item, Path]]) -> ToolWorker:
        store = self._set_up()
        (place,) = store.put("tools", [{TOOL: Path(self._settings.benchmark_model)}])
        placed = {item.key: item for item in remote_job(store, items, ()).items}
        return ToolWorker(worker, self._adb, [*self._bound, f"{place}/{TOOL}"], placed)

    @property
    def _bound(self) -> list[str]:
        """The words before a command that bind it to the cores that were asked for."""
        return ["taskset", self._mask] if self._mask else []

    def _python(self, names: Sequence[str]) -> list[str]:
        store = self._set_up()
        interpreter, rest = _phone_bundle.parts(names, self._settings.say)
        (python,) = store.put("runtime", [interpreter.files], packed=True)
        places = store.put("runtime", [part.files for part in rest], packed=True)
        # Without compiled modules a start takes seconds; they are made once, in the folder that is removed.
        where = [f"PYTHONPATH={':'.join(places)}", f"PYTHONPYCACHEPREFIX={store.root}/compiled"]
        words = ["env", "-u", "PYTHONDONTWRITEBYTECODE", *where, "sh", f"{python}/{_phone_bundle.RUN}"]
        self._compile(words, [backends.load(name).package for name in names])
        return [*self._bound, *words]

    def _compile(self, words: Sequence[str], packages: Sequence[str]) -> None:
        """Import packages once, so that the first start that is measured is no other than those after it."""
        new = [name for name in ("numpy", *packages) if name not in self._compiled]
        if new:
            self._compiled.update(new)
            # What fails here fails in the worker too, which says more.
            self._adb.run('exec "$@"', [*words, "-c", f"import {', '.join(new)}"], timeout_s=600)


def device(name: str, detail: str, settings: Settings) -> AndroidDevice:
    """The phone that is meant; see the module."""
    return AndroidDevice(name, Adb(settings.host or detail, say=settings.say), settings)


def _for_tool(item: Item) -> bool:
    return item.options.get("accelerator") == TOOL


def _short(serial: str) -> str:
    """A sign that tells phones of a kind apart in shared results and names no owner."""
    return hashlib.sha256(serial.encode()).hexdigest()[:4]
