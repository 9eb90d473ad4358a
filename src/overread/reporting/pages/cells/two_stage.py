"""Two stages against one as a page: what each comes to, what each stage costs, and how it was made; and which cells decided."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from overread.cells.stages.stage_costs import Ceiling
from overread.cells.stages.two_stages import TwoStages
from overread.core.errors import checked
from overread.explanation.cell_shares import ExplainedCells
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import Figure, ForestRow
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import Estimate, p_text

#: Differences in one table or figure, at most.
MOST = 24


@checked
def two_stage_page(found: TwoStages, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``two-stages.html`` and its figures into ``folder``; gives the paths, the page first."""
    ceiling = found.ceiling
    sections = [
        Section.of("Two stages against one", (), _differences(found), _forest(found)),
        *([Section.of("What each stage costs", (ceiling.verdict, *ceiling.notes), ceiling_table(ceiling), ceiling_figure(ceiling))] if ceiling else []),
        Section.of("How it was made", _made(found), _cells(found), _seconds(found)),
    ]  # fmt: skip
    cautions = [words.sentence(note) for note in found.notes]
    return write_page_and_figures(Path(folder) / "two-stages.html", "Two stages against one", _summary(found), sections, cautions=cautions)  # fmt: skip


def _summary(found: TwoStages) -> list[str]:
    lines = []
    first = next((d for d in found.differences if not d.difference.undefined), None)
    if first is not None:
        metric = words.label(first.first.metric) + (f" of {words.name(first.first.of)}" if first.first.of else "")
        lines.append(f"{metric}: {found.names[0]} {words.in_sentence(first.first)}, {found.names[1]} {words.in_sentence(first.second)}; "
                     f"the difference is {words.in_sentence(first.difference)}.")  # fmt: skip
    if found.ceiling:
        lines.append(found.ceiling.verdict)
    return [*lines, *([f"These images were looked at {words.times(found.looks)} before."] if found.looks else [])]


def _differences(found: TwoStages) -> Table:
    rows = tuple(
        (words.label(d.first.metric), words.name(d.first.of), words.cell(d.first, 3), words.cell(d.second, 3), words.cell(d.difference, 3), p_text(d.p))
        for d in found.differences[:MOST]
    )  # fmt: skip
    head = ("Measure", "Of", *(name.capitalize() for name in found.names), "Difference", "p")
    return Table(f"The same test images, paired and clustered by patient{words.first_of(found.differences, MOST)}", head, rows, 2)  # fmt: skip


def _forest(found: TwoStages) -> Figure | None:
    held = [d for d in found.differences[:MOST] if not d.difference.undefined]
    rows = [ForestRow(" of ".join(filter(None, (words.label(d.first.metric), words.name(d.first.of)))), d.difference, note=p_text(d.p)) for d in held]  # fmt: skip
    if not rows:
        return None
    across = f"{found.names[0]} minus {found.names[1]}"
    return canvas.forest_rows(rows, name="two-stages", title="Two stages minus one", across=across, line=0.0, caption="Right of the line: the two stages do better, where more is better.")  # fmt: skip


@checked
def ceiling_table(found: Ceiling) -> Table:
    """A row a stage: the metric before and with the truth in its place, and what that gains."""
    rows = tuple((words.name(s.stage), words.cell(s.before, 3), words.cell(s.after, 3), words.cell(s.cost, 3), p_text(s.p)) for s in found.steps)  # fmt: skip
    name = words.label(found.metric) + (f" of {words.name(found.of)}" if found.of else "")
    head = ("Stage", "Before", "With the truth in its place", "What it costs", "p")
    return Table(f"{name}, stage by stage, on {found.part or 'these'} images", head, rows, 1)


@checked
def ceiling_figure(found: Ceiling) -> Figure:
    """What each stage costs, with its interval."""
    rows = [ForestRow(words.name(s.stage), s.cost, note=p_text(s.p)) for s in found.steps]
    size = words.size(found.steps[0].before.images, found.steps[0].before.patients)
    return canvas.forest_rows(rows, name="ceiling", title="What each stage costs", across=f"{words.label(found.metric)} gained with the truth in its place", size=size, line=0.0)  # fmt: skip


def _made(found: TwoStages) -> tuple[str, ...]:
    told = (found.pooled, found.window, found.proof)
    return tuple(words.sentence(line) for line in told if line)


def _cells(found: TwoStages) -> Table | None:
    rows = tuple(
        (words.name(name.replace("-", " cells of the ") + " part"), f"{many:,}") for name, many in found.cells.items()
    )
    return Table("Cells that were cut out", ("", "Cells"), rows, 1) if rows else None


def _seconds(found: TwoStages) -> Table | None:
    rows = tuple((words.name(name), words.duration(took)) for name, took in found.seconds.items())
    shared = f" of {words.duration(found.budget)} that they shared" if found.budget else ""
    return Table(f"What each took{shared}", ("", "Time"), rows, 1) if rows else None


# -- which cells decided ------------------------------------------------------------------------------------------------


@checked
def explained_cells_page(
    found: ExplainedCells, folder: str | os.PathLike[str], told: tuple[str, ...] = ()
) -> list[Path]:
    """Write ``cells.html`` and its figure into ``folder``; gives the paths, the page first. ``told``: lines of the first images."""
    sections = [
        Section.of("Cells that are known to matter", (), _scores(found), _score_forest(found)),
        Section("The first images, by share of the map", told),
        Section("How it was found", (*found.notes, _how(found))),
    ]
    summary = [found.verdict, f"{found.outlines.capitalize()} outlines; {words.count(found.cells, 'cell')}, {words.count(found.planted, 'cell')} known to matter; {words.size(found.images, found.patients)}."]  # fmt: skip
    return write_page_and_figures(Path(folder) / "cells.html", f"Which cells decided: {words.name(found.target)}", summary, sections)  # fmt: skip


def _how(found: ExplainedCells) -> str:
    return (f"The magnitude of the map ({found.method}) of the answer {words.name(found.target)} is carried over to the image and summed over each cell. "
            "AUC within images: the chance that a cell that matters outscores another one of its image. Intervals: bootstrap of patients.")  # fmt: skip


def _scores(found: ExplainedCells) -> Table:
    rows = tuple((words.name(s.name), words.cell(s.auc, 3), _cell(s.ahead), p_text(s.p) if np.isfinite(s.p) else words.NOTHING, words.number(s.rank, 2))
                 for s in found.scores)  # fmt: skip
    return Table("How well the cells that matter are found within their images", ("Score", "AUC", "The map is ahead by", "p", "Rank correlation"), rows, 1)  # fmt: skip


def _cell(found: Estimate) -> str:
    return words.NOTHING if found.undefined else words.cell(found, 3)


def _score_forest(found: ExplainedCells) -> Figure | None:
    rows = [
        ForestRow(words.name(s.name), s.auc, whole=i == 0) for i, s in enumerate(found.scores) if not s.auc.undefined
    ]
    if not rows:
        return None
    return canvas.forest_rows(rows, name="explained-cells", title="Cells found within their images", across="AUC within images", line=0.5,
                              size=words.size(found.images, found.patients), caption="Diamond: the map. The line: chance.")  # fmt: skip
