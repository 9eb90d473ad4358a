"""Figures of what a model says when it is not sure: risk against coverage, and how often its sets hold the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from overread.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import Figure, finish, percent_axis, quiet_grid, sheet
from overread.reporting.figures.drawing import ForestRow, column, curve_with_band, forest_rows
from overread.reporting.figures.ranking import LINES, SQUARE
from overread.reporting.gather import Run
from overread.reporting.unsure import silence_curves, surest_half
from overread.stats.estimate import Estimate

_ROWS = 30  # groups in one figure


@checked
def abstention(run: Run) -> Figure | None:
    """How often the model is wrong among the cases it is surest of, for each share of cases it answers."""
    found = silence_curves(run)
    if not found:
        return None
    some = found[:LINES]
    with sheet(*SQUARE) as drawing:
        axes = drawing.subplots()
        for rank, (of, c) in enumerate(some):
            band = (c.get("low"), c.get("high")) if len(some) == 1 else (None, None)
            name = words.name(run.called(of), 22) if of else "errors among them"
            curve_with_band(axes, c["coverage"], c["risk"], low=band[0], high=band[1], label=name, rank=rank)
        axes.set(xlim=(0, 1), ylim=(0, _top(some)), xlabel="Share of cases answered, the surest first", ylabel="Errors among them",
                 title=run.size)  # fmt: skip
        percent_axis(axes.xaxis, axes.yaxis)
        quiet_grid(axes)
        if len(some) > 1:
            axes.legend(loc="upper left", handlelength=2.8)
        said = "; ".join(f"{run.called(of) or 'the model'}: {_ends(c)}" for of, c in some)
        left = f" The first {LINES} of {len(found)} are drawn." if len(found) > LINES else ""
        band_note = (
            f"Band: {words.percent(some[0][1].get('level', run.level))} interval." if len(some) == 1 else ""
        )
        return finish(drawing, "abstention", "Errors when it may stay silent", f"{said}.",
                      f"By the largest probability of a class. {band_note}{left}".strip())  # fmt: skip


def _top(some: list[tuple[str, dict[str, Any]]]) -> float:
    """What is worth seeing: at the left few cases are left, and the band is as wide as the figure."""
    ends = [0.01]
    for _, c in some:
        many = column(c["coverage"]) >= 0.15
        highs = c["risk"] if len(some) > 1 or not c.get("high") else c["high"]
        ends += column(highs)[many].tolist()
    return float(min(1.0, 1.1 * np.nanmax(ends)))


def _ends(c: dict[str, Any]) -> str:
    every, half = (words.percent(share, 1) for share in surest_half(c))
    return f"wrong on {every} of all and {half} of the surest half"


@checked
def conformal(run: Run) -> Figure | None:
    """How often the sets hold the truth, in every group, against what was promised."""
    held = run.more.get("conformal")
    groups = (held.get("groups") or []) if isinstance(held, dict) else []
    if not isinstance(held, dict) or not groups:
        return None
    rows = [_row(run, group) for group in groups[:_ROWS]]
    left = f" The first {_ROWS} of {len(groups)} are drawn." if len(groups) > _ROWS else ""
    what = "interval" if run.kind == "quantity" else "set"
    return forest_rows(
        rows, name="conformal", title=f"{what.capitalize()}s that hold the truth", across=f"Share of images whose {what} holds the truth",
        size=run.size, line=float(held.get("level", 0.9)),
        caption=f"Upright: the share promised, {words.percent(held.get('level', 0.9))}. n: patients.{left}",
    )  # fmt: skip


def _row(run: Run, group: dict[str, Any]) -> ForestRow:
    of, name = str(group.get("of") or ""), str(group.get("group") or "")
    value, low, high = (_float((group.get("coverage") or {}).get(k)) for k in ("value", "low", "high"))
    patients = int(group.get("patients") or 0)
    why = str(group.get("undefined") or ("" if math.isfinite(value) else "no estimate"))
    estimate = Estimate("set coverage", value, low, high, level=run.level, patients=patients, undefined=why)
    label = name if not of or run.kind == "quantity" else f"{words.name(of, 16)}, {name}"
    measured = "width" if run.kind == "quantity" else "size"
    size = f"mean {measured} {words.number(group.get('size'), 2)}" if group.get("size") is not None else ""
    return ForestRow(label, estimate, f"{patients:,}", whole=name == "all", note=size)


def _float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
