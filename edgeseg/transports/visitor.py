"""A page that visits a server of ours, as the host sees it: orders go out, answers come in.

The host's threads call `send` and `receive`; the server's thread calls the rest. A page that is loaded again stays the
same visitor and begins a new life: what it had been told is forgotten there, which `receive` says by `Reloaded` to
everybody who still counts on an earlier one.
"""

from __future__ import annotations

import asyncio
import queue
import secrets
import time
from collections.abc import Mapping

from edgeseg.core.errors import EdgesegError

GRACE_S = 15.0
"""A page that said good-bye may come back so long: that is how a reload looks from here."""
MAX_PENDING = 64
"""Answers that wait for the host; a page that sends more is refused."""


class VisitorGone(EdgesegError):
    """The page was closed, or does not answer any more."""


class VisitorSilent(EdgesegError):
    """The page gave no answer in time."""


class Reloaded(EdgesegError):
    """The page was loaded again and knows nothing of what it was told before."""


class Visitor:
    """One page.

    Args:
        loop: The server's event loop.
        about: What the page said of itself when it joined.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, about: bytes) -> None:
        self.secret = secrets.token_urlsafe(18)
        self.about = about
        self.life = 1
        self._loop = loop
        self._orders: list[dict[str, object]] = []
        self._news: dict[str, object] | None = None
        self._number = 0
        self._serial = 0
        self._woken = asyncio.Event()
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._waved_s: float | None = None
        self._lost = False
        self._interrupted = False
        self._left = False

    # ---- the host's side -------------------------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """Whether it is not worth waiting for."""
        return self._left or self._lost

    def send(self, order: Mapping[str, object], *, quiet: bool = False) -> None:
        """Give an order; the page fetches it in its turn.

        Args:
            order: JSON types.
            quiet: It goes out along with the next order, and only the last of several quiet ones does: news that
                nobody should be woken for.
        """
        if not self._left:
            self._loop.call_soon_threadsafe(self._append, dict(order), quiet)

    def receive(self, *, life: int, timeout_s: float) -> bytes:
        """Sleep until an answer is there.

        Args:
            life: The life of the page in which it was given the order.
            timeout_s: How long to wait.

        Raises:
            Reloaded: The page has begun another life since.
            VisitorGone: It was closed, and did not come back.
            VisitorSilent: `timeout_s` passed.
            KeyboardInterrupt: `interrupt` was called.
        """
        until = time.monotonic() + timeout_s
        while True:
            if self._interrupted:
                raise KeyboardInterrupt
            if self._left:
                raise VisitorGone("the server has ended")
            if self.life != life:
                raise Reloaded("the page was loaded again")
            wait_s = until - time.monotonic()
            if self._waved_s is not None:
                left_s = self._waved_s + GRACE_S - time.monotonic()
                if left_s <= 0:
                    self._lost = True
                    raise VisitorGone("the page was closed")
                wait_s = min(wait_s, left_s)
            if wait_s <= 0:
                self._lost = True
                raise VisitorSilent(f"the page gave no answer within {timeout_s:.0f} s")
            try:
                answer = self._answers.get(timeout=wait_s)
            except queue.Empty:
                continue
            if answer is not None:
                return answer

    def clear(self) -> None:
        """Forget answers that nobody waited for."""
        while True:
            try:
                self._answers.get_nowait()
            except queue.Empty:
                return

    def interrupt(self) -> None:
        """Whoever waits in `receive` gets a KeyboardInterrupt, now and later; safe to call from any thread."""
        self._interrupted = True
        self._answers.put(None)

    # ---- the server's side, in its own thread ------------------------------------------------------------------------

    def rejoin(self, about: bytes) -> None:
        """The page was loaded again."""
        self.about = about
        self.life += 1
        self._orders.clear()
        self._serial = 0
        self._waved_s = None
        self._lost = False
        self.clear()
        self._answers.put(None)

    def accept(self, serial: int, answer: bytes) -> bool:
        """Take an answer; one that was sent twice counts once. False: there are too many."""
        self._waved_s, self._lost = None, False
        if serial <= self._serial:
            return True
        if self._answers.qsize() >= MAX_PENDING:
            return False
        self._serial = serial
        self._answers.put(answer)
        return True

    async def orders(self, after: int, wait_s: float) -> list[dict[str, object]]:
        """The orders behind number `after`, which are those that the page has not got yet; waits for one."""
        self._waved_s, self._lost = None, False
        life = self.life
        until = self._loop.time() + wait_s
        while not self._left and self.life == life:
            found = [order for order in self._orders if int(str(order["number"])) > after]
            self._orders = found  # what it has got need not be kept
            left_s = until - self._loop.time()
            if found or left_s <= 0:
                return found
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), left_s)
            except TimeoutError:
                continue
        return []

    def wave(self) -> None:
        """The page says good-bye: it is closed, or loaded again."""
        self._waved_s = time.monotonic()
        self._answers.put(None)

    def leave(self) -> None:
        """The server ends."""
        self._left = True
        self._woken.set()
        self._answers.put(None)

    def _append(self, order: dict[str, object], quiet: bool) -> None:
        self._number += 1
        numbered = {"number": self._number, **order}
        if quiet:
            self._news = numbered
        else:
            self._orders += [self._news, numbered] if self._news else [numbered]
            self._news = None
            self._woken.set()
