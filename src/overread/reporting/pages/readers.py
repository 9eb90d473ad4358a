"""A reader study, drawn and told from its stored numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.comparison.compare import p_text
from overread.evaluation.readers.contrasts import MEAN, MODEL, Contrast
from overread.evaluation.readers.reader_study import SHOWN, Reading, shown
from overread.reporting import words
from overread.reporting.figures.canvas import save_figures
from overread.reporting.figures.readers import (
    agreement_figure,
    called,
    difference_figure,
    modality_figure,
    roc_figure,
    said_p,
    said_size,
)
from overread.reporting.page import Part, leaflet
from overread.reporting.sections import Table
from overread.stats.estimate import Estimate


@checked
def tell_readers(found: Reading, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``readers.html`` into ``folder``; gives the paths, the page first."""
    folder = Path(folder)
    parts = [_modality(found, modality) for modality in found.about["modalities"]]
    parts += [part for part in (_changes(found), _claim(found)) if part]
    figures = [figure for part in parts for figure in part.figures]
    drawn = save_figures(figures, folder / "figures")
    page = leaflet(folder / "readers.html", "Readers" + (" and model" if _has_model(found) else ""), _summary(found),
                   [*parts, Part("How it was computed", tuple(_methods(found)))], cautions=[words.sentence(c) for c in found.cautions])  # fmt: skip
    return [page, *drawn]


def _has_model(found: Reading) -> bool:
    return any(e.where.get("reader") == MODEL and not e.undefined for e in found.estimates)


def _summary(found: Reading) -> list[str]:
    counts = found.counts
    known = f" {words.count(counts['positives'], 'case')} with {words.group(found.of)}, {words.count(counts['negatives'], 'case')} without." if counts["positives"] + counts["negatives"] and found.of else ""  # fmt: skip
    lines = [
        f"{words.count(counts['readers'], 'reader')} read {said_size(found)}.{known} Reference: {found.about['reference']}."
    ]
    if found.looks:
        lines.append(f"This test set was looked at {words.times(found.looks)} before.")
    for c in _main(found):
        within = f" in {words.name(c.where['modality'])}" if "modality" in c.where else ""
        lines.append(f"{called(c.gap.first.metric)} of the model minus that of the mean reader{within}: "
                     f"{words.spoken(c.estimate)}, p {said_p(c.gap.p)}.")  # fmt: skip
    for e in found.estimates:
        if e.metric == "ceiling" and not e.undefined:
            within = f" in {words.name(e.where['modality'])}" if "modality" in e.where else ""
            lines.append(f"Against a single reader{within} no accuracy can pass {words.percent(e.value)} ({words.percent(e.low)} to {words.percent(e.high)}), given how far these readers agree.")  # fmt: skip
    return lines


def _main(found: Reading) -> list[Contrast]:
    """The model minus the mean reader by AUC, else by sensitivity and specificity, else by accuracy."""
    means = [c for c in shown(found.contrasts) if c.where.get("reader") == MEAN and not c.gap.difference.undefined]
    for wanted in (("auc",), ("sensitivity", "specificity"), ("accuracy",)):
        if chosen := [c for c in means if c.gap.first.metric in wanted]:
            return chosen
    return []


def _methods(found: Reading) -> Iterator[str]:
    yield "Intervals are by patient. Every number, with its method, stands in metrics.json; the figures are drawn from readers.json."  # fmt: skip
    if any("Obuchowski" in c.gap.difference.method for c in found.contrasts):
        yield ("Readers’ means and differences to them: Obuchowski and Rockette 1995 with DeLong’s covariance and the degrees of freedom of "
               "Hillis 2007, for readers and cases that are both a sample of others, on the cases that all judged readers have read. "
               "Where readers or cases are taken as fixed the numbers stand in readers.json.")  # fmt: skip
    if any(c.where.get("at") for c in found.contrasts):
        yield ("The model against one reader: its sensitivity where it has that reader’s specificity, and the other way round, with a "
               "patient bootstrap that matches anew; p after Holm’s correction over the readers.")  # fmt: skip
    if any("beside" in e.where for e in found.estimates) or found.about["reference"].startswith("consensus"):
        yield "A reader is judged against the other readers only; the model against each of the same references, on the same cases."  # fmt: skip


