"""Forest plot: the primary metrics in every subgroup and source, each with its interval and number of patients."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet

from overread.reporting import words
from overread.reporting.canvas import BLUE, FAINT, INK, SOFT, Figure, finish, sheet
from overread.reporting.gather import Run
from overread.stats.estimate import Estimate

#: What is shown, in order of preference, for a group that is detected and for everything else.
DETECTION, OVERALL = (
    ("auc", "sensitivity", "specificity"),
    ("macro auc", "balanced accuracy", "accuracy", "mae", "r2"),
)


def shown(run: Run) -> list[tuple[str, str]]:
    """The (metric, of) pairs that stand for the run, at most three."""
    if run.primary and run.estimate("auc", run.primary):
        return [(m, run.primary) for m in DETECTION if run.estimate(m, run.primary)]
    every = [(m, of) for m in OVERALL for of in ("", *run.names[:1]) if run.estimate(m, of)]
    return every[:3]


def subgroups(run: Run) -> list[tuple[str, str]]:
    """(column, value) of every subgroup for which something is stored, in the order of the file."""
    found = [next(iter(e.where.items())) for e in run.estimates if len(e.where) == 1]
    return list(dict.fromkeys(found))


def forest(run: Run) -> Figure | None:
    """None where no subgroup was asked for."""
    groups, metrics = subgroups(run), shown(run)
    if not groups or not metrics:
        return None
    lines = _lines(groups)
    with sheet(9.0, 0.8 + 0.27 * len(lines)) as drawing:
        panels = drawing.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, (metric, of) in zip(panels, metrics, strict=True):
            _panel(axes, run, metric, of, lines)
        _names(panels[0], run, metrics[0], lines)
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
        axes.axvline(overall.value, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
    for row, (column, value) in enumerate(lines):
        if value is not None:
            _mark(axes, _at(run, metric, of, column, value), row, colour=BLUE if column else INK)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlabel(words.metric(metric).name)
    if words.metric(metric).percent:
        axes.xaxis.set_major_formatter(lambda tick, _: f"{100 * tick:.0f}\u00a0%")
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _mark(axes: Axes, estimate: Estimate | None, row: int, colour: str) -> None:
    if estimate is None or estimate.undefined or not math.isfinite(estimate.value):
        return
    if math.isfinite(estimate.low):
        axes.plot(
            [estimate.low, estimate.high], [row, row], color=colour, linewidth=1.4, solid_capstyle="butt"
        )
    axes.plot(estimate.value, row, "D" if colour == INK else "s", color=colour, markersize=5.5)


def _names(axes: Axes, run: Run, metric: tuple[str, str], lines: list[tuple[str, str | None]]) -> None:
    texts = [_line_name(run, metric, column, value) for column, value in lines]
    axes.set_yticks(range(len(lines)), texts)
    for tick, (column, value) in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if value is None or not column else "normal")


def _line_name(run: Run, metric: tuple[str, str], column: str, value: str | None) -> str:
    if value is None:
        return words.name(column, 26)
    estimate = _at(run, *metric, column, value)
    patients = f", n = {estimate.patients:,}" if estimate else ""
    return ("All test cases" if not column else words.name(value or "unknown", 22)) + patients
