"""Figures of curves: ROC, precision against recall, training; and of a predicted quantity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from overread.core.errors import checked
from overread.evaluation.curves import Curves, PrecisionRecallCurve
from overread.evaluation.operating_point import AT_POINT
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import BLUE, COLOURS, INK, SOFT, STROKES, THIN, VERMILION, Figure, Sheet
from overread.reporting.run import Run, TrainingRow

SQUARE = (4.3, 4.15)
LINES = 8  # curves in one figure

Chosen = list[tuple[str, Curves]]
Corner = Literal["lower left", "lower right", "upper right"]


@checked
def roc(run: Run) -> Figure | None:
    """ROC of the primary curve with its operating point and readers, or of every class."""
    chosen = run.chosen("roc")[:LINES]
    if not chosen:
        return None
    with _square(len(chosen)) as drawing:
        axes = drawing.subplots()
        canvas.roc_axes(axes, run.size)
        for rank, (of, curve) in enumerate(chosen):
            canvas.curve_with_band(axes, curve.roc.fpr, curve.roc.tpr, label=_label(run, of, "auc"), rank=rank)
        note = _point(axes, run, *chosen[0]) if len(chosen) == 1 else _circles(axes, chosen, "fpr", "tpr")
        _legend(drawing, axes, "lower right", len(chosen))
        return canvas.finish(drawing, "roc", "ROC curve" if len(chosen) == 1 else "ROC curves",
                      f"Sensitivity against false alarms. {_alt(run, chosen, 'auc')}.",
                      f"{_numbers(run, 'AUC')} Dashed: a coin. {note}{words.first_of(run.chosen('roc'), LINES).strip()}".strip())  # fmt: skip


def _square(curves: int) -> AbstractContextManager[Sheet]:
    """A sheet for a square, taller where several curves are named under it."""
    width, height = SQUARE
    return canvas.sheet(width, height if curves == 1 else height + 0.2 + 0.18 * curves)


def _legend(drawing: Sheet, axes: Axes, place: Corner, curves: int) -> None:
    """Within the square where there is one curve, else under it: several names would hide the curves."""
    if curves == 1:
        axes.legend(loc=place, handlelength=2, frameon=True, edgecolor="none", framealpha=0.9)
    else:
        drawing.legend(loc="outside lower center", handlelength=2.8)


def _circles(axes: Axes, chosen: Chosen, across: str, up: str) -> str:
    """The frozen operating point of every curve; what the caption says of them."""
    points = [(rank, curve.point) for rank, (_, curve) in enumerate(chosen) if curve.point.frozen]
    places = [(rank, getattr(p, across), getattr(p, up)) for rank, p in points]
    places = [(rank, x, y) for rank, x, y in places if math.isfinite(x + y)]
    for rank, x, y in places:
        axes.plot(x, y, "o", color=COLOURS[rank], markerfacecolor="white", markersize=5, zorder=5)
    return "Circles: operating points. " if places else ""


def _numbers(run: Run, name: str) -> str:
    return f"{name} with {words.percent(run.level)} intervals."


def _point(axes: Axes, run: Run, of: str, curve: Curves) -> str:
    """The operating point, its intervals as a cross, its region, and the readers; what the caption says of them."""
    canvas.reader_points(axes, run.readers)
    note = "Diamonds: readers, with their intervals. " if run.readers else ""
    point, region = curve.point, curve.point.region
    if not point:
        return note
    if region:
        axes.fill(region.fpr, region.tpr, facecolor=VERMILION, edgecolor=VERMILION, alpha=0.22, linewidth=0.8)
        note = f"Shaded: their joint {words.percent(region.level)} region. {note}"
    sensitivity, specificity = run.estimate("sensitivity", of), run.estimate("specificity", of)
    canvas.cross(axes, (point.fpr, point.tpr), sensitivity, specificity, VERMILION)
    several = [held for held in run.operating if held.of == of and held.name]
    label = f"Operating point{several[0].name and f', {several[0].name}'}" if several else "Operating point"
    axes.plot(point.fpr, point.tpr, "o", color=VERMILION, markersize=6, zorder=5, label=label)
    for held in several[1:]:
        up, across = (run.estimate(metric, of, {AT_POINT: held.name}) for metric in ("sensitivity", "specificity"))
        if up and across and not (up.undefined or across.undefined):
            canvas.cross(axes, (1 - across.value, up.value), up, across, VERMILION)
            axes.plot(
                1 - across.value,
                up.value,
                "s",
                color=VERMILION,
                markersize=6,
                zorder=5,
                label=f"Operating point, {held.name}",
            )
    return f"Cross: the operating point with the {words.percent(run.level)} intervals of sensitivity and specificity. {note}"


@checked
def precision_recall(run: Run) -> Figure | None:
    """Precision against recall with the no-skill line at the prevalence."""
    chosen = run.chosen("pr")[:LINES]
    if not chosen:
        return None
    alone = len(chosen) == 1
    with _square(len(chosen)) as drawing:
        axes = drawing.subplots()
        canvas.unit_square(axes, "Sensitivity (recall)", "Positive predictive value (precision)")
        for rank, (of, curve) in enumerate(chosen):
            axes.axhline(curve.pr.prevalence, 0 if alone else 0.93, color=SOFT if alone else COLOURS[rank],
                         linewidth=0.8 if alone else 1.6, linestyle=THIN if alone else STROKES[rank])  # fmt: skip
            label = _label(run, of, "average precision")
            canvas.curve_with_band(axes, curve.pr.recall, curve.pr.precision, label=label, rank=rank)
        point, first = chosen[0][1].point, chosen[0][1].pr
        if alone and point and math.isfinite(point.precision):
            axes.plot(point.recall, point.precision, "o", color=VERMILION, markersize=6, zorder=5, label="Operating point")  # fmt: skip
        low = first.prevalence < 0.3 and alone  # the legend where the no-skill line is not
        _legend(drawing, axes, "upper right" if low and _falls(first) else "lower left", len(chosen))
        axes.set_title(run.size)
        note = "" if alone else _circles(axes, chosen, "recall", "precision")
        base = ", ".join(f"{run.called(of)} {words.percent(c.pr.prevalence, 1)}" for of, c in chosen)
        return canvas.finish(drawing, "precision-recall", "Precision and recall",
                      f"Average precision. {_alt(run, chosen, 'average precision')}.",
                      f"{_numbers(run, 'Average precision')} {'Dashed' if alone else 'Short lines to the right'}: no skill, "
                      f"the prevalence ({base}). {note}{words.first_of(run.chosen('pr'), LINES).strip()}".strip())  # fmt: skip


def _falls(curve: PrecisionRecallCurve) -> bool:
    """Whether the curve leaves the upper right corner free."""
    return all(precision < 0.75 for recall, precision in zip(curve.recall, curve.precision) if recall > 0.4)


def _label(run: Run, of: str, metric: str) -> str:
    number = words.cell(run.known(metric, of))
    return f"{words.label(metric)} {number}" if run.primary == of else f"{words.name(run.called(of), 22)}: {number}"


def _alt(run: Run, chosen: Chosen, metric: str) -> str:
    name = words.label(metric)
    return "; ".join(f"{run.called(of)}: {name} {words.in_sentence(run.estimate(metric, of))}" for of, _ in chosen)


@checked
def training(run: Run) -> Figure | None:
    """Losses and tuning score by epoch, or the held-out loss by penalty for linear heads."""
    history = run.history
    if len(history) < 2:  # one point is no curve
        return None
    if math.isfinite(history[0].penalty):
        return _penalties(history)
    return _epochs(history, "AP, IoU .5 to .95" if run.task.dense else "score" if run.task.continuous else "AUC")


def _column(history: Sequence[TrainingRow], name: str) -> np.ndarray:
    return np.array([getattr(row, name) for row in history])


def _epochs(history: Sequence[TrainingRow], score_name: str) -> Figure:
    epoch, score = _column(history, "epoch"), _column(history, "tuning_score")
    with canvas.sheet(9.0, 3.1) as drawing:
        left, right = drawing.subplots(1, 2)
        for name, label, colour in (("train_loss", "training loss", BLUE), ("tuning_loss", "tuning loss", VERMILION)):
            left.plot(epoch, _column(history, name), color=colour, label=label, marker="o" if colour == BLUE else "s",
                      markersize=3, linestyle="-" if colour == BLUE else (0, (4, 1.5)))  # fmt: skip
        left.set(xlabel="Epoch", ylabel="Loss")
        left.legend()
        right.plot(epoch, score, color=VERMILION, marker="o", markersize=3)
        right.set(xlabel="Epoch", ylabel=f"Tuning {score_name}")
        note = ""
        if np.isfinite(score).any():
            best = int(np.nanargmax(score))
            _circle(right, epoch[best], score[best])
            note = (
                f" The highest tuning {score_name} was {words.number(score[best])}, at epoch {epoch[best]:g} (circle)."
            )
        for axes in (left, right):
            canvas.quiet_grid(axes)
            axes.xaxis.get_major_locator().set_params(integer=True)
        epochs = words.count(len(history), "epoch")
        return canvas.finish(drawing, "training", "Training curves", f"Loss and tuning {score_name} over {epochs}.{note}",
                      f"{epochs}.{note}")  # fmt: skip


def _circle(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, "o", color=INK, markersize=8, fillstyle="none", markeredgewidth=1.5)


def at_the_end(history: Sequence[TrainingRow]) -> str:
    """What to know of a chosen penalty that is the first or the last of those tried; else nothing."""
    tried = [row.penalty for row in history if math.isfinite(row.penalty)]
    chosen = next((row.penalty for row in history if row.chosen and math.isfinite(row.penalty)), None)
    if len(tried) < 2 or chosen not in (min(tried), max(tried)):
        return ""
    end, way = ("smallest", "smaller") if chosen == min(tried) else ("largest", "larger")
    return f"It is the {end} that was tried: a {way} one may be better."


def _penalties(history: Sequence[TrainingRow]) -> Figure:
    penalty, loss = _column(history, "penalty"), _column(history, "held_out_loss")
    with canvas.sheet(9.0, 2.9) as drawing:
        axes = drawing.subplots()
        axes.plot(penalty, loss, color=VERMILION, marker="o", markersize=4)
        if (penalty > 0).all():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")  # text of its own would be set as a formula
        axes.set(xlabel="Penalty of the linear head", ylabel="Held-out loss")
        canvas.quiet_grid(axes)
        chosen = next((i for i, row in enumerate(history) if row.chosen), int(np.nanargmin(loss)))
        _circle(axes, penalty[chosen], loss[chosen])
        note = f" Chosen: {penalty[chosen]:.3g} (circle), with a loss of {words.number(loss[chosen])} on folds of training patients left out."
        note += f" {beyond}" if (beyond := at_the_end(history)) else ""
        return canvas.finish(drawing, "training", "Choice of the penalty", f"Held-out loss for {len(history)} penalties.{note}",
                      f"{len(history)} penalties.{note}")  # fmt: skip


@checked
def ladder(run: Run) -> Figure | None:
    """The rungs that training climbed: when each was done, its score with interval, and whether it was kept."""
    rungs = run.rungs
    if len(rungs) < 2:
        return None
    score_name = "score" if run.task.continuous else "AUC"
    with canvas.sheet(9.0, 0.55 + 0.42 * len(rungs)) as drawing:
        axes = drawing.subplots()
        for place, rung in enumerate(rungs):
            colour = BLUE if rung.taken else SOFT
            axes.plot([rung.low, rung.high], [place, place], color=colour, linewidth=1.6)
            axes.plot(rung.score, place, "o", color=colour, markersize=6, fillstyle="full" if rung.taken else "none")
        names = [f"{words.name(rung.name, 30)}, {_minutes(rung.began + rung.seconds)}" for rung in rungs]
        axes.set(
            yticks=range(len(rungs)),
            yticklabels=names,
            xlabel=f"{score_name} on held-out cases",
            ylim=(len(rungs) - 0.5, -0.5),
        )
        canvas.quiet_grid(axes)
        last = next(rung for rung in reversed(rungs) if rung.taken)
        note = f"Filled: kept; hollow: not better than what stood before by more than a standard error, and by what would be noticed. It ended on: {words.name(last.name, 60)}. Judged on {words.name(last.judged, 160)}; times since the start."
        told = "; ".join(
            f"{words.name(r.name, 30)} {words.number(r.score)} ({words.number(r.low)}–{words.number(r.high)})"
            for r in rungs
        )
        return canvas.finish(drawing, "ladder", "The ladder", f"{score_name} of each rung: {told}. {note}", note)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@checked
def scatter(run: Run) -> Figure | None:
    """A quantity: predicted against true."""
    truth, predicted = (np.array(x) for x in (run.evaluation.scatter.truth, run.evaluation.scatter.predicted))
    if not truth.size:
        return None
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    name = words.name(run.names[0] if run.names else "value", 34)
    with canvas.sheet(*SQUARE) as drawing:
        axes = drawing.subplots()
        axes.plot([low, high], [low, high], color=SOFT, linewidth=0.8, linestyle=THIN)
        axes.plot(truth, predicted, "o", color=BLUE, markersize=3.5, alpha=0.5, markeredgewidth=0)
        axes.set(xlabel=f"True {name}", ylabel=f"Predicted {name}", title=run.size)
        canvas.quiet_grid(axes)
        error = run.estimate("mae", run.names[0] if run.names else "")
        many = run.evaluation.counts.images
        thinned = f" {len(truth):,} of {many:,} images are drawn." if many > len(truth) else ""
        return canvas.finish(drawing, "scatter", "Predicted against true",
                      f"Scatter of predicted against true values; mean absolute error {words.in_sentence(error)}.",
                      f"Dashed: perfect agreement. In the units of the table.{thinned}")  # fmt: skip
