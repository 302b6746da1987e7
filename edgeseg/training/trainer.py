"""Training ConnectNet from a list of pictures to a checkpoint."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from edgeseg.core.errors import EdgesegError
from edgeseg.core.records import to_dict
from edgeseg.data.dataset import Dataset
from edgeseg.metrics.quality import QualityScores
from edgeseg.training.config import (
    CLASSES,
    EpochRecord,
    Terms,
    TrainConfig,
    TrainResult,
    check,
    fingerprint,
    metadata_of,
    terms_of,
)
from edgeseg.training.connectnet import ConnectNet, load_arrays
from edgeseg.training.pictures import Batch, Pictures, open_mix
from edgeseg.training.runtime import settings
from edgeseg.training.state import RunState, load_state, save_state, save_weights, state_path, write
from edgeseg.training.validation import validate


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
    terms = terms_of(config)
    check(config)
    val = open_mix(config.val, mask_values=config.mask_values) if config.val else ()
    datasets = open_mix(config.data, mask_values=config.mask_values)
    with settings(config.threads):
        state = _begin(config)
        if config.resume:
            load_state(state_path(config.out), state, fingerprint(config))
        else:  # a folder that cannot be written is found now, not after the first epoch
            save_state(state_path(config.out), state, fingerprint(config))
        pictures = Pictures(
            datasets,
            size=config.input_size,
            seed=config.seed,
            settings=config.augmentation,
            synthetic_settings=config.synthetic_augmentation,
            synthetic_share=config.synthetic_share,
        )
        log = config.out.with_name(config.out.name + ".log.jsonl")
        final: QualityScores | None = None
        while state.epoch < config.epochs:
            record, final = _epoch(config, state, pictures, terms, val, watch)
            state.records.append(to_dict(record))
            state.epoch += 1
            write(log, "".join(json.dumps(line) + "\n" for line in state.records).encode())
            save_state(state_path(config.out), state, fingerprint(config))
            watch.epoch(record)
        if final is None and val:  # resumed when all epochs were done, or nothing in the masks counts
            final = validate(state.average, val, config.input_size)
        save_weights(config.out, state.average, metadata_of(config, final))
        state_path(config.out).unlink(missing_ok=True)
    return TrainResult(config.out, log, tuple(EpochRecord(**line) for line in state.records), final)


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
    terms: Terms,
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
    measured = replace(
        record,
        miou=scores.miou,
        foreground_iou=scores.foreground_iou,
        boundary_iou=scores.boundary_iou,
        connectivity=scores.connectivity,
    )
    return measured, scores


def _step(
    config: TrainConfig,
    state: RunState,
    batch: Batch,
    terms: Terms,
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
