"""Figures of counts: what was called what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from overread.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import INK, SOFT, Figure, finish, percent_axis, sheet
from overread.reporting.gather import Run

_CELLS = 15  # classes of a confusion matrix whose numbers can still be read
_PANELS = 8


@checked
def confusion(run: Run) -> Figure | None:
    """Counts of truth against call, shaded by the share of the true class."""
    held = run.evaluation.get("confusion") or {}
    if not held.get("labels"):
        return None
    labels = [words.name(label, 18) for label in held["labels"]]
    counts = np.asarray(held["counts"], float)
    side = max(3.6, min(8.0, 1.6 + 0.62 * len(labels)))
    with sheet(side + 0.5 + (0.9 if len(labels) > _CELLS else 0), side) as drawing:
        axes = drawing.subplots()
        _matrix(axes, counts, labels, 10 if len(counts) <= 4 else 8 if len(counts) <= 8 else 6.5)
        axes.set(xlabel="Called", ylabel="Truth", title=run.size)
        if len(labels) > _CELLS:
            _scale(drawing, axes)
        return finish(drawing, "confusion", "Confusion matrix", _said(held["labels"], counts),
                      f"Images; rows add up to the true class. Called by {held.get('rule', 'largest probability')}.")  # fmt: skip


@checked
def confusions(run: Run) -> Figure | None:
    """A small matrix for each finding, at its own threshold; None for other questions."""
    found = [(of, c["point"]) for of, c in run.chosen("point") if c["point"].get("confusion")]
    if run.kind != "findings" or not found:
        return None
    some = found[:_PANELS]
    across = min(4, len(some))
    down = -(-len(some) // across)
    with sheet(2.3 * across, 0.3 + 2.25 * down) as drawing:
        grid = drawing.subplots(down, across, squeeze=False)
        for axes, (of, point) in zip(grid.ravel(), some, strict=False):
            _matrix(axes, np.asarray(point["confusion"], float), ["absent", "present"], 8.5)
            axes.set_title(words.name(run.called(of), 26))
        for axes in grid.ravel()[len(some) :]:
            axes.set_visible(False)
        drawing.suptitle(run.size, fontsize=9, color=SOFT, x=0.01, ha="left")
        drawing.supxlabel("Called", fontsize=9)
        drawing.supylabel("Truth", fontsize=9)
        said = " ".join(f"{run.called(of)}: {_said(('absent', 'present'), np.asarray(p['confusion'], float))}" for of, p in some)  # fmt: skip
        left = f" The first {_PANELS} of {len(found)} are drawn." if len(found) > _PANELS else ""
        return finish(drawing, "confusion", "Confusion matrices", said,
                      f"Images; rows add up to the truth. Each at its own threshold.{left}", wide=True)  # fmt: skip


def _scale(drawing: Sheet, axes: Axes) -> None:
    """What the shades mean, where there are too many fields to hold numbers."""
    bar = drawing.colorbar(axes.collections[0], ax=axes, label="Share of the true class", shrink=0.6, boundaries=np.linspace(0, 1, 101))  # fmt: skip
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1])
    percent_axis(bar.ax.yaxis)
    bar.outline.set_visible(False)


def _matrix(axes: Axes, counts: np.ndarray, labels: Sequence[str], size: float) -> None:
    many = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, many, out=np.full(counts.shape, np.nan), where=many > 0)
    axes.pcolormesh(
        np.nan_to_num(share), cmap="Blues", vmin=0, vmax=1.15
    )  # vectors, where imshow would make a bitmap
    axes.set(aspect="equal", ylim=(len(labels), 0))
    _cells(axes, counts, share, size)
    crowded = len(labels) > 3
    middle = np.arange(len(labels)) + 0.5
    axes.set_xticks(middle, labels, rotation=35 if crowded else 0, ha="right" if crowded else "center")
    axes.set_yticks(middle, labels)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _cells(axes: Axes, counts: np.ndarray, share: np.ndarray, size: float) -> None:
    """Counts and shares of the row, as long as they can be read."""
    if len(counts) > _CELLS:
        return
    for (i, j), number in np.ndenumerate(counts):
        colour, shares = "white" if share[i, j] > 0.75 else INK, len(counts) <= 8
        how: dict[str, Any] = {"ha": "center", "fontsize": size, "color": colour}
        # two texts of one line each: only these stay centred in the reader's own font
        axes.text(j + 0.5, i + 0.5, f"{int(number):,}", va="bottom" if shares else "center", **how)
        if shares:
            axes.text(j + 0.5, i + 0.54, words.percent(float(share[i, j])), va="top", **how)


def _said(labels: Sequence[object], counts: np.ndarray) -> str:
    rows = (
        f"of {int(row.sum())} {words.name(label)}, {int(row[i])} called so"
        for i, (label, row) in enumerate(zip(labels, counts, strict=True))
    )
    return "; ".join(rows) + "."
