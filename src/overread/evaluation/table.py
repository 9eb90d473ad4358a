"""Estimates as aligned text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from overread.stats.estimate import Estimate

#: What is shown of a subgroup; everything is in metrics.json.
BRIEF = ("macro auc", "auc", "sensitivity", "specificity", "balanced accuracy", "mae", "r2")


def as_text(estimates: Sequence[Estimate], primary: str, counts: dict[str, Any], looks: int) -> str:
    """A line per estimate: metric, class, value with interval, images, patients; then the subgroups."""
    overall = [e for e in estimates if not e.where]
    level = next((f"{e.level:.0%} interval" for e in estimates if not e.undefined), "interval")
    lines = [
        f"{counts.get('images', 0):,} images of {counts.get('patients', 0):,} patients"
        + (f", looked at {looks:,} times before" if looks else "")
    ]
    lines += _aligned([("metric", "of", f"value ({level})", "images", "patients"), *map(_row, overall)])
    groups = [e for e in estimates if e.where and e.of in ("", primary) and e.metric in BRIEF]
    if groups:
        head = ("subgroup", "metric", "of", f"value ({level})", "images", "patients")
        rows = [(", ".join(f"{k} {v}" for k, v in e.where.items()), *_row(e)) for e in groups]
        lines += ["", *_aligned([head, *rows])]
    return "\n".join(lines)


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
