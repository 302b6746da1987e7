"""Calibration material: pictures or ready-made tensors as network inputs, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeseg.core.arrays import Array
from edgeseg.core.errors import DataError
from edgeseg.core.spec import ModelSpec
from edgeseg.data.dataset import Dataset, ahead, open_dataset
from edgeseg.data.preprocess import to_input
from edgeseg.quantization import contract

KEPT_BYTES = 192 << 20
"""So many bytes of prepared inputs are kept, because a picture is asked for four or five times."""


@dataclass(frozen=True)
class Material:
    """The calibration inputs, prepared again whenever they are asked for, unless all of them fit into `KEPT_BYTES`.

    Attributes:
        name: As the user wrote it.
        count: How many there are.
        read: Number to name, network input and mask; the mask is None where there is none.
        findings: What the calibration contract has to say about them.
    """

    name: str
    count: int
    read: Callable[[int], tuple[str, Array, Array | None]]
    findings: tuple[str, ...] = ()

    def stream(self) -> Iterator[tuple[str, Array, Array | None]]:
        """All of them in order, prepared ahead in threads."""
        return ahead(self.read, range(self.count), threads=2)

    def spread(self, count: int) -> list[int]:
        """Some of the pictures, spread over all."""
        count = min(count, self.count)
        return [int(index * self.count / count) for index in range(count)]


def is_tensors(calibration: str) -> bool:
    """Whether this names ready-made network inputs."""
    path = Path(calibration)
    return path.suffix == ".npy" or (path.is_dir() and any(path.glob("*.npy")))


def gather(
    text: str, spec: ModelSpec, *, mask_values: str = "", anyway: bool = False, say: Callable[[str], None]
) -> Material:
    """The calibration inputs, after the contract has been kept.

    Args:
        text: Pictures as after ``--data``, or ready-made tensors: a `.npy` file or a folder of them.
        spec: The network's spec.
        mask_values: Coding of the pictures' masks; empty to infer it.
        anyway: Go on although the contract is broken.
        say: Told what is being done.

    Raises:
        DataError: The data cannot be read, or the contract is broken.
    """
    elsewhere = is_tensors(text)
    if elsewhere:
        material = _tensors(text)
    else:
        dataset = open_dataset(text, mask_values=mask_values, classes=max(2, spec.output_channels))
        material = _from_pictures(text, dataset, spec)
    say(f"looking at {material.count} calibration pictures")
    seen: list[contract.Impression] = [contract.impression(name, tensor, spec) for name, tensor, _ in material.stream()]
    findings = contract.examine(seen, spec, prepared_elsewhere=elsewhere)
    return replace(material, findings=contract.enforce(findings, anyway=anyway))


def _kept(read: Callable[[int], tuple[str, Array, Array | None]]) -> Callable[[int], tuple[str, Array, Array | None]]:
    """`read` with a memory that ends at `KEPT_BYTES`; readable arrays only, they are shared."""
    memory: dict[int, tuple[str, Array, Array | None]] = {}
    used = 0

    def remembered(index: int) -> tuple[str, Array, Array | None]:
        nonlocal used
        if index in memory:
            return memory[index]
        found = read(index)
        size = sum(part.nbytes for part in found[1:] if part is not None)
        if used + size <= KEPT_BYTES:
            for part in found[1:]:
                if part is not None:
                    part.flags.writeable = False
            memory[index], used = found, used + size
        return found

    return remembered


def _from_pictures(name: str, dataset: Dataset, spec: ModelSpec) -> Material:
    def read(index: int) -> tuple[str, Array, Array | None]:
        sample = dataset.read(index)
        return sample.name, to_input(sample.image, spec), sample.mask

    return Material(name, len(dataset), _kept(read))


def _tensors(name: str) -> Material:
    """Ready-made network inputs: one file [N, ...] or [N, 1, ...], or a folder of files with one input each."""
    path = Path(name)
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    try:
        if len(files) == 1:
            array = np.load(files[0], mmap_mode="r", allow_pickle=False)
            if array.ndim == 5 and array.shape[1] == 1:
                array = array[:, 0]
            if array.ndim != 4:
                raise DataError(f"{files[0]} holds an array of {array.ndim} dimensions, expected [N, C, H, W]")

            def one(index: int) -> tuple[str, Array, Array | None]:
                return f"{files[0].name}[{index}]", np.array(array[index : index + 1]), None

            return Material(name, len(array), one)

        def each(index: int) -> tuple[str, Array, Array | None]:
            content = np.load(files[index], allow_pickle=False)
            return files[index].name, content[None] if content.ndim == 3 else content, None

        return Material(name, len(files), each)
    except (OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read as .npy: {error}") from error
