"""How early a model knows, as a page: the AUC over the time before the event, and when a marker shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from overread.core.errors import checked
from overread.evaluation.generalisation import lead_time
from overread.evaluation.generalisation.lead_time import LeadTime
from overread.reporting import words
from overread.reporting.figures.canvas import (
    BLUE,
    FAINT,
    INK,
    SOFT,
    VERMILION,
    Figure,
    finish,
    percent_axis,
    quiet_grid,
    sheet,
)
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import Estimate, p_text


@checked
def time_figure(found: LeadTime) -> Figure:
    """The AUC at each time before the event with its interval, towards the event; below it, how often the marker shows."""
    with sheet(6.6, 5.4 if found.marker else 4.3) as drawing:
        both = drawing.subplots(2, 1, sharex=True, height_ratios=(3, 1)) if found.marker else [drawing.subplots()]
        axes = both[0]
        axes.axhline(found.above, color=SOFT, linewidth=0.9)
        shift = 0.008 * max(m.lead for m in found.moments)
        _series(axes, [(m.lead, m.auc) for m in found.moments], INK, "s", "all images up to then")
        if found.marker:
            _series(
                axes,
                [(m.lead + shift, m.unmarked) for m in found.moments],
                BLUE,
                "o",
                "cases whose marker does not show yet",
            )
        if found.against:
            _series(
                axes, [(m.lead - shift, m.other) for m in found.moments], VERMILION, "^", words.name(found.against, 40)
            )
        if not math.isnan(found.earliest):
            axes.axvline(found.earliest, color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
        quiet_grid(axes)
        axes.set_ylabel("AUC" if not found.of else f"AUC of {words.group(found.of)}")
        axes.legend(loc="lower right" if found.moments[0].auc.value >= 0.75 else "upper left")
        axes.set_title(f"{words.size(found.cases, found.patients).replace('image', 'case')}{_named(found.part)}")
        if found.marker:
            known = [m for m in found.moments if not m.marked.undefined]
            both[1].plot(
                [m.lead for m in known], [m.marked.value for m in known], "o-", color=BLUE, markersize=4, linewidth=1.1
            )
            both[1].set(ylabel="Marker shown", ylim=(-0.03, 1.03))
            percent_axis(both[1].yaxis)
            quiet_grid(both[1])
        both[-1].set_xlabel(f"Time before the event{f' ({found.unit})' if found.unit else ''}")
        axes.invert_xaxis()  # time runs to the right, and the event is at its end
        alt = "; ".join(f"{m.lead:g} before the event {words.in_sentence(m.auc)}" for m in found.moments)
        reached = (
            ""
            if math.isnan(found.earliest)
            else f" Dashed: the longest time at which the interval lies above {found.above:g}."
        )
        return finish(drawing, "auc-before-event", "AUC over the time before the event", f"{alt}.",
                      f"Bars: {words.percent(found.level)} intervals by patient. Line: {found.above:g}.{reached}", wide=True)  # fmt: skip


def _series(axes: Axes, points: Sequence[tuple[float, Estimate]], colour: str, mark: str, label: str) -> None:
    known = [(x, e) for x, e in points if not e.undefined]
    around = [[e.value - e.low for _, e in known], [e.high - e.value for _, e in known]]
    axes.errorbar([x for x, _ in known], [e.value for _, e in known], yerr=around, fmt=f"{mark}-", color=colour, markersize=5,
                  linewidth=1.1, capsize=2.5, label=label)  # fmt: skip


def _named(part: str) -> str:
    return f" of the {part} part" if part else ""


@checked
def time_page(folder: Path, found: LeadTime, *, cautions: Sequence[str] = ()) -> list[Path]:
    """Write ``figures/auc-before-event.svg`` and ``.png`` and ``time.html`` into ``folder``."""
    opened = [] if found.part != "test" else [
        "The test set was opened for this, once for the whole curve, as the ledger says"
        + (f"; it was looked at {words.times(found.looks)} before." if found.looks else ".")
    ]  # fmt: skip
    sections = [
        Section.of("The curve", (), time_figure(found), _moments(found)),
        Section.of("The same cases at every time", (
            "Fewer cases have images so early, and those that do may be others: here are only those that have one at every time.",
        ), _same(found)),
    ]  # fmt: skip
    if found.against:
        sections.append(Section.of(f"Compared with {words.name(found.against, 60)}", ("On the same cases; p after Holm's correction over the times.",), _against(found)))  # fmt: skip
    pages = write_page_and_figures(folder / "time.html", "How early does the model know?", lead_time.said(found), sections,
                                   cautions=(*cautions, *opened))  # fmt: skip
    return [*pages[1:], pages[0]]


def _moments(found: LeadTime) -> Table:
    marker = ("AUC before the marker", "Interval", "Cases", "Marker shown") if found.marker else ()
    head = (
        f"Before the event{f' ({found.unit})' if found.unit else ''}",
        "AUC",
        "Interval",
        "Cases",
        "Patients",
        *marker,
    )
    rows = tuple(
        (f"{m.lead:g}", *_cells(m.auc), f"{m.auc.images:,}", f"{m.auc.patients:,}",
         *((*_cells(m.unmarked), f"{m.unmarked.images:,}", words.percent(m.marked.value)) if found.marker else ()))
        for m in found.moments
    )  # fmt: skip
    return Table("Given only the images that were there by then.", head, rows, 1)


def _same(found: LeadTime) -> Table:
    rows = tuple((f"{m.lead:g}", *_cells(m.same), f"{m.same.images:,}") for m in found.moments)
    return Table("", ("Before the event", "AUC", "Interval", "Cases"), rows, 1)


def _against(found: LeadTime) -> Table:
    rows = tuple((f"{m.lead:g}", words.value(m.auc), words.value(m.other), *_cells(m.difference), p_text(m.p), p_text(m.adjusted))
                 for m in found.moments)  # fmt: skip
    return Table(
        "",
        ("Before the event", "AUC", words.name(found.against, 40), "Difference", "Interval", "p", "p after Holm"),
        rows,
        1,
    )


def _cells(e: Estimate) -> tuple[str, str]:
    return words.value(e), words.interval(e) or e.undefined
