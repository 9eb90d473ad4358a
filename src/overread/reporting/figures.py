"""Figures from stored numbers: each takes what a file of the run holds and computes nothing of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from overread.errors import checked
from overread.record import write_text
from overread.reporting import words
from overread.reporting.canvas import (
    BLUE,
    COLOURS,
    FAINT,
    INK,
    SKY,
    SOFT,
    VERMILION,
    Figure,
    finish,
    quiet_grid,
    sheet,
    unit_square,
)  # fmt: skip
from overread.reporting.flow import flow
from overread.reporting.forest import forest
from overread.reporting.gather import Run, gather
from overread.stats.estimate import Estimate

_SQUARE = (4.3, 4.15)
_LINES = 8  # curves in one figure
_CELLS = 15  # classes of a confusion matrix whose numbers can still be read


@checked
def draw_all(folder: str | os.PathLike[str]) -> list[Path]:
    """Draw every figure that the run's stored numbers allow, as ``evaluation/figures/*.svg``; gives their paths.

    Figures of an earlier state of the run that its numbers no longer allow are removed. Raises InputError if the
    folder does not exist or one of its files is damaged.
    """
    run = gather(folder)
    home, written = run.folder / "evaluation" / "figures", []
    for name, figure in figures(run).items():
        if figure is None:
            (home / f"{name}.svg").unlink(missing_ok=True)
        else:
            written.append(write_text(home / f"{name}.svg", _standalone(figure.svg)))
    return written


def _standalone(svg: str) -> str:
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg + "\n"


def figures(run: Run) -> dict[str, Figure | None]:
    """Every figure of a run by its name; None where its numbers are not there yet."""
    return {
        "flow": flow(run),
        "training": training(run),
        "roc": roc(run),
        "precision-recall": precision_recall(run),
        "scores": scores(run),
        "calibration": calibration(run),
        "confusion": confusion(run),
        "forest": forest(run),
        "scatter": scatter(run),
    }


def roc(run: Run) -> Figure | None:
    """ROC of the primary curve with its operating point, or of every class."""
    chosen = _chosen(run, "roc")
    if not chosen:
        return None
    with sheet(*_SQUARE) as drawing:
        axes = drawing.subplots()
        unit_square(axes, "1 − specificity (false alarms)", "Sensitivity")
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        for (of, curve), colour in zip(chosen, COLOURS, strict=False):
            axes.plot(
                curve["roc"]["fpr"], curve["roc"]["tpr"], color=colour, label=_curve_label(run, of, "auc")
            )
        if len(chosen) == 1:
            _cross(axes, run, chosen[0][0], chosen[0][1].get("point"))
        axes.legend(loc="lower right", handlelength=1.4)
        axes.set_title(_size(run))
        spoken = "; ".join(
            f"{run.called(of)}: AUC {words.spoken(run.estimate('auc', of))}" for of, _ in chosen
        )
        return finish(drawing, "roc", "ROC curve", f"Sensitivity against false alarms. {spoken}.",
                      "Dashed: a coin. " + _point_note(chosen))  # fmt: skip


def precision_recall(run: Run) -> Figure | None:
    """Precision against recall with the no-skill line at the prevalence."""
    chosen = _chosen(run, "pr")
    if not chosen:
        return None
    with sheet(*_SQUARE) as drawing:
        axes = drawing.subplots()
        unit_square(axes, "Sensitivity (recall)", "Positive predictive value (precision)")
        for (of, curve), colour in zip(chosen, COLOURS, strict=False):
            pr = curve["pr"]
            axes.axhline(
                pr["prevalence"],
                color=SOFT if len(chosen) == 1 else colour,
                linewidth=0.8,
                linestyle=(0, (4, 3)),
            )
            axes.plot(
                pr["recall"], pr["precision"], color=colour, label=_curve_label(run, of, "average precision")
            )
        if len(chosen) == 1 and (point := chosen[0][1].get("point")) and point.get("precision") is not None:
            axes.plot(point["recall"], point["precision"], "o", color=VERMILION, markersize=6, zorder=5)
        axes.legend(loc="lower left", handlelength=1.4, frameon=True, edgecolor="none", framealpha=0.9)
        axes.set_title(_size(run))
        base = ", ".join(f"{run.called(of)} {words.percent(c['pr']['prevalence'], 1)}" for of, c in chosen)
        spoken = "; ".join(
            f"{run.called(of)}: {words.spoken(run.estimate('average precision', of))}" for of, _ in chosen
        )
        return finish(drawing, "precision-recall", "Precision and recall", f"Average precision. {spoken}.",
                      f"Dashed: no skill, the prevalence ({base}).")  # fmt: skip


def _chosen(run: Run, part: str) -> list[tuple[str, dict[str, Any]]]:
    """The primary curve alone, or every class's that is defined, at most :data:`_LINES`."""
    if run.primary and part in run.curve:
        return [(run.primary, run.curve)]
    return [(of, curve) for of, curve in run.curves.items() if part in curve][:_LINES]


