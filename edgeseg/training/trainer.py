"""Training ConnectNet from a list of pictures to a checkpoint."""

from __future__ import annotations

import copy
import ctypes
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeseg.core.errors import EdgesegError, unknown
from edgeseg.core.records import to_dict
from edgeseg.data.dataset import Dataset
from edgeseg.metrics.quality import QualityScores
from edgeseg.training.augmentation import Augmentation
from edgeseg.training.connectnet import ConnectNet, load_arrays
from edgeseg.training.losses import cross_entropy, lovasz_softmax
from edgeseg.training.pictures import Batch, Pictures, open_mix
from edgeseg.training.scl import scl
from edgeseg.training.state import (
    RunState,
    check_suffix,
    load_state,
    save_state,
    save_weights,
    state_path,
    write,
)
from edgeseg.training.validation import validate

LOSSES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
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


@dataclass(frozen=True)
class Watch:
    """Who is told how a run goes: `step(done, total)` within an epoch, `epoch(record)` after each."""

    step: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[EpochRecord], None] = lambda record: None


def train(config: TrainConfig, watch: Watch | None = None) -> TrainResult:
    """Train, validate, write the checkpoint; the same config gives the same curve on the same machine.

    After every epoch the run's state lies beside the checkpoint (``OUT.resume``); the file is removed when the run is
    complete. Nothing is selected on the validation data: the checkpoint holds the last epoch's averaged weights.

    Raises:
        DataError: The data is missing, empty, without masks, or a mask holds a class out of range.
        CheckpointError: `init` does not fit, there is nothing to resume, or a file cannot be written; what was
            written before stays good.
        EdgesegError: A setting makes no sense.
    """
    watch = watch or Watch()
    terms = _terms(config)
    _check(config)
    val = open_mix(config.val, mask_values=config.mask_values) if config.val else ()
    datasets = open_mix(config.data, mask_values=config.mask_values)
    with _settings(config):
        state = _begin(config)
        if config.resume:
            load_state(state_path(config.out), state, _fingerprint(config))
        pictures = Pictures(
            datasets,
            size=config.input_size,
            seed=config.seed,
            settings=config.augmentation,
            synthetic_share=config.synthetic_share,
        )
        log = config.out.with_name(config.out.name + ".log.jsonl")
        final: QualityScores | None = None
        while state.epoch < config.epochs:
            record, final = _epoch(config, state, pictures, terms, val, watch)
            state.records.append(to_dict(record))
            state.epoch += 1
            write(log, "".join(json.dumps(line) + "\n" for line in state.records).encode())
            save_state(state_path(config.out), state, _fingerprint(config))
            watch.epoch(record)
        save_weights(config.out, state.average, _metadata(config, final))
        state_path(config.out).unlink(missing_ok=True)
    return TrainResult(config.out, log, tuple(EpochRecord(**line) for line in state.records), final)


def _terms(config: TrainConfig) -> dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]]:
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


def _check(config: TrainConfig) -> None:
    check_suffix(config.out)
    for name, low in (("epochs", 1), ("batch", 2), ("validate_every", 1), ("threads", 1)):
        if getattr(config, name) < low:
            raise EdgesegError(f"{name} {getattr(config, name)} is below {low}", f"--{name.replace('_', '-')} {low}")
    if min(config.input_size) < 32:
        width, height = config.input_size
        raise EdgesegError(f"input size {width}x{height} is too small for ConnectNet", "--input-size 256x144")


def _fingerprint(config: TrainConfig) -> dict[str, Any]:
    """What a resumed run must have in common with the run before; where files lie is not a part of it."""
    settings = asdict(config)
    for name in ("out", "resume", "threads", "val", "init", "data"):
        del settings[name]
    settings["data"] = [Path(part).name for part in config.data.split(",")]
    settings["input_size"] = list(config.input_size)
    settings["augmentation"]["scale"] = list(config.augmentation.scale)
    return settings


