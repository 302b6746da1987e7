from __future__ import annotations

import argparse
import json

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'edgeseg[train]'")

from edgeseg.cli import train
from edgeseg.core.errors import MissingDependency


def parse(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    train.add(parser)
    return parser.parse_args(words)


def test_a_run_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "net.npz"
    words = ["--data", "sample:4", "--val", "sample:2", "--out", str(out), "--input-size", "64x36", "--epochs", "2"]
    assert train.run(parse(*words, "--batch", "2", "--threads", "1", "--loss", "ce+scl", "--json")) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert out.exists()
    assert document["checkpoint"] == str(out)
    assert document["final"]["images"] == 2
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines == document["epochs"]


def test_without_torch_the_command_that_installs_it_is_named(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="training needs the package 'torch'") as caught:
        train.run(parse("--data", "sample:4", "--out", str(tmp_path / "net.npz")))
    assert caught.value.hint == "pip install 'edgeseg[train]'"
