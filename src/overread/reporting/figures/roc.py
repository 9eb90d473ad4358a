"""Figures of how well a score ranks: the ROC curve, and precision against recall."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import COLOURS, SOFT, VERMILION, Figure, finish, sheet, unit_square
from overread.reporting.figures.drawing import STROKES, THIN, column, curve_with_band, reader_points, roc_axes
from overread.reporting.run import Run

SQUARE = (4.3, 4.15)
LINES = 8  # curves in one figure

Chosen = list[tuple[str, dict[str, Any]]]
Corner = Literal["lower left", "lower right", "upper right"]


@checked
def roc(run: Run) -> Figure | None:
    """ROC of the primary curve with its operating point and readers, or of every class."""
    chosen = run.chosen("roc")[:LINES]
    if not chosen:
        return None
    with _square(len(chosen)) as drawing:
        axes = drawing.subplots()
        roc_axes(axes, run.size)
        for rank, (of, curve) in enumerate(chosen):
            held = curve["roc"]
            curve_with_band(axes, held["fpr"], held["tpr"], label=_label(run, of, "auc"), rank=rank)
        note = _point(axes, run, *chosen[0]) if len(chosen) == 1 else _circles(axes, chosen, "fpr", "tpr")
        _legend(drawing, axes, "lower right", len(chosen))
        return finish(drawing, "roc", "ROC curve" if len(chosen) == 1 else "ROC curves",
                      f"Sensitivity against false alarms. {_spoken(run, chosen, 'auc')}.",
                      f"{_numbers(run, 'AUC')} Dashed: a coin. {note}{_left_out(run, 'roc')}".strip())  # fmt: skip


def _square(curves: int) -> AbstractContextManager[Sheet]:
    """A sheet for a square, taller where several curves are named under it."""
    width, height = SQUARE
    return sheet(width, height if curves == 1 else height + 0.2 + 0.18 * curves)


def _legend(drawing: Sheet, axes: Axes, place: Corner, curves: int) -> None:
    """Within the square where there is one curve, else under it: several names would hide the curves."""
    if curves == 1:
        axes.legend(loc=place, handlelength=2, frameon=True, edgecolor="none", framealpha=0.9)
    else:
        drawing.legend(loc="outside lower center", handlelength=2.8)


def _circles(axes: Axes, chosen: Chosen, across: str, up: str) -> str:
    """The frozen operating point of every curve; what the caption says of them."""
    points = [(rank, curve.get("point") or {}) for rank, (_, curve) in enumerate(chosen)]
    points = [(rank, p) for rank, p in points if p.get("frozen") and None not in (p.get(across), p.get(up))]
    for rank, p in points:
        axes.plot(p[across], p[up], "o", color=COLOURS[rank], markerfacecolor="white", markersize=5, zorder=5)
    return "Circles: operating points. " if points else ""


def _numbers(run: Run, name: str) -> str:
    return f"{name} with {words.percent(run.level)} intervals."


def _point(axes: Axes, run: Run, of: str, curve: dict[str, Any]) -> str:
    """The operating point, its intervals as a cross, its region, and the readers; what the caption says of them."""
    readers = run.more.get("readers")
    readers = readers if isinstance(readers, list) else []
    reader_points(axes, readers)
    note = "Diamonds: readers, with their intervals. " if readers else ""
    point = curve.get("point") or {}
    if point.get("fpr") is None:
        return note
    region = point.get("region") or {}
    if region.get("fpr"):
        axes.fill(column(region["fpr"]), column(region["tpr"]), facecolor=VERMILION, edgecolor=VERMILION,
                  alpha=0.22, linewidth=0.8)  # fmt: skip
        joint = words.percent(region.get("level", 0.95))
        note = f"Shaded: their joint {joint} region. {note}"
    _cross(axes, run, of, float(point["fpr"]), float(point["tpr"]))
    return f"Cross: the operating point with the {words.percent(run.level)} intervals of sensitivity and specificity. {note}"


def _cross(axes: Axes, run: Run, of: str, x: float, y: float) -> None:
    sensitivity, specificity = run.estimate("sensitivity", of), run.estimate("specificity", of)
    if sensitivity and words.interval(sensitivity):
        axes.plot([x, x], [sensitivity.low, sensitivity.high], color=VERMILION, linewidth=1.3)
    if specificity and words.interval(specificity):
        axes.plot([1 - specificity.high, 1 - specificity.low], [y, y], color=VERMILION, linewidth=1.3)
    axes.plot(x, y, "o", color=VERMILION, markersize=6, zorder=5, label="Operating point")


@checked
def precision_recall(run: Run) -> Figure | None:
    """Precision against recall with the no-skill line at the prevalence."""
    chosen = run.chosen("pr")[:LINES]
    if not chosen:
        return None
    alone = len(chosen) == 1
    with _square(len(chosen)) as drawing:
        axes = drawing.subplots()
        unit_square(axes, "Sensitivity (recall)", "Positive predictive value (precision)")
        for rank, (of, curve) in enumerate(chosen):
            held = curve["pr"]
            axes.axhline(held["prevalence"], 0 if alone else 0.93, color=SOFT if alone else COLOURS[rank],
                         linewidth=0.8 if alone else 1.6, linestyle=THIN if alone else STROKES[rank])  # fmt: skip
            label = _label(run, of, "average precision")
            curve_with_band(axes, held["recall"], held["precision"], label=label, rank=rank)
        point = chosen[0][1].get("point") or {}
        if alone and point.get("precision") is not None:
            axes.plot(point["recall"], point["precision"], "o", color=VERMILION, markersize=6, zorder=5, label="Operating point")  # fmt: skip
        low = chosen[0][1]["pr"]["prevalence"] < 0.3 and alone  # the legend where the no-skill line is not
        _legend(drawing, axes, "upper right" if low and _falls(chosen[0][1]["pr"]) else "lower left", len(chosen))
        axes.set_title(run.size)
        note = "" if alone else _circles(axes, chosen, "recall", "precision")
        base = ", ".join(f"{run.called(of)} {words.percent(c['pr']['prevalence'], 1)}" for of, c in chosen)
        return finish(drawing, "precision-recall", "Precision and recall",
                      f"Average precision. {_spoken(run, chosen, 'average precision')}.",
                      f"{_numbers(run, 'Average precision')} {'Dashed' if alone else 'Short lines to the right'}: no skill, "
                      f"the prevalence ({base}). {note}{_left_out(run, 'pr')}".strip())  # fmt: skip


def _falls(held: dict[str, Any]) -> bool:
    """Whether the curve leaves the upper right corner free."""
    recall, precision = column(held["recall"]), column(held["precision"])
    return bool((precision[recall > 0.4] < 0.75).all())


def _label(run: Run, of: str, metric: str) -> str:
    estimate = run.estimate(metric, of)
    between = words.interval(estimate, 2)
    number = f"{words.value(estimate, 2)} ({between})" if between else words.value(estimate, 2)
    if run.primary == of:
        return f"{words.metric(metric).name} {number}"
    return f"{words.name(run.called(of), 22)}: {number}"


def _spoken(run: Run, chosen: Sequence[tuple[str, dict[str, Any]]], metric: str) -> str:
    return "; ".join(
        f"{run.called(of)}: {words.metric(metric).name} {words.spoken(run.estimate(metric, of))}" for of, _ in chosen
    )


def _left_out(run: Run, part: str) -> str:
    many = len(run.chosen(part))
    return f"The first {LINES} of {many} are drawn." if many > LINES else ""
