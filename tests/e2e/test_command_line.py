import subprocess
import sys
from pathlib import Path

from edgeseg.cli import COMMANDS, parser


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from edgeseg.cli import parser; parser().format_help();"
        "print(sorted({'numpy', 'onnx', 'onnxruntime', 'cv2', 'PIL', 'rich', 'torch', 'openvino'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


ROOT = Path(__file__).parents[2]


def test_no_command_is_forgotten():
    files = {path.stem for path in (ROOT / "edgeseg/cli").glob("[a-z]*.py")}
    assert {module.__name__.rpartition(".")[2] for module in COMMANDS} == files


def test_every_command_is_in_the_help_and_in_the_readme(edgeseg):
    text = parser().format_help()
    readme = (ROOT / "README.md").read_text()
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        assert f"    {name}" in text
        assert f"edgeseg {name}" in readme
        assert edgeseg(name, "--help").code == 0


def test_doctor_names_what_mends(edgeseg):
    done = edgeseg("doctor")
    assert done.code == 0
    assert "onnxruntime" in done.out
    assert "android-emulated" in done.out
    assert "adb" in done.out
    edgeseg("doctor", "--install", "paddel").refused("unknown thing to install 'paddel'", "did you mean 'paddle'?")


def test_a_closed_pipe_is_quiet(edgeseg):
    done = subprocess.run(
        f"{sys.executable} -m edgeseg doctor | true", shell=True, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
