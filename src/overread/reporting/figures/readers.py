"""The figures of a reader study, drawn from its stored numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from overread.core.errors import checked
from overread.evaluation.curves import ReaderPoint
from overread.evaluation.readers.contrasts import MEAN, MODEL, Contrast
from overread.evaluation.readers.reader_study import ReaderCurves, Reading, shown
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import (
    BLUE,
    COLOURS,
    FAINT,
    ON_DARK,
    ON_LIGHT,
    SOFT,
    STROKES,
    VERMILION,
    Figure,
    ForestRow,
)
from overread.stats.estimate import p_said

#: Rows of one forest, and readers' curves in one figure, at most.
ROWS, LINES = 40, 7
_SAME = {"the reader's specificity": " at the same specificity", "the reader's sensitivity": " at the same sensitivity"}
_NAMES = {
    "kappa": "Cohen’s kappa", "fleiss kappa": "Fleiss’ kappa", "nominal alpha": "Krippendorff’s alpha, nominal",
    "ordinal alpha": "Krippendorff’s alpha, ordinal", "interval alpha": "Krippendorff’s alpha, interval",
    "icc(2,1)": "ICC(2,1), agreement", "icc(3,1)": "ICC(3,1), consistency", "agreement": "Agreement of two readers",
    "specific agreement": "Specific agreement", "ceiling": "Accuracy against one reader, at most", "panel accuracy": "The others’ majority against one reader",
}  # fmt: skip
_WHITE = 0.55  # agreement from where numbers in a field are white


@checked
def called(metric: str) -> str:
    """A metric's name as a reader study writes it: here ``kappa`` is Cohen's.

    >>> called("kappa"), called("auc")
    ('Cohen’s kappa', 'AUC')
    """
    return _NAMES.get(metric) or words.label(metric)


@checked
def size_of(found: Reading) -> str:
    """How many cases of how many patients."""
    c = found.counts
    return f"{words.count(c['images'], 'case')} of {words.count(c['patients'], 'patient')}"


def _ending(found: Reading, modality: str) -> str:
    place = found.about["modalities"].index(modality)
    return f"-{place + 1}" if modality else ""


def _title(text: str, modality: str) -> str:
    return f"{text}, {words.name(modality)}" if modality else text


@checked
def roc_figure(found: Reading, modality: str = "") -> Figure | None:
    """The model's ROC curve, the readers' points with their intervals, and the mean reader."""
    held = found.curves[modality]
    readers, mean = [p for p in held.readers if p.reader != MEAN], [p for p in held.readers if p.reader == MEAN]
    if not (readers or held.lines or held.model):
        return None
    with canvas.sheet(4.9, 4.7) as drawing:
        axes = drawing.subplots()
        c = found.counts
        canvas.roc_axes(
            axes, f"{words.count(c['positives'], 'case')} with, {words.count(c['negatives'], 'case')} without"
        )
        if not readers:
            _curves(axes, held)
        if held.model:
            canvas.curve_with_band(axes, held.model.roc.fpr, held.model.roc.tpr, label=_auc(found, modality))
        canvas.reader_points(axes, readers)
        for point in mean:
            _mark(axes, point, VERMILION, "Mean reader", "s")
        if held.model.point:
            _mark(axes, held.model.point, BLUE, "Model at its threshold", "o")
        axes.legend(loc="lower right")
        alt = "; ".join(f"{words.name(p.reader)}: sensitivity {words.percent(p.sensitivity.value)}, specificity {words.percent(p.specificity.value)}" for p in readers)  # fmt: skip
        level = words.percent(found.about["level"])
        return canvas.finish(drawing, f"readers-roc{_ending(found, modality)}", _title("Readers on the ROC curve", modality),
                      f"Sensitivity against false alarms. {alt}.",
                      f"Lines through the marks: {level} intervals of each. The mean reader's interval counts readers as a sample."
                      if readers else "The readers' own curves, by their scores.")  # fmt: skip


def _curves(axes: Axes, held: ReaderCurves) -> None:
    for rank, (name, line) in enumerate(list(held.lines.items())[:LINES], start=1):
        colour, stroke = COLOURS[rank % len(COLOURS)], STROKES[rank % len(STROKES)]
        axes.plot(line.fpr, line.tpr, color=colour, linewidth=1.1, linestyle=stroke, label=words.name(name, 20))


def _auc(found: Reading, modality: str) -> str:
    where = {"reader": MODEL} | ({"modality": modality} if modality else {})
    e = next((e for e in found.estimates if e.metric == "auc" and e.where == where), None)
    return f"Model, AUC {words.cell(e)}" if words.interval(e) else "Model"


def _mark(axes: Axes, point: ReaderPoint, colour: str, label: str, sign: str) -> None:
    x, y = 1 - point.specificity.value, point.sensitivity.value
    canvas.cross(axes, (x, y), point.sensitivity, point.specificity, colour, 1.6, zorder=6)
    axes.plot(x, y, sign, color=colour, markersize=7, zorder=7, label=label)


@checked
def difference_figure(found: Reading, modality: str = "") -> Figure | None:
    """The model minus the mean reader and minus each reader, as a forest."""
    claim = found.verdict.claim if found.verdict else None
    groups: dict[tuple[str, str], list[Contrast]] = {}
    for c in shown(found.contrasts):
        if c.modality == modality and c.reader:
            groups.setdefault((c.gap.first.metric, c.at), []).append(c)
    alone = [group[0] for group in groups.values() if len(group) == 1 and group[0].reader == MEAN]
    rows = [ForestRow("Model minus the mean reader")] if alone else []
    rows += [replace(_row(c), label=called(c.gap.first.metric)) for c in alone]
    for (metric, at), group in groups.items():
        if group[0] not in alone:
            rows += [ForestRow(called(metric) + _SAME.get(at, "")), *map(_row, group)]
    if not rows:
        return None
    of = claim.difference.metric if claim else ""
    of_margin = f"The margin is for {called(of.removesuffix(' difference')).lower()} against the mean reader. " if of else ""  # fmt: skip
    margin = -claim.margin if claim and any(r.estimate and r.estimate.metric == of for r in rows) else None
    return canvas.forest_rows(
        _on_one_axis(rows[:ROWS]), name=f"readers-differences{_ending(found, modality)}", title=_title("Model minus readers", modality),
        across="Model minus reader (right: the model does better)", size=size_of(found), line=0.0, margin=margin,
        caption=f"{of_margin}n: cases. Diamonds: the mean reader. p: of single readers after Holm's correction.{words.first_of(rows, ROWS, ' rows')}",
    )  # fmt: skip


def _row(c: Contrast) -> ForestRow:
    p, difference = c.adjusted if np.isfinite(c.adjusted) else c.gap.p, c.gap.difference
    note = p_said(p) if np.isfinite(p) else ""
    return ForestRow(c.reader, difference, n=f"{difference.images:,}", whole=c.reader == MEAN, note=note)


@checked
def agreement_figure(found: Reading, modality: str = "") -> Figure | None:
    """The agreement of every pair of readers: a field for each, with its number."""
    held = found.matrix[modality]
    if len(held.readers) < 3:
        return None
    value = np.array(held.value)
    names, many = [words.name(reader, 18) for reader in held.readers], len(value)
    with canvas.sheet(1.9 + 0.62 * many, 1.5 + 0.5 * many) as drawing:
        axes = drawing.subplots()
        drawn = axes.imshow(np.clip(value, 0, 1), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, j in np.argwhere(np.isfinite(value)):
            axes.text(j, i, words.number(value[i, j], 2), ha="center", va="center", color=ON_DARK if value[i, j] > _WHITE else ON_LIGHT)  # fmt: skip
        axes.set_xticks(range(many), names, rotation=35, ha="right")
        axes.set_yticks(range(many), names)
        axes.tick_params(length=0)
        axes.set_title(size_of(found), color=SOFT)
        for side in axes.spines.values():
            side.set_color(FAINT)
        name = called(held.metric)
        drawing.colorbar(drawn, ax=axes, label=name, shrink=0.8)
        pairs = "; ".join(f"{names[i]} and {names[j]} {words.number(value[i, j], 2)}" for i in range(many) for j in range(i))  # fmt: skip
        return canvas.finish(drawing, f"readers-agreement{_ending(found, modality)}", _title("Agreement of every pair", modality),
                      f"{name}: {pairs}.", f"{name} of two readers on the cases that both read; 1: always alike, 0: by chance.", wide=False)  # fmt: skip


@checked
def modality_figure(found: Reading) -> Figure | None:
    """Every difference of two modalities in the readers' mean, as a forest."""
    between = [c for c in shown(found.contrasts) if not c.reader]
    rows = [replace(_row(c), label=f"{called(c.gap.first.metric)}, {c.modality}") for c in between[:ROWS]]
    caption = "n: cases that all readers have read in every modality. Readers and cases are a sample of others."
    return canvas.forest_rows(_on_one_axis(rows), name="readers-modalities", title="Modalities", across="Difference of the readers’ means",
                       size=size_of(found), line=0.0, caption=caption) if rows else None  # fmt: skip


def _on_one_axis(rows: Sequence[ForestRow]) -> list[ForestRow]:
    """Percentages beside areas: all as numbers."""
    if len({words.is_percentage(r.estimate.metric) for r in rows if r.estimate}) < 2:
        return list(rows)
    return [replace(r, estimate=replace(r.estimate, metric="difference")) if r.estimate else r for r in rows]
