"""Figures of the score as a probability: its distribution, its calibration, and the net benefit of acting on it."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from overread.core.errors import checked
from overread.evaluation.curves import (
    AbstentionCurve,
    DecisionCurve,
    Point,
    ReliabilityDiagram,
    SetCoverage,
    SmoothCalibration,
)
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import BLUE, FAINT, INK, SKY, SOFT, THIN, VERMILION, Figure, ForestRow
from overread.reporting.figures.curves import LINES, SQUARE
from overread.reporting.main_results import surest_half
from overread.reporting.run import Run
from overread.stats.estimate import Estimate

PANELS = 6  # small figures side by side


@checked
def scores(run: Run) -> Figure | None:
    """How the score is distributed in cases with and without the disease."""
    held = run.curve.scores
    if not run.primary or not held:
        return None
    edges = held.edges
    groups = (("with", held.positive, VERMILION, "-"), ("without", held.negative, BLUE, (0, (3, 1.2))))
    with canvas.sheet(*SQUARE) as drawing:
        axes = drawing.subplots()
        for word, counts, colour, stroke in groups:
            many = sum(counts)
            share = np.array(counts) / max(1, many)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.3)
            axes.stairs(share, edges, color=colour, linewidth=1.5, linestyle=stroke, label=f"{word} the disease (n = {many:,})")  # fmt: skip
        _threshold(axes, run.curve.point)
        axes.set(xlabel=f"Score for {words.name(run.called(run.primary), 34)}", ylabel="Share of the group",
                 xlim=(edges[0], edges[-1]), title=run.size)  # fmt: skip
        canvas.percent_axis(axes.yaxis)
        canvas.quiet_grid(axes)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.22)
        axes.legend(loc="upper center", handlelength=2)
        return canvas.finish(drawing, "scores", "Distribution of the score",
                      "Histograms of the score for cases with and without the disease.",
                      "Upright, dashed: the threshold. n: images.")  # fmt: skip


def _threshold(axes: Axes, point: Point) -> None:
    if point and math.isfinite(point.threshold):
        axes.axvline(point.threshold, ymax=0.84, color=INK, linewidth=1, linestyle=THIN)


@checked
def calibration(run: Run) -> Figure | None:
    """Stated probability against observed frequency, with the band of a calibrated model; small ones of several."""
    chosen = [(of, curve.calibration) for of, curve in run.chosen("calibration")]
    if not chosen:
        return None
    if len(chosen) > 1:
        return _calibrations(run, chosen)
    of, held = chosen[0]
    with canvas.sheet(4.3, 4.9) as drawing:
        axes, below = drawing.subplots(2, 1, height_ratios=(5, 1), sharex=True)
        canvas.unit_square(axes, "", "Observed frequency")
        axes.set_aspect("auto")
        draw_reliability(axes, held)
        _draw_smooth(axes, run.evaluation.curves[of].smooth)
        axes.legend(loc="upper left", frameon=True, edgecolor="none", framealpha=0.9)
        axes.set_title(run.size)
        draw_counts(below, held, "Images")
        return canvas.finish(drawing, "calibration", "Calibration", _slope(run, of, held), _bars(run))


def _bars(run: Run) -> str:
    level = words.percent(run.level)
    smooth = any(curve.smooth for _, curve in run.chosen("calibration"))
    line = f" Line: the same without bins, with its pointwise {level} band between dashes." if smooth else ""
    return f"Bars: {level} intervals. Band: where a calibrated model would lie ({level}).{line}"


def _draw_smooth(axes: Axes, held: SmoothCalibration) -> None:
    """The curve without bins, with its band as two thin lines: the area is that of the bins by chance."""
    if held:
        axes.plot(held.predicted, held.observed, color=VERMILION, linewidth=1.4, label="smooth")
        for edge in (held.low, held.high):
            axes.plot(held.predicted, edge, color=VERMILION, linewidth=0.8, linestyle=THIN)


def _slope(run: Run, of: str, held: ReliabilityDiagram) -> str:
    slope = words.in_sentence(run.estimate("calibration slope", of))
    return f"Observed frequency against stated probability in {len(held.count)} bins; slope {slope}."


@checked
def draw_reliability(axes: Axes, held: ReliabilityDiagram, band: str = "if calibrated") -> None:
    """Observed frequency against stated probability with its intervals, the diagonal, and the ``band`` by chance."""
    axes.fill_between(held.predicted, held.null_low, held.null_high, color=SKY, alpha=0.3, linewidth=0, label=band)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=THIN)
    seen = np.array(held.observed)
    error = np.vstack([np.maximum(seen - held.low, 0), np.maximum(held.high - seen, 0)])
    axes.errorbar(held.predicted, seen, error, fmt="o", color=BLUE, markersize=4.5, linewidth=1.2, label="observed")


@checked
def draw_counts(axes: Axes, held: ReliabilityDiagram, up: str) -> None:
    """How many images are in each bin of a diagram, as bars under it."""
    axes.bar(held.predicted, held.count, width=0.05, color=FAINT, edgecolor=SOFT, linewidth=0.5)
    axes.set(xlabel="Stated probability", ylabel=up)


def _calibrations(run: Run, chosen: list[tuple[str, ReliabilityDiagram]]) -> Figure:
    """A small diagram of each, at most :data:`PANELS`."""
    some = chosen[:PANELS]
    across = 4 if len(some) == 4 else min(3, len(some))
    down = -(-len(some) // across)
    each = 9.0 / max(across, 2)  # inches
    with canvas.sheet(each * across, 0.4 + 0.97 * each * down) as drawing:
        grid = drawing.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes, (of, held) in zip(grid.ravel(), some, strict=False):
            canvas.unit_square(axes, "", "")
            axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
            draw_reliability(axes, held)
            _draw_smooth(axes, run.evaluation.curves[of].smooth)
            axes.set_title(f"{words.name(run.called(of), 24)}\n{_judged(run, of, held)}")
        _outside(drawing, grid, len(some))
        alt = " ".join(f"{run.called(of)}: {_slope(run, of, held)}" for of, held in some)
        return canvas.finish(
            drawing, "calibration", "Calibration", alt, _bars(run) + words.first_of(chosen, PANELS), wide=True
        )


def _judged(run: Run, of: str, held: ReliabilityDiagram) -> str:
    """How many images of how many patients have a known truth here."""
    brier = run.estimate("ece", of) or run.estimate("brier", of) or run.estimate("auc", of)
    images = sum(held.count)
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
    if len(chosen) != 1:
        return None
    held = chosen[0][1].decision
    x, top, everyone = (np.array(values) for values in (held.threshold, held.net_benefit, held.treat_all))
    with canvas.sheet(*SQUARE) as drawing:
        axes = drawing.subplots()
        canvas.curve_with_band(axes, x, top, low=held.low, high=held.high, label="by the model")
        canvas.curve_with_band(
            axes, x, everyone, low=held.treat_all_low, high=held.treat_all_high, label="treat all", rank=1
        )
        axes.axhline(0, color=INK, linewidth=1.3, linestyle=(0, (1.2, 1.2)), label="treat none")
        axes.set(xlim=(0, 1), ylim=_useful(held), xlabel="Risk from which one acts", ylabel="Net benefit (true positives per image)",
                 title=run.size)  # fmt: skip
        canvas.percent_axis(axes.xaxis)
        canvas.quiet_grid(axes)
        axes.legend(loc="upper right", handlelength=2.6, frameon=True, edgecolor="none", framealpha=0.9)
        best = _best(x, top, everyone)
        return canvas.finish(drawing, "decision", "Decision curve", f"Net benefit. {best}", f"{best} {_rule(held)}")


def _useful(held: DecisionCurve) -> tuple[float, float]:
    """The range worth seeing: treating all falls without end."""
    top = float(np.nanmax([*held.net_benefit, *held.high, *held.treat_all, 0.01]))
    lowest = float(np.nanmin([*held.net_benefit, 0.0]))
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


def _rule(held: DecisionCurve) -> str:
    below = " Below the frame: treating nobody is better." if np.nanmin(held.net_benefit) < _useful(held)[0] else ""
    rule = words.sentence(held.rule, 120) + " At t = 0 everybody is treated."
    where = (
        f" At a prevalence of {words.share(held.prevalence)}, to which the risks were moved."
        if held.prevalence is not None
        else ""
    )
    return f"{rule}{where} Bands: {words.percent(held.level)} intervals.{below}"


# -- figures of what a model says when it is not sure: risk against coverage, and how often its sets hold the truth ---


_ROWS = 30  # groups in one figure


@checked
def abstention(run: Run) -> Figure | None:
    """How often the model is wrong among the cases it is surest of, for each share of cases it answers."""
    found = list(run.abstention.items())
    if not found:
        return None
    some = found[:LINES]
    alone = some[0][1] if len(some) == 1 else None
    with canvas.sheet(*SQUARE) as drawing:
        axes = drawing.subplots()
        for rank, (of, c) in enumerate(some):
            name = words.name(run.called(of), 22) if of else "errors among them"
            band = (c.low, c.high) if alone else (None, None)
            canvas.curve_with_band(axes, c.coverage, c.risk, low=band[0], high=band[1], label=name, rank=rank)
        axes.set(xlim=(0, 1), ylim=(0, _top([c for _, c in some])), xlabel="Share of cases answered, the surest first",
                 ylabel="Errors among them", title=run.size)  # fmt: skip
        canvas.percent_axis(axes.xaxis, axes.yaxis)
        canvas.quiet_grid(axes)
        if not alone:
            axes.legend(loc="upper left", handlelength=2.8)
        alt = "; ".join(f"{run.called(of) or 'the model'}: {_ends(c)}" for of, c in some)
        band_note = f"Band: {words.percent(alone.level)} interval." if alone else ""
        return canvas.finish(drawing, "abstention", "Errors when it may stay silent", f"{alt}.",
                      f"By the largest probability of a class. {band_note}{words.first_of(found, LINES)}".strip())  # fmt: skip


def _top(some: list[AbstentionCurve]) -> float:
    """What is worth seeing: at the left few cases are left, and the band is as wide as the figure."""
    ends = [0.01]
    for c in some:
        highs = c.risk if len(some) > 1 else c.high
        ends += [high for share, high in zip(c.coverage, highs) if share >= 0.15]
    return float(min(1.0, 1.1 * np.nanmax(ends)))


def _ends(c: AbstentionCurve) -> str:
    every, half = (words.percent(share, 1) for share in surest_half(c))
    return f"wrong on {every} of all and {half} of the surest half"


@checked
def conformal(run: Run) -> Figure | None:
    """How often the sets hold the truth, in every group, against what was promised."""
    groups, level = run.conformal.groups, run.conformal.level
    if not groups:
        return None
    what = "interval" if run.task.continuous else "set"
    return canvas.forest_rows(
        [_row(run, group) for group in groups[:_ROWS]], name="conformal", title=f"{what.capitalize()}s that hold the truth",
        across=f"Share of images whose {what} holds the truth", size=run.size, line=level,
        caption=f"Upright: the share promised, {words.percent(level)}. n: patients.{words.first_of(groups, _ROWS)}",
    )  # fmt: skip


def _row(run: Run, group: SetCoverage) -> ForestRow:
    found = group.coverage
    reason = group.undefined or ("" if math.isfinite(found.value) else "no estimate")
    estimate = Estimate("set coverage", found.value, found.low, found.high, level=run.level, patients=group.patients, undefined=reason)  # fmt: skip
    label = group.group if not group.of or run.task.continuous else f"{words.name(group.of, 16)}, {group.group}"
    measured = "width" if run.task.continuous else "size"
    size = f"mean {measured} {words.number(group.size, 2)}" if math.isfinite(group.size) else ""
    return ForestRow(label, estimate, f"{group.patients:,}", whole=group.group == "all", note=size)
