"""A leaderboard as a page: one table a metric, the best system first."""

from __future__ import annotations

import os
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.comparison.leaderboard import Leaderboard
from overread.reporting import words
from overread.reporting.page import Section, write_page
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
