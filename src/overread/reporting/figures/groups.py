"""Forest plot: the primary metrics in every subgroup and source, each with its interval and number of patients."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import MaxNLocator

from overread.core.errors import checked
from overread.reporting import words
from overread.reporting.figures.canvas import BLUE, INK, SOFT, Figure, finish, percent_axis, sheet
from overread.reporting.figures.drawing import THIN, ForestRow, bare_rows, forest_rows, mark, plain_rows, roomy
from overread.reporting.run import Run, compared, gap_of, shown, subgroups
from overread.stats.estimate import Estimate

_ROWS = 36  # of one figure


@checked
def forest(run: Run) -> Figure | None:
    """None where no subgroup was asked for, or nothing is known of any."""
    groups = subgroups(run)
    metrics = [pair for pair in shown(run) if _known(run, pair, groups)]
    if not metrics:
        return None
    every = _lines(groups)
    lines = every[:_ROWS]
    with sheet(9.0, 0.8 + 0.27 * len(lines)) as drawing:
        panels = drawing.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        names = [_line_name(run, metrics[0], column, value) for column, value in lines]
        bold = [value is None or not column for column, value in lines]
        for axes, (metric, of) in zip(panels, metrics, strict=True):
            _panel(axes, run, metric, of, lines)
            bare_rows(axes, len(lines))
        plain_rows(panels[0], names, bold)
        panels[0].set_title(run.size)
        roomy(drawing)
        left = f" The first {_ROWS} of {len(every)} rows are drawn." if len(every) > _ROWS else ""
        return _finish(drawing, run, groups, metrics, left)


def _known(run: Run, pair: tuple[str, str], groups: list[tuple[str, str]]) -> bool:
    found = [run.estimate(*pair, {column: value}) for column, value in groups]
    return any(estimate is not None and not estimate.undefined for estimate in found)


def _finish(
    drawing: Sheet, run: Run, groups: list[tuple[str, str]], metrics: list[tuple[str, str]], left: str
) -> Figure:
    metric, of = metrics[0]
    said = "; ".join(
        f"{words.name(column)} {words.name(value)} {words.spoken(run.estimate(metric, of, {column: value}))}"
        for column, value in groups
    )
    told = f" of {run.called(of)}" if of else ""
    return finish(drawing, "forest", "Subgroups and sources", f"{words.metric(metric).name}{told}: {said}.",
                  f"{words.metric(metric).name}{told}. Squares: estimates, with {words.percent(run.level)} intervals. Dashed: all test cases. "
                  f"n: patients. Groups of fewer than ten patients are counted, not judged.{left}")  # fmt: skip


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
            estimate = _at(run, metric, of, column, value)
            mark(axes, estimate, row, BLUE if column else INK)
            _why(axes, estimate, row)
    axes.set_xlabel(words.metric(metric).name)
    if words.metric(metric).percent:
        percent_axis(axes.xaxis)
    axes.xaxis.set_major_locator(
        MaxNLocator(4, steps=[1, 2, 5, 10], prune="both")
    )  # the ticks of two panels do not touch


def _why(axes: Axes, estimate: Estimate | None, row: int) -> None:
    """In the place of an estimate that is undefined: its reason."""
    if estimate is not None and estimate.undefined:
        axes.text(0.03, row, words.name(estimate.undefined, 32), transform=axes.get_yaxis_transform(), va="center", fontsize=7.5,
                  color=SOFT, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip


def _line_name(run: Run, metric: tuple[str, str], column: str, value: str | None) -> str:
    if value is None:
        return words.name(column, 26)
    estimate = _at(run, *metric, column, value)
    patients = f", n = {estimate.patients:,}" if estimate else ""
    return ("All test cases" if not column else words.name(value or "unknown", 22)) + patients


@checked
def gaps(run: Run) -> Figure | None:
    """Every subgroup against the others by the first metric that has gaps; None where none was judged."""
    pairs = compared(run)
    found = [gap for gap in run.evaluation.get("gaps") or [] if isinstance(gap, dict) and _asks(gap, pairs)]
    if not any(gap.get("value") is not None for gap in found):
        return None
    metric, of = pairs[0]
    rows: list[ForestRow] = []
    for name in dict.fromkeys(_column(gap) for gap in found):
        rows += [ForestRow(words.name(name, 34)), *(_gap_row(run, gap) for gap in found if _column(gap) == name)]
    left = f" The first {_ROWS} of {len(rows)} rows are drawn." if len(rows) > _ROWS else ""
    name = words.metric(metric).name
    told = f" of {run.called(of)}" if of else ""
    return forest_rows(
        rows[:_ROWS], name="gaps", title=f"Gaps in {name}", across=f"{name} of the group minus that of its reference",
        size=run.size, line=0.0,
        caption=f"{name}{told} of each group minus that of the patients outside it, or of the group named second. "
        f"n: patients of the group. p: after Holm’s correction for all gaps judged.{left}",
    )  # fmt: skip


def _asks(gap: dict[str, Any], pairs: list[tuple[str, str]]) -> bool:
    """Whether a gap is one of the first metric."""
    return (gap.get("metric"), gap.get("of")) in pairs[:1]


def _column(gap: dict[str, Any]) -> str:
    return next(iter(gap.get("where") or {}), "")


def _gap_row(run: Run, gap: dict[str, Any]) -> ForestRow:
    column, group, against = (
        _column(gap),
        next(iter((gap.get("where") or {}).values()), ""),
        str(gap.get("reference") or ""),
    )
    alone = against in ("", "the others")
    sizes = [
        run.estimate(str(gap["metric"]), str(gap.get("of") or ""), {column: name})
        for name in (group, *([] if alone else [against]))
    ]
    label = words.name(group or "unknown", 24) + ("" if alone else f" – {words.name(against, 20)}")
    note = "" if gap.get("adjusted") is None else words.probability(float(gap["adjusted"]))
    return ForestRow(label, gap_of(gap, run.level), " and ".join(f"{e.patients:,}" for e in sizes if e), note=note)
