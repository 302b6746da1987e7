"""What a run is told, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from edgeseg.core.errors import EdgesegError, unknown
from edgeseg.metrics.quality import QualityScores
from edgeseg.training.augmentation import SYNTHETIC, Augmentation
from edgeseg.training.losses import cross_entropy, lovasz_softmax
from edgeseg.training.scl import scl
from edgeseg.training.state import check_suffix

Terms = dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]]
"""Name of a term of the loss to its function and its weight."""

LOSSES: Terms = {
    "ce": (cross_entropy, 1.0),
    "lovasz": (lovasz_softmax, 0.5),
    "scl": (scl, 0.01),
}
"""Terms of the loss and their weights; SCL's is the published one."""

CLASSES = ("background", "person")


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        data: Training data: PaddleSeg lists, folders, `sample:N`, joined by commas.
        val: Validation data, likewise; empty for none.
        out: Checkpoint to write, `.safetensors` or `.npz`.
        init: Checkpoint to start from; None to start from random weights.
        loss: Terms joined by ``+``: ``ce``, ``lovasz``, ``scl``.
        scl_weight: Weight of SCL.
        input_size: (width, height) of the network's input.
        epochs: How often the pictures are gone through.
        batch: Pictures in a batch.
        learning_rate: At the start, after the warm-up.
        weight_decay: Of convolution weights; batch norms have none.
        warmup_steps: Steps in which the learning rate rises to its start.
        power: Of the polynomial by which the learning rate falls to 0.
        ema: Decay of the moving average of the weights in a step.
        synthetic_share: Share of synthetic pictures in an epoch of a mix; 0 for all in every epoch.
        augmentation: How strong.
        synthetic_augmentation: How strong for synthetic pictures, which vary by themselves.
        mask_values: Coding of mask files; empty to infer it.
        validate_every: Epochs between validations; the last epoch is always validated.
        seed: Of weights, order and augmentation.
        threads: CPU threads.
        resume: Go on where the run that writes `out` was stopped.
    """

    data: str
    val: str
    out: Path
    init: Path | None = None
    loss: str = "ce+lovasz+scl"
    scl_weight: float = 0.01
    input_size: tuple[int, int] = (256, 144)
    epochs: int = 60
    batch: int = 16
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    power: float = 0.9
    ema: float = 0.996
    synthetic_share: float = 0.4
    augmentation: Augmentation = field(default_factory=Augmentation)
    synthetic_augmentation: Augmentation = SYNTHETIC
    mask_values: str = ""
    validate_every: int = 5
    seed: int = 0
    threads: int = 2
    resume: bool = False


@dataclass(frozen=True)
class EpochRecord:
    """One line of the log.

    Attributes:
        epoch: From 1.
        loss: Mean training loss.
        learning_rate: At the epoch's last step.
        seconds: Wall time of the epoch without its validation.
        terms: Mean of each term of the loss, unweighted.
        miou: Dataset mIoU of the averaged weights on the validation data; None where not validated.
        foreground_iou: Likewise.
        boundary_iou: Likewise.
        connectivity: Likewise.
    """

    epoch: int
    loss: float
    learning_rate: float
    seconds: float
    terms: dict[str, float]
    miou: float | None = None
    foreground_iou: float | None = None
    boundary_iou: float | None = None
    connectivity: float | None = None


@dataclass(frozen=True)
class TrainResult:
    """What a run gave.

    Attributes:
        checkpoint: The file written: the averaged weights after the last epoch.
        log: One JSON line for each epoch.
        epochs: The same as records.
        final: The last validation; None without validation data.
    """

    checkpoint: Path
    log: Path
    epochs: tuple[EpochRecord, ...]
    final: QualityScores | None


def terms_of(config: TrainConfig) -> Terms:
    """The loss of a run.

    Raises:
        EdgesegError: A term is unknown, or cross-entropy is not among them.
    """
    chosen = {}
    for name in config.loss.split("+"):
        if name not in LOSSES:
            raise unknown("term of the loss", name, LOSSES)
        function, weight = LOSSES[name]
        chosen[name] = (function, config.scl_weight if name == "scl" else weight)
    if "ce" not in chosen:
        raise EdgesegError(
            f"the loss {config.loss!r} has no cross-entropy, which the other terms lean on", "--loss ce+scl"
        )
    return chosen


def check(config: TrainConfig) -> None:
    """Refuse settings that make no sense before anything is read or written.

    Raises:
        EdgesegError: The setting is named.
    """
    check_suffix(config.out)
    for name, low in (("epochs", 1), ("batch", 2), ("validate_every", 1), ("threads", 1)):
        if getattr(config, name) < low:
            raise EdgesegError(f"{name} {getattr(config, name)} is below {low}", f"--{name.replace('_', '-')} {low}")
    if min(config.input_size) < 32:
        width, height = config.input_size
        raise EdgesegError(f"input size {width}x{height} is too small for ConnectNet", "--input-size 256x144")


def fingerprint(config: TrainConfig) -> dict[str, Any]:
    """What a resumed run must have in common with the run before; where files lie is not a part of it."""
    settings = asdict(config)
    for name in ("out", "resume", "threads", "val", "init", "data"):
        del settings[name]
    settings["data"] = [Path(part).name for part in config.data.split(",")]
    settings["input_size"] = list(config.input_size)
    for name in ("augmentation", "synthetic_augmentation"):
        settings[name]["scale"] = list(settings[name]["scale"])
    return settings


def metadata_of(config: TrainConfig, final: QualityScores | None) -> dict[str, str]:
    """What the checkpoint's header says about itself."""
    width, height = config.input_size
    known = {
        "architecture": "pphumanseg-lite",
        "input_size": f"{width}x{height}",
        "classes": ",".join(CLASSES),
        "color": "rgb",
        "mean": "0.5,0.5,0.5",
        "std": "0.5,0.5,0.5",
        "loss": config.loss,
        "epochs": str(config.epochs),
        "seed": str(config.seed),
    }
    return known if final is None else {**known, "val_miou": f"{final.miou:.4f}"}
