"""What was answered: scores by their truth, an operating point, estimates one below the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from overread.core.errors import checked
from overread.evaluation.operating_point import OperatingPoint
from overread.predictions import Predictions
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import BLUE, INK, VERMILION, Figure, ForestRow
from overread.stats.estimate import Difference, Estimate

#: Small figures side by side, and rows of a forest, at most.
PANELS, ROWS = 6, 40


@checked
def scores(test: Predictions) -> Figure | None:
    """How the probabilities of each class or finding are distributed among those that have it and the others."""
    if test.target.task.continuous:
        return None
    truth, names = test.target.task.yes_or_no(test.truth)
    places = [test.target.names.index(name) for name in names[:PANELS] if name in test.target.names]
    across = min(3, len(places))
    with canvas.sheet(0.4 + 2.9 * across, 0.5 + 2.4 * -(-len(places) // across)) as drawing:
        grid = drawing.subplots(-(-len(places) // across), across, squeeze=False).ravel()
        for axes, column, place in zip(grid, truth.T, places, strict=False):
            score = test.scores[:, place]
            ends = (min(0.0, float(np.nanmin(score))), max(1.0, float(np.nanmax(score))))
            for word, rows, colour, stroke in (
                ("with", column == 1, VERMILION, "-"),
                ("without", column == 0, BLUE, (0, (3, 1.2))),
            ):
                counts, edges = np.histogram(score[rows], 20, ends)
                share = counts / max(1, counts.sum())
                axes.stairs(share, edges, fill=True, color=colour, alpha=0.3)
                axes.stairs(
                    share, edges, color=colour, linewidth=1.4, linestyle=stroke, label=f"{word} (n = {counts.sum():,})"
                )
            axes.set(title=words.name(test.target.names[place], 30), xlim=ends, ylim=(0, axes.get_ylim()[1] * 1.3))
            canvas.percent_axis(axes.yaxis)
            canvas.quiet_grid(axes)
            axes.legend(loc="upper center", fontsize=7.5)
        for axes in grid[len(places) :]:
            axes.set_visible(False)
        drawing.supxlabel("Score", fontsize=9)
        return canvas.finish(drawing, "scores", "Distribution of the scores", f"Histograms of the scores of {', '.join(names[:PANELS])}.",
                             f"{words.name(str(test), 90)}. Share of the group.{words.first_of(names, PANELS)}")  # fmt: skip


@checked
def scatter(test: Predictions) -> Figure | None:
    """A quantity: predicted against true; None for probabilities."""
    known = test.known
    if not test.target.task.continuous or not known.any():
        return None
    truth, predicted = test.truth[known], test.scores[known, 0]
    with canvas.sheet(4.3, 4.15) as drawing:
        axes = drawing.subplots()
        ends = [float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))]
        axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=canvas.THIN)
        axes.plot(truth, predicted, "o", color=BLUE, markersize=3, alpha=0.5)
        axes.set(xlabel="True", ylabel="Predicted", aspect="equal", title=words.name(str(test), 60))
        canvas.quiet_grid(axes)
        return canvas.finish(drawing, "scatter", "Predicted against true", f"{len(truth):,} cases.", "Dashed: perfect.")


@checked
def point(chosen: OperatingPoint) -> Figure:
    """An operating point on the axes of a ROC curve, by what it reaches on tuning data."""
    with canvas.sheet(4.3, 4.15) as drawing:
        axes = drawing.subplots()
        canvas.roc_axes(axes, "on tuning data")
        axes.plot(1 - chosen.specificity, chosen.sensitivity, "o", color=INK, markersize=8, markerfacecolor="white")
        text = f"score ≥ {chosen.threshold:.3g}\nsensitivity {words.percent(chosen.sensitivity, 1)}\nspecificity {words.percent(chosen.specificity, 1)}"
        axes.annotate(text, (0.98, 0.04), ha="right", va="bottom")
        return canvas.finish(drawing, "point", "Operating point", str(chosen), words.sentence(chosen))


@checked
def interval(estimate: Estimate) -> Figure | None:
    """One estimate with its interval."""
    return forest([estimate])


@checked
def difference(found: Difference) -> Figure | None:
    """Both values are not drawn: their difference is what is told, with its interval."""
    return None if found.difference.undefined else _rows([found.difference], 0.0)


@checked
def forest(found: Sequence[Estimate]) -> Figure | None:
    """Estimates of one metric one below the other, with their classes and groups; None where none has a value."""
    return None if all(e.undefined for e in found) else _rows(found, None)


def _rows(found: Sequence[Estimate], line: float | None) -> Figure:
    rows = [
        ForestRow(_of(e), e, f"{e.patients:,}" if e.patients else "", not e.where and not e.of) for e in found[:ROWS]
    ]
    title = words.label(found[0].metric)
    return canvas.forest_rows(rows, name="estimates", title=title, across=title, line=line,
                              caption=f"n: patients.{words.first_of(found, ROWS)}")  # fmt: skip


def _of(e: Estimate) -> str:
    where = ", ".join(f"{column} {value}" for column, value in e.where.items())
    return ", ".join(filter(None, (e.of, where))) or "All cases"