def _curve_label(run: Run, of: str, metric: str) -> str:
    estimate = run.estimate(metric, of)
    between = words.interval(estimate, 2)
    number = f"{words.value(estimate, 2)} ({between})" if between else words.value(estimate, 2)
    return (
        f"{words.name(run.called(of), 22)}: {number}"
        if run.primary != of
        else f"{words.metric(metric).name} {number}"
    )


def _cross(axes: Axes, run: Run, of: str, point: dict[str, Any] | None) -> None:
    """The operating point with the intervals of sensitivity and specificity as a cross."""
    if not point or point.get("fpr") is None:
        return
    x, y = float(point["fpr"]), float(point["tpr"])
    sensitivity, specificity = run.estimate("sensitivity", of), run.estimate("specificity", of)
    if sensitivity and words.interval(sensitivity):
        axes.plot([x, x], [sensitivity.low, sensitivity.high], color=VERMILION, linewidth=1.3)
    if specificity and words.interval(specificity):
        axes.plot([1 - specificity.high, 1 - specificity.low], [y, y], color=VERMILION, linewidth=1.3)
    axes.plot(x, y, "o", color=VERMILION, markersize=6, zorder=5, label="Operating point")


def _point_note(chosen: Sequence[tuple[str, dict[str, Any]]]) -> str:
    if len(chosen) > 1 or not chosen[0][1].get("point"):
        return ""
    return "Cross: the operating point with its intervals."


def _size(run: Run) -> str:
    counts = run.evaluation.get("counts") or {}
    return words.size(counts.get("images"), counts.get("patients"))


def scores(run: Run) -> Figure | None:
    """How the score is distributed in cases with and without the disease."""
    held = run.curve.get("scores")
    if not run.primary or not held:
        return None
    edges = np.asarray(held["edges"], float)
    groups = (("with", held["positive"], VERMILION), ("without", held["negative"], BLUE))
    with sheet(*_SQUARE) as drawing:
        axes = drawing.subplots()
        for word, counts, colour in groups:
            share = np.asarray(counts, float) / max(1.0, float(np.sum(counts)))
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(
                share,
                edges,
                color=colour,
                linewidth=1.4,
                label=f"{word} the disease (n = {int(np.sum(counts)):,})",
            )
        _threshold(axes, run.curve.get("point"))
        axes.set(
            xlabel=f"Score for {words.name(run.called(run.primary), 34)}",
            ylabel="Share of the group",
            xlim=(edges[0], edges[-1]),
        )
        axes.yaxis.set_major_formatter(lambda tick, _: f"{100 * tick:.0f} %")
        quiet_grid(axes)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.22)
        axes.legend(loc="upper center")
        axes.set_title(_size(run))
        return finish(drawing, "scores", "Distribution of the score",
                      "Histograms of the score for cases with and without the disease.", "Dashed: the threshold.")  # fmt: skip


