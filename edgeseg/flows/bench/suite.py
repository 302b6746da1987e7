"""A suite: what `bench` has to be told, in a TOML file that stands under git.

    edgeseg bench --suite bench/suites/cpu.toml

Flags on the command line win over the suite. Paths in it are relative to where the command runs, as the flags' are.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from edgeseg.core import records
from edgeseg.core.errors import EdgesegError


@dataclass(frozen=True)
class Suite:
    """The fields of a suite file; empty = not said. They mean what the flags of the same name mean."""

    artifacts: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    data: str = ""
    mask_values: str = ""
    threads: tuple[int, ...] = ()
    budget: float = 0.0
    """Seconds."""
    sustain: float = 0.0
    """Seconds."""
    baseline: str = ""
    seed: int = 0


def read_suite(path: Path) -> Suite:
    """Read a suite.

    Raises:
        EdgesegError: It is missing, no TOML, or has a field that no suite has.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EdgesegError(f"the suite {path} does not exist", "suites stand in bench/suites/") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise EdgesegError(f"the suite {path} is not TOML: {error}") from error
    return records.from_dict(Suite, document, where=str(path))
