"""Estimates as aligned text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from overread.stats.estimate import Estimate

#: What is shown of a subgroup; everything is in metrics.json.
BRIEF = ("macro auc", "auc", "sensitivity", "specificity", "balanced accuracy", "mae", "r2")


def as_text(
    estimates: Sequence[Estimate],
    primary: str,
    counts: dict[str, Any],
    looks: int,
    gaps: Sequence[dict[str, Any]] = (),
) -> str:
    """A line per estimate: metric, class, value with interval, images, patients; then the subgroups and their gaps."""
    overall = [e for e in estimates if not e.where]
    level = next((f"{e.level:.0%} interval" for e in estimates if not e.undefined), "interval")
    lines = [
        f"{counts.get('images', 0):,} images of {counts.get('patients', 0):,} patients"
        + (f", looked at {looks:,} times before" if looks else "")
    ]
    lines += _aligned([("metric", "of", f"value ({level})", "images", "patients"), *map(_row, overall)])
    groups = [e for e in estimates if e.where and e.of in ("", primary) and e.metric in BRIEF]
    head: tuple[str, ...]
    if groups:
        head = ("subgroup", "metric", "of", f"value ({level})", "images", "patients")
        rows = [(", ".join(f"{k} {v}" for k, v in e.where.items()), *_row(e)) for e in groups]
        lines += ["", *_aligned([head, *rows])]
    largest = _largest_gaps([g for g in gaps if g["of"] in ("", primary)])
    if largest:
        head = ("largest gap", "subgroup", "minus", f"value ({level})", "p after Holm")
        lines += ["", *_aligned([head, *largest])]
    return "\n".join(lines)


def _largest_gaps(gaps: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Of each metric the gap with the smallest p, of equals the widest; then only, if there is none, why."""
    found: dict[str, dict[str, Any]] = {}
    for gap in gaps:
        before = found.get(gap["metric"])
        if gap["p"] is not None and (before is None or _rank(gap) < _rank(before)):
            found[gap["metric"]] = gap
    return [
        (
            f"{g['metric']} gap",
            ", ".join(f"{k} {v}" for k, v in g["where"].items()),
            g["reference"],
            f"{g['value']:+.3f} ({g['low']:+.3f} to {g['high']:+.3f})",
            "<.001" if g["adjusted"] < 0.001 else f"{g['adjusted']:.3f}",
        )
        for g in found.values()
    ]


def _rank(gap: dict[str, Any]) -> tuple[float, float]:
    return gap["p"], -abs(gap["value"])


def _row(e: Estimate) -> tuple[str, ...]:
    return e.metric, e.of, str(e), f"{e.images:,}", f"{e.patients:,}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    last = len(widths) - 2  # the counts stand to the right
    return [
        "  ".join(
            cell.rjust(w) if i >= last else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
