"""A worker that is talked to through a `Channel`: the same for a process here and for one behind ssh."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from edgeseg.core import records
from edgeseg.core.device import WorkerLost
from edgeseg.core.job import Command, Job
from edgeseg.core.measurement import Answer, Done, Hello, parse
from edgeseg.core.records import RecordError
from edgeseg.transports.process import Channel, ChannelClosed, ChannelTimeout


class ChannelWorker:
    """Starts a worker's program, gives it its job and waits for its greeting. A subclass says how pictures get there."""

    hello: Hello
    start_ns: int

    def __init__(self) -> None:
        self._channel: Channel | None = None

    def _open(self, start: Callable[[], Channel], job: Job, timeout_s: float) -> None:
        """Raises WorkerLost if there is no greeting; what was begun is closed again."""
        try:
            started = time.perf_counter_ns()
            self._channel = start()
            self._channel.send(records.to_json(job))
            hello = self._receive(timeout_s)
            self.start_ns = time.perf_counter_ns() - started
            if not isinstance(hello, Hello):
                raise WorkerLost(f"the worker began with {hello.kind!r} instead of a greeting")
            self.hello = hello
        except ChannelClosed as error:
            lost = self._lost(f"the worker did not start: {error.message}")
            self.close()
            raise lost from error
        except BaseException:
            self.close()
            raise

    def ask(self, command: Command, *, timeout_s: float) -> Iterator[Answer]:
        """See `edgeseg.core.device.Worker.ask`."""
        if self._channel is None:
            raise WorkerLost("the worker has been ended")
        until = time.monotonic() + timeout_s
        try:
            self._channel.send(records.to_json(command))
            while True:
                answer = self._receive(max(0.0, until - time.monotonic()), limit_s=timeout_s)
                if isinstance(answer, Done):
                    return
                yield answer
        except ChannelClosed as error:
            lost = self._lost(f"the worker was lost: {error.message}")
            self.close()
            raise lost from error
        except WorkerLost:
            self.close()
            raise

    def close(self) -> None:
        """See `edgeseg.core.device.Worker.close`."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _lost(self, message: str) -> WorkerLost:
        """The error for a program that ended, made before the channel is closed."""
        return WorkerLost(message)

    def _receive(self, timeout_s: float, *, limit_s: float | None = None) -> Answer:
        assert self._channel is not None
        try:
            line = self._channel.receive(timeout_s=timeout_s)
        except ChannelTimeout as error:
            raise WorkerLost(f"the worker gave no answer within {limit_s or timeout_s:.0f} s and was ended") from error
        try:
            return parse(line)
        except RecordError as error:
            shown = line[:60].decode(errors="replace")
            raise WorkerLost(f"the worker answered {shown!r}, which is no record: {error.message}") from error
