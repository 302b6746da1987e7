"""Writing so that a reader sees the old content or the new, never half of either."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some file systems refuse fsync on a folder; the rename below is still atomic
        pass
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by new content, or leave the old one in place.

    Raises:
        OSError: The disk is full or the folder is read-only; the old file is untouched, no rest is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with rest.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        rest.replace(path)
    finally:
        rest.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, content.encode())


@contextlib.contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Fill a new folder and put it in the place of `path` when the block ends without an error.

    Yields:
        An empty folder beside `path`. After an error, an interrupt or a full disk the old `path` is as it was; the
        rest of a killed process (a hidden ``.part`` folder) is swept away by the next call for the same path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".{path.name}.*.part"):
        owner = old.name.split(".")[-3]
        if not (owner.isdigit() and _alive(int(owner))):
            shutil.rmtree(old, ignore_errors=True)
    rest = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    rest.mkdir()
    try:
        yield rest
        for file in rest.rglob("*"):
            if file.is_file():
                _sync(file)
        _swap(rest, path)
    finally:
        shutil.rmtree(rest, ignore_errors=True)
    _sync(path.parent)


def _swap(new: Path, place: Path) -> None:
    """Rename `new` to `place`; an old folder there is moved aside first and put back if the rename fails."""
    if not place.exists():
        new.rename(place)
        return
    aside = place.with_name(f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    place.rename(aside)
    try:
        new.rename(place)
    except BaseException:
        aside.rename(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
