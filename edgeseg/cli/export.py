"""Convert a checkpoint to artifacts, each checked against the reference."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from edgeseg.cli import _flags, _model, _output

if TYPE_CHECKING:
    from edgeseg.flows.export import ExportRequest, ExportResult


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg export``."""
    add = parser.add_argument
    add("checkpoint", nargs="?", metavar="CHECKPOINT",
        help=".pdparams, .safetensors, .npz, .onnx, a Paddle inference model, .pt2, .pt, or a recipe (.toml); "
        "default: the bundled network")  # fmt: skip
    add(
        "--target",
        type=_flags.names,
        metavar="NAMES",
        help="backends, comma-separated: onnx, openvino, tflite (default: onnx)",
    )
    add("--precision", metavar="P", help="fp32 or fp16, which stores weights in half precision (default: fp32)")
    _model.add(parser)
    add("--io-layout", choices=("nhwc", "nchw"), help="layout of a TFLite file's input and output (default: nhwc)")
    add(
        "--converter",
        choices=("edgeseg", "onnx2tf"),
        help="who writes the TFLite file; onnx2tf is the way out for networks that edgeseg refuses (default: edgeseg)",
    )
    _flags.add_rewrites(parser, tunable=True)
    _flags.add_data(parser, "8 synthetic portraits")
    _flags.add_gates(parser)


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg export``."""
    from edgeseg.flows.export import export

    with _output.Status() as status:
        result = export(_request(arguments), say=status.say)
    return _show(result, arguments.json)


def _request(arguments: argparse.Namespace) -> ExportRequest:
    """What is to be exported: the flags, then the recipe, then the defaults."""
    from edgeseg.flows.export import PARITY_IMAGES, ExportRequest
    from edgeseg.flows.parity import gate_for

    said = _model.said(arguments)
    precision = said("precision", "fp32")
    return ExportRequest(
        model=_model.request(said),
        targets=said("target", ("onnx",)),
        precision=precision,
        data=said("data", f"sample:{PARITY_IMAGES}"),
        mask_values=said("mask_values", ""),
        out=arguments.out,
        gate=gate_for(precision, **_flags.limits(arguments)),
        command=arguments.command_line,
        rewrites=_flags.replayed(
            _flags.rewrites(arguments), [f"{name}-{said('precision', 'fp32')}" for name in said("target", ("onnx",))]
        ),
        tune=arguments.tune,
        raw_logits=arguments.raw_logits,
        frames=arguments.input == "uint8",
        options={
            name: getattr(arguments, name)
            for name in ("io_layout", "converter")
            if getattr(arguments, name) is not None
        },
    )


def _show(result: ExportResult, as_json: bool) -> int:
    for sentence in result.assumed:
        _output.note(sentence)
    for item in result.exported:
        if item.error is not None:
            _output.complain(f"{item.target}: {item.error.message}", item.error.hint)
        elif item.artifact is not None and item.artifact.manifest.parity is not None:
            for failure in item.artifact.manifest.parity.failures:
                _output.complain(
                    f"{item.artifact.name}: {failure}", f"edgeseg verify {item.artifact.folder} shows where masks part"
                )
    if as_json:
        _output.json(document(result))
    else:
        table(result)
    return code(result)


def code(result: ExportResult) -> int:
    """Exit code: 1 if a target failed, 3 if an artifact missed its gate."""
    if any(item.error is not None for item in result.exported):
        return 1
    parities = [item.artifact.manifest.parity for item in result.exported if item.artifact is not None]
    return 0 if all(parity is not None and parity.passed for parity in parities) else 3


def document(result: ExportResult) -> dict[str, Any]:
    """The result for ``--json``."""
    rows: list[dict[str, Any]] = []
    for item in result.exported:
        if item.artifact is None:
            assert item.error is not None
            rows.append({"target": item.target, "error": item.error.message, "hint": item.error.hint})
            continue
        rows.append(
            {
                "target": item.target,
                "artifact": item.artifact.name,
                "path": str(item.artifact.folder),
                "seconds": round(item.seconds, 3),
                "size_bytes": item.artifact.size_bytes,
                "rewrites": item.artifact.manifest.rewrites,
                "parity": item.artifact.manifest.parity,
            }
        )
    return {"reference": str(result.reference.folder), "notes": result.assumed, "artifacts": rows}


def table(result: ExportResult) -> None:
    """One line an artifact on stdout."""
    rows = _output.Table("artifact", "where", "seconds>", "MB>", "parity with the reference")
    for item in result.exported:
        if item.artifact is None:
            assert item.error is not None
            rows.row(f"✗ {item.target}", "-", f"{item.seconds:.1f}", "-", item.error.message, state="bad")
            continue
        parity = item.artifact.manifest.parity
        assert parity is not None
        words = f"{100 * (1 - parity.flipped_share):.4f} % of pixels agree"
        if parity.miou is not None and parity.reference_miou is not None:
            words += f", mIoU {parity.miou:.4f} (reference {parity.reference_miou:.4f})"
        pictures = f"{parity.images} {'synthetic pictures' if parity.synthetic else 'pictures of ' + parity.data}"
        rows.row(
            f"{'✓' if parity.passed else '✗'} {item.artifact.name}",
            str(item.artifact.folder),
            f"{item.seconds:.1f}",
            f"{item.artifact.size_bytes / 1e6:.2f}",
            f"{words} ({pictures})",
            state="good" if parity.passed else "bad",
        )
    rows.show()
