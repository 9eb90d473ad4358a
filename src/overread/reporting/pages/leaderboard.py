"""A leaderboard as a page: one table a metric, the best system first; and a grid of recipes, a row a cell, as a paper has it."""

from __future__ import annotations

import os
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.comparison.disagreement import Disagreement
from overread.evaluation.comparison.grid_result import ENSEMBLE, Grid
from overread.evaluation.comparison.leaderboard import Leaderboard
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import Figure, ForestRow
from overread.reporting.page import Section, write_page, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import p_text


@checked
def leaderboard_page(found: Leaderboard, folder: str | os.PathLike[str]) -> Path:
    """Write ``leaderboard.html`` into ``folder``, and give its path."""
    size, leader = words.size(found.images, found.patients), words.name(found.systems[0], 60)
    best = found.value(found.systems[0], found.metric, found.of)
    led = f"{leader} leads: {_title(found.metric, found.of)} {words.value(best)}."
    summary = [f"{len(found.systems)} systems on the same cases: {size}. {led} Every other system "
               f"is compared with {words.name(found.reference, 60)} case by case; p after Holm's correction over all of them and all metrics."]  # fmt: skip
    tables = [_table(found, metric, of) for metric, of in found.metrics]
    rows = tuple((words.name(s, 60), words.name(rule, 120)) for s, rule in zip(found.systems, found.called_by, strict=False))  # fmt: skip
    rules = Table("Classes are called by", ("", ""), rows, 2, "pairs") if rows else None
    sections = [
        Section.of("Ranked by", (), tables[0]),
        Section.of("Other measures", (), *tables[1:]),
        Section.of("How cases are called", (), rules),
    ]
    cautions = [words.sentence(caution) for caution in found.cautions]
    return write_page(Path(folder) / "leaderboard.html", "Leaderboard", summary, sections, cautions=cautions)


def _table(found: Leaderboard, metric: str, of: str) -> Table:
    tests = {(s.system, s.metric, s.of): s for s in found.standings}
    rows = []
    for place, system in enumerate(found.systems, start=1):
        test = tests.get((system, metric, of))
        gap = (words.cell(found.difference(system, metric, of), 3), p_text(test.adjusted)) if test else ("reference", words.NOTHING)  # fmt: skip
        rows.append((str(place), words.name(system, 60), words.cell(found.value(system, metric, of), 3), *gap))
    head = ("", "System", "Value", f"Minus {words.name(found.reference, 40)}", "p (Holm)")
    return Table(_title(metric, of), head, tuple(rows), 2)


def _title(metric: str, of: str) -> str:
    return words.label(metric) + (f" of {words.name(of, 60)}" if of else "")


# -- a grid of recipes -------------------------------------------------------------------------------------------------


_JUDGED = {"tuning": "the tuning part", "test": "the test part", "folds": "patients that each model had not seen"}


@checked
def grid_page(found: Grid, folder: str | os.PathLike[str], routed: Disagreement | None = None) -> Path:
    """Write ``grid.html`` and its figure into ``folder``, and give its path."""
    cautions = [words.sentence(caution) for caution in (*found.cautions, *(routed.cautions if routed else ()))]
    sections = [
        Section.of("Every cell", (), paper_table(found), _forest(found)),
        Section.of("The weighted ensemble", (), _shares(found)),
        Section.of("Where two systems disagree", (), _rule(routed)),
        Section.of("Other measures", (), *_others(found)),
        Section.of("Left out", (), _left_out(found)),
    ]
    path = Path(folder) / "grid.html"
    return write_page_and_figures(path, "A grid of recipes", _grid_summary(found), sections, cautions=cautions)[0]


def _grid_summary(found: Grid) -> list[str]:
    size = words.size(found.images, found.patients)
    leader, best = words.name(found.systems[0], 60), found.value(found.systems[0], found.metric, found.of)
    how = f"cross-validation, {words.count(found.folds, 'fold')}" if found.folds else _JUDGED[found.part]
    told = f"{words.count(len(found.levels), 'cell')} on one table, judged on {_JUDGED[found.part]}: {size}."
    led = f"The best is {leader}: {words.label(found.metric)} {words.value(best)}."
    compared = f"Every other system is compared with {words.name(found.reference, 60)} case by case; p after Holm's correction." if len(found.systems) > 1 else ""  # fmt: skip
    return [" ".join(filter(None, (told if not found.folds else told.replace("judged on", f"{how}:"), led, compared)))]


