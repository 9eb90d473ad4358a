"""A comparison as a page: of two models with its figures, or of a run with a paper's table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from overread.core.errors import checked
from overread.core.phrases import count
from overread.evaluation.comparison.beside_paper import BesidePaper, BesideRow
from overread.evaluation.comparison.compare import Comparison
from overread.evaluation.metrics import shown
from overread.reporting import words
from overread.reporting.figures.comparison import MOST, draw_comparison, named, titled, where_of
from overread.reporting.page import Section, write_page, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import Difference, level_text, p_said, p_text


@checked
def comparison_page(found: Comparison, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``comparison.html`` into ``folder``; gives the paths, the page first."""
    first, second = (words.name(n, 60) for n in found.names)
    drawn = {figure.name: figure for figure in draw_comparison(found)}
    claim, differences, subgroups = (drawn.pop(name, None) for name in ("claim", "differences", "subgroups"))
    sections = [
        Section.of("The claim", _claim_words(found), claim),
        Section.of("Differences", (), difference_table(found, groups=False), differences),
        Section.of("Subgroups", (), difference_table(found, groups=True), subgroups),
        Section.of("Curves and scores", (), *drawn.values()),
        Section.of("Cases and methods", _methods(found), _cases(found)),
    ]
    path = Path(folder) / "comparison.html"
    return write_page_and_figures(path, f"{first} against {second}", _summary(found), sections, cautions=_cautions(found))  # fmt: skip


def _size(found: Comparison) -> str:
    return words.size(found.counts["images"], found.counts["patients"])


def _summary(found: Comparison) -> list[str]:
    how = "on the same cases" if found.paired else "on different patients"
    lines = [f"{found.names[0]} is compared with {found.names[1]} {how}: {_size(found)}. Each difference is the first minus the second."]  # fmt: skip
    if found.endpoint:
        main = found[found.endpoint.key]
        lines.append(f"The primary endpoint, {words.sentence(found.endpoint.named)[:1].lower()}{words.sentence(found.endpoint.named)[1:-1]}: {named(main)}, {words.in_sentence(main.first)} against "
                     f"{words.in_sentence(main.second)}; difference {words.in_sentence(main.difference)}, {p_said(main.p)}, not corrected. Everything else is secondary.")  # fmt: skip
        return [*lines, *_claim_words(found)[:1]]
    main = next((d for d in found.differences if d.first.metric in ("auc", "macro auc", "mae")
                 and d.first.of in ("", found.primary) and not d.first.where), None) or found.differences[0]  # fmt: skip
    lines.append(f"{named(main)}: {words.in_sentence(main.first)} against {words.in_sentence(main.second)}; difference "
                 f"{words.in_sentence(main.difference)}, {p_said(main.p)}.")  # fmt: skip
    return [*lines, *_claim_words(found)[:1]]


def _claim_words(found: Comparison) -> tuple[str, ...]:
    if not found.verdict:
        return ()
    claim, verdict = found.verdict.claim, found.verdict
    shown_or = (
        "cannot be judged: " + claim.undefined if claim.undefined else "is shown" if claim.shown else "is not shown"
    )
    name = words.label(claim.difference.metric.removesuffix(" difference"))
    line = (f"{verdict.status.capitalize()}: {claim.claim} in {name}{titled(claim.difference.of)} at a margin of {claim.margin:g} "
            f"{shown_or} (difference {words.in_sentence(claim.difference)}; one-sided {p_said(claim.p)}, α {claim.alpha:g}).")  # fmt: skip
    others = (f"Also claimed of this test set: {'; '.join(verdict.others)}.",) if verdict.others else ()
    return line, words.sentence(verdict.why), *others


def _cautions(found: Comparison) -> list[str]:
    lines = [words.sentence(caution) for caution in found.cautions]
    if found.verdict and not found.verdict.declared:
        lines.append(
            f"The claim is post hoc: {found.verdict.why}. A margin chosen after a look at the data proves nothing."
        )
    if found.looks:
        lines.append(f"This test set had been looked at {words.times(found.looks)} before.")
    return lines


