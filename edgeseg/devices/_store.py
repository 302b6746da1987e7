"""Files on a board, in folders that are called by the hash of what is in them: what is there is never pushed again."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from edgeseg.core import process
from edgeseg.core.errors import EdgesegError
from edgeseg.core.manifest import sha256
from edgeseg.transports.shell import Shell

SLOWEST = 100_000
"""Bytes a second of the slowest link that is still waited for."""

Content = bytes | Path

_PUSH = r"""
set -e
cd "$1"
mkdir -p "$2"
part="$2/.$3.$4.part"
trap 'rm -rf "$part"' EXIT
mkdir "$part"
if [ "$5" = packed ]; then gunzip -c | tar -xf - -C "$part"; else tar -xf - -C "$part"; fi
(cd "$part" && sha256sum -c .sums >/dev/null) || { echo "what arrived is not what was sent" >&2; exit 1; }
rm "$part/.sums"
mv -T "$part" "$2/$3" 2>/dev/null || [ -d "$2/$3" ] || mv "$part" "$2/$3"
"""
"""Only what GNU, busybox and toybox (Android) have in common; `mv -T`, which the last of these lacks, is for two who push the
same at the same moment."""
_HAVE = r"""cd "$1" && shift && for one in "$@"; do [ -d "$one" ] && echo "$one"; done; exit 0"""
_FRAMES = r"""set -e; cd "$1"; rm -f frame-*; tar -xf -"""


class PushError(EdgesegError):
    """Something could not be put on the device."""


BOARD_ROOM = "make room on the board (df -h ~), or remove what edgeseg keeps there: edgeseg device clean NAME"


class Store:
    """The folder of a device.

    Args:
        shell: The way there.
        root: The folder, which is there.
        room: How a person makes room for it.

    Attributes:
        pushed: Bytes that were sent, by kind.
    """

    def __init__(self, shell: Shell, root: str, *, room: str = BOARD_ROOM) -> None:
        self._shell, self.root, self._room = shell, root, room
        self.pushed: dict[str, int] = {}
        self._there: set[str] = set()

    def put(self, kind: str, bundles: Sequence[Mapping[str, Content]], *, packed: bool = False) -> list[str]:
        """Have folders with these files on the board.

        Args:
            kind: What they are, and the folder above them: ``worker``, ``artifacts``, ``frames``, ``wheels``.
            bundles: Each: file name, which may be a path, to content; what is executable here is executable there.
            packed: Compress them for the way.

        Returns:
            Their paths there, in the order of `bundles`.

        Raises:
            PushError: The disk is full, or read-only, or the files did not arrive whole.
            DeviceUnreachable: The connection broke.
        """
        sums = [{name: _sha(content) for name, content in bundle.items()} for bundle in bundles]
        places = [f"{kind}/{_digest(one)}" for one in sums]
        unknown = [place for place in dict.fromkeys(places) if place not in self._there]
        if unknown:
            self._there.update(self._shell.run(_HAVE, [self.root, *unknown], timeout_s=60).stdout.split())
        for place, bundle, hashes in zip(places, bundles, sums, strict=True):
            if place not in self._there:
                self._push(kind, place, bundle, hashes, packed)
                self._there.add(place)
        return [f"{self.root}/{place}" for place in places]

    def put_frames(self, folder: str, frames: Mapping[str, bytes]) -> None:
        """Replace the pictures in a job's folder.

        Raises:
            PushError: The disk is full.
            DeviceUnreachable: The connection broke.
        """
        self._send("pictures", _FRAMES, [folder], frames)

    def forget(self, kind: str) -> None:
        """Remove everything of a kind from the board."""
        self._shell.run('rm -rf "$1"', [f"{self.root}/{kind}"], timeout_s=120)
        self._there = {place for place in self._there if not place.startswith(f"{kind}/")}

    def _push(
        self, kind: str, place: str, bundle: Mapping[str, Content], hashes: Mapping[str, str], packed: bool
    ) -> None:
        listing = "".join(f"{digest}  {name}\n" for name, digest in hashes.items())
        arguments = [self.root, kind, place.partition("/")[2], secrets.token_hex(4), "packed" if packed else ""]
        self._send(kind, _PUSH, arguments, {**bundle, ".sums": listing.encode()}, packed=packed)

    def _send(
        self, kind: str, script: str, arguments: Sequence[str], files: Mapping[str, Content], *, packed: bool = False
    ) -> None:
        with tempfile.TemporaryFile() as handle:
            size = _tar(handle, files, packed)
            try:
                done = self._shell.run(script, arguments, timeout_s=60 + size / SLOWEST, stdin=handle)
            except process.Timeout as error:
                raise PushError(
                    f"{size / 1e6:.1f} MB could not be put on {self._shell.address}: {error.message}",
                    self._room,
                ) from error
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip() and "Exiting with failure" not in line]
            full = next((line for line in lines if "No space left" in line or "quota" in line.lower()), "")
            raise PushError(
                f"{size / 1e6:.1f} MB could not be put on {self._shell.address}: {(full or (lines or [done.last_words])[-1]).strip()}",
                self._room,
            )
        self.pushed[kind] = self.pushed.get(kind, 0) + (size if packed else sum(map(_size, files.values())))


def _tar(handle: IO[bytes], files: Mapping[str, Content], packed: bool) -> int:
    # Level 1: the way is a cable, and a third is saved at any level.
    with (
        tarfile.open(fileobj=handle, mode="w:gz", compresslevel=1)
        if packed
        else tarfile.open(fileobj=handle, mode="w") as archive
    ):
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            runs = isinstance(content, Path) and os.access(content, os.X_OK)
            entry.size, entry.mode = _size(content), 0o755 if runs else 0o644
            if isinstance(content, bytes):
                archive.addfile(entry, io.BytesIO(content))
            else:
                with content.open("rb") as source:
                    archive.addfile(entry, source)
    size = handle.tell()
    handle.seek(0)
    return size


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _sha(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else sha256(content)


def _digest(sums: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name}\0{sums[name]}\0" for name in sorted(sums)).encode()).hexdigest()[:16]
