"""An ``ssh`` on PATH that runs the command here, in a home folder of the test: everything but the network is real."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest

from edgeseg.core.device import Settings
from edgeseg.devices._remote import RemoteDevice
from edgeseg.transports.ssh import Address

FAKE = r"""#!/bin/sh
# Takes ssh's options, then runs the command for the login shell; `fault` says how to fail instead.
here=$(cd "$(dirname "$0")/.." && pwd)
echo "$*" >> "$here/calls"
control=; log=/dev/stderr; background=
while [ $# -gt 0 ]; do
  case "$1" in
    -O) control=$2; shift 2;;
    -E) log=$2; shift 2;;
    -[Fop]) shift 2;;
    -f) background=1; shift;;
    --) shift; break;;
    *) shift;;
  esac
done
shift
if [ -n "$control" ]; then
  [ "$control" = exit ] && rm -f "$here/connected"
  [ -f "$here/connected" ]; exit
fi
if [ -s "$here/fault" ]; then cat "$here/fault" >> "$log"; rm -f "$here/connected"; exit 255; fi
if [ -n "$background" ]; then echo "debug1: Server host key: ssh-ed25519 SHA256:fake" >> "$log"; touch "$here/connected"
  # The connection to a jump host is a program of its own, which has our error output as long as it lasts.
  if [ -f "$here/jump" ]; then sleep 90 > /dev/null & echo $! > "$here/jump"; fi
  exit 0
fi
export HOME="$here/home" PATH="$here/tools:$PATH"; unset XDG_CACHE_HOME PYTHONPATH
cd "$HOME" && sh -c "$1"
code=$?
[ -s "$here/fault" ] && { cat "$here/fault" >&2; exit 255; }
exit $code
"""


@dataclass
class Remote:
    """The other machine: a folder."""

    place: Path

    @property
    def home(self) -> Path:
        return self.place / "home"

    @property
    def cache(self) -> Path:
        return self.home / ".cache/edgeseg/device"

    def fail(self, text: str) -> None:
        """Every ssh from now on ends with these words and status 255; empty: they work again."""
        (self.place / "fault").write_text(text)

    def cut(self, text: str) -> None:
        """`fail`, and end the workers that run: what ssh does when a connection breaks."""
        self.fail(text)
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"/bin/python") and words[1:2] == [f"{self.worker()}".encode()]:
                    os.kill(int(process.name), signal.SIGKILL)

    def worker(self) -> Path:
        """The worker's file there."""
        (path,) = self.cache.glob("worker/*/worker.pyz")
        return path

    def tool(self, name: str, script: str) -> None:
        """Put a program before those of PATH."""
        path = self.place / "tools" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def calls(self) -> list[str]:
        return (self.place / "calls").read_text().splitlines()

    def device(self, **settings: object) -> RemoteDevice:
        """The machine as a device; its environment borrows numpy of this one."""
        said = Settings(**{"offline": True, **settings})

        def resolve(board, requirements):
            wheel = self.place / "borrowed-0-py3-none-any.whl"
            site = Path(numpy.__file__).parents[1]
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr("borrowed.pth", f"{site}\n")
            return [wheel]

        return RemoteDevice("test", Address("board", "pi"), said, ways_on="the ways on", resolve=resolve)


@pytest.fixture
def remote(tmp_path, monkeypatch):
    place = tmp_path / "remote"
    for folder in ("bin", "home", "tools"):
        (place / folder).mkdir(parents=True)
    (place / "bin/ssh").write_text(FAKE)
    (place / "bin/ssh").chmod(0o755)
    (place / "tools/python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{place / 'bin'}:/usr/bin:/bin")
    return Remote(place)
