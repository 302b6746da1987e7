"""Which artifacts are measured, with how many threads, against which baseline and reference."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeseg.core import manifest
from edgeseg.core.device import TOOL
from edgeseg.core.errors import ArtifactError, unknown
from edgeseg.core.manifest import MANIFEST, REFERENCE, Artifact
from edgeseg.flows.bench.crew import Mate
from edgeseg.flows.bench.results import Variant


def find(folders: Sequence[Path], exports: Path) -> list[Artifact]:
    """The artifacts of a request, each checked against the hashes of its manifest.

    Raises:
        ArtifactError: There is none, or one is not what its manifest says.
    """
    if not folders:
        folders = sorted(path.parent for path in exports.glob(f"*/*/{MANIFEST}") if path.parent.name != REFERENCE)
        if not folders:
            raise ArtifactError(f"there are no artifacts in {exports}", "edgeseg export --target onnx,openvino")
    found = [manifest.read(folder.resolve()) for folder in folders]
    names = [artifact.name for artifact in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ArtifactError(f"{twice} is named twice", "edgeseg bench --self-test measures an artifact against itself")
    return found


def variants(artifacts: Sequence[Artifact], threads: Sequence[int], accelerators: Sequence[str] = ()) -> list[Mate]:
    """Each artifact with each number of threads, then on each accelerator."""
    return [
        Mate(
            Variant(
                key=f"{artifact.name}@{accelerator or count}",
                artifact=artifact.name,
                backend=artifact.manifest.backend,
                precision=artifact.manifest.precision,
                threads=count,
                size_bytes=artifact.size_bytes,
                sha256=hashlib.sha256("".join(entry.sha256 for entry in artifact.manifest.files).encode()).hexdigest(),
                accelerator=accelerator,
                integer_mac_share=quantization.integer_mac_share if quantization is not None else None,
            ),
            artifact,
        )
        for artifact in artifacts
        for quantization in (artifact.manifest.quantization,)
        for count, accelerator in [*((count, "") for count in threads), *((1, one) for one in accelerators)]
    ]


def with_tool(mates: Sequence[Mate]) -> list[Mate]:
    """The variants, each of a TFLite file followed by the same run by Google's ``benchmark_model``.

    Raises:
        ArtifactError: There is no TFLite file.
    """
    found = []
    for mate in mates:
        found.append(mate)
        if mate.variant.backend == "tflite" and not mate.variant.accelerator:
            own = replace(mate.variant, key=f"{mate.variant.key}+{TOOL}", accelerator=TOOL)
            found.append(Mate(own, mate.artifact))
    if len(found) == len(mates):
        raise ArtifactError(f"{TOOL} runs TFLite files, and there is none", "edgeseg export --target tflite")
    return found


def baseline_of(mates: Sequence[Mate], wanted: str) -> str:
    """The key that the others are compared with.

    Raises:
        EdgesegError: No variant is called so.
    """
    keys = [mate.variant.key for mate in mates]
    if not wanted:
        plain = [mate.variant.key for mate in mates if mate.artifact.folder.name == "onnx-fp32"]
        return (plain or keys)[0]
    for mate in mates:
        if wanted in (mate.variant.key, mate.variant.artifact, mate.artifact.folder.name):
            return mate.variant.key
    raise unknown("baseline", wanted, keys)


def common_reference(artifacts: Sequence[Artifact]) -> Artifact:
    """The reference that all artifacts were made from.

    Raises:
        ArtifactError: They come from different ones, or it is missing.
    """
    references = [manifest.reference_of(artifact) for artifact in artifacts]
    for artifact, other in zip(artifacts, references, strict=True):
        if other.manifest.files[0].sha256 != references[0].manifest.files[0].sha256:
            raise ArtifactError(
                f"{artifacts[0].name} and {artifact.name} come from different references",
                "bench the artifacts of one model at a time, or without masks: --data none",
            )
    return references[0]
