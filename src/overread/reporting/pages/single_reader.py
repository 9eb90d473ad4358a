"""What an accuracy against one reader can mean, as a page with a calculator that needs no network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from overread.core.errors import checked
from overread.evaluation.readers.single_reader_truth import MODELS, LabelPanel, SingleReaderTruth, said
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import SOFT, THIN, Figure
from overread.reporting.page import Calculator, Section, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.agreement.imperfect_truth import MOST_READERS, majority, true_accuracy_bounds
from overread.stats.arrays import normal_quantile

#: What can be moved: name, label, whether a slider, scale, least, most, step.
FIELDS = (
    ("accuracy", "The first model showed", "range", 100, 50, 100, 0.1),
    ("other", "The second model showed", "range", 100, 50, 100, 0.1),
    ("cases", "Cases", "number", 1, 10, 1_000_000, 1),
    ("sensitivity", "Sensitivity of a reader", "range", 100, 50, 100, 0.1),
    ("specificity", "Specificity of a reader", "range", 100, 50, 100, 0.1),
    ("prevalence", "Prevalence", "range", 100, 0.1, 99.9, 0.1),
    ("panel", "Labels by", "range", 1, 1, 15, 2),
    ("alike", "Correlation of the readers’ errors", "range", 1, 0, 0.9, 0.05),
    ("shared", "Errors shared with the labels (0: by chance, 1: as many as can be)", "range", 1, 0, 1, 0.05),
)
CERTAIN = "The one that showed more is the better one, whatever errors are shared."
OPEN = "Either may be the better one: these labels cannot tell."


@checked
def single_reader_page(found: SingleReaderTruth, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*.svg`` and ``*.png`` and ``single_reader.html`` into ``folder``; gives the paths, the page first."""
    t = found.terms
    rests = f"A reader with sensitivity {words.share(t.sensitivity)} and specificity {words.share(t.specificity)}, prevalence {words.share(t.prevalence)}."
    sections = [
        Section.of("If the reader were better or worse", (), *draw_single_reader(found)[:1]),
        Section.of("From one reader to a panel", (rests,), reader_rows(found), *draw_single_reader(found)[1:]),
        Section.of("How it is reckoned", FORMS),
    ]
    title = f"{words.share(t.accuracy)} against {words.share(t.other)}: one reader’s labels, or a panel’s"
    return write_page_and_figures(Path(folder) / "single_reader.html", title, said(found), sections, cautions=found.cautions,
                                  calculator=Calculator("single_reader", calculator_data(found)))  # fmt: skip


FORMS = (
    "With two answers, a model is wrong where either the label is wrong or the two disagree, but not both. With x the share of disagreements and f that of wrong labels, its errors therefore lie between |f − x| and f + x, and both can be.",
    "A perfect model disagrees just where the label is wrong: it shows 1 − f. Whoever shows more repeats errors of the reader: at least f − x of the cases are wrong for both.",
    "Two models on the same cases: a wrong label turns the difference round wherever only one of them disagrees with it. The order is certain where f is less than half of the difference that was measured.",
    "The majority of k readers is wrong in a share that falls with k, by the binomial law where their errors are independent, by the beta-binomial where they are correlated.",
    "Errors that are shared, from 0 to 1: among cases of one truth, e and f the errors of model and label, both are wrong in e·f + s·(min(e, f) − e·f).",
)  # fmt: skip


@checked
def reader_rows(found: SingleReaderTruth) -> Table:
    """A row for one reader and for each panel: how often its labels are right, what fits, and what it takes to tell."""
    head = (
        "Labels by",
        "Right in",
        "First model",
        "Second model",
        "First better by, points",
        "Order",
        "Cases to tell them apart",
    )
    rows = tuple(
        (panel.name, words.percent(panel.accuracy, 1), *(_range(model.low, model.high) for model in panel.models),
         f"{words.number(100 * panel.gap_low, 1, 100)} to {words.number(100 * panel.gap_high, 1, 100)}",
         "certain" if panel.certain else "open", f"{panel.needed:,}" if panel.needed else words.NOTHING)
        for panel in found.panels
    )  # fmt: skip
    t = found.terms
    return Table(f"True accuracies that fit {words.share(t.accuracy)} and {words.share(t.other)}; the last column: two models that are right in just so many of the cases, errors of their own, power 80 %", head, rows)  # fmt: skip


def _range(low: float, high: float) -> str:
    return f"{words.percent(low, 1)} to {words.percent(high, 1)}"


@checked
def draw_single_reader(found: SingleReaderTruth) -> list[Figure]:
    """What fits against how often the labels are right, and how often the majority of k readers is."""
    return [_against_labels(found), _against_readers(found)]


