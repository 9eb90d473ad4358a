"""Probabilities before and after recalibration, as a page with its figures, from their stored numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.comparison import calibration_change
from overread.evaluation.comparison.calibration_change import AFTER, BEFORE, CalibrationChange, DiagramPair
from overread.evaluation.decision.class_decision import load_operating_points
from overread.evaluation.recalibrate import Recalibration
from overread.reporting import words
from overread.reporting.figures.calibration import draw_counts, draw_reliability
from overread.reporting.figures.canvas import Figure, finish, sheet, unit_square
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import Estimate


@checked
def calibration_page(folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``calibrate.html`` from the JSON files in ``folder``; the page first.

    Raises InputError if one of them is damaged.
    """
    folder = Path(folder)
    found, fitted = CalibrationChange.load(folder), Recalibration.load(folder / "recalibration.json")
    stored = folder / "operating.json"
    points = load_operating_points(stored) if stored.exists() else ()
    method = {"none": "nothing is changed"}.get(fitted.method, f"method {fitted.method}")
    summary = [f"Fitted on {fitted.fitted_on}: {method}{'; ' + fitted.why if fitted.why else ''}.",
               f"Judged on {_size(found)}, none of whom the fit has seen.", *calibration_change.said(found.estimates)]  # fmt: skip
    summary += [f"This test set was looked at {words.times(found.looks)} before."] if found.looks else []
    head = ("Of", "Threshold", "Rule", "Sensitivity", "Specificity")
    thresholds = words.points_table(points, [p.of for p in points], head, "Sensitivity and specificity on tuning data")
    sections = [
        Section.of("Before and after", (), *_tables(found.estimates), *draw_calibration(found)),
        Section.of("What was fitted", (), _fitted(fitted)),
        Section.of("Thresholds, chosen on mended tuning data", (), thresholds),
    ]
    return write_page_and_figures(folder / "calibrate.html", "Probabilities, mended", summary, sections, cautions=_cautions(fitted))  # fmt: skip


def _size(found: CalibrationChange) -> str:
    return words.size(found.counts["images"], found.counts["patients"])


@checked
def draw_calibration(found: CalibrationChange) -> list[Figure]:
    """For each label a reliability diagram as given beside that of the recalibrated probabilities."""
    drawn = [(of, pair) for of, pair in found.curves.items() if pair]
    endings = [f"-{i + 1}" for i in range(len(drawn))] if len(drawn) > 1 else [""]
    return [_pair(found, of, pair, f"reliability{ending}") for (of, pair), ending in zip(drawn, endings)]


def _pair(found: CalibrationChange, of: str, pair: DiagramPair, name: str) -> Figure:
    with sheet(8.6, 4.9) as drawing:
        grid = drawing.subplots(2, 2, height_ratios=(5, 1), sharex=True, sharey="row")
        for k, (diagram, title) in enumerate(
            ((pair.before, f"As given · {_size(found)}"), (pair.after, "Recalibrated"))
        ):
            upper, lower = grid[:, k]
            unit_square(upper, "", "" if k else f"Observed frequency of {words.group(of, limit=30)}")
            upper.set_aspect("auto")
            draw_reliability(upper, diagram, "if calibrated (95 %)")
            upper.set_title(title)
            draw_counts(lower, diagram, "" if k else "Images")
        grid[0, 0].legend(loc="upper left")
        alt = "; ".join(f"{which}: {_error_and_slope(found.estimates, of, which)}" for which in (BEFORE, AFTER))
        return finish(drawing, name, f"Calibration before and after, {words.group(of)}", f"Reliability diagrams. {alt}.",
                      "Bars: 95 % intervals. Band: where a calibrated model would lie (95 %). Dashed: perfect calibration.", wide=True)  # fmt: skip


def _estimate(estimates: Sequence[Estimate], metric: str, of: str, which: str = "") -> Estimate | None:
    where = {"probabilities": which} if which else {}
    return next((e for e in estimates if (e.metric, e.of, e.where) == (metric, of, where)), None)


def _error_and_slope(estimates: Sequence[Estimate], of: str, which: str) -> str:
    error, slope = (words.in_sentence(_estimate(estimates, m, of, which)) for m in ("ece", "calibration slope"))
    return f"calibration error {error}, slope {slope}"


def _cautions(fitted: Recalibration) -> list[str]:
    found = ["A threshold chosen on the old probabilities does not fit the mended ones: take the new one."]
    if fitted.shift:
        found.append("The probabilities are meant for another prevalence than that of the tuning data. Where the test set has the old one, "
                     "it will show them as too low or too high, and be right to.")  # fmt: skip
    return found


def _tables(estimates: Sequence[Estimate]) -> list[Table]:
    tables, head = [], ("Metric", "As given", "Recalibrated", "Difference, paired by patient")
    for of in dict.fromkeys(e.of for e in estimates):
        rows = []
        for metric in dict.fromkeys(e.metric.removesuffix(" difference") for e in estimates if e.of == of):
            found = [_estimate(estimates, metric, of, which) for which in (BEFORE, AFTER)]
            found.append(_estimate(estimates, f"{metric} difference", of))
            rows.append((words.label(metric), *(words.cell(e, 3, " to ") for e in found)))
        tables.append(Table(words.group(of).capitalize() if of else "All classes together", head, tuple(rows)))
    return tables


def _fitted(fitted: Recalibration) -> Table:
    rows = []
    for of, steps in fitted.steps.items():
        name = words.name(of, 40) if of else "label"
        for k, step in enumerate(steps):
            each = f"{name}, {words.name(fitted.names[k], 30)}" if len(steps) > 1 else name
            numbers = ", ".join(f"{part} {words.number(v[0], 3)}" for part, v in step.items())
            rows.append((each, f"{len(step['x'])} points of a rising curve" if "x" in step else numbers))
        if of in fitted.shift:
            shares = [", ".join(words.percent(x, 1) for x in fitted.shift[of][k]) for k in ("training", "deployment")]
            rows.append((name, f"prior shifted from {shares[0]} to {shares[1]}"))
    return Table("Numbers that make the recalibration", ("Of", "Fitted"), tuple(rows or [("label", "nothing")]), 2)
