"""Figures of training and of a predicted quantity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import BLUE, INK, SOFT, VERMILION, Figure, finish, quiet_grid, sheet
from overread.reporting.figures.drawing import THIN
from overread.reporting.figures.roc import SQUARE
from overread.reporting.run import Run


@checked
def training(run: Run) -> Figure | None:
    """Losses and tuning score by epoch, or the held-out loss by penalty for linear heads."""
    history = run.history
    if len(history) < 2:  # one point is no curve
        return None
    return (
        _penalties(history) if "penalty" in history[0] else _epochs(history, "AUC" if not run.continuous else "score")
    )


def _column(history: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([math.nan if row.get(name) is None else float(row[name]) for row in history])


def _epochs(history: Sequence[dict[str, Any]], score_name: str) -> Figure:
    epoch, score = _column(history, "epoch"), _column(history, "tuning score")
    with sheet(9.0, 3.1) as drawing:
        left, right = drawing.subplots(1, 2)
        for name, colour in (("train loss", BLUE), ("tuning loss", VERMILION)):
            label = name.replace("train ", "training ")
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


@checked
def scatter(run: Run) -> Figure | None:
    """A quantity: predicted against true."""
    held = run.evaluation.get("scatter") or {}
    if not held.get("truth"):
        return None
    truth, predicted = np.asarray(held["truth"], float), np.asarray(held["predicted"], float)
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    name = words.name(run.names[0] if run.names else "value", 34)
    with sheet(*SQUARE) as drawing:
        axes = drawing.subplots()
        axes.plot([low, high], [low, high], color=SOFT, linewidth=0.8, linestyle=THIN)
        axes.plot(truth, predicted, "o", color=BLUE, markersize=3.5, alpha=0.5, markeredgewidth=0)
        axes.set(xlabel=f"True {name}", ylabel=f"Predicted {name}", title=run.size)
        quiet_grid(axes)
        error = run.estimate("mae", run.names[0] if run.names else "")
        many = int((run.evaluation.get("counts") or {}).get("images") or 0)
        thinned = f" {len(truth):,} of {many:,} images are drawn." if many > len(truth) else ""
        return finish(drawing, "scatter", "Predicted against true",
                      f"Scatter of predicted against true values; mean absolute error {words.spoken(error)}.",
                      f"Dashed: perfect agreement. In the units of the table.{thinned}")  # fmt: skip