@checked
def difference_table(found: Comparison, *, groups: bool) -> Table:
    """Every difference over all cases, or the main ones in each subgroup; all of these are in metrics.json."""
    brief = {m.name for m in shown("brief comparison")}
    rows = [(d, p) for d, p in zip(found.differences, found.adjusted) if bool(d.first.where) == groups
            and (not groups or (d.first.metric in brief and d.first.of in ("", found.primary)))]  # fmt: skip
    head = ("Measure", *(words.name(n, 26) for n in found.names), "Difference", "Interval", "p", "p (Holm)")
    cells = tuple((*((where_of(d),) if groups else ()), named(d), *_cells(d, p)) for d, p in rows)
    if groups:
        return Table("The first minus the second; every measure of them in metrics.json", ("Subgroup", *head), cells, 2)
    return Table("The first minus the second", head, cells)


def _cells(d: Difference, adjusted: float) -> tuple[str, ...]:
    e, none = d.difference, words.NOTHING
    rest = (none, words.name(e.undefined, 60), none, none) if e.undefined else (words.value(e), words.interval(e), p_text(d.p), p_text(adjusted))  # fmt: skip
    return words.value(d.first), words.value(d.second), *rest


def _cases(found: Comparison) -> Table:
    sides = [found.counts["first"], found.counts["second"]]
    rows = [("Images compared", *(f"{s['images']:,}" for s in sides)), ("Patients", *(f"{s['patients']:,}" for s in sides)),
            ("Without a known truth", *(f"{s['unlabelled']:,}" for s in sides)),
            ("Cases in this table only, left out", *(f"{found.counts[f'only in {n}']:,}" for n in ("first", "second")))]  # fmt: skip
    for of in list(sides[0]["positives"])[:MOST]:
        rows.append((f"With {words.group(of)}", *(f"{s['positives'][of]:,}" for s in sides)))
        rows.append((f"Without {words.group(of)}", *(f"{s['negatives'][of]:,}" for s in sides)))
    return Table("Cases", ("", *(words.name(n, 26) for n in found.names)), tuple(rows))


def _methods(found: Comparison) -> tuple[str, ...]:
    by: dict[str, list[str]] = {}
    for d in found.differences:
        if d.difference.method and not d.first.where:
            by.setdefault(d.difference.method, []).append(named(d))
    methods = (f"{', '.join(dict.fromkeys(names))}: {method}." for method, names in by.items())
    return (f"{found.correction}; intervals are not corrected.", *methods)


# -- a paper's table with our numbers beside it --------------------------------------------------------------------


@checked
def published_page(
    found: BesidePaper, folder: str | os.PathLike[str], *, title: str, source: str, sections: Mapping[str, str]
) -> Path:
    """Write ``published.html`` into ``folder``, and give its path.

    ``title`` and ``source`` are those of the paper; ``sections``: what it says of each field, and how this differs.
    """
    beside = sum(row.ours is not None for row in found.rows)
    summary = [words.sentence(f"The recipe {found.system} follows “{title}”. Of {count(len(found.rows), 'number')} in the paper's table "
                              f"{beside} {'has' if beside == 1 else 'have'} one of this run beside it. They come from other images: they show "
                              "whether the method does what the paper says, not who is better.")]  # fmt: skip
    head = ("", f"{found.paper}", f"This run ({level_text(found.estimates)})", "Where the paper says it")
    table = Table("The paper's numbers and this run's", head, tuple(map(_beside, found.rows)), len(head))
    smaller = [f"{words.name(line, 300)}." for line in found.reduced]
    left_out = [words.sentence(f"Left out: {line}") for line in found.left_out]
    told = Table("What the paper says, and how this recipe differs", ("", ""), tuple((words.name(name, 60), words.sentence(text, 900)) for name, text in sections.items()), 2)  # fmt: skip
    parts = [Section.of("The table", left_out, table), Section.of("Reduced", smaller), Section.of("Line by line", (), told if sections else None)]  # fmt: skip
    cautions = [words.sentence("Run in a reduced form: its numbers are those of a smaller study.")] if smaller else []
    return write_page(Path(folder) / "published.html", f"{found.paper}, beside this run", [*summary, words.sentence(source)], parts, cautions=cautions)  # fmt: skip


def _beside(row: BesideRow) -> tuple[str, str, str, str]:
    ours = words.cell(row.ours, 3) if row.ours is not None else words.name(f"– {row.missing}", 300)
    return words.name(row.published.what, 200), str(row.published), ours, words.name(row.published.where, 200)
