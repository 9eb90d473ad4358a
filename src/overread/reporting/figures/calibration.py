"""Figures of the score as a probability: its distribution, its calibration, and the net benefit of acting on it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import (  # fmt: skip
    BLUE,
    FAINT,
    INK,
    SKY,
    SOFT,
    VERMILION,
    Figure,
    finish,
    percent_axis,
    quiet_grid,
    sheet,
    unit_square,
)
from overread.reporting.figures.drawing import THIN, ForestRow, column, curve_with_band, forest_rows
from overread.reporting.figures.roc import LINES, SQUARE
from overread.reporting.main_results import silence_curves, surest_half
from overread.reporting.run import Run
from overread.stats.estimate import Estimate

PANELS = 6  # small figures side by side


@checked
def scores(run: Run) -> Figure | None:
    """How the score is distributed in cases with and without the disease."""
    held = run.curve.get("scores")
    if not run.primary or not held:
        return None
    edges = np.asarray(held["edges"], float)
    groups = (("with", held["positive"], VERMILION, "-"), ("without", held["negative"], BLUE, (0, (3, 1.2))))
    with sheet(*SQUARE) as drawing:
        axes = drawing.subplots()
        for word, counts, colour, stroke in groups:
            many = int(np.sum(counts))
            share = np.asarray(counts, float) / max(1, many)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.3)
            axes.stairs(share, edges, color=colour, linewidth=1.5, linestyle=stroke, label=f"{word} the disease (n = {many:,})")  # fmt: skip
        _threshold(axes, run.curve.get("point"))
        axes.set(xlabel=f"Score for {words.name(run.called(run.primary), 34)}", ylabel="Share of the group",
                 xlim=(edges[0], edges[-1]), title=run.size)  # fmt: skip
        percent_axis(axes.yaxis)
        quiet_grid(axes)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.22)
        axes.legend(loc="upper center", handlelength=2)
        return finish(drawing, "scores", "Distribution of the score",
                      "Histograms of the score for cases with and without the disease.",
                      "Upright, dashed: the threshold. n: images.")  # fmt: skip


def _threshold(axes: Axes, point: dict[str, Any] | None) -> None:
    if point and point.get("threshold") is not None:
        axes.axvline(float(point["threshold"]), ymax=0.84, color=INK, linewidth=1, linestyle=THIN)


@checked
def calibration(run: Run) -> Figure | None:
    """Stated probability against observed frequency, with the band of a calibrated model; small ones of several."""
    chosen = [(of, c["calibration"]) for of, c in run.chosen("calibration") if c["calibration"].get("count")]
    if not chosen:
        return None
    if len(chosen) > 1:
        return _calibrations(run, chosen)
    of, held = chosen[0]
    with sheet(4.3, 4.9) as drawing:
        axes, below = drawing.subplots(2, 1, height_ratios=(5, 1), sharex=True)
        unit_square(axes, "", "Observed frequency")
        axes.set_aspect("auto")
        _reliability(axes, held)
        axes.legend(loc="upper left", frameon=True, edgecolor="none", framealpha=0.9)
        axes.set_title(run.size)
        below.bar(column(held["predicted"]), column(held["count"]), width=0.05, color=FAINT, edgecolor=SOFT, linewidth=0.5)  # fmt: skip
        below.set(xlabel="Stated probability", ylabel="Images")
        return finish(drawing, "calibration", "Calibration", _slope(run, of, held), _bars(run))


def _bars(run: Run) -> str:
    level = words.percent(run.level)
    return f"Bars: {level} intervals. Band: where a calibrated model would lie ({level})."


def _slope(run: Run, of: str, held: dict[str, Any]) -> str:
    slope = words.spoken(run.estimate("calibration slope", of))
    return f"Observed frequency against stated probability in {len(held['count'])} bins; slope {slope}."


def _reliability(axes: Axes, held: dict[str, Any]) -> None:
    p, o, low, high, null_low, null_high = (
        column(held[c]) for c in ("predicted", "observed", "low", "high", "null low", "null high")
    )
    axes.fill_between(p, null_low, null_high, color=SKY, alpha=0.3, linewidth=0, label="if calibrated")
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=THIN)
    error = np.vstack([np.maximum(o - low, 0), np.maximum(high - o, 0)])
    axes.errorbar(p, o, error, fmt="o", color=BLUE, markersize=4.5, linewidth=1.2, label="observed")


def _calibrations(run: Run, chosen: list[tuple[str, dict[str, Any]]]) -> Figure:
    """A small diagram of each, at most :data:`PANELS`."""
    some = chosen[:PANELS]
    across = 4 if len(some) == 4 else min(3, len(some))
    down = -(-len(some) // across)
    each = 9.0 / max(across, 2)  # inches
    with sheet(each * across, 0.4 + 0.97 * each * down) as drawing:
        grid = drawing.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes, (of, held) in zip(grid.ravel(), some, strict=False):
            unit_square(axes, "", "")
            axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
            _reliability(axes, held)
            axes.set_title(f"{words.name(run.called(of), 24)}\n{_judged(run, of, held)}")
        _outside(drawing, grid, len(some))
        left = f" The first {PANELS} of {len(chosen)} are drawn." if len(chosen) > PANELS else ""
        said = " ".join(f"{run.called(of)}: {_slope(run, of, held)}" for of, held in some)
        return finish(drawing, "calibration", "Calibration", said, f"{_bars(run)}{left}", wide=True)


def _judged(run: Run, of: str, held: dict[str, Any]) -> str:
    """How many images of how many patients have a known truth here."""
    brier = run.estimate("ece", of) or run.estimate("brier", of) or run.estimate("auc", of)
    images = int(column(held["count"]).sum())
    return words.size(images, brier.patients) if brier else words.count(images, "image")


def _outside(drawing: Sheet, grid: np.ndarray, many: int) -> None:
    """One pair of axis titles for all; seats without a panel stay empty."""
    for axes in grid.ravel()[many:]:
        axes.set_visible(False)
    drawing.supxlabel("Stated probability", fontsize=9)
    drawing.supylabel("Observed frequency", fontsize=9)


@checked
def decision(run: Run) -> Figure | None:
    """Net benefit against the risk from which one acts, with treating all and treating none."""
    chosen = run.chosen("decision")
    held = chosen[0][1]["decision"] if len(chosen) == 1 else {}
    if not held.get("threshold"):
        return None
    x, top = column(held["threshold"]), column(held["net benefit"])
    with sheet(*SQUARE) as drawing:
        axes = drawing.subplots()
        curve_with_band(axes, x, top, low=held.get("low"), high=held.get("high"), label="by the model")
        curve_with_band(axes, x, held["treat all"], low=held.get("treat all low"), high=held.get("treat all high"), label="treat all", rank=1)  # fmt: skip
        axes.axhline(0, color=INK, linewidth=1.3, linestyle=(0, (1.2, 1.2)), label="treat none")
        axes.set(xlim=(0, 1), ylim=_useful(held), xlabel="Risk from which one acts", ylabel="Net benefit (true positives per image)",
                 title=run.size)  # fmt: skip
        percent_axis(axes.xaxis)
        quiet_grid(axes)
        axes.legend(loc="upper right", handlelength=2.6, frameon=True, edgecolor="none", framealpha=0.9)
        best = _best(x, top, column(held["treat all"]))
        return finish(drawing, "decision", "Decision curve", f"Net benefit. {best}", f"{best} {_rule(run, held)}")


def _useful(held: dict[str, Any]) -> tuple[float, float]:
    """The range worth seeing: treating all falls without end."""
    top = max(
        float(np.nanmax(np.append(column(held.get(k) or []), 0.01))) for k in ("net benefit", "high", "treat all")
    )
    lowest = float(np.nanmin(np.append(column(held["net benefit"]), 0.0)))
    return float(np.clip(lowest, -top, -0.15 * top)), 1.12 * top


def _best(x: np.ndarray, model: np.ndarray, everyone: np.ndarray) -> str:
    better = x[_longest((model > np.maximum(everyone, 0) + 1e-12) & np.isfinite(model))]
    if not better.size:
        return "At no risk does the model do better than treating all or none."
    ends = f"{words.percent(float(better.min()))} and {words.percent(float(better.max()))}"
    return f"Between the risks {ends} the model does better than treating all or none, by these estimates."


def _longest(holds: np.ndarray) -> slice:
    """The longest unbroken run of True: what can be told by its two ends."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], holds, [0]))))
    starts, ends = edges[::2], edges[1::2]
    widest = int((ends - starts).argmax()) if len(starts) else 0
    return slice(int(starts[widest]), int(ends[widest])) if len(starts) else slice(0, 0)


def _rule(run: Run, held: dict[str, Any]) -> str:
    level, lowest = held.get("level", run.level), np.nanmin(column(held["net benefit"]))
    below = " Below the frame: treating nobody is better." if lowest < _useful(held)[0] else ""
    rule = words.sentence(held.get("rule") or "treat where risk ≥ t", 120) + " At t = 0 everybody is treated."
    asked = held.get("prevalence")
    where = f" At a prevalence of {words.share(asked)}." if asked is not None else ""
    return f"{rule}{where} Bands: {words.percent(level)} intervals.{below}"


# -- figures of what a model says when it is not sure: risk against coverage, and how often its sets hold the truth ---


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
        band_note = f"Band: {words.percent(some[0][1].get('level', run.level))} interval." if len(some) == 1 else ""
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
    what = "interval" if run.continuous else "set"
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
    label = name if not of or run.continuous else f"{words.name(of, 16)}, {name}"
    measured = "width" if run.continuous else "size"
    size = f"mean {measured} {words.number(group.get('size'), 2)}" if group.get("size") is not None else ""
    return ForestRow(label, estimate, f"{patients:,}", whole=name == "all", note=size)


def _float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
