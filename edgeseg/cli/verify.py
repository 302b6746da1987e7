"""Compare the masks of artifacts with the reference's masks, over a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeseg.cli import _flags, _output

if TYPE_CHECKING:
    from edgeseg.flows.verify import VerifyResult
    from edgeseg.metrics.quality import QualityScores


def add(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeseg verify``."""
    parser.add_argument("artifacts", nargs="+", metavar="ARTIFACT", type=Path, help="folders below exports/")
    parser.add_argument(
        "--gallery", type=Path, metavar="FILE",
        help="HTML file for the worst pictures (default: verify-<model>.html; with --json only if named)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU cores to use (default: all)")
    parser.add_argument("--device", default="", metavar="NAME", help="where the artifacts run (default: here)")
    _flags.add_device_access(parser)
    _flags.add_data(parser, "40 synthetic portraits")
    _flags.add_gates(parser)


def run(arguments: argparse.Namespace) -> int:
    """``edgeseg verify``."""
    from edgeseg.flows.verify import VerifyRequest, verify

    gallery = arguments.gallery
    if gallery is None and not arguments.json:
        gallery = Path(f"verify-{arguments.artifacts[0].resolve().parent.name}.html")
    request = VerifyRequest(
        artifacts=tuple(arguments.artifacts),
        data=arguments.data or "sample",
        mask_values=arguments.mask_values or "",
        **_flags.limits(arguments),
        threads=arguments.threads,
        gallery=gallery,
        device=arguments.device,
        settings=_flags.device_settings(arguments),
    )
    with _output.Progress("comparing masks") as progress:
        result = verify(request, progress=progress)
    return _show(result, arguments.json)


def _show(result: VerifyResult, as_json: bool) -> int:
    dataset = result.dataset
    if dataset.coding is not None and dataset.inferred:
        _output.note(f"masks taken as {dataset.coding.meaning}, inferred from all of them (--mask-values declares it)")
    for comparison in result.comparisons:
        for failure in comparison.failures:
            _output.complain(f"{comparison.name}: {failure}")
    if as_json:
        _output.json(document(result))
    else:
        table(result)
    return code(result)


def code(result: VerifyResult) -> int:
    """Exit code: 3 if an artifact missed its gate."""
    return 0 if all(comparison.passed for comparison in result.comparisons) else 3


def document(result: VerifyResult) -> dict[str, Any]:
    """The result for ``--json``."""
    return {
        "data": result.dataset.name,
        "synthetic": result.dataset.synthetic,
        "images": len(result.dataset),
        "seconds": round(result.seconds, 3),
        "gallery": result.gallery,
        "artifacts": [
            {
                "artifact": comparison.name,
                "passed": comparison.passed,
                "failures": comparison.failures,
                "agreement": comparison.agreement,
                "scores": comparison.scores,
                "reference": comparison.reference,
                "connectivity_loss": comparison.connectivity_loss,
            }
            for comparison in result.comparisons
        ],
    }


def table(result: VerifyResult) -> None:
    """Reference and artifacts, one line each, on stdout."""
    dataset = result.dataset
    what = f"{len(dataset)} {'synthetic pictures' if dataset.synthetic else 'pictures'} ({dataset.name})"
    rows = _output.Table(
        "", "mIoU>", "foreground>", "boundary>", "connectivity>", "flipped pixels>", "pictures changed>", "worst picture",
        title=f"{what}, {result.seconds:.1f} s",
    )  # fmt: skip
    for comparison in result.comparisons:
        agreement = comparison.agreement
        if comparison is result.comparisons[0] and comparison.reference is not None:
            reference = comparison.reference
            worst = f"{reference.worst_image} (mIoU {reference.worst_miou:.4f})"
            rows.row("  reference", *_figures(reference), "", "", worst)
        scores = comparison.scores
        worst = f"{agreement.worst_image} ({100 * agreement.worst_flipped_share:.3f} % flipped)"
        if not agreement.flipped_pixels:
            worst = f"{scores.worst_image} (mIoU {scores.worst_miou:.4f})" if scores else "all masks equal"
        rows.row(
            f"{'✓' if comparison.passed else '✗'} {comparison.name}",
            *_figures(scores),
            f"{100 * agreement.flipped_share:.4f} %",
            f"{agreement.images_changed} of {agreement.images}",
            worst,
            state="good" if comparison.passed else "bad",
        )
    rows.show()
    if result.gallery is not None:
        _output.note(f"the worst pictures are in {result.gallery}")


def _figures(scores: QualityScores | None) -> list[str]:
    if scores is None:
        return ["-"] * 4
    values = (scores.miou, scores.foreground_iou, scores.boundary_iou, scores.connectivity)
    return ["-" if value is None else f"{value:.4f}" for value in values]
