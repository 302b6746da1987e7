"""Any Linux board that ssh reaches: ``--device ssh://user@host[:port]``."""

from __future__ import annotations

from edgeseg.core.device import Settings
from edgeseg.core.errors import EdgesegError
from edgeseg.devices._remote import RemoteDevice
from edgeseg.transports.ssh import Address

WAYS_ON = "ssh {target} has to work without a password; edgeseg asks for none"


def device(name: str, detail: str, settings: Settings) -> RemoteDevice:
    """The board at an address.

    Args:
        name: As the user calls it.
        detail: ``//user@host[:port]``.
        settings: `Settings.host` wins over `detail`.
    """
    address = _address(detail, settings)
    return RemoteDevice(name, address, settings, ways_on=WAYS_ON.format(target=address.target))


def lane(detail: str, settings: Settings) -> str:
    """See `edgeseg.devices.lane`."""
    return str(_address(detail, settings))


def _address(detail: str, settings: Settings) -> Address:
    where = settings.host or detail
    if not where.strip("/"):
        raise EdgesegError("--device ssh says not where", "--device ssh://user@host, or --host user@host")
    return Address.parse(where)
