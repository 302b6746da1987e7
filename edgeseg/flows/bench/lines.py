"""Rows as the flat lines of `edgeseg.report.tables`."""

from __future__ import annotations

from edgeseg.flows.bench.results import Session
from edgeseg.flows.bench.rows import Row
from edgeseg.report.tables import Line


def line(session: Session, row: Row) -> Line:
    """One row, flat."""
    variant, latency, scores = row.variant, row.latency, row.scores
    cold = None if session.emulated else row.cold  # start, import and load are times, too
    loaded = cold.loaded if cold else None
    median = latency.median if latency else None
    p90 = latency.p90 if latency else None
    p99 = latency.p99 if latency else None
    return Line(
        device=session.device,
        variant=variant.key,
        artifact=variant.artifact,
        backend=variant.backend,
        precision=variant.precision,
        executed=row.executed,
        threads=variant.threads,
        size_bytes=variant.size_bytes,
        state=row.state,
        data=session.data,
        synthetic=session.synthetic if session.data else None,
        images=session.images or None,
        miou=scores.miou if scores else None,
        miou_low=row.miou.low if row.miou else None,
        miou_high=row.miou.high if row.miou else None,
        miou_loss=row.miou_loss.value if row.miou_loss else None,
        miou_loss_low=row.miou_loss.low if row.miou_loss else None,
        miou_loss_high=row.miou_loss.high if row.miou_loss else None,
        foreground_iou=scores.foreground_iou if scores else None,
        boundary_iou=scores.boundary_iou if scores else None,
        connectivity=scores.connectivity if scores else None,
        flipped_share=row.agreement.flipped_share if row.agreement else None,
        samples=latency.samples if latency else None,
        rounds=latency.rounds if latency else None,
        median_ms=_ms(latency.median_ns) if latency else None,
        median_low_ms=_ms(median.low) if median else None,
        median_high_ms=_ms(median.high) if median else None,
        p90_ms=_ms(p90.value) if p90 else None,
        p90_low_ms=_ms(p90.low) if p90 else None,
        p90_high_ms=_ms(p90.high) if p90 else None,
        p99_ms=_ms(p99.value) if p99 else None,
        prepare_ms=_ms(row.prepare_ns),
        finish_ms=_ms(row.finish_ns),
        ratio=row.ratio.value if row.ratio else None,
        ratio_low=row.ratio.low if row.ratio else None,
        ratio_high=row.ratio.high if row.ratio else None,
        verdict=row.verdict,
        start_ms=_ms(cold.start_ns) if cold else None,
        import_ms=_ms(loaded.import_ns) if loaded else None,
        load_ms=_ms(loaded.load_ns) if loaded else None,
        first_ms=_ms(loaded.first_ns) if loaded else None,
        peak_bytes=row.cold.peak_bytes if row.cold else None,
        sustained_ratio=row.sustained_ratio,
        labels=", ".join(label.name for label in row.labels),
        failure=f"{row.failure.stage}: {row.failure.reason}" if row.failure else "",
        session=session.id,
        emulated=session.emulated,
    )


def _ms(ns: float | None) -> float | None:
    return None if ns is None else round(ns / 1e6, 6)
