"""Verifying on a device: the masks of its own kernels against the reference's, which runs here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from edgeseg import devices
from edgeseg.core.device import Settings
from edgeseg.core.errors import ArtifactError
from edgeseg.core.manifest import Artifact
from edgeseg.data.dataset import Dataset
from edgeseg.data.predictor import Predictor
from edgeseg.flows.bench import accuracy
from edgeseg.flows.bench.accuracy import Worst
from edgeseg.flows.bench.crew import Crew
from edgeseg.flows.bench.results import Accuracy, Failure
from edgeseg.flows.bench.variants import variants
from edgeseg.flows.parity import Compared, Comparison, Gate, missed

TIMEOUT_S = 300.0


def verify_there(
    artifacts: Sequence[Artifact],
    reference: Predictor,
    dataset: Dataset,
    *,
    device: str,
    settings: Settings,
    gates: Sequence[Gate],
    keep_worst: int,
    step: Callable[[int], None],
) -> list[Comparison]:
    """Compare artifacts on a device with their reference.

    Args:
        artifacts: All made from one reference.
        reference: It, loaded here.
        dataset: The pictures.
        device: Name of the device.
        settings: What was asked of it.
        gates: What each artifact has to reach, in their order.
        keep_worst: How many pictures to keep of each artifact.
        step: Told how many pictures are finished.

    Raises:
        DeviceUnreachable: It does not answer, or no longer.
        ArtifactError: An artifact does not run there.
    """
    failures: list[Failure] = []
    mates = variants(artifacts, (1,))
    with contextlib.closing(devices.load(device, settings)) as place:
        place.probe()
        crew = Crew(place, mates, (), timeout_s=TIMEOUT_S, lost=failures.append)
        try:
            found, worst = accuracy.run(crew, mates, reference, dataset, keep_worst=keep_worst, step=step)
        finally:
            crew.close()
    if failures:
        raise ArtifactError(f"{failures[0].item} does not run on {device}: {failures[0].reason}", failures[0].hint)
    records = {one.item: one for one in found}
    if any(mate.variant.key not in records for mate in mates):
        raise ArtifactError(f"{device} gave no whole set of masks", f"edgeseg bench --device {device} says more")
    base = records["reference"]
    return [
        _comparison(mate.variant.artifact, records[mate.variant.key], base, worst, gate)
        for mate, gate in zip(mates, gates, strict=True)
    ]


def _comparison(name: str, own: Accuracy, base: Accuracy, worst: Sequence[Worst], gate: Gate) -> Comparison:
    assert own.agreement is not None, "there is a reference, so agreement was measured"
    kept = tuple(
        Compared(one.sample, one.reference, one.mask, one.flipped_share, one.miou)
        for one in worst
        if one.artifact == name
    )
    gaps = missed(gate, own.agreement, own.scores, base.scores, own.connectivity_loss)
    return Comparison(name, own.agreement, own.scores, base.scores, gaps, kept, own.connectivity_loss)