def _begin(config: TrainConfig) -> RunState:
    torch.manual_seed(config.seed)
    network: nn.Module = ConnectNet(len(CLASSES))
    if config.init is not None and not config.resume:
        from edgeseg import checkpoints

        weights = checkpoints.read(config.init).weights
        load_arrays(network, weights or {}, where=str(config.init))
    network = network.to(memory_format=torch.channels_last)
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    return RunState(network, copy.deepcopy(network), optimizer, 0, [])


def _epoch(
    config: TrainConfig,
    state: RunState,
    pictures: Pictures,
    terms: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]],
    val: tuple[Dataset, ...],
    watch: Watch,
) -> tuple[EpochRecord, QualityScores | None]:
    started = time.perf_counter()
    steps = pictures.steps(config.batch)
    sums = dict.fromkeys(terms, 0.0)
    rate = 0.0
    state.network.train()
    for step, batch in enumerate(pictures.batches(state.epoch, config.batch)):
        rate = _rate(config, state.epoch * steps + step, config.epochs * steps)
        for name, value in _step(config, state, batch, terms, rate).items():
            sums[name] += value
        _follow(state, min(config.ema, (state.epoch * steps + step + 1) / (state.epoch * steps + step + 10)))
        watch.step(step + 1, steps)
    seconds = time.perf_counter() - started
    means = {name: total / steps for name, total in sums.items()}
    loss = sum(terms[name][1] * mean for name, mean in means.items())
    record = EpochRecord(state.epoch + 1, loss, rate, round(seconds, 2), means)
    last = state.epoch + 1 == config.epochs
    if not val or not (last or (state.epoch + 1) % config.validate_every == 0):
        return record, None
    scores = validate(state.average, val, config.input_size)
    if scores is None:
        return record, None
    measured = EpochRecord(
        **{**asdict(record), "miou": scores.miou, "foreground_iou": scores.foreground_iou},
    )
    return (
        EpochRecord(**{**asdict(measured), "boundary_iou": scores.boundary_iou, "connectivity": scores.connectivity}),
        scores,
    )


def _step(
    config: TrainConfig,
    state: RunState,
    batch: Batch,
    terms: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float]],
    rate: float,
) -> dict[str, float]:
    """One step of the optimiser; returns each term's value."""
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    logits = state.network(batch.images)
    # Cross-entropy sees every pixel. The other two sort pixels or look for components: every second one in both
    # directions says the same at a quarter of the price.
    coarse, coarse_labels = logits[:, :, ::2, ::2], batch.labels[:, ::2, ::2]
    values = {
        name: function(logits, batch.labels) if name == "ce" else function(coarse, coarse_labels)
        for name, (function, _) in terms.items()
    }
    total = torch.stack([terms[name][1] * value for name, value in values.items()]).sum()
    if not torch.isfinite(total):
        raise EdgesegError(
            f"the loss is {float(total)} in epoch {state.epoch + 1}", "lower the learning rate, then begin again"
        )
    state.optimizer.zero_grad(set_to_none=True)
    total.backward()
    state.optimizer.step()
    return {name: float(value.detach()) for name, value in values.items()}


def _rate(config: TrainConfig, step: int, steps: int) -> float:
    """Linear warm-up, then polynomial decay to 0."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return float(config.learning_rate * warm * (1 - step / steps) ** config.power)


def _follow(state: RunState, decay: float) -> None:
    """Move the average towards the network; batch norm statistics are averaged like weights."""
    with torch.no_grad():
        for old, new in zip(state.average.state_dict().values(), state.network.state_dict().values(), strict=True):
            old.lerp_(new, 1 - decay)


def _metadata(config: TrainConfig, final: QualityScores | None) -> dict[str, str]:
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


@contextmanager
def _settings(config: TrainConfig) -> Iterator[None]:
    """Torch and OpenCV as training needs them, put back afterwards."""
    import cv2

    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    _keep_memory()
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
        torch.use_deterministic_algorithms(deterministic)


def _keep_memory() -> None:
    """Tell glibc to keep freed memory: mapping every activation anew made a step nearly twice as long."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library: slower, not wrong
        return
    top_pad, trim_threshold, mmap_max = -2, -1, -4
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)
