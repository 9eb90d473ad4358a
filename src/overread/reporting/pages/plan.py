"""A plan of a study, as a page with its figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter, NullFormatter

from overread.core.errors import checked
from overread.evaluation.sample_size import Plan, about
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import BLUE, SOFT, THIN, VERMILION, Figure
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table


@checked
def plan_page(found: Plan, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``plan.html`` into ``folder``; gives the paths, the page first."""
    need, several = found.needed, found.terms.design.images > 1
    images = f", and {words.count(need.images, 'image')} of them" if several else ""
    summary = [f"{words.count(need.patients, 'patient')}: {need.positives:,} with and {need.negatives:,} without the disease{images}.",
               words.sentence(about(found.terms))]  # fmt: skip
    sections = [
        Section.of("What is wanted", (), _goals(found)),
        Section.of("If an assumption is wrong", ("One assumption is changed at a time; the others stay.",), *_neighbours(found), *draw_plan(found)),
    ]  # fmt: skip
    return write_page_and_figures(Path(folder) / "plan.html", "How many patients", summary, sections, cautions=cautions(found))  # fmt: skip


@checked
def draw_plan(found: Plan) -> list[Figure]:
    """A curve per goal: the width of the interval, or the power, against the number of patients."""
    many = len(found.curves) > 1
    return [_curve(held, f"patients-{i + 1}" if many else "patients", about(found.terms))
            for i, held in enumerate(found.curves)]  # fmt: skip


def _curve(held: dict[str, Any], name: str, rests_on: str) -> Figure:
    powered = held["what"] == "power"
    with canvas.sheet(9.0, 3.7) as drawing:
        axes = drawing.subplots()
        axes.plot(held["patients"], held["at"], color=BLUE, marker="o", markersize=3)
        axes.axhline(held["asked"], color=SOFT, linewidth=0.9, linestyle=THIN)
        axes.axvline(held["needed"], color=SOFT, linewidth=0.9, linestyle=THIN)
        axes.plot(held["needed"], held["asked"], "o", color=VERMILION, markersize=7, zorder=5)
        axes.annotate(words.count(held["needed"], "patient"), (held["needed"], held["asked"]), xytext=(8, -16) if powered else (8, 8),
                      textcoords="offset points")  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(_round_numbers(held["patients"]))
        if powered:
            canvas.percent_axis(axes.yaxis)
        up = "Power" if powered else f"{words.label(held['metric'])}: width of the interval"
        axes.set(xlabel="Patients", ylabel=up, title=words.name(held["goal"], 90))
        canvas.quiet_grid(axes)
        wanted = f"{words.count(held['needed'], 'patient')} for {held['what']} {held['asked']:g}"
        return canvas.finish(drawing, name, "Patients and power" if powered else "Patients and width",
                      f"{held['goal']}: {wanted}.", f"Dot: what was asked, {wanted}. {words.sentence(rests_on)}", wide=True)  # fmt: skip


def _round_numbers(patients: Sequence[int]) -> list[float]:
    """A few round numbers to every power of ten, within the axis."""
    low, high = min(patients), max(patients)
    return [m * 10.0**k for k in range(10) for m in (1, 1.5, 2, 3, 5, 7) if low * 0.9 <= m * 10**k <= high * 1.1]


@checked
def cautions(found: Plan) -> list[str]:
    """What a reader of the number must know."""
    lines = ["The numbers are expectations for complete data: add what will be excluded or lost.",
             "Where patients come as they come, the number with the disease varies around prevalence × patients; "
             "with the very prevalence assumed, half of such studies end a little short of it."]  # fmt: skip
    if found.terms.design.images > 1:
        lines.append("The correlation within patients is an assumption; the table shows what others would need.")
    if any(goal.against and not goal.margin for goal in found.goals):
        lines.append("A study to show a difference is no study of non-inferiority: that needs a margin.")
    return lines


def _goals(found: Plan) -> Table:
    rows = tuple((str(goal), f"{s.patients:,}", f"{s.positives:,}", f"{s.negatives:,}", f"{s.images:,}", s.method)
                 for goal, s in zip(found.goals, found.sizes))  # fmt: skip
    return Table("Each goal by itself", ("Goal", "Patients", "With the disease", "Without", "Images", "Method"), rows)


def _neighbours(found: Plan) -> tuple[Table, ...]:
    head = ("Changed", "To", "Patients", "With the disease", "Without", "Images")
    tables = []
    for goal in map(str, found.goals):
        rows = tuple((row["changed"], f"{row['value']:g}", *(f"{row[n]:,}" for n in ("patients", "positives", "negatives", "images")))
                     for row in found.neighbours if row["goal"] == goal)  # fmt: skip
        tables.append(Table(goal, head, rows))
    return tuple(tables)
