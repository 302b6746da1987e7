"""A program that is run ends, with its children, whatever it does."""

import os
import sys
import time
from pathlib import Path

import pytest

from edgeseg.core import process


def test_status_and_both_streams_are_kept_apart() -> None:
    done = process.run([sys.executable, "-c", "import sys; print('out'); sys.exit('worse')"], timeout_s=30)
    assert (done.returncode, done.stdout, done.stderr, done.last_words) == (1, "out\n", "worse\n", "worse")


def test_a_crash_is_named_by_its_signal() -> None:
    done = process.run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"], timeout_s=30)
    assert done.last_words == "ended by SIGSEGV"


def test_the_limit_ends_the_children_too(tmp_path: Path) -> None:
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path(sys.argv[1]).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(process.Timeout, match=r"did not end within 3 s and was stopped"):
        process.run([sys.executable, "-c", code, str(tmp_path / "pid")], timeout_s=3)
    child = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not _running(child):
            return
        time.sleep(0.05)
    pytest.fail(f"the child {child} outlived the limit")


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")  # dead, not yet collected
