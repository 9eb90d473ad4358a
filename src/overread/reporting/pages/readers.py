"""A reader study, and a model in the place of the second reader, each as a page with its figures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.readers.contrasts import MEAN, MODEL, Contrast
from overread.evaluation.readers.findings_study import METRICS, FindingsReading
from overread.evaluation.readers.reader_study import SHOWN, Reading, shown
from overread.evaluation.readers.second_reader import ERRORS, RATES, DoubleReading, ReaderContrast
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import Figure, ForestRow
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


# -- several findings -------------------------------------------------------------------------------------------------


@checked
def findings_page(found: FindingsReading, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*`` and ``readers.html`` into ``folder``; gives the paths, the page first."""
    first = Section.of("F1 by finding", (), _table_of(found, "f1"), findings_figure(found))
    more = Section.of("Mean over findings", (), _means_of(found), _against_of(found))
    how = ("A reader is judged against the other readers only; the model against each of the same references, on the same cases, and its "
           "number is the mean. Blank answers are masked. Intervals: patient bootstrap, of all findings and readers together. Every "
           "number stands in metrics.json.",) if found.about["reference"].startswith("consensus") else (
           "Readers and model are judged against the truth, the model on each reader's cases. Blank answers are masked. Intervals: patient "
           "bootstrap. Every number stands in metrics.json.",)  # fmt: skip
    judged = any(e.where.get("reader") == MODEL for e in found.estimates)
    return write_page_and_figures(Path(folder) / "readers.html", "Readers and model, several findings" if judged else "Readers of several findings",
                                  _summary_of_findings(found), [first, more, Section("How it was computed", how)],
                                  cautions=[words.sentence(c) for c in found.cautions])  # fmt: skip


def _summary_of_findings(found: FindingsReading) -> list[str]:
    c = found.counts
    lines = [f"{words.count(c['readers'], 'reader')} read {words.count(c['images'], 'case')} of {words.count(c['patients'], 'patient')} for "
             f"{words.count(len(found.findings), 'finding')}. Reference: {words.name(found.about['reference'], 120)}."]  # fmt: skip
    lines += [f"This test set was looked at {words.times(found.looks)} before."] if found.looks else []
    for contrast in found.contrasts:
        if contrast.reader == MEAN and not contrast.gap.first.of and contrast.gap.first.metric == "f1":
            first, second, gap = contrast.gap.first, contrast.gap.second, contrast.estimate
            lines.append(f"Mean F1 over the findings: the model {words.in_sentence(first)}, the mean reader {words.in_sentence(second)}; "
                         f"difference {words.in_sentence(gap)}, {p_said(contrast.gap.p)}.")  # fmt: skip
    return lines


def _people_of(found: FindingsReading) -> tuple[str, ...]:
    model = any(e.where.get("reader") == MODEL for e in found.estimates)
    return (*found.readers, MEAN, *((MODEL,) if model else ()))


def _cells_of(found: FindingsReading, metric: str) -> dict[tuple[str, str], Estimate]:
    return {(e.of, e.where.get("reader", "")): e for e in found.estimates if e.metric == metric}


def _table_of(found: FindingsReading, metric: str) -> Table:
    people, cells = _people_of(found), _cells_of(found, metric)
    kappa = _cells_of(found, "fleiss kappa")
    gaps = {c.gap.first.of: c for c in found.contrasts if c.gap.first.metric == metric and c.reader == MEAN}
    rows = tuple(
        (words.name(of) if of else "Mean over findings", *(words.cell(cells[of, name]) for name in people),
         *((words.cell(gaps[of].estimate), p_text(gaps[of].gap.p)) if gaps else ()), words.cell(kappa[of, ""]) if of else "")
        for of in ("", *found.findings)
    )  # fmt: skip
    head = (
        "Finding",
        *(words.name(n).capitalize() for n in people),
        *(("Model − mean reader", "p") if gaps else ()),
        "Fleiss’ kappa",
    )
    return Table("F1 with intervals", head, rows)


def _means_of(found: FindingsReading) -> Table:
    people = _people_of(found)
    by_metric = {metric: _cells_of(found, metric) for metric in METRICS}
    rows = tuple(
        (words.name(name).capitalize(), *(words.cell(by_metric[m]["", name]) for m in METRICS)) for name in people
    )
    return Table("Mean over findings", ("", *map(words.label, METRICS)), rows)


def _against_of(found: FindingsReading) -> Table:
    rows = tuple(
        (words.name(c.reader), words.label(c.gap.first.metric), words.cell(c.estimate), p_text(c.gap.p), p_text(c.adjusted))
        for c in found.contrasts if not c.gap.first.of
    )  # fmt: skip
    return Table(
        "The model minus readers, mean over findings", ("Model minus", "Metric", "Difference", "p", "p (Holm)"), rows, 2
    )


@checked
def findings_figure(found: FindingsReading) -> Figure | None:
    """F1 of the model minus that of the mean reader, of each finding and of their mean, as a forest."""
    gaps = [c for c in found.contrasts if c.gap.first.metric == "f1" and c.reader == MEAN]
    if not gaps:
        return None
    rows = [ForestRow(words.name(c.gap.first.of, 28) if c.gap.first.of else "Mean over findings", c.estimate, f"{c.estimate.images:,}",
                      not c.gap.first.of, p_said(c.gap.p)) for c in gaps[:40]]  # fmt: skip
    counts = found.counts
    size = f"{words.count(counts['images'], 'case')} of {words.count(counts['patients'], 'patient')}"
    return canvas.forest_rows(rows, name="readers-f1", title="F1 of the model minus the mean reader", across="F1, model minus mean reader (right: the model does better)",
                              size=size, line=0.0, caption="n: cases that count. Diamond: the mean over findings.")  # fmt: skip


