"""Forest plot: the primary metrics in every subgroup and source, each with its interval and number of patients."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from overread.core.errors import checked
from overread.evaluation.subgroups import OTHERS, GroupGap
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import BLUE, INK, SOFT, THIN, Figure, ForestRow
from overread.reporting.run import Run, compared_metrics, shown_metrics, subgroups
from overread.stats.estimate import Estimate, p_said

_ROWS = 36  # of one figure


@checked
def forest(run: Run) -> Figure | None:
    """None where no subgroup was asked for, or nothing is known of any."""
    groups = subgroups(run)
    metrics = [pair for pair in shown_metrics(run) if _known(run, pair, groups)]
    if not metrics:
        return None
    every = _lines(groups)
    lines = every[:_ROWS]
    with canvas.sheet(9.0, 0.8 + 0.27 * len(lines)) as drawing:
        panels = drawing.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        names = [_line_name(run, metrics[0], column, value) for column, value in lines]
        bold = [value is None or not column for column, value in lines]
        for axes, (metric, of) in zip(panels, metrics, strict=True):
            _panel(axes, run, metric, of, lines)
            canvas.bare_rows(axes, len(lines))
        canvas.plain_rows(panels[0], names, bold)
        panels[0].set_title(run.size)
        canvas.roomy(drawing)
        metric, of = metrics[0]
        found = ((column, value, run.estimate(metric, of, {column: value})) for column, value in groups)
        alt = "; ".join(
            f"{words.name(column)} {words.name(value)} {words.in_sentence(e)}" for column, value, e in found
        )
        whose = words.label(metric) + (f" of {run.called(of)}" if of else "")
        return canvas.finish(drawing, "forest", "Subgroups and sources", f"{whose}: {alt}.",
                             f"{whose}. Squares: estimates, with {words.percent(run.level)} intervals. Dashed: all test cases. "
                             f"n: patients. Groups of fewer than ten patients are counted, not judged.{words.first_of(every, _ROWS, ' rows')}")  # fmt: skip


def _known(run: Run, pair: tuple[str, str], groups: list[tuple[str, str]]) -> bool:
    found = [run.estimate(*pair, {column: value}) for column, value in groups]
    return any(estimate is not None and not estimate.undefined for estimate in found)


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
            canvas.mark(axes, estimate, row, BLUE if column else INK)
            _reason(axes, estimate, row)
    axes.set_xlabel(words.label(metric))
    if words.is_percentage(metric):
        canvas.percent_axis(axes.xaxis)
    axes.xaxis.set_major_locator(
        MaxNLocator(4, steps=[1, 2, 5, 10], prune="both")
    )  # the ticks of two panels do not touch


def _reason(axes: Axes, estimate: Estimate | None, row: int) -> None:
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
    pairs = compared_metrics(run)
    found = [gap for gap in run.evaluation.gaps if (gap.metric, gap.of) in pairs[:1]]
    if not any(math.isfinite(gap.value) for gap in found):
        return None
    metric, of = pairs[0]
    rows: list[ForestRow] = []
    for column in dict.fromkeys(gap.column for gap in found):
        rows += [ForestRow(words.name(column, 34)), *(_gap_row(run, gap) for gap in found if gap.column == column)]
    name, whose = words.label(metric), f" of {run.called(of)}" if of else ""
    return canvas.forest_rows(
        rows[:_ROWS], name="gaps", title=f"Gaps in {name}", across=f"{name} of the group minus that of its reference",
        size=run.size, line=0.0,
        caption=f"{name}{whose} of each group minus that of the patients outside it, or of the group named second. "
        f"n: patients of the group. p: after Holm’s correction for all gaps judged.{words.first_of(rows, _ROWS, ' rows')}",
    )  # fmt: skip


def _gap_row(run: Run, gap: GroupGap) -> ForestRow:
    group, against = gap.where[gap.column], gap.reference
    compared = (group,) if against == OTHERS else (group, against)
    sizes = [run.estimate(gap.metric, gap.of, {gap.column: name}) for name in compared]
    label = words.name(group or "unknown", 24) + ("" if against == OTHERS else f" – {words.name(against, 20)}")
    note = p_said(gap.adjusted) if math.isfinite(gap.adjusted) else ""
    return ForestRow(label, gap.estimate, " and ".join(f"{e.patients:,}" for e in sizes if e), note=note)
