"""A board behind ssh as a device: the worker and the artifacts are put there by content, and the worker is talked to
through ssh's pipes."""

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
from edgeseg.core.device import ConnectionLost, Settings, WorkerLost
from edgeseg.core.errors import DeviceUnreachable, EdgesegError
from edgeseg.core.job import Item, Job
from edgeseg.core.measurement import Hello
from edgeseg.core.process import Timeout, signal_name
from edgeseg.devices import _board
from edgeseg.devices._channel_worker import ChannelWorker
from edgeseg.devices._governor import Governor
from edgeseg.devices._provision import Provision, Resolve
from edgeseg.devices._store import PushError, Store
from edgeseg.transports.process import Channel
from edgeseg.transports.ssh import LOST, Address, Ssh
from edgeseg.worker import pack

LIFETIME_S = 12 * 3600
"""A worker that nobody ends, because the way to it is gone, is killed after so long at the latest."""
PATIENCE_S = 30.0
"""How long a board that has answered before is tried again."""

_WORK = r"""
mkdir -p "$1" && cd "$1" || exit
group=$(ps -o pgid= -p $$ 2>/dev/null | tr -d ' ')
[ "${group:-0}" -gt 1 ] 2>/dev/null || group=$$
echo "$group" > pid
# Some runtimes leave notes in the home folder (ONNX Runtime: an identity for its telemetry): this one is removed again.
export PYTHONUSERBASE=$HOME/.local HOME=$1 XDG_CACHE_HOME=$1 TMPDIR=$1 PYTHONDONTWRITEBYTECODE=1
die=$(command -v setpriv) && die="$die --pdeathsig KILL"
$die timeout --foreground -s KILL "$2" $die sh -c 'echo $$ > worker; exec "$0" "$@"' "$3" "$4"
code=$?
# OpenVINO's code generator on Arm leaves a symbol table for `perf`, and asks nobody where.
rm -rf "/tmp/perf-$(cat worker 2>/dev/null).map" "$1"
exit $code
"""
_END = r"""
pid=$(cat "$1/pid" 2>/dev/null)
[ "${pid:-0}" -gt 1 ] 2>/dev/null && kill -s KILL -- "-$pid" 2>/dev/null
rm -rf "/tmp/perf-$(cat "$1/worker" 2>/dev/null).map" "$1"
"""
_START = r"""die=$(command -v setpriv) && die="$die --pdeathsig KILL"; exec $die sh -c "$1" sh "$2" "$3" "$4" "$5" """
"""Should the connection die, sshd ends; with it ends the shell, with that `timeout`, with that the worker."""

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
    """A worker behind ssh."""

    def __init__(self, ssh: Ssh, store: Store, python: str, worker: str, job: Job, *, timeout_s: float) -> None:
        super().__init__()
        self._ssh, self._store = ssh, store
        self._folder = f"{store.root}/jobs/{secrets.token_hex(6)}"
        words = [_WORK, self._folder, str(LIFETIME_S), python, worker]
        self._open(lambda: ssh.channel(_START, words), job, timeout_s)

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
        """See `edgeseg.core.device.Worker.close`; ending ssh alone would leave the worker running."""
        if self._channel is None:
            return
        super().close()
        with contextlib.suppress(EdgesegError):  # the connection is gone: then the worker is, too
            self._ssh.run(_END, [self._folder], timeout_s=30)

    def _lost(self, message: str) -> WorkerLost:
        assert self._channel is not None
        code = self._channel.returncode
        if code == LOST:
            return ConnectionLost(f"connection lost: {message.rpartition(': ')[2]}")
        if code is not None and 128 < code < 160:
            return WorkerLost(f"the worker was lost: ended by {signal_name(code - 128)}")
        return WorkerLost(message)


class RemoteDevice:
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
        self.name = name
        self._settings, self._ways_on, self._resolve = settings, ways_on, resolve
        self._ssh = Ssh(address, config=config, trust_new_host=settings.trust_new_host, say=settings.say)
        self._provision: Provision | None = None
        self._store: Store | None = None
        self._governor: Governor | None = None
        self._interrupted = False

    @property
    def pushed(self) -> Mapping[str, int]:
        """Bytes that were sent, by kind."""
        return self._store.pushed if self._store else {}

    def probe(self) -> Hello:
        """See `edgeseg.core.device.Device.probe`; installs numpy on the board if it is not there."""
        try:
            self._set_up()
        except DeviceUnreachable as error:
            raise self._hinted(error) from error
        worker = self._start((), (), timeout_s=120)
        worker.close()
        return worker.hello

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

    def start(self, items: Sequence[tuple[Item, Path]], frames: Sequence[Array], *, timeout_s: float) -> RemoteWorker:
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
        """See `edgeseg.core.device.Device.close`."""
        if self._governor is not None:
            self._governor.close()
            self._governor = None
        if self._store is not None:
            sent = [f"{size / 1e6:.2f} MB of {kind}" for kind, size in self._store.pushed.items()]
            self._settings.say(f"{self._ssh.address}: pushed {', '.join(sent) or 'nothing'}")
            self._store = self._provision = None
        self._ssh.close()

    def _hinted(self, error: DeviceUnreachable) -> DeviceUnreachable:
        """The error with the ways on, unless it has a hint of its own."""
        hinted = error.hint != EdgesegError.usual_hint
        return DeviceUnreachable(error.message, error.hint if hinted else self._ways_on)

    def _set_up(self) -> tuple[Provision, Store]:
        if self._provision is None or self._store is None:
            self._ssh.connect()
            board = _board.probe(self._ssh)
            self._store = Store(self._ssh, board.cache)
            self._provision = Provision(
                self._ssh, board, self._store,
                offline=self._settings.offline, say=self._settings.say, resolve=self._resolve,
            )  # fmt: skip
        if self._settings.governor and (self._governor is None or not self._governor.held):
            self._governor = Governor(self._channel, self._settings.governor, str(self._ssh.address))
        return self._provision, self._store

    def _channel(self, script: str, arguments: Sequence[str]) -> Channel:
        return self._ssh.channel(script, arguments)

    def _start(self, items: Sequence[tuple[Item, Path]], frames: Sequence[Array], *, timeout_s: float) -> RemoteWorker:
        provision, store = self._set_up()
        python = provision.python(sorted({item.backend for item, _ in items}))
        with tempfile.TemporaryDirectory(prefix="edgeseg-") as folder:
            (worker,) = store.put("worker", [{"worker.pyz": pack.pack(Path(folder) / "worker.pyz")}])
        bundles = [{path.name: path for path in sorted(place.iterdir()) if path.is_file()} for _, place in items]
        places = store.put("artifacts", bundles)
        placed = tuple(
            replace(item, file=f"{place}/{item.file}") for (item, _), place in zip(items, places, strict=True)
        )
        pictures = {f"{index}.npy": _npy(frame) for index, frame in enumerate(frames)}
        (where,) = store.put("frames", [pictures]) if pictures else ("",)
        job = Job(placed, tuple(f"{where}/{name}" for name in pictures))
        return RemoteWorker(self._ssh, store, python, f"{worker}/worker.pyz", job, timeout_s=timeout_s)


def _npy(frame: Array) -> bytes:
    content = io.BytesIO()
    np.save(content, frame, allow_pickle=False)
    return content.getvalue()
