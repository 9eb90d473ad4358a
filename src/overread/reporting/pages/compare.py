"""A comparison of two models, told from its stored numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overread.core.errors import checked
from overread.evaluation.comparison.compare import CORRECTED, Comparison, p_text
from overread.reporting import words
from overread.reporting.figures.canvas import Figure, save_figures
from overread.reporting.figures.comparison import MOST, draw_comparison, named, titled, where_of
from overread.reporting.page import Part, leaflet
from overread.reporting.sections import Table
from overread.stats.estimate import Difference

#: What the page tells of subgroups; the rest is in metrics.json.
BRIEF = ("macro auc", "auc", "sensitivity", "specificity", "mae")


@checked
def tell_comparison(found: Comparison, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``comparison.html`` into ``folder``; gives the paths, the page first."""
    folder = Path(folder)
    figures = draw_comparison(found)
    drawn = save_figures(figures, folder / "figures")
    return [_page(found, figures, folder / "comparison.html"), *drawn]


def _page(found: Comparison, figures: Sequence[Figure], path: Path) -> Path:
    first, second = (words.name(n, 60) for n in found.names)
    by = {figure.name: figure for figure in figures}
    forests = [by[n] for n in ("differences", "subgroups") if n in by]
    rest = tuple(f for f in figures if f.name not in ("claim", "differences", "subgroups"))
    parts = [
        Part("The claim", _claim_words(found), (), (by["claim"],) if "claim" in by else ()),
        Part("Differences", (), (_table(found, groups=False),), tuple(forests[:1])),
        Part("Subgroups", (), (_table(found, groups=True),), tuple(forests[1:])) if any(d.first.where for d in found.differences) else Part(""),
        Part("Curves and scores", (), (), rest),
        Part("Cases and methods", _methods(found), (_cases(found),)),
    ]  # fmt: skip
    return leaflet(path, f"{first} against {second}", _summary(found), parts, cautions=_cautions(found))


def _summary(found: Comparison) -> list[str]:
    how = "on the same cases" if found.paired else "on different patients"
    said = [f"{found.names[0]} is compared with {found.names[1]} {how}: {words.size(found.counts['images'], found.counts['patients'])}. "
            "Each difference is the first minus the second."]  # fmt: skip
    main = next((d for d in found.differences if d.first.metric in ("auc", "macro auc", "mae")
                 and d.first.of in ("", found.primary) and not d.first.where), None) or found.differences[0]  # fmt: skip
    said.append(f"{named(main)}: {words.spoken(main.first)} against {words.spoken(main.second)}; difference "
                f"{words.spoken(main.difference)}, p {p_text(main.p)}.")  # fmt: skip
    if found.verdict:
        said.append(" ".join(_claim_words(found)[:1]))
    return said


def _claim_words(found: Comparison) -> tuple[str, ...]:
    if not found.verdict:
        return ()
    claim, verdict = found.verdict.claim, found.verdict
    shown = "cannot be judged: " + claim.undefined if claim.undefined else "is shown" if claim.shown else "is not shown"
    name = words.metric(claim.difference.metric.removesuffix(" difference")).name
    said = (f"{verdict.status.capitalize()}: {claim.claim} in {name}{titled(claim.difference.of)} at a margin of {claim.margin:g} "
            f"{shown} (difference {words.spoken(claim.difference)}; one-sided p {p_text(claim.p)}, α {claim.alpha:g}).")  # fmt: skip
    others = (f"Also claimed of this test set: {'; '.join(verdict.others)}.",) if verdict.others else ()
    return said, words.sentence(verdict.why), *others


def _cautions(found: Comparison) -> list[str]:
    said = [words.sentence(caution) for caution in found.cautions]
    if found.verdict and not found.verdict.declared:
        said.append(
            f"The claim is post hoc: {found.verdict.why}. A margin chosen after a look at the data proves nothing."
        )
    if found.looks:
        said.append(f"This test set had been looked at {words.times(found.looks)} before.")
    return said


def _table(found: Comparison, *, groups: bool) -> Table:
    rows = [(d, p) for d, p in zip(found.differences, found.adjusted) if bool(d.first.where) == groups
            and (not groups or (d.first.metric in BRIEF and d.first.of in ("", found.primary)))]  # fmt: skip
    head = (
        *(("Subgroup",) if groups else ()),
        "Measure",
        *(words.name(n, 26) for n in found.names),
        "Difference",
        "Interval",
        "p",
        "p (Holm)",
    )
    told = tuple((*((where_of(d),) if groups else ()), named(d), *_cells(d, p)) for d, p in rows)
    caption = "The first minus the second" + ("; every measure of them in metrics.json" if groups else "")
    return Table(caption, head, told, 2 if groups else 1)


def _cells(d: Difference, adjusted: float) -> tuple[str, ...]:
    e = d.difference
    if e.undefined:
        return (
            words.value(d.first),
            words.value(d.second),
            words.NOTHING,
            words.name(e.undefined, 60),
            words.NOTHING,
            words.NOTHING,
        )
    return (
        words.value(d.first),
        words.value(d.second),
        words.value(e),
        words.interval(e),
        p_text(d.p),
        p_text(adjusted),
    )


def _cases(found: Comparison) -> Table:
    sides: list[dict[str, Any]] = [found.counts["first"], found.counts["second"]]
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
    told = [f"{', '.join(dict.fromkeys(names))}: {method}." for method, names in by.items()]
    return (f"{CORRECTED}; intervals are not corrected.", *told)
