"""The clock governor of a device, changed only when the user says so and put back whatever happens.

A shell on the device changes it, waits until its input ends, and puts it back: that is also what it does when the
connection breaks, when we are interrupted and when we are killed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeseg.core.errors import EdgesegError
from edgeseg.transports.process import Channel, ChannelClosed, ChannelTimeout

_HOLD = r"""
cd /sys/devices/system/cpu || exit
sudo=; [ -w cpu0/cpufreq/scaling_governor ] || sudo="sudo -n"
set_all() { echo "$1" | $sudo tee cpu[0-9]*/cpufreq/scaling_governor >/dev/null; }
was=$(cat cpu0/cpufreq/scaling_governor) || exit
trap '' HUP INT TERM PIPE
set_all "$1" || { set_all "$was" 2>/dev/null; exit 1; }
now=$(cat cpu0/cpufreq/scaling_governor)
echo "$was $now"
cat >/dev/null
set_all "$was"
echo back
"""


class Governor:
    """Holds a governor until it is closed.

    Args:
        channel: Starts a shell script with arguments on the device.
        name: The governor, e.g. ``performance``.
        where: The device, for messages.

    Raises:
        EdgesegError: It cannot be changed.
    """

    def __init__(self, channel: Callable[[str, Sequence[str]], Channel], name: str, where: str) -> None:
        self._channel: Channel | None = channel(_HOLD, [name])
        hint = f"by hand: echo {name} | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        try:
            self.was, _, now = self._channel.receive(timeout_s=30).decode(errors="replace").partition(" ")
        except (ChannelClosed, ChannelTimeout) as error:
            self._channel.close()
            raise EdgesegError(f"the governor of {where} cannot be changed: {error.message}", hint) from error
        if now != name:
            self.close()
            raise EdgesegError(f"the governor of {where} stayed {now!r} when it was set to {name!r}", hint)

    @property
    def held(self) -> bool:
        """Whether the shell that holds it is still there."""
        return self._channel is not None and self._channel.returncode is None

    def close(self) -> None:
        """Put the old one back; safe to call twice."""
        if self._channel is not None:
            self._channel.close(timeout_s=15)
            self._channel = None
