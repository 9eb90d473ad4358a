"""Forest plot: the primary metrics in every subgroup and source, each with its interval and number of patients."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from overread.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import BLUE, INK, SOFT, Figure, finish, percent_axis, sheet
from overread.reporting.figures.drawing import THIN, ForestRow, bare_rows, forest_rows, mark, plain_rows
from overread.reporting.gather import Run, compared, shown, subgroups
from overread.stats.estimate import Estimate


@checked
def forest(run: Run) -> Figure | None:
    """None where no subgroup was asked for."""
    groups, metrics = subgroups(run), shown(run)
    if not groups or not metrics:
        return None
    lines = _lines(groups)
    with sheet(9.0, 0.8 + 0.27 * len(lines)) as drawing:
        panels = drawing.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        names = [_line_name(run, metrics[0], column, value) for column, value in lines]
        bold = [value is None or not column for column, value in lines]
        for axes, (metric, of) in zip(panels, metrics, strict=True):
            _panel(axes, run, metric, of, lines)
            bare_rows(axes, len(lines))
        plain_rows(panels[0], names, bold)
        panels[0].set_title(run.size)
        return _finish(drawing, run, groups, metrics)


def _finish(
    drawing: Sheet, run: Run, groups: list[tuple[str, str]], metrics: list[tuple[str, str]]
) -> Figure:
    metric, of = metrics[0]
    said = "; ".join(
        f"{words.name(column)} {words.name(value)} {words.spoken(run.estimate(metric, of, {column: value}))}"
        for column, value in groups
    )
    return finish(drawing, "forest", "Subgroups and sources", f"{words.metric(metric).name}: {said}.",
                  "Squares: estimates, with 95 % intervals. Line: all test cases. n: patients. Groups of fewer than "
                  "ten patients are counted, not judged.")  # fmt: skip


def _lines(groups: list[tuple[str, str]]) -> list[tuple[str, str | None]]:
    """One line for all cases, then a heading per column and a line per value."""
    lines: list[tuple[str, str | None]] = [("", "")]
    for column in dict.fromkeys(column for column, _ in groups):
        lines += [(column, None), *((c, value) for c, value in groups if c == column)]
    return lines


def _at(run: Run, metric: str, of: str, column: str, value: str) -> Estimate | None:
    return run.estimate(metric, of, {column: value} if column else {})


def _panel(axes: Axes, run: Run, metric: str, of: str, lines: list[tuple[str, str | None]]) -> None:
    overall = run.estimate(metric, of)
    if overall and math.isfinite(overall.value):
        axes.axvline(overall.value, color=SOFT, linewidth=0.8, linestyle=THIN)
    for row, (column, value) in enumerate(lines):
        if value is not None:
            mark(axes, _at(run, metric, of, column, value), row, BLUE if column else INK)
    axes.set_xlabel(words.metric(metric).name)
    if words.metric(metric).percent:
        percent_axis(axes.xaxis)


def _line_name(run: Run, metric: tuple[str, str], column: str, value: str | None) -> str:
    if value is None:
        return words.name(column, 26)
    estimate = _at(run, *metric, column, value)
    patients = f", n = {estimate.patients:,}" if estimate else ""
    return ("All test cases" if not column else words.name(value or "unknown", 22)) + patients


_GAPS = 24  # rows of one figure


@checked
def gaps(run: Run) -> Figure | None:
    """Every subgroup against the others by the first metric that has gaps; None where none was judged."""
    held = [gap for gap in run.evaluation.get("gaps") or [] if isinstance(gap, dict)]
    pairs = compared(run)
    if not pairs:
        return None
    metric, of = pairs[0]
    found = [gap for gap in held if _asks(gap, (metric, of))]
    rows: list[ForestRow] = []
    for name in dict.fromkeys(_column(gap) for gap in found):
        rows += [ForestRow(words.name(name, 34)), *(_gap_row(gap) for gap in found if _column(gap) == name)]
    left = f" The first {_GAPS} of {len(rows)} rows are drawn." if len(rows) > _GAPS else ""
    name = words.metric(metric).name
    return forest_rows(
        rows[:_GAPS], name="gaps", title=f"Gaps in {name}", across=f"{name} of the group minus that of its reference",
        size=run.size, line=0.0,
        caption=f"n: patients compared. p: after Holm’s correction for all gaps judged.{left}",
    )  # fmt: skip


def _asks(gap: dict[str, Any], pair: tuple[str, str]) -> bool:
    return (gap.get("metric"), gap.get("of")) == pair


def _column(gap: dict[str, Any]) -> str:
    return next(iter(gap.get("where") or {}), "")


def _gap_row(gap: dict[str, Any]) -> ForestRow:
    value, low, high = (math.nan if gap.get(k) is None else float(gap[k]) for k in ("value", "low", "high"))
    why = str(gap.get("undefined") or "")
    estimate = Estimate(
        f"{gap['metric']} gap", value, low, high, float(gap.get("level") or 0.95), undefined=why
    )
    group = words.name(next(iter((gap.get("where") or {}).values()), "") or "unknown", 24)
    against = str(gap.get("reference") or "")
    label = group if against in ("", "the others") else f"{group} – {words.name(against, 20)}"
    note = "" if gap.get("adjusted") is None else words.probability(float(gap["adjusted"]))
    return ForestRow(label, estimate, f"{int(gap.get('patients') or 0):,}", note=note)
