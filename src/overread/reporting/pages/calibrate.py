"""Probabilities before and after mending, drawn and told from their stored numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from overread.core.errors import InputError, checked
from overread.core.files import read_json
from overread.evaluation.comparison import calibration_change
from overread.evaluation.results import estimates
from overread.reporting import words
from overread.reporting.figures.canvas import BLUE, FAINT, SKY, SOFT, Figure, finish, save_figures, sheet, unit_square
from overread.reporting.figures.drawing import THIN, column
from overread.reporting.page import Part, leaflet
from overread.reporting.sections import Table
from overread.stats.estimate import Estimate

BEFORE, AFTER = "as given", "recalibrated"


@checked
def tell_calibration(folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``calibrate.html`` from the JSON files in ``folder``; the page first."""
    folder = Path(folder)
    held, metrics, fitted = (read_json(folder / f"{n}.json") for n in ("calibration", "metrics", "recalibration"))
    if not (isinstance(held, dict) and isinstance(metrics, list) and isinstance(fitted, dict) and "curves" in held):
        raise InputError("the calibration is damaged", given=str(folder), todo="calibrate again")
    points = read_json(folder / "operating.json") if (folder / "operating.json").exists() else []
    figures = draw_calibration(held, metrics)
    drawn = save_figures(figures, folder / "figures")
    return [_page(held, metrics, fitted, points, figures, folder / "calibrate.html"), *drawn]


@checked
def draw_calibration(held: dict[str, Any], metrics: list[dict[str, Any]]) -> list[Figure]:
    """For each label a reliability diagram as given beside that of the mended probabilities."""
    drawn = {of: curve for of, curve in held["curves"].items() if "before" in curve}
    size = words.size(held["counts"]["images"], held["counts"]["patients"])
    many = len(drawn) > 1
    return [
        _pair(of, curve, metrics, size, f"reliability-{i + 1}" if many else "reliability")
        for i, (of, curve) in enumerate(drawn.items())
    ]


def _pair(of: str, curve: dict[str, Any], metrics: list[dict[str, Any]], size: str, name: str) -> Figure:
    with sheet(8.6, 4.9) as drawing:
        grid = drawing.subplots(2, 2, height_ratios=(5, 1), sharex=True, sharey="row")
        for k, (which, title) in enumerate((("before", "As given"), ("after", "Recalibrated"))):
            upper, lower = grid[:, k]
            unit_square(upper, "", "" if k else f"Observed frequency of {words.group(of, limit=30)}")
            upper.set_aspect("auto")
            _diagram(upper, curve[which])
            upper.set_title(f"{title} · {size}" if k == 0 else title)
            lower.bar(
                column(curve[which]["predicted"]),
                column(curve[which]["count"]),
                width=0.05,
                color=FAINT,
                edgecolor=SOFT,
                linewidth=0.5,
            )
            lower.set(xlabel="Stated probability", ylabel="" if k else "Images")
        grid[0, 0].legend(loc="upper left")
        said = "; ".join(f"{title}: {_spoken(metrics, of, title)}" for title in (BEFORE, AFTER))
        return finish(drawing, name, f"Calibration before and after, {words.group(of)}", f"Reliability diagrams. {said}.",
                      "Bars: 95 % intervals. Band: where a calibrated model would lie (95 %). Dashed: perfect calibration.", wide=True)  # fmt: skip


def _diagram(axes: Axes, held: dict[str, Any]) -> None:
    names = ("predicted", "observed", "low", "high", "null low", "null high")
    p, o, low, high, null_low, null_high = (column(held[n]) for n in names)
    axes.fill_between(p, null_low, null_high, color=SKY, alpha=0.3, linewidth=0, label="if calibrated (95 %)")
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=THIN)
    error = np.vstack([np.maximum(o - low, 0), np.maximum(high - o, 0)])
    axes.errorbar(p, o, error, fmt="o", color=BLUE, markersize=4.5, linewidth=1.2, label="observed")


def _estimate(metrics: list[dict[str, Any]], metric: str, of: str, which: str) -> Estimate | None:
    for e in metrics:
        if (e["metric"], e["of"], (e.get("where") or {}).get("probabilities", "")) == (metric, of, which):
            value, low, high = (float("nan") if e.get(k) is None else float(e[k]) for k in ("value", "low", "high"))
            return Estimate(metric, value, low, high, level=e["level"], method=e["method"], images=e["images"], patients=e["patients"],
                            of=of, undefined=e["undefined"])  # fmt: skip
    return None


