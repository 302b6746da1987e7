"""The user's own names for devices: ``bench/devices.toml`` in the working folder, then the file in the configuration folder.

kitchen = "ssh://pi@kitchen.local"
old = "android:SERIAL"
pi = "ssh://pi@192.168.1.20:2222"
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from edgeseg.core.errors import EdgesegError

HERE = Path("bench/devices.toml")


def places() -> tuple[Path, Path]:
    """Where definitions are looked for; the first that names a device wins."""
    import platformdirs

    return HERE, Path(platformdirs.user_config_dir("edgeseg")) / "devices.toml"


def read() -> dict[str, str]:
    """Name to what ``--device`` would be given instead.

    Raises:
        EdgesegError: A file is not what it should be.
    """
    found: dict[str, str] = {}
    for path in places():
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise EdgesegError(
                f"{path} is not TOML: {error}", 'a line is: kitchen = "ssh://pi@kitchen.local"'
            ) from error
        for name, address in document.items():
            if not isinstance(address, str) or not address.startswith(("ssh://", "android:")):
                raise EdgesegError(
                    f"{path} says {address!r} for {name!r}, which is no address",
                    f'write: {name} = "ssh://user@host", with :port where it is not 22',
                )
            found.setdefault(name, address)
    return found