def _threshold(axes: Axes, point: dict[str, Any] | None) -> None:
    if point and point.get("threshold") is not None:
        axes.axvline(float(point["threshold"]), ymax=0.84, color=INK, linewidth=1, linestyle=(0, (4, 3)))


def calibration(run: Run) -> Figure | None:
    """Stated probability against observed frequency, with the band of a calibrated model."""
    held = run.curve.get("calibration")
    if not held or not held.get("count"):
        return None
    columns = ("predicted", "observed", "low", "high", "null low", "null high", "count")
    p, o, low, high, null_low, null_high, n = (
        np.array([math.nan if v is None else v for v in held[c]], float) for c in columns
    )
    with sheet(4.3, 4.9) as drawing:
        axes, below = drawing.subplots(2, 1, height_ratios=(5, 1), sharex=True)
        unit_square(axes, "", "Observed frequency")
        axes.set_aspect("auto")
        axes.fill_between(
            p, null_low, null_high, color=SKY, alpha=0.3, linewidth=0, label="if calibrated (95 %)"
        )
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        error = np.vstack([np.maximum(o - low, 0), np.maximum(high - o, 0)])
        axes.errorbar(p, o, error, fmt="o", color=BLUE, markersize=4.5, linewidth=1.2, label="observed")
        axes.legend(loc="upper left")
        axes.set_title(_size(run))
        below.bar(p, n, width=0.05, color=FAINT, edgecolor=SOFT, linewidth=0.5)
        below.set(xlabel="Stated probability", ylabel="Images")
        slope = words.spoken(run.estimate("calibration slope", run.primary))
        return finish(drawing, "calibration", "Calibration",
                      f"Observed frequency against stated probability in {len(p)} bins; slope {slope}.",
                      "Bars: 95 % intervals. Band: where a calibrated model would lie.")  # fmt: skip


def confusion(run: Run) -> Figure | None:
    """Counts of truth against call, shaded by the share of the true class."""
    held = run.evaluation.get("confusion") or {}
    if not held.get("labels"):
        return None
    labels = [words.name(label, 18) for label in held["labels"]]
    counts = np.asarray(held["counts"], float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.6, min(8.0, 1.6 + 0.62 * len(labels)))
    with sheet(side + 0.5, side) as drawing:
        axes = drawing.subplots()
        axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1.15)  # vectors, where imshow would make a bitmap
        axes.set(aspect="equal", ylim=(len(labels), 0))
        _cells(axes, counts, share)
        crowded = len(labels) > 3
        middle = np.arange(len(labels)) + 0.5
        axes.set_xticks(middle, labels, rotation=35 if crowded else 0, ha="right" if crowded else "center")
        axes.set_yticks(middle, labels)
        axes.set(xlabel="Called", ylabel="Truth")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.set_title(_size(run))
        return finish(drawing, "confusion", "Confusion matrix", _confusion_words(held["labels"], counts),
                      f"Rows add up to the true class; called by {held.get('rule', 'largest probability')}.")  # fmt: skip


def _cells(axes: Axes, counts: np.ndarray, share: np.ndarray) -> None:
    """Counts and shares of the row, as long as they can be read."""
    if len(counts) > _CELLS:
        return
    size = 10 if len(counts) <= 4 else 8 if len(counts) <= 8 else 6.5
    for (i, j), number in np.ndenumerate(counts):
        colour, shares = "white" if share[i, j] > 0.55 else INK, len(counts) <= 8
        how: dict[str, Any] = {"ha": "center", "fontsize": size, "color": colour}
        # two texts of one line each: only these stay centred in the reader's own font
        axes.text(j + 0.5, i + 0.5, f"{int(number):,}", va="bottom" if shares else "center", **how)
        if shares:
            axes.text(j + 0.5, i + 0.54, words.percent(float(share[i, j])), va="top", **how)


def _confusion_words(labels: Sequence[object], counts: np.ndarray) -> str:
    rows = (
        f"of {int(row.sum())} {words.name(label)}, {int(row[i])} called so"
        for i, (label, row) in enumerate(zip(labels, counts, strict=True))
    )
    return "; ".join(rows) + "."