# -- one modality -----------------------------------------------------------------------------------------------------


def _modality(found: Reading, modality: str) -> Part:
    tables = [t for t in (_people(found, modality), _against(found, modality), _agreement(found, modality)) if t]
    figures = [f for f in (roc_figure(found, modality), difference_figure(found, modality), agreement_figure(found, modality)) if f]  # fmt: skip
    return Part(words.name(modality) if modality else "Readers", (), tuple(tables), tuple(figures))


def _of(found: Reading, modality: str) -> list[Estimate]:
    return [e for e in found.estimates if e.where.get("modality", "") == modality and "cases" not in e.where]


def _people(found: Reading, modality: str) -> Table | None:
    people = [e for e in _of(found, modality) if "reader" in e.where and not {"design", "beside"} & {*e.where}]
    cells = {(e.where["reader"], e.metric): e for e in people}
    metrics = [m for m in SHOWN if any(m == metric for _, metric in cells)]
    names = list(dict.fromkeys(name for name, _ in cells))
    rows = [n for n in names if n not in (MEAN, MODEL)] + [n for n in (MEAN, MODEL) if n in names]
    counts = found.counts["modalities"][modality]["readers"]
    made = tuple((words.name(n), f"{counts[n]:,}" if n in counts else "", *(_cell(cells.get((n, m))) for m in metrics)) for n in rows)  # fmt: skip
    head = ("Reader", "Cases read", *(called(m) for m in metrics))
    return Table("Each reader, with intervals", head, made) if made else None


def _cell(e: Estimate | None) -> str:
    if e is None:
        return ""
    between = words.interval(e)
    return e.undefined or (f"{words.value(e)} ({between})" if between else words.value(e))


def _against(found: Reading, modality: str) -> Table | None:
    rows = [
        (words.name(c.where["reader"]), called(c.gap.first.metric), c.where.get("at", ""), _cell(c.estimate), p_text(c.gap.p), p_text(c.adjusted))
        for c in shown(found.contrasts)
        if c.where.get("modality", "") == modality and "reader" in c.where
    ]  # fmt: skip
    head = ("Model minus", "Metric", "Read at", "Difference", "p", "p (Holm)")
    return Table("The model against readers", head, tuple(rows), 3) if rows else None


def _agreement(found: Reading, modality: str) -> Table | None:
    rows = [(called(e.metric), words.name(e.of), _cell(e), f"{e.images:,}") for e in _of(found, modality) if "reader" not in e.where]  # fmt: skip
    return Table("How far readers agree", ("Measure", "Of", "Value", "Cases"), tuple(rows), 2) if rows else None


# -- modalities, claim ------------------------------------------------------------------------------------------------


def _changes(found: Reading) -> Part | None:
    between = [c for c in shown(found.contrasts) if "reader" not in c.where]
    if not between:
        return None
    means = {
        (e.where["modality"], e.metric): e for e in found.estimates if "cases" in e.where and "design" not in e.where
    }
    rows = [
        (words.name(c.where["modality"]), called(c.gap.first.metric),
         *(_cell(means.get((m, c.gap.first.metric))) for m in c.where["modality"].split(" − ")), _cell(c.estimate), p_text(c.gap.p))
        for c in between
    ]  # fmt: skip
    table = Table("The readers’ mean in each modality", ("First minus second", "Metric", "First", "Second", "Difference", "p"), tuple(rows), 2)  # fmt: skip
    figure = modality_figure(found)
    return Part("Modalities", (), (table,), (figure,) if figure else ())


def _claim(found: Reading) -> Part | None:
    if found.verdict is None:
        return None
    claim = found.verdict.claim
    shown_or = f"undefined: {claim.undefined}" if claim.undefined else "shown" if claim.shown else "not shown"
    return Part("Non-inferiority to the mean reader",
                (f"{called(claim.difference.metric)}, margin {claim.margin:g}: {shown_or}, {found.verdict.status}. "
                 f"{words.sentence(found.verdict.why)} Difference {words.spoken(claim.difference)}, one-sided p {said_p(claim.p)} at α {claim.alpha:g}.",
                 *(words.sentence(f"also claimed: {other}") for other in found.verdict.others)))  # fmt: skip
