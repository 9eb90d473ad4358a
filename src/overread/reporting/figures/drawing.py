"""What several figures are made of: the axes of a ROC, a curve with its band, a forest of estimates.

``roc_axes(axes, size)``, ``curve_with_band(axes, x, y, low=…, high=…, label=…, rank=…)``,
``forest_rows(rows, name=…, title=…, across=…, size=…)``. The first two draw on axes of a
:func:`~overread.reporting.figures.canvas.sheet`; the last makes a whole figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import (  # fmt: skip
    BLUE,
    COLOURS,
    FAINT,
    INK,
    SOFT,
    VERMILION,
    Figure,
    finish,
    percent_axis,
    sheet,
    unit_square,
)
from overread.stats.estimate import Estimate

#: Strokes told apart without colour; the curve of rank 0 is solid.
STROKES = (
    "-",
    (0, (6, 1.6)),
    (0, (6, 1.6, 1.2, 1.6)),
    (0, (1.2, 1.2)),
    (0, (10, 2)),
    (0, (6, 1.6, 1.2, 1.6, 1.2, 1.6)),
    (0, (3, 1.2)),
    (0, (3, 3)),
)
#: The stroke of lines that only help to read: a coin, no skill, perfect agreement.
THIN = (0, (4, 3))
#: Endings of metrics that are differences of others.
_BETWEEN = (" gap", " difference", " gain")


@checked
def roc_axes(axes: Axes, size: str = "") -> None:
    """Sensitivity against false alarms from 0 to 100 %, with the diagonal of a coin; ``size`` stands above (N)."""
    unit_square(axes, "1 − specificity (false alarms)", "Sensitivity")
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=THIN)
    axes.set_title(size)


@checked
def curve_with_band(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    label: str = "",
    rank: int = 0,
) -> None:
    """A line, and its interval as a pale band. ``rank`` 0, 1, 2 … picks a colour together with a stroke.

    ``x``, ``y``, ``low``, ``high``: (N,), None or NaN where there is no number.
    """
    colour, stroke = COLOURS[rank % len(COLOURS)], STROKES[rank % len(STROKES)]
    across = column(x)
    if low is not None and high is not None:
        axes.fill_between(across, column(low), column(high), color=colour, alpha=0.16, linewidth=0)
    axes.plot(across, column(y), color=colour, linestyle=stroke, label=label or None)


@checked
def column(values: ArrayLike) -> np.ndarray:
    """Stored numbers as (N,) floats: null is NaN.

    >>> column([1, None])
    array([ 1., nan])
    """
    return np.array([math.nan if v is None else v for v in np.asarray(values, object).ravel()], float)


@checked
def reader_points(axes: Axes, readers: Sequence[dict[str, object]]) -> None:
    """One diamond a reader, with thin crosses: each {"reader", "sensitivity", "specificity"}, value, low and high."""
    for i, reader in enumerate(readers):
        se, sp = (reader[key] for key in ("sensitivity", "specificity"))
        if not (isinstance(se, dict) and isinstance(sp, dict)) or None in (se.get("value"), sp.get("value")):
            continue
        x, y = 1 - float(sp["value"]), float(se["value"])
        if None not in (se.get("low"), se.get("high")):
            axes.plot([x, x], [se["low"], se["high"]], color=SOFT, linewidth=0.9)
        if None not in (sp.get("low"), sp.get("high")):
            axes.plot([1 - sp["high"], 1 - sp["low"]], [y, y], color=SOFT, linewidth=0.9)
        label = "" if i else f"Readers ({len(readers)})"
        axes.plot(x, y, "D", color=INK, markersize=4.5, markerfacecolor="white", zorder=6, label=label or None)


@dataclass(frozen=True)
class ForestRow:
    """A line of a forest: a name, an estimate, and what stands for N; a heading where there is no estimate.

    ``whole`` marks the estimate over everything: a diamond. ``note`` stands behind the numbers, such as p = .03.
    """

    label: str
    estimate: Estimate | None = None
    n: str = ""
    whole: bool = False
    note: str = ""


@checked
def forest_rows(
    rows: Sequence[ForestRow],
    *,
    name: str,
    title: str,
    across: str,
    size: str = "",
    caption: str = "",
    line: float | None = None,
    margin: float | None = None,
) -> Figure:
    """Estimates one below the other with their intervals, names and N to the left, numbers to the right.

    ``across`` is the axis with its unit, ``size`` stands above, ``line`` is where nothing differs (0 for
    differences), ``margin`` a declared margin. Undefined estimates keep their row and say why.
    """
    with sheet(9.0, 1.0 + 0.27 * len(rows)) as drawing:
        axes = drawing.subplots()
        for place, stroke, colour in ((line, "-", SOFT), (margin, THIN, VERMILION)):
            if place is not None:
                axes.axvline(place, color=colour, linewidth=0.9, linestyle=stroke)
        for y, row in enumerate(rows):
            mark(axes, row.estimate, y, INK if row.whole else BLUE)
        _beside(axes, rows)
        axes.set(xlabel=across + _unit(axes, rows), title=size)
        roomy(drawing)
        said = "; ".join(f"{row.label} {words.spoken(row.estimate)}" for row in rows if row.estimate)
        level = next((row.estimate.level for row in rows if row.estimate and not row.estimate.undefined), 0.95)
        note = f"Squares: estimates with {words.percent(level)} intervals. " + (
            "Dashed: the margin. " if margin is not None else ""
        )
        return finish(drawing, name, title, f"{title}: {said}.", (note + caption).strip(), wide=True)


@checked
def roomy(drawing: Sheet) -> None:
    """Leave room beside long names: the letters of the PNG, and of other fonts, are wider than those of the layout."""
    engine = drawing.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.16)


def _unit(axes: Axes, rows: Sequence[ForestRow]) -> str:
    """Ticks in percent where the estimates are; what the axis says of differences, which are in points."""
    named = [row.estimate.metric for row in rows if row.estimate]
    if not any(words.metric(name).percent for name in named):
        return ""
    if not all(name.endswith(_BETWEEN) for name in named):
        percent_axis(axes.xaxis)
        return ""
    axes.xaxis.set_major_formatter(lambda tick, _: f"{round(100 * tick, 9):.3g}".replace("-", "−"))
    return " (percentage points)"


def _beside(axes: Axes, rows: Sequence[ForestRow]) -> None:
    """Names to the left, numbers to the right."""
    labels = [words.name(row.label, 36) + (f", n = {row.n}" if row.n else "") for row in rows]
    plain_rows(axes, labels, [row.estimate is None or row.whole for row in rows])
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(rows)), [_numbers(row) for row in rows])
    right.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)


def _numbers(row: ForestRow) -> str:
    e = row.estimate
    if e is None:
        return row.note
    between = words.interval(e, 2 if not words.metric(e.metric).percent else 3)
    value = words.value(e, 2 if not words.metric(e.metric).percent else 3)
    text = words.name(e.undefined, 44) if e.undefined else f"{value} ({between})" if between else value
    return f"{text}; {row.note}" if row.note else text


@checked
def plain_rows(axes: Axes, labels: Sequence[str], bold: Sequence[bool]) -> None:
    """A vertical axis of rows from above, named, without ticks or a line."""
    bare_rows(axes, len(labels))
    axes.set_yticks(range(len(labels)), labels)
    for tick, heavy in zip(axes.get_yticklabels(), bold, strict=True):
        tick.set_fontweight("bold" if heavy else "normal")


@checked
def bare_rows(axes: Axes, many: int) -> None:
    """The same without names, beside axes that have them."""
    axes.set_ylim(many - 0.4, -0.6)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


@checked
def mark(axes: Axes, estimate: Estimate | None, y: float, colour: str = BLUE) -> None:
    """An estimate with its interval at height ``y``; nothing where it is undefined."""
    if estimate is None or estimate.undefined or not math.isfinite(estimate.value):
        return
    if math.isfinite(estimate.low):
        ends = [estimate.low, estimate.high]
        axes.plot(ends, [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    axes.plot(estimate.value, y, "D" if colour == INK else "s", color=colour, markersize=5.5)
