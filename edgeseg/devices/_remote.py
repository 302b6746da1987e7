"""A device behind a shell (ssh, adb): the worker and the artifacts are put there by content, and the worker is talked to through
the pipes of that shell's program. And a board behind ssh as such a device."""

from __future__ import annotations

import contextlib
import io
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.device import ConnectionLost, Settings, Worker, WorkerLost
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.core.job import Item, Job
from edgeseg.core.measurement import Hello
from edgeseg.core.process import Timeout, signal_name
from edgeseg.devices import _board
from edgeseg.devices._channel_worker import ChannelWorker
from edgeseg.devices._governor import Governor
from edgeseg.devices._provision import Provision, Resolve
from edgeseg.devices._store import PushError, Store
from edgeseg.transports.shell import Shell
from edgeseg.transports.ssh import Address, Ssh
from edgeseg.worker import pack

LIFETIME_S = 12 * 3600
"""A worker that nobody ends, because the way to it is gone, is killed after so long at the latest."""
PATIENCE_S = 30.0
"""How long a board that has answered before is tried again."""

_DIE = r"""
die=; setpriv --pdeathsig KILL true 2>/dev/null && die="setpriv --pdeathsig KILL"
"""
_WORK = (
    r"""
folder=$1; shift
mkdir -p "$folder" && cd "$folder" || exit
cat /proc/$$/stat | cut -d ' ' -f 5 > pid  # by another program: QEMU makes up what a process reads of itself
# Some runtimes leave notes in the home folder (ONNX Runtime: an identity for its telemetry): this one is removed again.
export PYTHONUSERBASE=$HOME/.local HOME=$folder XDG_CACHE_HOME=$folder TMPDIR=$folder PYTHONDONTWRITEBYTECODE=1
"""
    + _DIE
    + r"""
$die sh -c 'echo $$ > worker; exec "$@"' sh "$@"
code=$?
# OpenVINO's code generator on Arm leaves a symbol table for `perf`, and asks nobody where.
rm -rf "/tmp/perf-$(cat worker 2>/dev/null).map" "$folder"
exit $code
"""
)
_END = r"""
pid=$(cat "$1/pid" 2>/dev/null)
[ "${pid:-0}" -gt 1 ] 2>/dev/null && kill -s KILL -- "-$pid" 2>/dev/null
rm -rf "/tmp/perf-$(cat "$1/worker" 2>/dev/null).map" "$1"
"""
_START = (
    _DIE
    + r"""
work=$1 limit=$2; shift 2
exec $die timeout -s KILL "$limit" $die sh -c "$work" sh "$@"
"""
)
"""`timeout` leads the process group. Should the connection die, sshd ends; with it ends `timeout`, with that the shell, with that
the worker. Where `setpriv` knows nothing of that (Android), the worker ends because its input does."""

_CLEAN = r"""
for job in "$1"/jobs/*; do
  pid=$(cat "$job/pid" 2>/dev/null)  # of 0 it would be our own group
  [ "${pid:-0}" -gt 1 ] 2>/dev/null && kill -s KILL -- "-$pid" 2>/dev/null
  rm -f "/tmp/perf-$(cat "$job/worker" 2>/dev/null).map"
done
rm -rf "$1" || exit
rmdir "$(dirname "$1")" "$(dirname "$(dirname "$1")")" 2>/dev/null
exit 0
"""


_MARKS = r"""
for file in /etc/machine-id /sys/firmware/devicetree/base/serial-number; do
  [ -s "$file" ] && printf '%s %s\n' "$file" "$(tr -d '\000' < "$file")"
done
exit 0
"""


