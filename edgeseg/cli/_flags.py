"""Values and flags that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from edgeseg.core.device import Settings


class Limits(TypedDict):
    """What a user wants of an artifact, as shares of 1; None for what is usual for its precision."""

    min_agreement: float | None
    max_miou_drop: float | None
    min_miou: float | None
    max_connectivity_drop: float | None


def size(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT`` in pixels."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, e.g. 398x224")
    return int(width), int(height)


def three(text: str) -> tuple[float, float, float]:
    """Three numbers, one a channel; a single one stands for all three."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not one or three numbers, e.g. 0.485,0.456,0.406")
    return values[0], values[1], values[2]


def names(text: str) -> tuple[str, ...]:
    """Names, comma-separated."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def add_data(parser: argparse.ArgumentParser, default: str) -> None:
    """``--data`` and what the masks in it hold."""
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="pictures: a folder with images/ and masks/, a folder of images, a PaddleSeg list file, or sample[:N] "
        f"(synthetic portraits); DATA:N takes N of them (default: {default})",
    )
    parser.add_argument(
        "--mask-values",
        metavar="CODING",
        help="what the mask files hold: 0,1 | 0,1,255 (255 = ignore) | 0,255 (255 = person) | index; default: inferred "
        "from all masks, and said",
    )


def add_gates(parser: argparse.ArgumentParser) -> None:
    """What an artifact has to reach."""
    parser.add_argument(
        "--min-agreement", type=float, metavar="PERCENT",
        help="pixels that must have the reference's class (default: 99.9; int8: 99)",
    )  # fmt: skip
    parser.add_argument(
        "--max-drop", type=float, metavar="POINTS",
        help="mIoU that may be lost against the reference, in points of 100 (default: 0.1; int8: 0.3)",
    )  # fmt: skip
    parser.add_argument(
        "--max-connectivity-drop", type=float, metavar="POINTS",
        help="connectivity that may be lost against the reference, in points of 100; missed if the whole 95 %% interval "
        "over the pictures lies above it (default: no limit; int8: 0.5)",
    )  # fmt: skip
    parser.add_argument("--min-miou", type=float, metavar="X", help="dataset mIoU that must be reached, 0 to 1")


def limits(arguments: argparse.Namespace) -> Limits:
    """The flags that `add_gates` added, as shares of 1."""

    def share(value: float | None) -> float | None:
        return None if value is None else value / 100

    return {
        "min_agreement": share(arguments.min_agreement),
        "max_miou_drop": share(arguments.max_drop),
        "min_miou": arguments.min_miou,
        "max_connectivity_drop": share(arguments.max_connectivity_drop),
    }


def add_device_access(parser: argparse.ArgumentParser) -> None:
    """How a device that is not this machine is reached."""
    add = parser.add_argument
    add("--host", default="", metavar="WHERE", help="pi: user@name[:port] (default: pi@raspberrypi.local); android: the "
        "serial that `adb devices` shows, where there are several")  # fmt: skip
    add("--trust-new-host", action="store_true", help="accept the host key of a machine that is met for the first time")
    add("--keep", action="store_true", help="android: leave on the phone what was pushed, for the next run")
    add("--offline", action="store_true", help="the device has no internet: fetch here what it needs, and push it")


def device_settings(arguments: argparse.Namespace) -> Settings:
    """The settings of the flags that `add_device_access` added, and of those that only some commands have."""
    from edgeseg.cli._output import note
    from edgeseg.core.device import Settings

    return Settings(
        host=arguments.host,
        offline=arguments.offline,
        trust_new_host=arguments.trust_new_host,
        governor=getattr(arguments, "governor", None) or "",
        cool_to_c=getattr(arguments, "cool_to", None),
        cores=getattr(arguments, "cores", None) or "",
        keep=arguments.keep,
        benchmark_model=str(getattr(arguments, "benchmark_model", None) or ""),
        say=note,
    )


def add_rewrites(parser: argparse.ArgumentParser, *, tunable: bool = False) -> None:
    """Which exact rewrites of the graph to apply."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--rewrites", type=names, metavar="NAMES",
        help="exact rewrites of the graph, comma-separated, or a tuning.json (default: what each target profits from)",
    )  # fmt: skip
    if tunable:
        group.add_argument("--tune", action="store_true", help="measure the rewrites on this machine and keep what is "
            "faster for sure; tuning.json beside the artifact replays it: --rewrites tuning.json")  # fmt: skip
    group.add_argument("--no-rewrites", action="store_true", help="the graph as it is, only cleaned by onnxsim")
    parser.add_argument(
        "--raw-logits",
        action="store_true",
        help="keep the network's own logits; by default only their difference may stay, on which masks and probabilities hang",
    )


def rewrites(arguments: argparse.Namespace) -> tuple[str, ...] | None:
    """The names of the flags that `add_rewrites` added; None for those that suit the target."""
    return () if arguments.no_rewrites else arguments.rewrites


def replayed(given: tuple[str, ...] | None, targets: Sequence[str]) -> tuple[str, ...] | None:
    """The names themselves, or those in the tuning file that stands in their place."""
    if given is None or len(given) != 1 or not given[0].endswith(".json"):
        return given
    from edgeseg.flows import tune

    return tune.read(Path(given[0]), targets)
