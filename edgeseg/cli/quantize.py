"""Quantise a checkpoint to INT8 artifacts from one calibration, each checked against the reference."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.cli import _flags, _model, _output

if TYPE_CHECKING:
    from edgeseg.flows.parity import Comparison
    from edgeseg.flows.quantize import QuantizeRequest, QuantizeResult


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg quantize``."""
    add = parser.add_argument
    add("checkpoint", nargs="?", metavar="CHECKPOINT",
        help="what `edgeseg export` takes, or the folder of an artifact; default: the bundled network")  # fmt: skip
    add("--int8", action="store_true", help="8-bit integers: weights per channel, activations per tensor (the default)")
    add("--target", type=_flags.names, metavar="NAMES",
        help="backends, comma-separated (default: onnx,openvino,tflite)")  # fmt: skip
    add(
        "--calib",
        metavar="DATA",
        help="calibration pictures as after --data, DATA:N for N of them, or ready-made inputs as .npy (a file, or a "
        "folder of them); default: 64 synthetic portraits",
    )
    add("--calib-anyway", action="store_true", help="go on although the calibration pictures look wrong")
    add(
        "--method",
        metavar="M",
        default="edgeseg",
        help="edgeseg, ort (ONNX Runtime's quantize_static), nncf (OpenVINO), or dynamic (ONNX Runtime; default: "
        "edgeseg)",
    )
    add("--ranges", metavar="R", default="",
        help="minmax, p99.99, p99.9 or mse for every tensor (default: chosen by what it does to the mask)")  # fmt: skip
    add("--io", choices=("float", "int8"), default="float",
        help="input and output of a TFLite file; int8 comes with scale and zero point in the manifest (default: float)")  # fmt: skip
    add("--max-float", type=_percent, metavar="PERCENT", default=None,
        help="share of the multiplications that may stay in float, the first layers', for fewer changed pixels; 0 for all "
        "in int8 as long as the gates are reached (default: 25; 0 with --io int8)")  # fmt: skip
    add("--rank", action="store_true", help="show what each part of the network costs the mask")
    add("--recipe", type=Path, metavar="FILE", help="replay the recipe.json of an artifact; nothing is calibrated")
    _model.add(parser)
    _flags.add_rewrites(parser)
    _flags.add_data(parser, "those of --calib")
    _flags.add_gates(parser)


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 100.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no share in per cent, 0 to 100")
    return value


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg quantize``."""
    from edgeseg.flows.quantize import quantize

    with _output.Status() as status:
        result = quantize(_request(arguments), say=status.say)
    return _show(result, arguments.json)


def _request(arguments: argparse.Namespace) -> QuantizeRequest:
    from dataclasses import replace

    from edgeseg import backends
    from edgeseg.core import manifest
    from edgeseg.flows.parity import gate_for
    from edgeseg.flows.quantize import QuantizeRequest

    said = _model.said(arguments)
    model = _model.request(said)
    if (model.checkpoint / manifest.MANIFEST).is_file():  # an artifact: its reference is the network without losses
        artifact = manifest.read(model.checkpoint)
        reference = artifact if artifact.folder.name == manifest.REFERENCE else manifest.reference_of(artifact)
        model = replace(model, checkpoint=reference.model_file, name=model.name or artifact.manifest.model)
    only = {"nncf": ("openvino",), "dynamic": ("onnx",)}.get(arguments.method)
    usual = only or (("tflite",) if arguments.io == "int8" else tuple(backends.names()))
    return QuantizeRequest(
        model=model,
        targets=arguments.target or usual,
        calibration=arguments.calib or "sample:64",
        calibrate_anyway=arguments.calib_anyway,
        data=said("data", ""),
        mask_values=said("mask_values", ""),
        out=arguments.out,
        gate=gate_for("int8", **_flags.limits(arguments)),
        method=arguments.method,
        ranges=arguments.ranges,
        rank=arguments.rank,
        max_float=None if arguments.max_float is None else arguments.max_float / 100,
        recipe=arguments.recipe,
        io=arguments.io,
        command=arguments.command_line,
        rewrites=_flags.rewrites(arguments),
        raw_logits=arguments.raw_logits,
        frames=arguments.input == "uint8",
    )


def _show(result: QuantizeResult, as_json: bool) -> int:
    for sentence in (*result.assumed, *(f"calibration: {finding}" for finding in result.findings)):
        _output.note(sentence)
    if result.missed:
        _output.complain(
            result.missed, "a gate that is within reach (--min-agreement, --max-drop), or fp16: edgeseg export"
        )
    for item in result.quantized:
        if item.error is not None:
            _output.complain(f"{item.target}: {item.error.message}", item.error.hint)
        elif item.artifact is not None and item.artifact.manifest.parity is not None:
            for failure in item.artifact.manifest.parity.failures:
                _output.complain(f"{item.artifact.name}: {failure}")
    if as_json:
        _output.json(document(result))
    else:
        table(result)
        ranking(result)
    return code(result)


def code(result: QuantizeResult) -> int:
    """Exit code: 1 if a target could not be made, else 3 if an artifact missed its gate."""
    if any(item.error is not None for item in result.quantized):
        return 1
    return 0 if all(item.comparison is not None and item.comparison.passed for item in result.quantized) else 3


def document(result: QuantizeResult) -> dict[str, Any]:
    """The result for ``--json``."""
    return {
        "calibration_seconds": round(result.calibration_seconds, 3),
        "findings": result.findings,
        "recipe": result.recipe,
        "artifacts": [
            {
                "target": item.target,
                "seconds": round(item.seconds, 3),
                "error": item.error.message if item.error is not None else None,
                **(
                    {
                        "artifact": item.artifact.name,
                        "folder": item.artifact.folder,
                        "size_bytes": item.artifact.size_bytes,
                        "parity": item.artifact.manifest.parity,
                        "quantization": item.artifact.manifest.quantization,
                        "scores": item.comparison.scores,
                        "reference": item.comparison.reference,
                        "connectivity_loss": item.comparison.connectivity_loss,
                    }
                    if item.artifact is not None and item.comparison is not None
                    else {}
                ),
            }
            for item in result.quantized
        ],
    }


def table(result: QuantizeResult) -> None:
    """One line an artifact on stdout."""
    from edgeseg.flows.bench.integers import LEAST_SHARE

    rows = _output.Table(
        "artifact", "where", "seconds>", "MB>", "int8>", "mIoU>", "lost>", "connectivity lost>", "pixels that agree>",
        "pictures", title=f"calibrated in {result.calibration_seconds:.1f} s",
    )  # fmt: skip
    for item in result.quantized:
        if item.artifact is None or item.comparison is None:
            assert item.error is not None
            rows.row(f"✗ {item.target}", item.error.message, f"{item.seconds:.1f}", *["-"] * 7, state="bad")
            continue
        comparison, record = item.comparison, item.artifact.manifest.quantization
        parity = item.artifact.manifest.parity
        assert record is not None
        assert parity is not None
        share = record.integer_mac_share or 0.0
        rows.row(
            f"{'✓' if comparison.passed else '✗'} {item.artifact.name}",
            str(item.artifact.folder),
            f"{item.seconds:.1f}",
            f"{item.artifact.size_bytes / 1e6:.2f}",
            f"{100 * share:.1f} %" + (" (mostly float: not faster)" if share < LEAST_SHARE else ""),
            *_figures(comparison),
            f"{100 * (1 - comparison.agreement.flipped_share):.3f} %",
            f"{parity.images} {'synthetic' if parity.synthetic else 'of ' + parity.data}",
            state="good" if comparison.passed else "bad",
        )
    rows.show()


def _figures(comparison: Comparison) -> list[str]:
    scores, reference, lost = comparison.scores, comparison.reference, comparison.connectivity_loss
    if scores is None or reference is None:
        return ["-"] * 3
    pieces = "-"
    if lost is not None:
        pieces = f"{100 * lost.value:.2f} [{100 * lost.low:.2f} … {100 * lost.high:.2f}]"
    return [f"{scores.miou:.4f}", f"{100 * (reference.miou - scores.miou):.2f}", pieces]


def ranking(result: QuantizeResult) -> None:
    """What each part of the network costs the mask, and which layers stayed in float."""
    if result.recipe is None or not result.recipe.ranking:
        return
    rows = _output.Table(
        "in float", "pixels that change>", "MACs>", "",
        title=f"all in int8: {100 * result.recipe.error:.3f} % of the pixels change",
    )  # fmt: skip
    kept = set(result.recipe.floating)
    for one in result.recipe.ranking[:10]:
        stays = set(one.layers) <= kept
        rows.row(
            one.part, f"{100 * one.error:.3f} %", f"{100 * one.mac_share:.1f} %", "stays in float" if stays else ""
        )
    rows.show()