class RemoteWorker(ChannelWorker):
    """A worker behind a shell.

    Args:
        shell: The way there.
        store: The device's files.
        command: What is run there.
        job: What the worker opens with.
        timeout_s: How long its start may take.
    """

    def __init__(self, shell: Shell, store: Store, command: Sequence[str], job: Job, *, timeout_s: float) -> None:
        super().__init__()
        self._shell, self._store = shell, store
        self._folder = f"{store.root}/jobs/{secrets.token_hex(6)}"
        words = [_WORK, str(LIFETIME_S), self._folder, *command]
        self._open(lambda: shell.channel(_START, words), job, timeout_s)

    def send_frames(self, frames: Sequence[Array]) -> list[str]:
        """See `edgeseg.core.device.Worker.send_frames`."""
        files = {f"frame-{index}.npy": _npy(frame) for index, frame in enumerate(frames)}
        try:
            self._store.put_frames(self._folder, files)
        except PushError as error:
            self.close()
            raise WorkerLost(error.message) from error
        except DeviceUnreachable as error:
            self.close()
            raise ConnectionLost(f"connection lost: {error.message}") from error
        return [f"{self._folder}/{name}" for name in files]

    def close(self) -> None:
        """See `edgeseg.core.device.Worker.close`; ending our end alone would leave the worker running."""
        if self._channel is None:
            return
        super().close()
        with contextlib.suppress(EdgesegError):  # the connection is gone: then the worker is, too
            self._shell.run(_END, [self._folder], timeout_s=30)

    def _lost(self, message: str) -> WorkerLost:
        assert self._channel is not None
        code = self._channel.returncode
        if self._shell.lost(code):
            return ConnectionLost(f"connection lost: {message.rpartition(': ')[2]}")
        if code is not None and 128 < code < 160:
            return WorkerLost(f"the worker was lost: ended by {signal_name(code - 128)}")
        return WorkerLost(message)


class ShellDevice:
    """A device that is reached through a shell. A subclass says how it is set up and what runs Python there.

    Args:
        name: As the user calls it.
        shell: The way there.
        settings: What the user asked.
        ways_on: Hint for a device that cannot be reached.
    """

    def __init__(self, name: str, shell: Shell, settings: Settings, *, ways_on: str = "") -> None:
        self.name = name
        self._shell, self._settings, self._ways_on = shell, settings, ways_on
        self._store: Store | None = None
        self._interrupted = False

    @property
    def pushed(self) -> Mapping[str, int]:
        """Bytes that were sent, by kind."""
        return self._store.pushed if self._store else {}

    def probe(self) -> Hello:
        """See `edgeseg.core.device.Device.probe`; brings there what a worker needs."""
        try:
            self._set_up()
        except DeviceUnreachable as error:
            raise self._hinted(error) from error
        worker = self._start((), (), timeout_s=120)
        worker.close()
        return worker.hello

    def start(self, items: Sequence[tuple[Item, Path]], frames: Sequence[Array], *, timeout_s: float) -> Worker:
        """See `edgeseg.core.device.Device.start`."""
        until = time.monotonic() + PATIENCE_S
        while True:
            if self._interrupted:
                raise KeyboardInterrupt
            try:
                self._set_up()
                return self._start(items, frames, timeout_s=timeout_s)
            except (DeviceUnreachable, ConnectionLost) as error:
                if time.monotonic() > until:
                    raise DeviceUnreachable(error.message, self._ways_on) from error
                time.sleep(2)
            except (PushError, Timeout) as error:
                raise WorkerLost(error.message) from error

    def close(self) -> None:
        """See `edgeseg.core.device.Device.close`."""
        if self._store is not None:
            sent = [f"{size / 1e6:.2f} MB of {kind}" for kind, size in self._store.pushed.items()]
            self._settings.say(f"{self._shell.address}: pushed {', '.join(sent) or 'nothing'}")
            self._store = None
        self._shell.close()

    def _hinted(self, error: DeviceUnreachable) -> DeviceUnreachable:
        """The error with the ways on, unless it has a hint of its own."""
        hinted = error.hint != EdgesegError.usual_hint
        return DeviceUnreachable(error.message, error.hint if hinted else self._ways_on)

    def _set_up(self) -> Store:
        """Connect, find out what it is, and make its folder; nothing happens where that is done."""
        raise NotImplementedError

    def _python(self, names: Sequence[str]) -> list[str]:
        """The words that run a Python with numpy and the runtimes of these backends there; what is missing is put there."""
        raise NotImplementedError

    def _start(self, items: Sequence[tuple[Item, Path]], frames: Sequence[Array], *, timeout_s: float) -> RemoteWorker:
        store = self._set_up()
        python = self._python(sorted({item.backend for item, _ in items}))
        with tempfile.TemporaryDirectory(prefix="edgeseg-") as folder:
            (worker,) = store.put("worker", [{"worker.pyz": pack.pack(Path(folder) / "worker.pyz")}])
        job = place(store, items, frames)
        return RemoteWorker(self._shell, store, [*python, f"{worker}/worker.pyz"], job, timeout_s=timeout_s)


