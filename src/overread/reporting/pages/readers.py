"""A reader study, as a page with its figures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.readers.contrasts import MEAN, MODEL, Contrast
from overread.evaluation.readers.reader_study import SHOWN, Reading, shown
from overread.reporting import words
from overread.reporting.figures.readers import (
    agreement_figure,
    called,
    difference_figure,
    modality_figure,
    roc_figure,
    size_of,
)
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import Estimate, p_said, p_text


@checked
def readers_page(found: Reading, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``readers.html`` into ``folder``; gives the paths, the page first."""
    sections = [_modality(found, modality) for modality in found.about["modalities"]]
    sections += [_changes(found), _claim(found), Section("How it was computed", tuple(_methods(found)))]
    judged = any(e.where.get("reader") == MODEL and not e.undefined for e in found.estimates)
    return write_page_and_figures(Path(folder) / "readers.html", "Readers and model" if judged else "Readers", _summary(found), sections,
                                  cautions=[words.sentence(c) for c in found.cautions])  # fmt: skip


def _summary(found: Reading) -> list[str]:
    counts = found.counts
    known = f" {words.count(counts['positives'], 'case')} with {words.group(found.of)}, {words.count(counts['negatives'], 'case')} without." if counts["positives"] + counts["negatives"] and found.of else ""  # fmt: skip
    lines = [f"{words.count(counts['readers'], 'reader')} read {size_of(found)}.{known} Reference: {found.about['reference']}."]  # fmt: skip
    lines += [f"This test set was looked at {words.times(found.looks)} before."] if found.looks else []
    for c in _main(found):
        lines.append(f"{called(c.gap.first.metric)} of the model minus that of the mean reader{_within(c.where)}: "
                     f"{words.in_sentence(c.estimate)}, {p_said(c.gap.p)}.")  # fmt: skip
    for e in found.estimates:
        if e.metric == "ceiling" and not e.undefined:
            lines.append(f"Against a single reader{_within(e.where)} no accuracy can pass {words.percent(e.value)} ({words.percent(e.low)} to {words.percent(e.high)}), given how far these readers agree.")  # fmt: skip
    return lines


def _within(where: dict[str, str]) -> str:
    return f" in {words.name(where['modality'])}" if "modality" in where else ""


def _main(found: Reading) -> list[Contrast]:
    """The model minus the mean reader by AUC, else by sensitivity and specificity, else by accuracy."""
    means = [c for c in shown(found.contrasts) if c.reader == MEAN and not c.gap.difference.undefined]
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
    if any(c.at for c in found.contrasts):
        yield ("The model against one reader: its sensitivity where it has that reader’s specificity, and the other way round, with a "
               "patient bootstrap that matches anew; p after Holm’s correction over the readers.")  # fmt: skip
    if any("beside" in e.where for e in found.estimates) or found.about["reference"].startswith("consensus"):
        yield "A reader is judged against the other readers only; the model against each of the same references, on the same cases."  # fmt: skip


# -- one modality -----------------------------------------------------------------------------------------------------


def _modality(found: Reading, modality: str) -> Section:
    tables = (_readers(found, modality), _against(found, modality), _agreement(found, modality))
    figures = (draw(found, modality) for draw in (roc_figure, difference_figure, agreement_figure))
    return Section.of(words.name(modality) if modality else "Readers", (), *tables, *figures)


def _of(found: Reading, modality: str) -> list[Estimate]:
    return [e for e in found.estimates if e.where.get("modality", "") == modality and "cases" not in e.where]


def _readers(found: Reading, modality: str) -> Table:
    alone = [e for e in _of(found, modality) if "reader" in e.where and not {"design", "beside"} & {*e.where}]
    cells = {(e.where["reader"], e.metric): e for e in alone}
    metrics = [m for m in SHOWN if any(m == metric for _, metric in cells)]
    names = list(dict.fromkeys(name for name, _ in cells))
    rows = [n for n in names if n not in (MEAN, MODEL)] + [n for n in (MEAN, MODEL) if n in names]
    counts = found.counts["modalities"][modality]["readers"]
    made = tuple((words.name(n), f"{counts[n]:,}" if n in counts else "", *(_cell(cells.get((n, m))) for m in metrics)) for n in rows)  # fmt: skip
    return Table("Each reader, with intervals", ("Reader", "Cases read", *map(called, metrics)), made)


def _cell(e: Estimate | None) -> str:
    return words.cell(e, 3) if e else ""


def _against(found: Reading, modality: str) -> Table:
    rows = tuple(
        (words.name(c.reader), called(c.gap.first.metric), c.at, _cell(c.estimate), p_text(c.gap.p), p_text(c.adjusted))
        for c in shown(found.contrasts)
        if c.modality == modality and c.reader
    )
    return Table(
        "The model against readers", ("Model minus", "Metric", "Read at", "Difference", "p", "p (Holm)"), rows, 3
    )


def _agreement(found: Reading, modality: str) -> Table:
    among = [e for e in _of(found, modality) if "reader" not in e.where]
    rows = tuple((called(e.metric), words.name(e.of), _cell(e), f"{e.images:,}") for e in among)
    return Table("How far readers agree", ("Measure", "Of", "Value", "Cases"), rows, 2)


# -- modalities, claim ------------------------------------------------------------------------------------------------


def _changes(found: Reading) -> Section:
    means = {
        (e.where["modality"], e.metric): e for e in found.estimates if "cases" in e.where and "design" not in e.where
    }
    rows = tuple(
        (words.name(c.modality), called(c.gap.first.metric),
         *(_cell(means.get((m, c.gap.first.metric))) for m in c.modality.split(" − ")), _cell(c.estimate), p_text(c.gap.p))
        for c in shown(found.contrasts) if not c.reader
    )  # fmt: skip
    head = ("First minus second", "Metric", "First", "Second", "Difference", "p")
    return Section.of(
        "Modalities", (), Table("The readers’ mean in each modality", head, rows, 2), modality_figure(found)
    )


def _claim(found: Reading) -> Section:
    title = "Non-inferiority to the mean reader"
    if found.verdict is None:
        return Section(title)
    claim = found.verdict.claim
    shown_or = f"undefined: {claim.undefined}" if claim.undefined else "shown" if claim.shown else "not shown"
    return Section(title, (
        f"{called(claim.difference.metric)}, margin {claim.margin:g}: {shown_or}, {found.verdict.status}. "
        f"{words.sentence(found.verdict.why)} Difference {words.in_sentence(claim.difference)}, one-sided {p_said(claim.p)} at α {claim.alpha:g}.",
        *(words.sentence(f"also claimed: {other}") for other in found.verdict.others),
    ))  # fmt: skip
