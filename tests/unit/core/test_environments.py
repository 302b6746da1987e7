"""Environments of their own: made atomically, found again, never half-made. A wheel made here stands for the real tool."""

import sys
import threading
import zipfile
from pathlib import Path

import pytest

from edgeseg.core import environments, process
from edgeseg.core.environments import Environment
from edgeseg.core.errors import MissingDependency

HERE = (sys.version_info[0], sys.version_info[1])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGESEG_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tool(tmp_path: Path) -> Environment:
    """An environment whose one requirement is a wheel on this disk."""
    wheel = tmp_path / "edgeseg_fake_tool-1.0-py3-none-any.whl"
    info = "edgeseg_fake_tool-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("edgeseg_fake_tool.py", "print('the tool speaks')\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: edgeseg-fake-tool\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/RECORD", f"edgeseg_fake_tool.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return Environment(
        "fake", (str(wheel),), (HERE,), "edgeseg doctor --install fake", "import edgeseg_fake_tool", "1 kB"
    )


def test_missing_then_installed_then_removed(tool: Environment) -> None:
    with pytest.raises(MissingDependency, match=r"separate fake environment \(1 kB\) is not installed") as error:
        environments.run(tool, ["-c", ""], timeout_s=10)
    assert error.value.hint == "edgeseg doctor --install fake"

    said: list[str] = []
    place = environments.install(tool, say=said.append)
    assert place == environments.folder(tool)
    assert any("installing" in line and "1 kB" in line for line in said)
    assert environments.run(tool, ["-m", "edgeseg_fake_tool"], timeout_s=30).stdout == "the tool speaks\n"
    record = environments.installed()[place]
    assert record is not None
    assert record.python.startswith(f"{HERE[0]}.{HERE[1]}.")
    assert any("edgeseg-fake-tool" in line or "edgeseg_fake_tool" in line for line in record.packages)

    stamp = (place / environments.MARKER).stat().st_mtime_ns
    environments.install(tool)  # a second time changes nothing
    assert (place / environments.MARKER).stat().st_mtime_ns == stamp

    assert environments.remove(tool)
    assert not environments.remove(tool)
    assert environments.installed() == {}


def test_our_packages_and_folder_stay_out(tool: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environments.install(tool)
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = environments.run(tool, ["-c", "import json, sys; print(sys.flags.isolated)"], timeout_s=30, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
    assert environments.run(tool, ["-c", "import numpy"], timeout_s=30).returncode != 0


@pytest.mark.slow
def test_without_uv_the_venv_module_and_pip_do_it(tool: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_uv", lambda: "")
    environments.install(tool)
    assert environments.run(tool, ["-m", "edgeseg_fake_tool"], timeout_s=30).returncode == 0


def test_a_killed_installation_is_not_used_and_is_replaced(tool: Environment) -> None:
    place = environments.folder(tool)
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").symlink_to(sys.executable)
    (place / "rest").touch()
    assert not environments.is_installed(tool)
    assert environments.installed() == {place: None}
    with pytest.raises(MissingDependency, match="not installed"):
        environments.python(tool)
    environments.install(tool)
    assert environments.is_installed(tool)
    assert not (place / "rest").exists()


def test_a_requirement_that_cannot_be_had_leaves_nothing(tmp_path: Path) -> None:
    wrong = Environment("wrong", (str(tmp_path / "none-1.0-py3-none-any.whl"),), (HERE,), "install it")
    with pytest.raises(MissingDependency, match=r"wrong environment cannot be installed: .*none-1\.0") as error:
        environments.install(wrong)
    assert "install it" in error.value.hint
    assert not environments.folder(wrong).exists()


def test_a_probe_that_fails_leaves_nothing(tool: Environment) -> None:
    broken = Environment("broken", tool.requirements, tool.pythons, "x", "import edgeseg_no_such_module")
    with pytest.raises(MissingDependency, match="edgeseg_no_such_module"):
        environments.install(broken)
    assert environments.installed() == {}


def test_a_python_that_is_not_here_is_said(tool: Environment) -> None:
    future = Environment("future", tool.requirements, ((3, 99),), "edgeseg doctor --install future")
    with pytest.raises(MissingDependency, match=r"needs Python 3\.99, and none of them was found") as error:
        environments.install(future)
    assert "uv python install 3.99" in error.value.hint


def test_a_removed_base_python_counts_as_not_installed(tool: Environment) -> None:
    place = environments.install(tool)
    (place / "bin" / "python").unlink()
    (place / "bin" / "python").symlink_to(place / "gone")
    assert not environments.is_installed(tool)


def test_other_pins_are_another_folder(tool: Environment) -> None:
    other = Environment(tool.name, ("something==2",), tool.pythons, tool.install_command)
    assert environments.folder(other) != environments.folder(tool)
    reordered = Environment(tool.name, tool.requirements, tool.pythons, "another command", "another probe")
    assert environments.folder(reordered) == environments.folder(tool)


def test_two_at_once_make_it_once(tool: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = process.run

    def counting(command: list[str], **options: object) -> process.Finished:
        if "venv" in command:
            made.append(1)
        return real(command, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", counting)
    threads = [threading.Thread(target=environments.install, args=(tool,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert environments.is_installed(tool)
    assert len(made) == 1