class RemoteDevice(ShellDevice):
    """A board behind ssh.

    Args:
        name: As the user calls it.
        address: Where it is.
        settings: What the user asked.
        config: A configuration file for ssh instead of the user's own.
        ways_on: Hint for a board that cannot be reached.
        resolve: Gives wheels for `offline`; pip if None.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        settings: Settings,
        *,
        config: Path | None = None,
        ways_on: str = "",
        resolve: Resolve | None = None,
    ) -> None:
        self._ssh = Ssh(address, config=config, trust_new_host=settings.trust_new_host, say=settings.say)
        super().__init__(name, self._ssh, settings, ways_on=ways_on)
        self._resolve = resolve
        self._provision: Provision | None = None
        self._governor: Governor | None = None

    def marks(self) -> frozenset[str]:
        """What tells this machine from others, by whatever name it is called: host key, machine id, serial number.

        Raises:
            DeviceUnreachable: It does not answer.
        """
        try:
            told = self._ssh.run(_MARKS, timeout_s=30).stdout.splitlines()
        except DeviceUnreachable as error:
            raise self._hinted(error) from error
        return frozenset(line for line in (self._ssh.host_key, *told) if line.strip())

    def interrupt(self) -> None:
        """Called from another thread: what runs there is cut off, and nothing is started any more."""
        self._interrupted = True
        self._ssh.cut()

    def clean(self) -> str:
        """Remove every trace of edgeseg from the board; returns the folder that was removed."""
        self._ssh.connect()
        cache = _board.probe(self._ssh).cache
        done = self._ssh.run(_CLEAN, [cache], timeout_s=300)
        if done.returncode != 0:
            raise EdgesegError(f"{cache} on {self._ssh.address} cannot be removed: {done.last_words}")
        self._store = self._provision = None
        return cache

    def close(self) -> None:
        """Put the governor back and end the connection."""
        if self._governor is not None:
            self._governor.close()
            self._governor = None
        self._provision = None
        super().close()

    def _set_up(self) -> Store:
        if self._provision is None or self._store is None:
            self._ssh.connect()
            board = _board.probe(self._ssh)
            self._store = Store(self._ssh, board.cache)
            self._provision = Provision(
                self._ssh, board, self._store,
                offline=self._settings.offline, say=self._settings.say, resolve=self._resolve,
            )  # fmt: skip
        if self._settings.governor and (self._governor is None or not self._governor.held):
            self._governor = Governor(self._ssh.channel, self._settings.governor, str(self._ssh.address))
        return self._store

    def _python(self, names: Sequence[str]) -> list[str]:
        assert self._provision is not None, "it is set up"
        return [self._provision.python(names)]


def place(store: Store, items: Sequence[tuple[Item, Path]], frames: Sequence[Array]) -> Job:
    """Put artifacts and pictures on a device.

    Args:
        store: The device's files.
        items: With the local folder of each one's artifact.
        frames: Pictures for the timed runs.

    Returns:
        The job, with paths as they are there.
    """
    bundles = [{path.name: path for path in sorted(folder.iterdir()) if path.is_file()} for _, folder in items]
    places = store.put("artifacts", bundles)
    placed = tuple(replace(item, file=f"{where}/{item.file}") for (item, _), where in zip(items, places, strict=True))
    pictures = {f"{index}.npy": _npy(frame) for index, frame in enumerate(frames)}
    (where,) = store.put("frames", [pictures]) if pictures else ("",)
    return Job(placed, tuple(f"{where}/{name}" for name in pictures))


def _npy(frame: Array) -> bytes:
    content = io.BytesIO()
    np.save(content, frame, allow_pickle=False)
    return content.getvalue()
