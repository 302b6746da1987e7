"""Pinned npm packages: only what was pinned, only the named files, never half of it. A script stands for npm."""

import base64
import gzip
import hashlib
import io
import json
import tarfile

import pytest

from edgeseg.core import npm
from edgeseg.core.errors import MissingDependency
from edgeseg.core.npm import Bundle, Package

FILES = {
    "package/dist/run.js": b"export default 1;",
    "package/dist/big.wasm": bytes(100_000),
    "package/install.js": b"evil",
    "package/../../outside": b"evil",
}


def integrity(content):
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


@pytest.fixture
def archive(tmp_path):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    path = tmp_path / "pinned-1.0.0.tgz"
    path.write_bytes(made.getvalue())
    return path


@pytest.fixture
def fake_npm(tmp_path, monkeypatch, archive):
    """`npm pack` that copies the archive, and writes down how it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "npm"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncp {archive} .\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("EDGESEG_CACHE_DIR", str(tmp_path / "cache"))
    return script


def bundle(archive, **fields):
    package = {
        "name": "pinned", "version": "1.0.0", "integrity": integrity(archive.read_bytes()), "folder": "it",
        "files": ("dist/run.js", "dist/big.wasm"),
    }  # fmt: skip
    return Bundle("page", (Package(**{**package, **fields}),), "edgeseg doctor --install page", "1 kB")


def test_missing_then_installed(fake_npm, archive, tmp_path):
    wanted = bundle(archive)
    with pytest.raises(MissingDependency, match=r"the page runtimes \(1 kB\) are not installed") as error:
        npm.files(wanted)
    assert error.value.hint == "edgeseg doctor --install page"
    said = []
    place = npm.install(wanted, say=said.append)
    assert said[0] == "page: fetching pinned 1.0.0"
    files = npm.files(wanted)
    assert set(files) == {"it/dist/run.js", "it/dist/big.wasm"}
    assert files["it/dist/run.js"].read_bytes() == FILES["package/dist/run.js"]
    packed = place / "it/dist/big.wasm.gz"
    assert gzip.decompress(packed.read_bytes()) == FILES["package/dist/big.wasm"]
    found = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert found == {npm.MARKER, "it/dist/run.js", "it/dist/big.wasm", "it/dist/big.wasm.gz"}
    assert json.loads((place / npm.MARKER).read_text())["packages"] == ["pinned@1.0.0"]
    calls = (tmp_path / "calls").read_text()
    assert calls.startswith("pack pinned@1.0.0")
    assert "--ignore-scripts" in calls
    npm.install(wanted)
    assert (tmp_path / "calls").read_text() == calls, "a second time fetches nothing"


def test_another_archive_is_refused_and_nothing_is_left(fake_npm, archive, tmp_path):
    wanted = bundle(archive)
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(bytes(content))
    with pytest.raises(MissingDependency, match=r"pinned 1\.0\.0 is not the archive that was pinned"):
        npm.install(wanted)
    assert not npm.is_installed(wanted)
    assert not any((tmp_path / "cache/npm").iterdir())


def test_a_package_without_a_wanted_file(fake_npm, archive):
    with pytest.raises(MissingDependency, match=r"has no file dist/other\.js"):
        npm.install(bundle(archive, files=("dist/other.js",)))


def test_no_network_and_no_npm(fake_npm, archive, monkeypatch):
    fake_npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    with pytest.raises(MissingDependency, match=r"pinned@1\.0\.0 cannot be fetched: npm error code ENOTFOUND"):
        npm.install(bundle(archive))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependency, match="there is no npm") as error:
        npm.install(bundle(archive))
    assert "apt install npm" in error.value.hint


def test_other_pins_are_another_folder(fake_npm, archive):
    one, other = bundle(archive), bundle(archive, version="1.0.1")
    assert npm.folder(one) != npm.folder(other)
