"""A bench on devices that come by themselves: a session of its own for each phone that opens the page.

The first phone begins at once; more may come while one is still measuring. The server ends with the last session.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from edgeseg.core.errors import ArtifactError, DeviceUnreachable, EdgesegError
from edgeseg.core.manifest import Artifact
from edgeseg.data.dataset import open_dataset
from edgeseg.devices.browser import Invitation, Phone, Reception, Shown
from edgeseg.devices.browser.cable import Cable
from edgeseg.devices.browser.runtimes import BACKENDS
from edgeseg.flows.bench.lines import line
from edgeseg.flows.bench.session import BenchRequest, BenchResult, bench
from edgeseg.flows.bench.variants import common_reference, find

WAIT_S = 600.0
"""How long the first phone is waited for."""


@dataclass(frozen=True)
class Door:
    """How phones can come.

    Attributes:
        lan: From the network; otherwise from this machine alone.
        plain: Over HTTP, without a certificate.
        port: 0: the usual one.
        wait_s: How long the first phone is waited for.
        usb: A phone on a cable comes through adb, the one of `Settings.host` where there are several.
    """

    lan: bool = False
    plain: bool = False
    port: int = 0
    wait_s: float = WAIT_S
    usb: bool = False


@dataclass(frozen=True)
class Host:
    """Who is told of what happens; `progress` from the threads of the sessions.

    Attributes:
        invite: The address that a person has to open, once; and the artifacts that no browser can run.
        arrived: The name of a phone that begins.
        failed: The name of a phone that could not be measured at all, and why; the others go on.
        progress: The name of a phone, what it does, and the share of the whole that is done.
    """

    invite: Callable[[Invitation, tuple[str, ...]], None]
    arrived: Callable[[str], None] = lambda phone: None
    failed: Callable[[str, EdgesegError], None] = lambda phone, error: None
    progress: Callable[[str, str, float], None] = lambda phone, what, share: None


@dataclass
class _Visit:
    """A session with a phone, in a thread."""

    phone: Phone
    result: BenchResult | None = None
    error: BaseException | None = None
    over: bool = False
    thread: threading.Thread = field(init=False)


def _runs_there(artifact: Artifact) -> bool:
    """LiteRT.js has no tensors of int8: what takes and gives them cannot be fed."""
    return artifact.manifest.backend in BACKENDS and artifact.manifest.spec.input_stored is None


def bench_phones(request: BenchRequest, door: Door, host: Host) -> Iterator[BenchResult]:
    """Measure artifacts on every phone that comes, and yield each one's result when it is finished.

    A phone whose page goes away in the middle has failed rows; an interrupt ends all sessions, and what they have is
    summed up.

    Args:
        request: What to measure.
        door: How phones can come.
        host: Who is told.

    Raises:
        DeviceUnreachable: No phone came.
        EdgesegError: The request cannot be carried out at all, or not on any phone.
    """
    if door.usb and door.lan:
        raise EdgesegError("--usb and --lan are two ways to the page", "leave one of them out")
    artifacts = find(request.artifacts, request.exports)
    usable = [one for one in artifacts if _runs_there(one)]
    left_out = tuple(one.name for one in artifacts if one not in usable)
    if not usable:
        raise ArtifactError(
            f"{left_out[0]} does not run in a browser", f"edgeseg export --target {','.join(BACKENDS)} makes what does"
        )
    if request.data != "none":
        common_reference(usable)  # said before somebody fetches a phone
    request = replace(request, artifacts=tuple(one.folder for one in usable))
    events: queue.Queue[Phone | _Visit] = queue.Queue()
    visits: list[_Visit] = []
    with contextlib.ExitStack() as open_doors:
        reception = open_doors.enter_context(Reception(
            [_shown(one) for one in usable], _about(request),
            arrived=events.put, lan=door.lan, plain=door.plain, port=door.port,
        ))  # fmt: skip
        host.invite(reception.invitation, left_out)
        if door.usb:
            settings = request.settings
            open_doors.enter_context(Cable(settings.host, reception.invitation.link, say=settings.say))
        try:
            while not visits or not all(visit.over for visit in visits):
                event = _next(events, None if visits else door.wait_s)
                if isinstance(event, Phone):
                    host.arrived(event.title)
                    visits.append(_begin(event, request, host, events))
                else:
                    yield from _outcome(event, host, visits)
        except KeyboardInterrupt:
            if not visits:
                raise
            running = [visit for visit in visits if not visit.over]
            for visit in running:
                visit.phone.interrupt()
            for visit in running:
                visit.thread.join()
                yield from _outcome(visit, host, visits)


def _next(events: queue.Queue[Phone | _Visit], timeout_s: float | None) -> Phone | _Visit:
    try:
        return events.get(timeout=timeout_s)
    except queue.Empty:
        raise DeviceUnreachable(
            f"no page was opened within {timeout_s:.0f} s",
            "open the address that was printed, and tap Start; a phone needs --lan and the same network",
        ) from None


def _begin(phone: Phone, request: BenchRequest, host: Host, events: queue.Queue[Phone | _Visit]) -> _Visit:
    visit = _Visit(phone)

    def progress(what: str, share: float) -> None:
        phone.show(what, share)
        host.progress(phone.title, what, share)

    def run() -> None:
        try:
            own = replace(request, accelerators=phone.accelerators)
            visit.result = bench(own, device=phone, progress=progress)
            phone.finish([_row(visit.result, index) for index in range(len(visit.result.summary.rows))])
        except BaseException as error:  # it is the main thread's to judge
            visit.error = error
        finally:
            events.put(visit)

    # A thread that hangs in a runtime of the reference must not keep the command from ending.
    visit.thread = threading.Thread(target=run, name=f"edgeseg {phone.title}", daemon=True)
    visit.thread.start()
    return visit


def _outcome(visit: _Visit, host: Host, visits: list[_Visit]) -> Iterator[BenchResult]:
    """The result of a visit that is over.

    Raises:
        EdgesegError: It failed, and it was the only one.
    """
    visit.over = True
    if visit.result is not None:
        yield visit.result
    elif isinstance(visit.error, EdgesegError) and len(visits) > 1:
        host.failed(visit.phone.title, visit.error)
    elif visit.error is not None:
        raise visit.error


def _shown(artifact: Artifact) -> Shown:
    document = artifact.manifest
    return Shown(
        artifact.name, document.backend, document.precision, artifact.size_bytes, document.spec, artifact.model_file
    )


def _about(request: BenchRequest) -> dict[str, object]:
    """What the page says of the session before it begins."""
    about: dict[str, object] = {"threads": list(request.threads), "budget_s": request.budget_s, "images": 0}
    if request.data != "none":
        dataset = open_dataset(request.data, mask_values=request.mask_values)
        about.update(images=len(dataset), synthetic=dataset.synthetic)
    return about


def _row(result: BenchResult, index: int) -> dict[str, object]:
    """One row as the page shows it."""
    row = result.summary.rows[index]
    flat = line(result.summary.session, row)
    return {
        "variant": flat.variant,
        "median_ms": flat.median_ms,
        "fps": None if row.total_ns is None else 1e9 / row.total_ns,
        "miou": flat.miou,
        "agreement": None if flat.flipped_share is None else 1 - flat.flipped_share,
        "failure": flat.failure,
    }
