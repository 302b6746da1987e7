"""How far off a forecast may be, and what measurements of the board make of that.

Ratios of measured to forecast time are taken for log-normal. Without any of this board, their spread is that of the public
figures left out of the fit. With some, their mean corrects the forecast, and the interval is a prediction interval for
one more artifact: Student's t over the spread of the ratios, with `PRIOR_SPREAD` counting like `PRIOR_WEIGHT` of them, so that two
ratios that happen to agree promise nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.959964
"""Of the normal distribution at 97.5 %."""

UNSEEN = {"pi3": 0.38, "pi4": 0.38, "pi5": 0.46}
"""Spread of ln(measured / forecast) of figures that the fit has not seen, by the hardest way of leaving out that was tried (a whole
precision: 0.33, widened so that 95 % of them lie inside; a runtime: 0.27, a network: 0.20). For a Pi 5, of which no figures were found,
with that of a board that was left out (0.26) besides. ``tests/benchmarks/bench_forecast.py`` prints all of them."""
PRIOR_SPREAD = 0.21
"""Spread from figure to figure: each left out of the fit once."""
PRIOR_WEIGHT = 4
NEAR = 3
"""So many measurements with the same runtime and precision are preferred to all of the board."""


@dataclass(frozen=True)
class Ratio:
    """A measurement against its own forecast.

    Attributes:
        value: Measured time over forecast time.
        kind: What it was measured with: runtime and executed precision.
        session: The session that it is from.
        item: What was measured.
    """

    value: float
    kind: str
    session: str
    item: str


@dataclass(frozen=True)
class Band:
    """A factor on a forecast, with its 95 % interval.

    Attributes:
        factor: The correction; 1 without measurements.
        low: Lower end, a factor on the uncorrected forecast too.
        high: Upper end.
        used: The measurements that it rests on; none: it is not calibrated.
    """

    factor: float
    low: float
    high: float
    used: tuple[Ratio, ...] = ()


def band(board: str, kind: str, ratios: Sequence[Ratio]) -> Band:
    """The correction and the interval for one artifact on a board.

    Args:
        board: Key of the board.
        kind: Runtime and executed precision of the artifact.
        ratios: All measurements of that board.
    """
    near = tuple(one for one in ratios if one.kind == kind)
    used = near if len(near) >= NEAR else tuple(ratios)
    if not used:
        wide = math.exp(_Z * UNSEEN[board])
        return Band(1.0, 1 / wide, wide)
    logs = [math.log(one.value) for one in used]
    count = len(logs)
    mean = sum(logs) / count
    freedom = PRIOR_WEIGHT + count - 1
    squares = PRIOR_WEIGHT * PRIOR_SPREAD**2 + sum((one - mean) ** 2 for one in logs)
    half = student_t(freedom) * math.sqrt(squares / freedom * (1 + 1 / count))
    return Band(math.exp(mean), math.exp(mean - half), math.exp(mean + half), used)


def student_t(freedom: int) -> float:
    """Student's t at 97.5 %, by the expansion around the normal (Abramowitz and Stegun, 26.7.5); 0.5 % off at 4."""
    z = _Z
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
