"""An artifact on disk: a folder with model files and the manifest that says what they are and what was proven.

exports/<model>/reference/            model.onnx  manifest.json     the reference: fp32 ONNX, as the checkpoint has it
exports/<model>/openvino-fp32/        model.xml   model.bin  manifest.json
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from edgeseg.core import atomic, records
from edgeseg.core.errors import ArtifactError
from edgeseg.core.spec import ModelSpec

MANIFEST = "manifest.json"
REFERENCE = "reference"
"""Name of the folder that holds a model's reference, beside its artifacts."""


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """The checkpoint that an artifact was made of."""

    path: str
    format: str
    sha256: str
    architecture: str = ""


@dataclass(frozen=True)
class ParityVerdict:
    """What `verify` found when the artifact was made; None = not measured.

    Attributes:
        passed: Whether every gate was reached.
        data: The pictures that were used.
        synthetic: Whether those were generated ones.
        images: How many.
        flipped_share: Share of pixels whose class is another one than in the reference's mask.
        miou: Dataset mIoU of the artifact, where there were ground-truth masks.
        reference_miou: Dataset mIoU of the reference on the same pictures.
        failures: The gates that were missed, as sentences.
    """

    passed: bool
    data: str
    synthetic: bool
    images: int
    flipped_share: float
    miou: Optional[float] = None
    reference_miou: Optional[float] = None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuantizationRecord:
    """How an INT8 artifact came about, and what of it is INT8.

    Attributes:
        method: ``edgeseg``, ``ort``, ``nncf`` or ``dynamic``.
        calibration: The calibration data, as the user wrote it.
        count: How many pictures that were.
        findings: What the calibration contract had to say about them, as sentences.
        ranges: Method to how many scales it gave.
        floating: Layers that were left in float.
        integer_mac_share: Share of the multiply-accumulates that the runtime executed in integers on this machine.
        machine: The instruction set of that machine, as far as it matters for integers.
        note: What the runtime says of itself.
    """

    method: str
    calibration: str
    count: int
    findings: tuple[str, ...] = ()
    ranges: dict[str, int] = field(default_factory=dict)
    floating: tuple[str, ...] = ()
    integer_mac_share: Optional[float] = None
    machine: str = ""
    note: str = ""


@dataclass(frozen=True)
class Manifest:
    """What an artifact is. The first of `files` is the one that the runtime opens."""

    model: str
    backend: str
    precision: str
    spec: ModelSpec
    files: tuple[FileEntry, ...]
    source: Source
    command: str
    tools: dict[str, str]
    reference_sha256: str = ""
    runtime_options: dict[str, str] = field(default_factory=dict)
    rewrites: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parity: Optional[ParityVerdict] = None
    quantization: Optional[QuantizationRecord] = None
    schema_version: int = 1


@dataclass(frozen=True)
class Artifact:
    """A folder whose files are what its manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def model_file(self) -> Path:
        """The file that the runtime opens."""
        return self.folder / self.manifest.files[0].name

    @property
    def name(self) -> str:
        """``<model>/<backend>-<precision>``, as the folder is called."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def size_bytes(self) -> int:
        """Size of all model files together."""
        return sum(entry.size_bytes for entry in self.manifest.files)


def entry(path: Path) -> FileEntry:
    """Size and hash of a file."""
    return FileEntry(path.name, path.stat().st_size, sha256(path))


def sha256(path: Path) -> str:
    """Hash of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def write(folder: Path, manifest: Manifest) -> None:
    """Write `manifest` into an artifact's folder."""
    atomic.write_text(folder / MANIFEST, records.to_json(manifest, indent=2) + "\n")


def read(folder: Path, *, check: bool = True) -> Artifact:
    """Open an artifact.

    Args:
        folder: The artifact's folder.
        check: Whether to hash every file and compare with the manifest.

    Raises:
        ArtifactError: It is no artifact, or its files are not those that the manifest describes.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"{folder} is not an artifact: it has no {MANIFEST}", "edgeseg export makes artifacts below exports/"
        ) from error
    manifest = records.from_json(Manifest, text, where=str(path))
    if not manifest.files:
        raise ArtifactError(f"{path} lists no files")
    for listed in manifest.files:
        file = folder / listed.name
        if Path(listed.name).name != listed.name:
            raise ArtifactError(f"{path} names a file outside its folder: {listed.name}")
        if not file.is_file():
            raise ArtifactError(f"{file} is missing", "export the artifact again")
        if check and sha256(file) != listed.sha256:
            raise ArtifactError(f"{file} is not the file that its manifest describes", "export the artifact again")
    return Artifact(folder, manifest)


def reference_of(artifact: Artifact) -> Artifact:
    """The reference that an artifact's masks are compared with.

    Raises:
        ArtifactError: It is missing or another one than the artifact was made from.
    """
    reference = read(artifact.folder.parent / REFERENCE)
    expected = artifact.manifest.reference_sha256
    if expected and reference.manifest.files[0].sha256 != expected:
        raise ArtifactError(
            f"{reference.folder} is not the reference that {artifact.name} was made from",
            "export the artifact again from its checkpoint",
        )
    return reference
