import errno
import os
import subprocess
import sys
import textwrap

import pytest

from edgeseg.core import atomic


def test_write_bytes_replaces(tmp_path):
    file = tmp_path / "new" / "file"
    atomic.write_bytes(file, b"old")
    atomic.write_bytes(file, b"new")
    assert file.read_bytes() == b"new"
    assert [entry.name for entry in file.parent.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "file"
    atomic.write_bytes(file, b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic.write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    place = tmp_path / "artifact"
    for content in ("old", "new"):
        with atomic.folder(place) as out:
            (out / "model").write_text(content)
            assert not (place / "model").exists() or (place / "model").read_text() == "old"
    assert (place / "model").read_text() == "new"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_folder_leaves_the_old_one(tmp_path, error):
    place = tmp_path / "artifact"
    with atomic.folder(place) as out:
        (out / "model").write_text("old")
    with pytest.raises(error), atomic.folder(place) as out:
        (out / "model").write_text("half")
        raise error
    assert (place / "model").read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_killed_process_left_is_swept_away_and_the_old_folder_stands(tmp_path):
    place = tmp_path / "artifact"
    with atomic.folder(place) as out:
        (out / "model").write_text("old")
    script = textwrap.dedent(
        f"""
        import os, pathlib, signal
        from edgeseg.core import atomic
        with atomic.folder(pathlib.Path({str(place)!r})) as out:
            (out / "model").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert (place / "model").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    with atomic.folder(place) as out:
        (out / "model").write_text("new")
    assert (place / "model").read_text() == "new"
    assert list(tmp_path.iterdir()) == [place]


def test_the_folder_of_a_running_process_is_left_alone(tmp_path):
    place = tmp_path / "artifact"
    with atomic.folder(place) as first:
        (first / "model").write_text("first")
        with atomic.folder(place) as second:
            (second / "model").write_text("second")
        assert (first / "model").read_text() == "first"
    assert (place / "model").read_text() == "first"
