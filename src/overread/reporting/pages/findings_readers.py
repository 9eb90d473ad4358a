"""A reader study of several findings, as a page with its figure."""

from __future__ import annotations

import os
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.readers.contrasts import MEAN, MODEL
from overread.evaluation.readers.findings_study import METRICS, FindingsReading
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import Figure, ForestRow
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import Estimate, p_said, p_text


@checked
def findings_page(found: FindingsReading, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*`` and ``readers.html`` into ``folder``; gives the paths, the page first."""
    first = Section.of("F1 by finding", (), _table(found, "f1"), difference_figure(found))
    more = Section.of("Mean over findings", (), _means(found), _against(found))
    how = ("A reader is judged against the other readers only; the model against each of the same references, on the same cases, and its "
           "number is the mean. Blank answers are masked. Intervals: patient bootstrap, of all findings and readers together. Every "
           "number stands in metrics.json.",) if found.about["reference"].startswith("consensus") else (
           "Readers and model are judged against the truth, the model on each reader's cases. Blank answers are masked. Intervals: patient "
           "bootstrap. Every number stands in metrics.json.",)  # fmt: skip
    judged = any(e.where.get("reader") == MODEL for e in found.estimates)
    return write_page_and_figures(Path(folder) / "readers.html", "Readers and model, several findings" if judged else "Readers of several findings",
                                  _summary(found), [first, more, Section("How it was computed", how)],
                                  cautions=[words.sentence(c) for c in found.cautions])  # fmt: skip


def _summary(found: FindingsReading) -> list[str]:
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


def _people(found: FindingsReading) -> tuple[str, ...]:
    model = any(e.where.get("reader") == MODEL for e in found.estimates)
    return (*found.readers, MEAN, *((MODEL,) if model else ()))


def _cells(found: FindingsReading, metric: str) -> dict[tuple[str, str], Estimate]:
    return {(e.of, e.where.get("reader", "")): e for e in found.estimates if e.metric == metric}


def _table(found: FindingsReading, metric: str) -> Table:
    people, cells = _people(found), _cells(found, metric)
    kappa = _cells(found, "fleiss kappa")
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


def _means(found: FindingsReading) -> Table:
    people = _people(found)
    by_metric = {metric: _cells(found, metric) for metric in METRICS}
    rows = tuple(
        (words.name(name).capitalize(), *(words.cell(by_metric[m]["", name]) for m in METRICS)) for name in people
    )
    return Table("Mean over findings", ("", *map(words.label, METRICS)), rows)


def _against(found: FindingsReading) -> Table:
    rows = tuple(
        (words.name(c.reader), words.label(c.gap.first.metric), words.cell(c.estimate), p_text(c.gap.p), p_text(c.adjusted))
        for c in found.contrasts if not c.gap.first.of
    )  # fmt: skip
    return Table(
        "The model minus readers, mean over findings", ("Model minus", "Metric", "Difference", "p", "p (Holm)"), rows, 2
    )


@checked
def difference_figure(found: FindingsReading) -> Figure | None:
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
