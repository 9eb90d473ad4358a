"""Workflows of a reading room side by side, as a page with its figures."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.workflow import Simulation, Workflow
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import INK, SOFT, THIN, VERMILION, Figure, ForestRow
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import Difference, Estimate, p_said

METRICS = ("sensitivity", "specificity", "reads per case", "called positive", "cost per case")
_RATES = ("sensitivity", "specificity")
_SHARES = (*_RATES, "called positive")


@checked
def simulation_page(found: Simulation, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``simulation.html`` into ``folder``; gives the paths, the page first."""
    drawn = {figure.name: figure for figure in draw_simulation(found)}
    names = ("reader and triage",) if len(found.operating) == 1 else ("as a reader", "triage")
    head = ("Used", "Threshold", "Rule", "Sensitivity", "Specificity")
    points = words.points_table(found.operating, names, head, "Sensitivity and specificity on tuning data")
    happens = tuple((w.name, words.sentence(w.says)) for w in found.workflows)
    changes = _differences(found, "reader alone") if "workflow-changes" in drawn else None
    sections = [
        Section.of("Workflows side by side", (), _table(found), drawn["workflows"]),
        Section.of("Against a reader alone", (), changes, drawn.get("workflow-changes")),
        Section.of("Against two readers", (), _differences(found, "two readers")),
        Section.of("Triage and the worklist", _triage_words(found), drawn.get("triage")),
        Section.of("What happens on each", (), Table("The next readers of a case follow in the order of the table", ("Workflow", "What happens"), happens, 2)),
        Section.of("Thresholds, frozen on tuning data", (), points),
    ]  # fmt: skip
    path = Path(folder) / "simulation.html"
    return write_page_and_figures(path, "The model in the reading room", summary(found), sections, cautions=cautions(found))  # fmt: skip


# -- figures --------------------------------------------------------------------------------------------------------


@checked
def draw_simulation(found: Simulation) -> list[Figure]:
    """Sensitivity and specificity of every workflow, what each changes, and the triage curve."""
    return [figure for figure in (_rates(found), _changes(found), _triage(found)) if figure]


def _of(workflow: Workflow, metric: str) -> Estimate | None:
    return next((e for e in workflow.estimates if e.metric == metric), None)


def _size(found: Simulation) -> str:
    counts = found.counts
    readers = f", {words.count(counts['readers'], 'reader')}" if counts["readers"] else ""
    return words.size(counts["images"], counts["patients"]) + readers


def _rates(found: Simulation) -> Figure:
    rows = []
    for metric in _RATES:
        rows.append(ForestRow(words.label(metric)))
        rows += [ForestRow(w.name, e, whole=w.name == "reader alone") for w in found.workflows if (e := _of(w, metric))]
    return canvas.forest_rows(
        rows, name="workflows", title="Sensitivity and specificity of each workflow", across="Share of the cases with (without) the disease called rightly",
        size=_size(found), caption="Diamond: without a model. Units: readings of cases.",
    )  # fmt: skip


def _changes(found: Simulation) -> Figure | None:
    rows = []
    for metric in _RATES:
        against = ((w.name, _against(w.differences.get("reader alone", ()), metric)) for w in found.workflows)
        changes = [ForestRow(name, d.difference, note=_p(d.p)) for name, d in against if d]
        rows += [ForestRow(words.label(metric)), *changes] if changes else []
    if not rows:
        return None
    return canvas.forest_rows(
        rows, name="workflow-changes", title="What each workflow changes against a reader alone", across="Difference, workflow minus reader alone",
        size=_size(found), line=0.0, caption="p: McNemar, two-sided, not corrected for the number of workflows.",
    )  # fmt: skip


def _against(differences: Iterable[Difference], metric: str) -> Difference | None:
    return next((d for d in differences if d.difference.metric == f"{metric} difference"), None)


def _p(p: float) -> str:
    return "" if math.isnan(p) else p_said(p)


def _triage(found: Simulation) -> Figure | None:
    t = found.triage
    if not t:
        return None
    with canvas.sheet(6.4, 4.4) as drawing:
        axes = drawing.subplots()
        canvas.curve_with_band(axes, t.read, t.sensitivity, low=t.low, high=t.high, label="model, then reader")
        reader = t.reader.sensitivity
        axes.axhline(reader, color=SOFT, linewidth=0.9, linestyle=THIN)
        axes.annotate("reader alone", (1, reader), xytext=(0, 4), textcoords="offset points", ha="right", color=INK)
        p = t.point
        axes.plot(p.read, p.sensitivity, "o", color=VERMILION, markersize=7, zorder=5, label="frozen triage threshold")
        canvas.percent_axis(axes.xaxis, axes.yaxis)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel=f"Cases that are read, at a prevalence of {words.percent(t.prevalence, 1)}",
                 ylabel="Sensitivity of the whole path", title=_size(found))  # fmt: skip
        canvas.quiet_grid(axes)
        axes.legend(loc="lower right")
        at = f"{words.percent(p.read, 1)} of the cases read, sensitivity {words.percent(p.sensitivity, 1)}"
        return canvas.finish(drawing, "triage", "Workload against sensitivity of triage", f"At the frozen threshold {at}.",
                      f"Band: {words.percent(t.level)} interval at each threshold. Only the dot was chosen before: {at}.")  # fmt: skip


