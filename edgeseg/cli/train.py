"""Train PP-HumanSeg's ConnectNet on your pictures, from scratch or from a checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.cli import _flags, _output

if TYPE_CHECKING:
    from edgeseg.training.config import EpochRecord, TrainResult


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg train``."""
    parser.add_argument(
        "--data", required=True, metavar="DATA",
        help="pictures and masks to learn from: PaddleSeg list files, folders with images/ and masks/, sample:N "
        "(synthetic portraits), joined by commas",
    )  # fmt: skip
    parser.add_argument("--val", default="", metavar="DATA", help="likewise, to score on; never learned from")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="checkpoint to write: .safetensors or .npz"
    )
    parser.add_argument(
        "--init", type=Path, metavar="CHECKPOINT", help="start from these weights (default: from scratch)"
    )
    parser.add_argument(
        "--loss", default="ce+lovasz+scl", metavar="TERMS",
        help="terms joined by +: ce (cross-entropy), lovasz, scl (semantic connectivity) (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--input-size", type=_flags.size, default=(256, 144), metavar="WxH", help="of the network (default: 256x144)"
    )
    parser.add_argument("--epochs", type=int, default=60, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="pictures in a step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=4e-3, metavar="X", help="default: %(default)s")
    parser.add_argument(
        "--warmup-steps", type=int, default=100, metavar="N", help="in which the rate rises (default: %(default)s)"
    )
    parser.add_argument(
        "--synthetic-share", type=float, default=0.4, metavar="X",
        help="share of synthetic pictures in an epoch of a mix, 0 for all of them (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights, order and augmentation")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--mask-values", default="", metavar="CODING",
        help="what the mask files hold: 0,1 | 0,1,255 (255 = ignore) | 0,255 (255 = person); default: inferred",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on where the run that writes --out was stopped")


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg train``."""
    from edgeseg.core import plugins

    plugins.require("torch", extra="train", what="training")
    from edgeseg.training.config import TrainConfig
    from edgeseg.training.trainer import Watch, train

    config = TrainConfig(
        data=arguments.data,
        val=arguments.val,
        out=arguments.out,
        init=arguments.init,
        loss=arguments.loss,
        input_size=arguments.input_size,
        epochs=arguments.epochs,
        batch=arguments.batch,
        learning_rate=arguments.learning_rate,
        warmup_steps=arguments.warmup_steps,
        synthetic_share=arguments.synthetic_share,
        mask_values=arguments.mask_values,
        seed=arguments.seed,
        threads=arguments.threads,
        resume=arguments.resume,
    )
    with _output.Progress("steps") as progress:
        result = train(config, Watch(step=progress, epoch=_say))
    return _show(result, arguments.json)


def _say(record: EpochRecord) -> None:
    if sys.stderr.isatty():  # the bar is there, and the same lines are in the log
        return
    print(json.dumps(dataclasses.asdict(record)), file=sys.stderr, flush=True)


def _show(result: TrainResult, as_json: bool) -> int:
    if as_json:
        _output.json(
            {"checkpoint": result.checkpoint, "log": result.log, "final": result.final, "epochs": result.epochs}
        )
        return 0
    table = _output.Table("", "mIoU>", "foreground>", "boundary>", "connectivity>", "worst picture")
    scores = result.final
    if scores is None:
        table.row(str(result.checkpoint), "-", "-", "-", "-", "not validated (--val)")
    else:
        figures = (scores.miou, scores.foreground_iou, scores.boundary_iou, scores.connectivity)
        shown = ["-" if figure is None else f"{figure:.4f}" for figure in figures]
        table.row(str(result.checkpoint), *shown, f"{scores.worst_image} (mIoU {scores.worst_miou:.4f})")
    table.show()
    return 0