def training(run: Run) -> Figure | None:
    """Losses and tuning score by epoch, or the held-out loss by penalty for linear heads."""
    history = run.history
    if len(history) < 2:  # one point is no curve
        return None
    return (
        _penalties(history)
        if "penalty" in history[0]
        else _epochs(history, "AUC" if run.kind != "quantity" else "score")
    )


def _column(history: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([math.nan if row.get(name) is None else float(row[name]) for row in history])


def _epochs(history: Sequence[dict[str, Any]], score_name: str) -> Figure:
    epoch, score = _column(history, "epoch"), _column(history, "tuning score")
    with sheet(9.0, 3.1) as drawing:
        left, right = drawing.subplots(1, 2)
        for name, colour in (("train loss", BLUE), ("tuning loss", VERMILION)):
            label = name.replace("train ", "training ")
            left.plot(epoch, _column(history, name), color=colour, label=label, marker="o", markersize=3)
        left.set(xlabel="Epoch", ylabel="Loss")
        left.legend()
        right.plot(epoch, score, color=VERMILION, marker="o", markersize=3)
        right.set(xlabel="Epoch", ylabel=f"Tuning {score_name}")
        note = ""
        if np.isfinite(score).any():
            best = int(np.nanargmax(score))
            _circle(right, epoch[best], score[best])
            note = f" The highest tuning {score_name} was {words.number(score[best])}, at epoch {epoch[best]:g} (circle)."
        for axes in (left, right):
            quiet_grid(axes)
            axes.xaxis.get_major_locator().set_params(integer=True)
        epochs = words.count(len(history), "epoch")
        return finish(drawing, "training", "Training curves", f"Loss and tuning {score_name} over {epochs}.{note}",
                      f"{epochs}.{note}")  # fmt: skip


def _circle(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, "o", color=INK, markersize=8, fillstyle="none", markeredgewidth=1.5)


def _penalties(history: Sequence[dict[str, Any]]) -> Figure:
    penalty, loss = _column(history, "penalty"), _column(history, "held-out loss")
    with sheet(9.0, 2.9) as drawing:
        axes = drawing.subplots()
        axes.plot(penalty, loss, color=VERMILION, marker="o", markersize=4)
        if (penalty > 0).all():
            axes.set_xscale("log")
        axes.set(xlabel="Penalty of the linear head", ylabel="Held-out loss")
        quiet_grid(axes)
        chosen = next((i for i, row in enumerate(history) if row.get("chosen")), int(np.nanargmin(loss)))
        _circle(axes, penalty[chosen], loss[chosen])
        note = f" Chosen: {penalty[chosen]:.3g} (circle), with a loss of {words.number(loss[chosen])} on folds of training patients left out."
        return finish(drawing, "training", "Choice of the penalty", f"Held-out loss for {len(history)} penalties.{note}",
                      f"{len(history)} penalties.{note}")  # fmt: skip


def scatter(run: Run) -> Figure | None:
    """A quantity: predicted against true."""
    held = run.evaluation.get("scatter") or {}
    if not held.get("truth"):
        return None
    truth, predicted = np.asarray(held["truth"], float), np.asarray(held["predicted"], float)
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    with sheet(*_SQUARE) as drawing:
        axes = drawing.subplots()
        axes.plot([low, high], [low, high], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.plot(truth, predicted, "o", color=BLUE, markersize=3.5, alpha=0.5, markeredgewidth=0)
        axes.set(xlabel="True value", ylabel="Predicted value")
        quiet_grid(axes)
        axes.set_title(_size(run))
        error: Estimate | None = run.estimate("mae", run.names[0] if run.names else "")
        return finish(drawing, "scatter", "Predicted against true",
                      f"Scatter of predicted against true values; mean absolute error {words.spoken(error)}.",
                      "Dashed: perfect agreement.")  # fmt: skip