# -- a model in the place of the second reader ----------------------------------------------------------------------


@checked
def second_reader_page(found: DoubleReading, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*`` and ``second_reader.html`` into ``folder``; gives the paths, the page first."""
    head = ("Used", "Threshold", "Rule", "Sensitivity", "Specificity")
    points = words.points_table((found.point,), ("as a reader",), head, "Sensitivity and specificity on tuning data")
    sections = [
        Section.of("The model against each reader", (), contrasts_table(found), _figure(found)),
        Section.of("What is claimed", (), claims_table(found)),
        Section.of("The model as the second reader", _saved(found), workflow_table(found)),
        Section.of("The operating point, frozen on tuning data", (), points),
    ]
    return write_page_and_figures(Path(folder) / "second_reader.html", "A model in a double reading", second_reader_summary(found), sections,
                                  cautions=list(found.cautions))  # fmt: skip


@checked
def second_reader_summary(found: DoubleReading) -> list[str]:
    """How many cases, what is shown, and how often the test set was looked at."""
    verdict = "is shown" if found.keeps else "is not shown"
    lines = [f"{words.size(found.cases, found.patients)} that all of these readers have read. Where the model reads second, double reading {verdict} "
             f"to be no worse, by a margin of {words.percent(found.margin)} in sensitivity and in specificity."]  # fmt: skip
    return [*lines, *([f"This test set was looked at {words.times(found.looks)} before."] if found.looks else [])]


@checked
def contrasts_table(found: DoubleReading) -> Table:
    """By how much the model lowers the errors of each reader, over all sites and at each."""
    head = ("Against", "Site", "Sensitivity: reader", "model", "Fewer false negatives", "Specificity: reader", "model", "Fewer false positives")  # fmt: skip
    rows = []
    for contrast in found.contrasts:
        cells = []
        for d in contrast.differences:
            cells += [_share(d.second), _share(d.first), _points(d.difference)]
        rows.append((contrast.reader, contrast.source or "all", *cells))
    return Table("Absolute reductions in percentage points, each with its interval; more is better", head, tuple(rows), 2)  # fmt: skip


@checked
def claims_table(found: DoubleReading) -> Table | None:
    """Non-inferiority and superiority against each reader, and of double reading with the model; None without claims."""
    rows = []
    for contrast in (*found.contrasts, *((found.in_place,) if found.in_place else ())):
        for metric, (verdict, better) in zip(RATES, contrast.claims):
            rows.append((contrast.reader, metric, _said(verdict.claim.shown, verdict.claim.p, verdict.claim.undefined),
                         _said(better.shown and verdict.claim.shown, better.p, better.undefined), verdict.status))  # fmt: skip
    caption = f"One-sided at 2.5 %; no worse: by a margin of {words.percent(found.margin)}; better: looked at only after that"  # fmt: skip
    return Table(caption, ("Against", "Of", "No worse", "Better", "Margin"), tuple(rows), 5) if rows else None


@checked
def workflow_table(found: DoubleReading) -> Table:
    """Sensitivity, specificity and reads per case of both ways, and their difference."""
    rows = [(name, *(_share(e) if e.metric in RATES else _plain(e) for e in held)) for name, held in found.workflow.items()]  # fmt: skip
    if found.in_place:
        rows.append(("difference, percentage points", *(_points(d.difference) for d in found.in_place.differences), words.NOTHING))  # fmt: skip
    return Table("Where the model agrees with the first reader nobody else reads; elsewhere what was recorded decides",
                 ("Way", "Sensitivity", "Specificity", "Reads per case"), tuple(rows))  # fmt: skip


def _saved(found: DoubleReading) -> list[str]:
    if not found.saved or found.saved.undefined:
        return []
    return [f"Second reads saved: {_share(found.saved)}, where the model and the first reader agree."]


def _figure(found: DoubleReading) -> Figure:
    rows = []
    for metric, place in zip(RATES, range(len(RATES))):
        rows.append(ForestRow(f"fewer {ERRORS[metric]}"))
        rows += [ForestRow(_named(c), c.differences[place].difference, whole=not c.source) for c in found.contrasts]
    return canvas.forest_rows(
        rows, name="second-reader", title="What the model changes against each reader", across="Difference, model minus reader",
        size=words.size(found.cases, found.patients), line=0.0, caption="Diamond: all sites. Right of the line the model makes fewer errors.",
    )  # fmt: skip


def _named(contrast: ReaderContrast) -> str:
    return f"{contrast.reader}, {contrast.source}" if contrast.source else contrast.reader


def _said(shown: bool, p: float, undefined: str) -> str:
    return undefined or f"{'shown' if shown else 'not shown'}, {p_said(p)}"


def _interval(e: Estimate, factor: float, digits: int) -> str:
    if e.undefined:
        return e.undefined
    value, low, high = (words.number(factor * x, digits) for x in (e.value, e.low, e.high))
    return value if words.NOTHING in (low, high) else f"{value} ({low} to {high})"


def _share(e: Estimate) -> str:
    return _interval(e, 100, 1) + ("" if e.undefined else words.PERCENT)


def _points(e: Estimate) -> str:
    return _interval(e, 100, 1)


def _plain(e: Estimate) -> str:
    return _interval(e, 1, 2)