@checked
def paper_table(found: Grid) -> Table:
    """The factors' levels, then the metrics that the table of a paper has, with intervals."""
    columns, tests = found.columns(), {(s.system, s.metric, s.of): s for s in found.standings}
    compared, factors = len(found.systems) > 1, list(found.factors)
    rows = []
    for system, levels in found.rows():
        shown = [words.name(level, 40) for level in levels] if factors and system != ENSEMBLE else [words.name(system, 60), *("",) * (len(factors) - 1)]  # fmt: skip
        cells = [words.cell(found.told(system, *key), 3) for key in columns]
        test = tests.get((system, found.metric, found.of))
        gap = (words.cell(found.difference(system, found.metric, found.of), 3), p_text(test.adjusted)) if test else ("reference", words.NOTHING)  # fmt: skip
        rows.append((*shown, *cells, *(gap if compared else ())))
    several = len({of for _, of in columns}) > 1
    head = [words.label(m) + (f" of {words.name(of, 30)}" if of and several else "") for m, of in columns]
    names = [words.name(name, 40).capitalize() for name in factors] or ["Recipe"]
    more = ("Difference", "p (Holm)") if compared else ()
    caption = f"{words.label(found.metric)}, sensitivity and specificity of every cell"
    if compared:
        caption += f"; difference of the {words.label(found.metric)} from that of {words.name(found.reference, 60)}"
    return Table(caption, (*names, *head, *more), tuple(rows), len(names))  # fmt: skip


def _forest(found: Grid) -> Figure | None:
    rows = [
        ForestRow(words.name(s, 50), found.value(s, found.metric, found.of), whole=s == ENSEMBLE) for s in found.systems
    ]
    return canvas.forest_rows(rows, name="grid", title=f"{words.label(found.metric)} of every cell", across=words.label(found.metric),
                              size=words.size(found.images, found.patients), caption="Diamond: the weighted ensemble.")  # fmt: skip


def _shares(found: Grid) -> Table | None:
    rows = tuple((words.name(name, 60), words.share(share)) for name, share in found.shares.items() if share > 0)
    where = (
        "mean of the folds' weights, each chosen outside of its fold"
        if found.folds
        else "weights chosen on tuning data"
    )
    return Table(f"Mean of the probabilities, {where}", ("System", "Weight"), rows, 1) if rows else None


def _rule(routed: Disagreement | None) -> Table | None:
    if routed is None:
        return None
    who = (
        "one who is never wrong"
        if routed.perfect
        else f"a reader ({words.count(routed.counts['readers'], 'reader')}, each in turn)"
    )
    caption = f"{routed.counts['disagreements']:,} of {words.count(routed.counts['images'], 'case')} in dispute{f' on {words.name(routed.of, 60)}' if routed.of else ''} go to {who}"
    metrics = ("sensitivity", "specificity", "reads per case")
    rows = tuple((words.name(way, 60), *(words.cell(routed.value(way, metric), 3) for metric in metrics)) for way in routed.ways)  # fmt: skip
    return Table(caption, ("Rule", *map(words.label, metrics)), rows, 1)


def _others(found: Grid) -> list[Table]:
    tables = []
    for metric, of in found.metrics:
        if (metric, of) not in found.columns():
            rows = tuple((words.name(s, 60), words.cell(found.told(s, metric, of), 3)) for s in found.systems)
            tables.append(
                Table(words.label(metric) + (f" of {words.name(of, 60)}" if of else ""), ("System", "Value"), rows, 1)
            )
    return tables


def _left_out(found: Grid) -> Table | None:
    rows = tuple((words.name(each.name, 80), words.sentence(each.reason)) for each in found.left_out)
    return Table("Cells without a result, and why", ("Cell", "Reason"), rows, 2) if rows else None
