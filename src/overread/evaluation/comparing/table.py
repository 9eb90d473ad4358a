"""Differences as aligned text for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from overread.errors import checked
from overread.evaluation.ledger import looked
from overread.stats.difference import Difference

if TYPE_CHECKING:
    from overread.evaluation.comparing.comparison import Comparison

#: What is shown of a subgroup; everything is in the files.
BRIEF = ("macro auc", "auc", "sensitivity", "specificity", "mae")


def as_text(found: Comparison) -> str:
    """A line per difference: metric, class, both values, difference with interval, p; then the subgroups."""
    counts = found.counts
    how = "the same cases" if found.paired else "different patients"
    lines = [f"{counted(counts['images'], 'image')} of {counted(counts['patients'], 'patient')}, {how}"
             + looked(found.looks)]  # fmt: skip
    lines += [f"caution: {caution}" for caution in found.cautions]
    rows = list(zip(found.differences, found.adjusted))
    level = f"difference ({found.about.get('level', 0.95):.0%} interval)"
    head = ("metric", "of", found.names[0], found.names[1], level, "p", "p (Holm)")
    lines += aligned([head, *(_row(d, p) for d, p in rows if not d.first.where)])
    groups = [(d, p) for d, p in rows if d.first.where and d.first.metric in BRIEF
              and d.first.of in ("", found.primary)]  # fmt: skip
    if groups:
        told = [(", ".join(f"{k} {v}" for k, v in d.first.where.items()), *_row(d, p)) for d, p in groups]
        lines += ["", *aligned([("subgroup", *head), *told])]
    if found.verdict:
        lines += ["", str(found.verdict), *(f"also claimed: {other}" for other in found.verdict.others)]
    return "\n".join(lines)


def _row(d: Difference, adjusted: float) -> tuple[str, ...]:
    values = ("–" if math.isnan(e.value) else f"{e.value:.3f}" for e in (d.first, d.second))
    return d.first.metric, d.first.of, *values, str(d.difference), p_text(d.p), p_text(adjusted)


@checked
def counted(number: int, thing: str) -> str:
    """A number of things.

    >>> counted(1, "image"), counted(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


@checked
def p_text(p: float) -> str:
    """A p value with two digits; small ones as a bound.

    >>> p_text(0.0312), p_text(1e-9), p_text(float("nan"))
    ('0.031', '<0.001', '–')
    """
    if math.isnan(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of texts as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
