"""Measure IoU against latency on a device, with numbers that can be defended."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.cli import _bench_table, _flags, _forecast, _output, _phones
from edgeseg.core.errors import DeviceUnreachable, EdgesegError

if TYPE_CHECKING:
    from edgeseg.flows.bench.session import BenchRequest, BenchResult


def seconds(text: str) -> float:
    """``90``, ``90s``, ``10m`` or ``1h`` in seconds."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    unit = units.get(text[-1:].lower())
    try:
        value = float(text[:-1] if unit else text) * (unit or 1.0)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no time, e.g. 60, 90s or 10m")
    return value


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers above 0, comma-separated."""
    parts = _flags.names(text)
    if not parts or not all(part.isdigit() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not one or more numbers above 0, e.g. 1,2")
    return tuple(dict.fromkeys(map(int, parts)))


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg bench``."""
    add = parser.add_argument
    add("artifacts", nargs="*", type=Path, metavar="ARTIFACT", help="folders of artifacts (default: all in exports/)")
    add(
        "--device",
        type=_flags.names,
        metavar="NAMES",
        help="where to measure, comma-separated; boards at once (default: cpu)",
    )
    add("--threads", type=counts, metavar="N,…", help="CPU threads; each artifact is measured with each (default: 1)")
    add("--budget", type=seconds, metavar="TIME", help="time for the timed rounds (default: 60s)")
    add("--baseline", metavar="ARTIFACT", help="what the others are compared with (default: onnx-fp32, or the first)")
    add("--suite", type=Path, metavar="FILE", help="a TOML file with artifacts and these flags; flags win over it")
    add("--seed", type=int, metavar="N", help="of the order of measuring (default: 0)")
    add("--sustain", type=seconds, metavar="TIME", help="also run each variant without a pause for so long, e.g. 10m")
    add("--resume", action="store_true", help="go on with the last session of the same work that was not finished")
    add(
        "--self-test", type=int, nargs="?", const=5, metavar="RUNS",
        help="measure one artifact against itself and against twins slowed by 5 and 20 %%, so many times (default: 5)",
    )  # fmt: skip
    add(
        "--forecast", action="store_true",
        help="with --device pi: estimate the latency on Pi 3, 4 and 5 from the artifact's graph; nothing is measured or kept",
    )  # fmt: skip
    add("--timeout", type=seconds, default=60.0, metavar="TIME", help="patience with a silent worker (default: 60s)")
    add("--out", type=Path, metavar="DIR", help="where results go (default: bench/results)")
    add("--governor", metavar="NAME", help="clock governor while measuring, e.g. performance; put back afterwards")
    add("--cool-to", type=float, metavar="C", help="wait until the device is no hotter than this before timing")
    _flags.add_device_access(parser)
    _phones.add(parser)
    _flags.add_data(parser, "40 synthetic portraits; none: no accuracy")


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg bench``."""
    if arguments.forecast:
        return _forecast.run(_requests(arguments), arguments)
    if arguments.self_test:
        return _self_test(arguments)
    code, documents = 0, []
    requests = _requests(arguments)
    for group in _groups(requests):
        interrupted = False
        for one in _measured(group, arguments):
            if isinstance(one, EdgesegError):
                if len(requests) == 1:
                    raise one
                _output.complain(one.message, one.hint)  # the other devices are measured all the same
                code = one.exit_code
                continue
            documents.append(one)
            code = _shown(one, arguments) or code
            interrupted |= one.interrupted
        if interrupted:
            code = 130
            break
    if arguments.json:
        _output.json({"benches": [document(result) for result in documents]})
    return code


def _shown(result: BenchResult, arguments: argparse.Namespace) -> int:
    """Print a result; returns the exit code that it calls for."""
    code = 0
    if not arguments.json:
        _bench_table.show(result.summary)
        _output.note(f"{result.seconds:.0f} s, timing ended by {_WHY[result.summary.stopped]}; kept in {result.path}")
    for row in result.summary.rows:
        if row.failure is not None:
            _output.complain(f"{row.variant.key}: {row.failure.reason}", row.failure.hint)
            code = 3
    if result.unreachable is not None:
        _output.complain(result.unreachable.message, "the same command with --resume goes on")
        code = result.unreachable.exit_code
    return code


def _groups(requests: list[BenchRequest]) -> list[list[BenchRequest]]:
    """Those of one group are measured at once."""
    from edgeseg.flows.bench.several import groups

    return groups(requests) if len(requests) > 1 else [requests]


def _measured(group: list[BenchRequest], arguments: argparse.Namespace) -> Iterator[BenchResult | EdgesegError]:
    """One result a device; of one that comes by itself, one for each that came; an error for one that does not answer."""
    from edgeseg import devices
    from edgeseg.flows.bench.session import bench

    if len(group) > 1:
        yield from _at_once(group)
        return
    (request,) = group
    try:
        if devices.arrives(request.device):
            yield from _phones.measure(request, arguments)
            return
        with _bench_table.progress() as progress:
            yield bench(request, progress=progress)
    except DeviceUnreachable as error:
        yield error


def _at_once(group: list[BenchRequest]) -> Iterator[BenchResult | EdgesegError]:
    """The results of several boards, each when it is there, and the errors of those that cannot be measured."""
    from edgeseg.flows.bench.several import bench_at_once

    silent = interrupted = False
    with _bench_table.Bars() as bars:
        for outcome in bench_at_once(group, say=_output.note, progress=bars.show):
            if outcome.result is not None:
                interrupted |= outcome.result.interrupted
                yield outcome.result
            elif isinstance(outcome.error, EdgesegError):
                yield outcome.error
            elif outcome.error is not None:
                raise outcome.error
            else:
                silent = True
    if silent and not interrupted:
        raise KeyboardInterrupt


_WHY = {
    "narrow": "narrow intervals",
    "budget": "the budget",
    "interrupted": "an interrupt (--resume goes on)",
    "emulated": "nothing, because an emulator's time says nothing",
    "connection lost": "a lost connection (--resume goes on)",
}


def document(result: BenchResult) -> dict[str, object]:
    """The result for ``--json``."""
    from edgeseg.flows.bench.lines import line

    summary = result.summary
    return {
        "results": result.path,
        "device": summary.session.device,
        "data": summary.session.data,
        "synthetic": summary.session.synthetic,
        "stopped": summary.stopped,
        "seconds": round(result.seconds, 3),
        "rows": [line(summary.session, row) for row in summary.rows],
        "rankings_flipped": summary.flips,
    }


def _requests(arguments: argparse.Namespace) -> list[BenchRequest]:
    """One request a device: the flags, then the suite, then the defaults."""
    from edgeseg.flows.bench.session import RESULTS, BenchRequest
    from edgeseg.flows.bench.suite import Suite, read_suite

    suite = read_suite(arguments.suite) if arguments.suite else Suite()

    def said(flag: str, default: object) -> object:
        given = getattr(arguments, flag)
        return given if given not in (None, []) else (getattr(suite, flag, None) or default)

    devices = said("device", ("cpu",))
    settings = _flags.device_settings(arguments)
    if settings.host and len(devices) > 1:  # type: ignore[arg-type]
        raise EdgesegError("--host says where one device is, and several are named", "--device pi,ssh://user@other")
    return [
        BenchRequest(
            artifacts=tuple(Path(str(one)) for one in said("artifacts", ())),  # type: ignore[attr-defined]
            device=name,
            settings=settings,
            data=str(said("data", "sample")),
            mask_values=str(said("mask_values", "")),
            threads=tuple(said("threads", (1,))),  # type: ignore[arg-type]
            budget_s=float(said("budget", 60.0)),  # type: ignore[arg-type]
            baseline=str(said("baseline", "")),
            seed=int(said("seed", 0)),  # type: ignore[call-overload]
            sustain_s=float(said("sustain", 0.0)),  # type: ignore[arg-type]
            timeout_s=arguments.timeout,
            out=arguments.out or RESULTS,
            resume=arguments.resume,
            command=arguments.command_line,
        )
        for name in devices  # type: ignore[attr-defined]
    ]


def _self_test(arguments: argparse.Namespace) -> int:
    from edgeseg.flows.bench.self_test import SelfTestRequest, self_test

    request = SelfTestRequest(
        artifact=arguments.artifacts[0] if arguments.artifacts else None,
        device=arguments.device[0] if arguments.device else "cpu",
        runs=arguments.self_test,
        budget_s=arguments.budget or 20.0,
        threads=arguments.threads[0] if arguments.threads else 1,
        seed=arguments.seed or 0,
        settings=_flags.device_settings(arguments),
    )
    with _bench_table.progress() as progress:
        result = self_test(request, progress=progress)
    if arguments.json:
        _output.json({"artifact": result.artifact, "runs": result.runs, "twins": result.tallies})
        return 0 if result.passed else 3
    table = _output.Table(
        "",
        "called faster>",
        "called slower>",
        "cannot tell>",
        "ratios seen",
        title=f"{result.artifact}, {result.runs} runs",
    )
    for tally in result.tallies:
        seen = ", ".join(f"{ratio.value:.3f} [{ratio.low:.3f} … {ratio.high:.3f}]" for ratio in tally.ratios[:3])
        seen += " …" if len(tally.ratios) > 3 else ""
        state = "good" if tally.passed else "bad"
        name = "against itself" if tally.slowdown == 1 else f"slowed by {100 * (tally.slowdown - 1):.0f} %"
        table.row(
            f"{'✓' if tally.passed else '✗'} {name}",
            str(tally.faster), str(tally.slower), str(tally.undecided), seen, state=state,
        )  # fmt: skip
    table.show()
    _output.note(result.sentence)
    return 0 if result.passed else 3