# -- words and tables -----------------------------------------------------------------------------------------------


@checked
def summary(found: Simulation) -> list[str]:
    """What was simulated, in a sentence or two."""
    counts = found.counts
    who = (f"{words.count(counts['readers'], 'reader')} with {words.count(counts['readings'], 'reading')}" if counts["readers"]
           else "no readers were given: reading is taken as perfect")  # fmt: skip
    lines = [f"{words.size(counts['images'], counts['patients'])}, {counts['positives']:,} with the disease; {who}."]
    triage = next((w for w in found.workflows if w.name == "triage"), None)
    if triage and (reads := _of(triage, "reads per case")) and not reads.undefined:
        lines.append(f"Triage leaves {words.percent(1 - reads.value, 1)} of the cases unread; "
                     f"the sensitivity of the whole path is {words.in_sentence(_of(triage, 'sensitivity'))}.")  # fmt: skip
    return [*lines, *([f"This test set was looked at {words.times(found.looks)} before."] if found.looks else [])]


@checked
def cautions(found: Simulation) -> list[str]:
    """What a reader of the numbers must know."""
    readers = ("Numbers are those of the average of these readers; the intervals are for new patients, not for new readers." if found.counts["readers"]
               else "Without readers' calls reading is perfect here: sensitivity is the most that triage leaves, not what a clinic will see.")  # fmt: skip
    return ["Simulated on recorded cases: readers are taken to call as they did without the model. People who see a model's call, "
            "or only the cases it leaves, read differently; only a prospective study tells how.", readers]  # fmt: skip


def _table(found: Simulation) -> Table:
    metrics = [m for m in METRICS if any(_of(w, m) for w in found.workflows)]
    rows = tuple((w.name, *(_cell(_of(w, m)) for m in metrics)) for w in found.workflows)
    prevalence = words.percent(found.counts["prevalence"], 1)
    return Table(f"Each with its interval; workload and share called positive at a prevalence of {prevalence}",
                 ("Workflow", *map(words.label, metrics)), rows)  # fmt: skip


def _cell(e: Estimate | None) -> str:
    if e is None or e.undefined:
        return words.NOTHING if e is None else e.undefined
    share = e.metric.removesuffix(" difference") in _SHARES
    value, low, high = (words.number(100 * x, 1) if share else words.number(x, 2) for x in (e.value, e.low, e.high))
    sign = words.PERCENT if share else ""
    return value + sign if words.NOTHING in (low, high) else f"{value} ({low} to {high}){sign}"


def _differences(found: Simulation, against: str) -> Table:
    """A row for each workflow, a column for each metric."""
    held = {w.name: w.differences[against] for w in found.workflows if w.differences.get(against)}
    metrics = [m for m in METRICS if m != "called positive" and any(_against(ds, m) for ds in held.values())]
    rows = tuple((name, *(_change(_against(ds, m), m) for m in metrics)) for name, ds in held.items())
    return Table(f"Workflow minus {against}, on the same readings; shares in percentage points",
                 ("Workflow", *map(words.label, metrics)), rows)  # fmt: skip


def _change(d: Difference | None, metric: str) -> str:
    if d is None:
        return words.NOTHING
    p = _p(d.p) if metric in _RATES else ""
    return _cell(d.difference).replace(words.PERCENT, "") + (f", {p}" if p else "")


def _triage_words(found: Simulation) -> list[str]:
    counts = found.counts
    lines = [f"Triage cannot be drawn: {found.triage.undefined}." if found.triage.undefined else
             f"Below the frozen threshold lie {words.count(counts['not read by triage'], 'case')}, of which {counts['missed by triage']:,} have the disease."]  # fmt: skip
    for e in found.worklist:
        if not e.undefined:
            lines.append(f"In a list sorted by the score, {words.percent(e.value, 1)} of the list ({words.percent(e.level)} interval "
                         f"{words.number(100 * e.low, 1)} to {words.number(100 * e.high, 1)}) stand before a case with the disease on average, "
                         f"instead of {words.percent(0.5)} as cases come.")  # fmt: skip
    return lines
