"""Whether an INT8 artifact is one: what of it runs in integers on the device, and whether that is faster than fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeseg.core.measurement import Loaded
from edgeseg.flows.bench.results import Variant
from edgeseg.metrics.latency import Interval
from edgeseg.metrics.stability import Label

NOT_FASTER = "not faster here"
MOSTLY_FLOAT = "mostly float"
NAMES = (NOT_FASTER, MOSTLY_FLOAT)
"""These labels stand in every table: whoever ships INT8 wants to know."""

LEAST_SHARE = 0.5
"""Below this share of integer multiply-accumulates an artifact is INT8 by name only."""

_INTEGERS = ("i8", "u8")
_FLOATS = ("f32", "f16", "bf16")


def plain_of(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """The fp32 artifact of the same network, runtime and number of threads; None if it was not measured along."""
    model = variant.artifact.rpartition("/")[0]
    wanted = f"{model}/{variant.backend}-fp32"
    where = (variant.threads, variant.accelerator)
    return next((one for one in variants if one.artifact == wanted and (one.threads, one.accelerator) == where), None)


def any_integer(executed: Mapping[str, int]) -> bool:
    """Whether a runtime multiplies anything in 8-bit integers: operations by precision, as `Loaded.executed` has them."""
    return any(executed.get(name) for name in _INTEGERS)


def labels(variant: Variant, loaded: Loaded | None, ratio: Interval | None, share: float | None) -> tuple[Label, ...]:
    """What should be known about an INT8 variant.

    Args:
        variant: It.
        loaded: What its runtime said when it was loaded on the device.
        ratio: Its latency against `plain_of`, paired by rounds; None if that was not measured.
        share: Share of the multiply-accumulates that ran in integers where it was quantised; None if nobody asked.
    """
    if variant.precision != "int8":
        return ()
    found = []
    executed = loaded.executed if loaded is not None else {}
    floats = {name: executed[name] for name in _FLOATS if executed.get(name)}
    if floats and not any_integer(executed):
        used = max(floats, key=lambda name: floats[name])
        found.append(
            Label(
                MOSTLY_FLOAT,
                f"{variant.backend} runs this INT8 artifact in {used} on this device, nothing of it in integers",
                f"ship {variant.backend} fp32 or fp16 here, or INT8 with another runtime",
                doubtful=False,
            )
        )
    elif share is not None and share < LEAST_SHARE:
        found.append(
            Label(
                MOSTLY_FLOAT,
                f"{100 * share:.0f} % of the multiply-accumulates run in integers",
                "edgeseg quantize --rank shows which layers stayed in float, and why",
                doubtful=False,
            )
        )
    if ratio is not None and not ratio.high < 1.0:
        found.append(
            Label(
                NOT_FASTER,
                f"×{ratio.value:.3f} [{ratio.low:.3f} … {ratio.high:.3f}] of {variant.backend} fp32's latency",
                "more rounds (--budget) if the interval is wide; otherwise fp32 is as fast here and loses no mask",
                doubtful=False,
            )
        )
    elif ratio is None and found:
        found.append(
            Label(NOT_FASTER, "it runs in float", f"measure {variant.backend}-fp32 along with it", doubtful=False)
        )
    return tuple(found)
