"""The figures of a reader study, drawn from its stored numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from overread.core.errors import checked
from overread.evaluation.comparison.compare import p_text
from overread.evaluation.readers.contrasts import MEAN, MODEL, Contrast
from overread.evaluation.readers.reader_study import Reading, shown
from overread.reporting import words
from overread.reporting.figures.canvas import BLUE, COLOURS, FAINT, INK, SOFT, VERMILION, Figure, finish, sheet
from overread.reporting.figures.drawing import (
    STROKES,
    ForestRow,
    column,
    curve_with_band,
    forest_rows,
    reader_points,
    roc_axes,
)

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
    return _NAMES.get(metric) or words.metric(metric).name


@checked
def said_size(found: Reading) -> str:
    """How many cases of how many patients."""
    c = found.counts
    return f"{words.count(c['images'], 'case')} of {words.count(c['patients'], 'patient')}"


@checked
def said_p(p: float) -> str:
    """A p value behind the letter p: ``= 0.031``."""
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def _ending(found: Reading, modality: str) -> str:
    place = found.about["modalities"].index(modality)
    return f"-{place + 1}" if modality else ""


def _title(text: str, modality: str) -> str:
    return f"{text}, {words.name(modality)}" if modality else text


@checked
def roc_figure(found: Reading, modality: str = "") -> Figure | None:
    """The model's ROC curve, the readers' points with their intervals, and the mean reader."""
    held = found.curves.get(modality) or {}
    people = [p for p in held.get("readers", []) if p["reader"] != MEAN]
    lines = list((held.get("lines") or {}).items())[:LINES]
    if not people and not lines and not held.get("model"):
        return None
    with sheet(4.9, 4.7) as drawing:
        axes = drawing.subplots()
        c = found.counts
        roc_axes(axes, f"{words.count(c['positives'], 'case')} with, {words.count(c['negatives'], 'case')} without")
        if not people:
            _curves(axes, lines)
        if held.get("model"):
            curve_with_band(
                axes, held["model"]["roc"]["fpr"], held["model"]["roc"]["tpr"], label=_auc(found, MODEL, modality)
            )
        reader_points(axes, people)
        _cross(
            axes, next((p for p in held.get("readers", []) if p["reader"] == MEAN), None), VERMILION, "Mean reader", "s"
        )
        _cross(axes, (held.get("model") or {}).get("point"), BLUE, "Model at its threshold", "o")
        axes.legend(loc="lower right")
        return finish(drawing, f"readers-roc{_ending(found, modality)}", _title("Readers on the ROC curve", modality),
                      f"Sensitivity against false alarms. {_spoken(people)}",
                      "Lines through the marks: 95 % intervals of each. The mean reader's interval counts readers as a sample."
                      .replace("95 %", words.percent(found.about["level"])) if people else "The readers' own curves, by their scores.")  # fmt: skip


def _curves(axes: Axes, lines: Sequence[tuple[str, dict[str, Any]]]) -> None:
    for i, (name, line) in enumerate(lines):
        axes.plot(column(line["fpr"]), column(line["tpr"]), color=COLOURS[(i + 1) % len(COLOURS)], linewidth=1.1,
                  linestyle=STROKES[(i + 1) % len(STROKES)], label=words.name(name, 20))  # fmt: skip


def _auc(found: Reading, who: str, modality: str) -> str:
    where = {"reader": who} | ({"modality": modality} if modality else {})
    e = next((e for e in found.estimates if e.metric == "auc" and e.where == where), None)
    between = words.interval(e, 2)
    return f"Model, AUC {words.value(e, 2)} ({between})" if between else "Model"


def _cross(axes: Axes, point: dict[str, Any] | None, colour: str, label: str, sign: str) -> None:
    if not point:
        return
    se, sp = point["sensitivity"], point["specificity"]
    x, y = 1 - sp["value"], se["value"]
    if None not in (se["low"], sp["low"]):
        axes.plot([x, x], [se["low"], se["high"]], color=colour, linewidth=1.6, zorder=6)
        axes.plot([1 - sp["high"], 1 - sp["low"]], [y, y], color=colour, linewidth=1.6, zorder=6)
    axes.plot(x, y, sign, color=colour, markersize=7, zorder=7, label=label)


def _spoken(people: Sequence[dict[str, Any]]) -> str:
    said = (
        f"{words.name(p['reader'])}: sensitivity {words.percent(p['sensitivity']['value'])}, specificity {words.percent(p['specificity']['value'])}"
        for p in people
    )
    return "; ".join(said) + "."


@checked
def difference_figure(found: Reading, modality: str = "") -> Figure | None:
    """The model minus the mean reader and minus each reader, as a forest."""
    mine = [c for c in shown(found.contrasts) if c.where.get("modality", "") == modality and "reader" in c.where]
    margin, of = (
        (None, "") if found.verdict is None else (-found.verdict.claim.margin, found.verdict.claim.difference.metric)
    )
    groups: dict[tuple[str, str], list[Contrast]] = {}
    for c in mine:
        groups.setdefault((c.gap.first.metric, c.where.get("at", "")), []).append(c)
    alone = [group[0] for group in groups.values() if len(group) == 1 and group[0].where["reader"] == MEAN]
    rows = [ForestRow("Model minus the mean reader")] if alone else []
    rows += [replace(_row(c), label=called(c.gap.first.metric)) for c in alone]
    for (metric, at), group in groups.items():
        if group[0] not in alone:
            rows += [ForestRow(called(metric) + _SAME.get(at, "")), *(_row(c) for c in group)]
    if not rows:
        return None
    of_margin = (
        f"The margin is for {called(of.removesuffix(' difference')).lower()} against the mean reader. " if of else ""
    )
    left = f" The first {ROWS} of {len(rows)} rows are drawn." if len(rows) > ROWS else ""
    return forest_rows(_evened(rows[:ROWS]), name=f"readers-differences{_ending(found, modality)}", title=_title("Model minus readers", modality),
                       across="Model minus reader (right: the model does better)", size=said_size(found), line=0.0,
                       margin=margin if any(r.estimate and r.estimate.metric == of for r in rows) else None,
                       caption=f"{of_margin}n: cases. Diamonds: the mean reader. p: of single readers after Holm's correction.{left}")  # fmt: skip


def _row(c: Contrast) -> ForestRow:
    p = c.adjusted if np.isfinite(c.adjusted) else c.gap.p
    note = f"p {said_p(p)}" if np.isfinite(p) else ""
    return ForestRow(c.where.get("reader", ""), c.gap.difference, n=f"{c.gap.difference.images:,}", whole=c.where.get("reader") == MEAN, note=note)  # fmt: skip


@checked
def agreement_figure(found: Reading, modality: str = "") -> Figure | None:
    """The agreement of every pair of readers: a field for each, with its number."""
    held = found.matrix.get(modality) or {}
    if len(held.get("readers", ())) < 3:
        return None
    value = np.array([[np.nan if v is None else v for v in row] for row in held["value"]], float)
    names, many = [words.name(n, 18) for n in held["readers"]], len(value)
    with sheet(1.9 + 0.62 * many, 1.5 + 0.5 * many) as drawing:
        axes = drawing.subplots()
        drawn = axes.imshow(np.clip(value, 0, 1), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, j in np.argwhere(np.isfinite(value)):
            axes.text(j, i, words.number(float(value[i, j]), 2), ha="center", va="center", color="white" if value[i, j] > _WHITE else INK)  # fmt: skip
        axes.set_xticks(range(many), names, rotation=35, ha="right")
        axes.set_yticks(range(many), names)
        axes.tick_params(length=0)
        axes.set_title(said_size(found), color=SOFT)
        for side in axes.spines.values():
            side.set_color(FAINT)
        name = called(held["metric"])
        drawing.colorbar(drawn, ax=axes, label=name, shrink=0.8)
        pairs = "; ".join(f"{names[i]} and {names[j]} {words.number(float(value[i, j]), 2)}" for i in range(many) for j in range(i))  # fmt: skip
        return finish(drawing, f"readers-agreement{_ending(found, modality)}", _title("Agreement of every pair", modality),
                      f"{name}: {pairs}.", f"{name} of two readers on the cases that both read; 1: always alike, 0: by chance.", wide=False)  # fmt: skip


@checked
def modality_figure(found: Reading) -> Figure | None:
    """Every difference of two modalities in the readers' mean, as a forest."""
    between = [c for c in shown(found.contrasts) if "reader" not in c.where]
    rows = [replace(_row(c), label=f"{called(c.gap.first.metric)}, {c.where['modality']}") for c in between[:ROWS]]
    return forest_rows(_evened(rows), name="readers-modalities", title="Modalities", across="Difference of the readers’ means",
                       size=said_size(found), line=0.0, caption="n: cases that all readers have read in every modality. Readers and cases are a sample of others.") if rows else None  # fmt: skip


def _evened(rows: Sequence[ForestRow]) -> list[ForestRow]:
    """Percentages beside areas: all as numbers, on one axis."""
    kinds = {words.metric(r.estimate.metric).percent for r in rows if r.estimate}
    if len(kinds) < 2:
        return list(rows)
    return [replace(r, estimate=replace(r.estimate, metric="difference")) if r.estimate else r for r in rows]