def _spoken(metrics: list[dict[str, Any]], of: str, which: str) -> str:
    ece, slope = (_estimate(metrics, m, of, which) for m in ("ece", "calibration slope"))
    return f"calibration error {words.spoken(ece)}, slope {words.spoken(slope)}"


def _page(
    held: dict[str, Any], metrics: list[dict[str, Any]], fitted: dict[str, Any], points: list[dict[str, Any]], figures: list[Figure], path: Path
) -> Path:  # fmt: skip
    counts, method = (
        held["counts"],
        {"none": "nothing is changed"}.get(fitted["method"], f"method {fitted['method']}"),
    )
    summary = [f"Fitted on {fitted['fitted_on']}: {method}{'; ' + fitted['why'] if fitted['why'] else ''}.",
               f"Judged on {words.size(counts['images'], counts['patients'])}, none of whom the fit has seen."]  # fmt: skip
    summary += calibration_change.said(estimates(metrics))
    summary += [f"This test set was looked at {words.times(held['looks'])} before."] if held.get("looks") else []
    parts = [
        Part("Before and after", (), tuple(_tables(metrics)), tuple(figures)),
        Part("What was fitted", (), (_fitted(fitted),)),
        Part("Thresholds, chosen on mended tuning data", (), (_points(points),) if points else ()),
    ]  # fmt: skip
    return leaflet(path, "Probabilities, mended", summary, parts, cautions=_cautions(fitted))


def _cautions(fitted: dict[str, Any]) -> list[str]:
    said = ["A threshold chosen on the old probabilities does not fit the mended ones: take the new one."]
    if fitted["shift"]:
        said.append("The probabilities are meant for another prevalence than that of the tuning data. Where the test set has the old one, "
                    "it will show them as too low or too high, and be right to.")  # fmt: skip
    return said


def _tables(metrics: list[dict[str, Any]]) -> list[Table]:
    tables = []
    for of in dict.fromkeys(e["of"] for e in metrics):
        rows = []
        for metric in dict.fromkeys(e["metric"].removesuffix(" difference") for e in metrics if e["of"] == of):
            found = [_estimate(metrics, metric, of, which) for which in (BEFORE, AFTER)]
            apart = _estimate(metrics, f"{metric} difference", of, "")
            rows.append((words.metric(metric).name, *map(_cell, (*found, apart))))
        head = ("Metric", "As given", "Recalibrated", "Difference, paired by patient")
        tables.append(Table(words.group(of).capitalize() if of else "All classes together", head, tuple(rows)))
    return tables


def _cell(e: Estimate | None) -> str:
    if e is None or e.undefined:
        return words.NOTHING if e is None else e.undefined
    return (
        f"{words.number(e.value)} ({words.number(e.low)} to {words.number(e.high)})"
        if words.interval(e)
        else words.number(e.value)
    )


def _fitted(fitted: dict[str, Any]) -> Table:
    rows = []
    for of, steps in fitted["steps"].items():
        name = words.name(of, 40) if of else "label"
        for k, step in enumerate(steps):
            each = f"{name}, {words.name(fitted['names'][k], 30)}" if len(steps) > 1 else name
            said = (f"{len(step['x'])} points of a rising curve" if "x" in step
                    else ", ".join(f"{part} {words.number(v[0], 3)}" for part, v in step.items()))  # fmt: skip
            rows.append((each, said))
        if of in fitted["shift"]:
            shares = (
                ", ".join(words.percent(x, 1) for x in fitted["shift"][of][k]) for k in ("training", "deployment")
            )
            rows.append((name, "prior shifted from {} to {}".format(*shares)))
    return Table("Numbers that make the recalibration", ("Of", "Fitted"), tuple(rows or [("label", "nothing")]), 2)


def _points(points: list[dict[str, Any]]) -> Table:
    rows = tuple(("+".join(p["positive"]), words.number(p["threshold"], 3), p["rule"], words.percent(p["sensitivity"], 1), words.percent(p["specificity"], 1))
                 for p in points)  # fmt: skip
    return Table(
        "Sensitivity and specificity on tuning data", ("Of", "Threshold", "Rule", "Sensitivity", "Specificity"), rows
    )