def _against_labels(found: SingleReaderTruth) -> Figure:
    t, one = found.terms, found.panels[0]
    least = min(0.8, *(1 - 2 * (1 - m) for m in t.measured), one.accuracy - 0.05)
    right = np.unique(np.concatenate([np.linspace(max(0.5, least), 1, 201), [*t.measured, one.accuracy]]))
    with canvas.sheet(6.4, 4.2) as drawing:
        axes = drawing.subplots()
        for rank, (of, measured) in enumerate(zip(MODELS, t.measured, strict=True)):
            low, high = np.array([true_accuracy_bounds(measured, float(r)) for r in right]).T
            canvas.curve_with_band(
                axes, right, high, low=low, high=high, rank=rank, label=f"{of}, {words.share(measured)} measured"
            )
            axes.plot(right, low, color=canvas.COLOURS[rank], linestyle=canvas.STROKES[rank])
        axes.axvline(one.accuracy, color=SOFT, linewidth=0.9, linestyle=THIN)
        canvas.percent_axis(axes.xaxis, axes.yaxis)
        axes.set(xlabel="Labels that are right", ylabel="True accuracy that fits", title=f"{t.cases:,} cases")
        canvas.quiet_grid(axes)
        axes.legend(loc="lower right")
        alt = "; ".join(f"{of}: {_range(m.low, m.high)}" for of, m in zip(MODELS, one.models, strict=True))
        return canvas.finish(drawing, "labels", "What fits, by how often the labels are right", f"At {words.percent(one.accuracy, 1)}: {alt}.",
                             f"Broken line: the reader asked about. At it {alt}. Without what chance did to the cases.")  # fmt: skip


def _against_readers(found: SingleReaderTruth) -> Figure:
    t = found.terms
    sizes = range(1, max(16, found.panels[-1].readers + 2), 2)
    with canvas.sheet(6.4, 4.2) as drawing:
        axes = drawing.subplots()
        for rank, alike in enumerate(dict.fromkeys((t.alike, 0.0, 0.1, 0.3))):
            right = [majority(t.reader, k, alike=alike).accuracy(t.prevalence) for k in sizes]
            canvas.curve_with_band(
                axes, np.array(sizes, float), np.array(right), rank=rank, label=f"errors correlated by {alike:g}"
            )
        gap = abs(t.accuracy - t.other)
        if gap:
            axes.axhline(1 - gap / 2, color=SOFT, linewidth=0.9, linestyle=THIN)
        canvas.percent_axis(axes.yaxis)
        axes.set(
            xlabel="Readers whose majority is the label", ylabel="Labels that are right", title=f"{t.cases:,} cases"
        )
        canvas.quiet_grid(axes)
        axes.legend(loc="lower right")
        settled = f"{found.settles} readers settle the order" if found.settles else "no panel settles the order"
        return canvas.finish(drawing, "panel", "How often a panel is right", f"{settled.capitalize()}.",
                             "Broken line: above it the order of the two models is certain." if gap else "Both models showed the same.")  # fmt: skip


@checked
def calculator_data(found: SingleReaderTruth) -> dict[str, Any]:
    """What the calculator starts with, and the numbers that it shows without a script: those of one reader."""
    t, one = found.terms, found.panels[0]
    values = {name: round(getattr(t, name) * scale, 6) for name, _, _, scale, *_ in FIELDS if name != "panel"} | {
        "panel": 1
    }
    fields = [
        dict(zip(("name", "label", "kind", "scale", "least", "most", "step"), field, strict=True)) for field in FIELDS
    ]
    return {
        "fields": fields, "values": values, "z": normal_quantile(t.level), "most": MOST_READERS, "right": words.percent(one.accuracy, 1),
        "rows": _rows(one), "gap": f"{words.number(100 * one.gap_low, 1, 100)} to {words.number(100 * one.gap_high, 1, 100)} points",
        "settles": str(found.settles or ("–" if t.accuracy == t.other else f"none of up to {MOST_READERS}")), "order": CERTAIN if one.certain else OPEN,
    }  # fmt: skip


def _rows(one: LabelPanel) -> list[tuple[str, str, str, str]]:
    def either(values: tuple[float, ...]) -> str:
        return " or ".join(words.percent(value, 1) for value in values) or "no such model shows it"

    told = (
        ("Measured", "measured", lambda m: words.percent(m.measured, 1)),
        ("True accuracy", "fits", lambda m: _range(m.low, m.high)),
        ("… with chance", "sampled", lambda m: _range(m.sampled_low, m.sampled_high)),
        ("… if errors are independent", "independent", lambda m: either(m.independent)),
        ("… if so many are shared", "shared", lambda m: either(m.shared)),
        ("Errors of the labels repeated, at least", "repeated", lambda m: words.percent(m.repeated)),
    )
    return [(name, of, *map(tell, one.models)) for name, of, tell in told]  # type: ignore[misc]
