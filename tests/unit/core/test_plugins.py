import pytest

from edgeseg.core import plugins
from edgeseg.core.errors import EdgesegError, MissingDependency


def test_names_come_from_files_without_importing_them():
    assert {"null", "onnx", "openvino"} <= set(plugins.names("edgeseg.backends"))
    assert plugins.names("edgeseg.architectures") == ["pphumanseg-lite"]


def test_an_unknown_name_lists_the_known_ones_and_suggests():
    with pytest.raises(EdgesegError, match="unknown backend 'openvin'") as caught:
        plugins.load("edgeseg.backends", "openvin")
    assert "did you mean 'openvino'?" in caught.value.hint
    assert "onnx" in caught.value.hint


def test_a_missing_package_names_the_extra():
    with pytest.raises(MissingDependency, match="no_such_runtime") as caught:
        plugins.require("no_such_runtime", extra="openvino", what="the backend x")
    assert caught.value.hint == "pip install 'edgeseg[openvino]'"
