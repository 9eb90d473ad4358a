"""Outlines of objects, judged, compared, and read by several readers, each as a page with its figures."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from overread.core.errors import checked
from overread.evaluation.instances.compare_outlines import OutlineComparison
from overread.evaluation.instances.evaluate_outlines import InstanceEvaluation
from overread.evaluation.instances.outline_readers import AGREEMENT, METRICS, PAIR, OutlineReading
from overread.evaluation.metrics import metric_named, shown
from overread.evaluation.readers.contrasts import MEAN, MODEL
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import Figure, ForestRow
from overread.reporting.figures.instances import IouCurve, ap_over_iou, counts_against_counts
from overread.reporting.page import Section, write_page_and_figures
from overread.reporting.words import Table
from overread.stats.estimate import Difference, Estimate, p_said, p_text

_IOU = ("Two outlines are one object where the area that they share exceeds a share of the area of both together (IoU). AP is TP / (TP + FP + FN), "
        "pooled over the images; it is not the mean average precision (mAP) of detection challenges.")  # fmt: skip
_SAVED = "Intervals: bootstrap over patients. Every number stands in metrics.json."
#: Images of the worst, at most.
WORST = 12


# -- one table judged ---------------------------------------------------------------------------------------------


@checked
def outlines_page(found: InstanceEvaluation, folder: str | os.PathLike[str], title: str) -> list[Path]:
    """Write ``figures/*`` and ``evaluation.html`` into ``folder``; gives the paths, the page first."""
    held = {e.metric: e for e in found.estimates if not e.where and not e.of}
    sections = [
        Section.of("Found, missed, merged and split", (), _estimates(list(held.values())), ap_figure(found), counts_figure(found)),
        Section.of("Classes of objects", (), _by(found, "of"), _confused(found)),
        Section.of("Sources and other subgroups", (), _by(found, "where"), _gaps(found)),
        Section.of("The images that were outlined worst", (), _worst(found)),
        Section("How it was computed", (_IOU, _SAVED)),
    ]  # fmt: skip
    return write_page_and_figures(Path(folder) / "evaluation.html", title, _summary(found, held), sections,
                                  cautions=[words.sentence(text) for text in found.cautions])  # fmt: skip


@checked
def ap_figure(found: InstanceEvaluation) -> Figure | None:
    """AP over the IoU that counts, of all images and of each source."""
    curves = [IouCurve(name.removeprefix("source ") or "all images", k.iou, k.ap, k.low, k.high)
              for name, k in found.curves.items() if not name or name.startswith("source ")]  # fmt: skip
    return ap_over_iou(curves, words.size(found.counts.images, found.counts.patients), found.about.level)


@checked
def counts_figure(found: InstanceEvaluation) -> Figure | None:
    """Predicted minus true objects of each image, with the limits of agreement."""
    held = {e.metric: e for e in found.estimates if not e.where and not e.of}
    low, high = (held.get(f"count error, {end} limit") for end in ("lower", "upper"))
    limits, table = (low.value, high.value) if low and high else None, found.images
    return counts_against_counts(table["true"].to_numpy(), table["predicted"].to_numpy(), table["source"].astype(str).tolist(),
                                 held.get("count error"), limits)  # fmt: skip


def _summary(found: InstanceEvaluation, held: dict[str, Estimate]) -> list[str]:
    c = found.counts
    lines = [f"{words.count(c.true, 'true object')} in {words.size(c.images, c.patients)}; {words.count(c.predicted, 'outline')} drawn: {c.hits:,} found, "
             f"{c.missed:,} missed, {c.false:,} false, {words.count(c.merges, 'merge')}, {words.count(c.splits, 'split')} (IoU above 0.5)."]  # fmt: skip
    told = [
        f"{metric_named(m.name).label} {words.in_sentence(held[m.name])}"
        for m in shown("outlines top")
        if m.name in held and not held[m.name].undefined
    ]
    return [*lines, *([f"{'; '.join(told)}."] if told else [])]


def _estimates(found: Sequence[Estimate]) -> Table:
    rows = tuple(
        (metric_named(e.metric).label, words.value(e), words.interval(e), f"{metric_named(e.metric).definition}.")
        for e in found
    )
    return Table("All objects", ("Measure", "Value", "Interval", "What it is"), rows, kind="results")


def _by(found: InstanceEvaluation, which: str) -> Table | None:
    """A row a class, or a subgroup."""
    metrics = shown("outlines subgroups")
    held: dict[str, dict[str, Estimate]] = {}
    for e in found.estimates:
        inside = (bool(e.of) and not e.where) if which == "of" else (bool(e.where) and not e.of)
        if inside and any(m.name == e.metric for m in metrics):
            held.setdefault(e.of or ", ".join(f"{k} {v}" for k, v in e.where.items()), {})[e.metric] = e
    if not held:
        return None
    rows = tuple(
        (words.name(name, 40), f"{next(iter(of.values())).images:,}", *(words.cell(of.get(m.name)) for m in metrics))
        for name, of in held.items()
    )
    head = ("Class" if which == "of" else "Subgroup", "Images", *(m.label for m in metrics))
    return Table("Each class: a hit has the right class" if which == "of" else "Each subgroup alone", head, rows)


def _confused(found: InstanceEvaluation) -> Table | None:
    held = found.confusion
    if not held.names:
        return None
    names = [words.name(name, 24) for name in held.names[:-1]]
    rows = tuple(
        (name, *(f"{n:,}" for n in row)) for name, row in zip((*names, "no true object"), held.counts, strict=True)
    )
    return Table("True classes (rows) against those that were drawn, in objects", ("", *names, "not found"), rows)


def _gaps(found: InstanceEvaluation) -> Table | None:
    known = [g for g in found.gaps if not g.undefined]
    rows = tuple((", ".join(f"{k} {v}" for k, v in g.where.items()), words.name(g.reference, 40), metric_named(g.metric).label, words.cell(g.estimate),
                  p_text(g.p), p_text(g.adjusted)) for g in known)  # fmt: skip
    head = ("Subgroup", "Minus", "Measure", "Difference", "p", "p (Holm)")
    return Table("How far subgroups are from the others", head, rows, 3) if rows else None


def _worst(found: InstanceEvaluation) -> Table | None:
    table = found.images
    table = (
        table[table["ap@0.5"].notna()]
        .sort_values(["ap@0.5", "true"], ascending=[True, False], kind="stable")
        .head(WORST)
    )
    rows = tuple((f"{place + 1:,}", words.name(row["source"], 24), *(f"{int(row[n]):,}" for n in ("true", "predicted", "hits", "merges", "splits")),
                  words.number(row["ap@0.5"], 2), words.number(row["dice"], 2)) for place, row in table.iterrows())  # fmt: skip
    head = ("Row of images.csv", "Source", "True", "Drawn", "Found", "Merges", "Splits", "AP at .5", "Dice")
    return Table("Sorted by AP at IoU .5; all images stand in images.csv", head, rows) if rows else None


# -- two segmenters -----------------------------------------------------------------------------------------------


@checked
def outline_comparison_page(found: OutlineComparison, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*`` and ``comparison.html`` into ``folder``; gives the paths, the page first."""
    first, second = (words.name(n, 60) for n in found.names)
    whole = [(d, p) for d, p in zip(found.differences, found.adjusted) if not d.first.where]
    brief = {m.name for m in shown("outlines subgroups")}
    groups = [
        (d, p)
        for d, p in zip(found.differences, found.adjusted)
        if d.first.where and not d.first.of and d.first.metric in brief
    ]
    size = words.size(found.counts["images"], found.counts["patients"])
    key = found.endpoint.key if found.endpoint else ("ap@0.5", "")
    main = found[key]
    lines = [f"{first} is compared with {second} on the same images: {size}. Each difference is the first minus the second.",
             f"{metric_named(main.first.metric).label}: {words.in_sentence(main.first)} against {words.in_sentence(main.second)}; difference "
             f"{words.in_sentence(main.difference)}{'' if math.isnan(main.p) else f', {p_said(main.p)}'}."]  # fmt: skip
    sections = [
        Section.of(
            "Differences",
            (),
            _differences(whole, found.names),
            outline_differences_figure(found),
            both_curves_figure(found),
        ),
        Section.of("Subgroups", (), _differences(groups, found.names, where=True) if groups else None),
        Section("How it was computed", (_IOU, f"{found.correction}; intervals are not corrected.", _SAVED)),
    ]
    cautions = [words.sentence(text) for text in found.cautions]
    cautions += [f"This test set had been looked at {words.times(found.looks)} before."] if found.looks else []
    return write_page_and_figures(
        Path(folder) / "comparison.html", f"{first} against {second}", lines, sections, cautions=cautions
    )


def _differences(rows: Sequence[tuple[Difference, float]], names: tuple[str, str], *, where: bool = False) -> Table:
    head = (
        *(("Subgroup",) if where else ()),
        "Measure",
        "Of",
        *(words.name(n, 26) for n in names),
        "Difference",
        "p",
        "p (Holm)",
    )
    told = tuple((*((", ".join(f"{k} {v}" for k, v in d.first.where.items()),) if where else ()), metric_named(d.first.metric).label, words.name(d.first.of, 24),
                  words.value(d.first), words.value(d.second), words.cell(d.difference, 3), p_text(d.p), p_text(p)) for d, p in rows)  # fmt: skip
    return Table("The first minus the second", head, told, 3 if where else 2)


@checked
def outline_differences_figure(found: OutlineComparison) -> Figure | None:
    """The differences of shares, which have one axis, of all objects."""
    kept = [
        d
        for d in found.differences
        if metric_named(d.first.metric).scale == "share" and not (d.first.of or d.first.where or d.difference.undefined)
    ]
    if not kept:
        return None
    rows = [
        ForestRow(
            metric_named(d.first.metric).label,
            d.difference,
            "",
            d.first.metric == "ap@0.5",
            "" if math.isnan(d.p) else p_said(d.p),
        )
        for d in kept
    ]
    return canvas.forest_rows(rows, name="outline-differences", title="The first minus the second", across="Difference (right: the first does better)",
                              size=words.size(found.counts["images"], found.counts["patients"]), line=0.0)  # fmt: skip


@checked
def both_curves_figure(found: OutlineComparison) -> Figure | None:
    """AP over the IoU that counts, of both."""
    held = found.curves.get("")
    if not held:
        return None
    sides = [
        IouCurve(name, tuple(held["iou"]), tuple(held[which])) for name, which in zip(found.names, ("first", "second"))
    ]
    return ap_over_iou(sides, words.size(found.counts["images"], found.counts["patients"]), found.about["level"])


# -- readers ------------------------------------------------------------------------------------------------------


@checked
def outline_readers_page(found: OutlineReading, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/*`` and ``readers.html`` into ``folder``; gives the paths, the page first."""
    c = found.counts
    size = words.size(c["images"], c["patients"])
    lines = [
        f"{words.count(c['readers'], 'reader')} outlined {size}. Reference: {words.name(found.about['reference'], 120)}."
    ]
    beside = bool(found.contrasts)
    if beside:
        gap = found.contrast()
        lines.append(f"AP at IoU .5: the model {words.in_sentence(gap.gap.first)}, the mean reader {words.in_sentence(gap.gap.second)}; difference "
                     f"{words.in_sentence(gap.estimate)}, {p_said(gap.gap.p)}. The model lies {found.within()} the readers' spread.")  # fmt: skip
    sections = [
        Section.of("How far readers agree", (), _agreement(found)),
        Section.of("Each reader, and the model" if beside else "Each reader", (), _people(found), readers_figure(found)),
        Section.of("The model minus readers", (), _against(found)),
        Section("How it was computed", (
            "The consensus holds the objects that more than half of the readers drew, matched at an IoU above 0.5; the shape of each is found by STAPLE "
            "(Warfield 2004) of those who drew it, of two readers by the mean distance to their borders. Nobody is part of his own reference. The model is "
            "judged against each reader's reference, on his images, and its number is the mean.", _IOU, _SAVED)),
    ]  # fmt: skip
    cautions = [words.sentence(text) for text in found.cautions]
    cautions += [f"These readings had been looked at {words.times(found.looks)} before."] if found.looks else []
    title = "Readers and model, outlines" if beside else "Readers, outlines"
    return write_page_and_figures(Path(folder) / "readers.html", title, lines, sections, cautions=cautions)


def _agreement(found: OutlineReading) -> Table | None:
    cells = {(e.metric, e.where[PAIR]): e for e in found.estimates if PAIR in e.where}
    pairs = list(dict.fromkeys(pair for _, pair in cells))
    rows = tuple((words.name(pair, 60), *(words.cell(cells[m, pair]) for m in AGREEMENT)) for pair in pairs)
    return (
        Table(
            "The same whichever of the two is called the truth",
            ("Readers", *(metric_named(m).label for m in AGREEMENT)),
            rows,
        )
        if rows
        else None
    )


def _who(found: OutlineReading) -> tuple[str, ...]:
    return (*found.readers, MEAN, *((MODEL,) if found.contrasts else ()))


def _people(found: OutlineReading) -> Table:
    held = {(e.metric, e.where["reader"]): e for e in found.estimates if "reader" in e.where}
    rows = tuple(
        (
            metric_named(m).label,
            *(words.cell(held[m, who]) for who in _who(found)),
            *((found.within(m),) if found.contrasts else ()),
        )
        for m in METRICS
    )
    head = (
        "Measure",
        *(words.name(who).capitalize() for who in _who(found)),
        *(("Model in the readers’ spread",) if found.contrasts else ()),
    )
    return Table("Against the reference, with intervals", head, rows)


@checked
def readers_figure(found: OutlineReading) -> Figure | None:
    """AP at IoU .5 of each reader, of their mean and of the model."""
    held = {e.where["reader"]: e for e in found.estimates if "reader" in e.where and e.metric == "ap@0.5"}
    rows = [ForestRow(words.name(who, 28).capitalize(), held[who], "", who == MODEL) for who in _who(found)]
    return canvas.forest_rows(rows, name="outline-readers", title="AP at IoU .5 of each", across="AP: TP / (TP + FP + FN)",
                              size=words.size(found.counts["images"], found.counts["patients"]), caption="Diamond: the model.")  # fmt: skip


def _against(found: OutlineReading) -> Table | None:
    kept = [c for c in found.contrasts if c.gap.first.metric in AGREEMENT]
    rows = tuple(
        (
            words.name(c.reader),
            metric_named(c.gap.first.metric).label,
            words.cell(c.estimate, 3),
            p_text(c.gap.p),
            p_text(c.adjusted),
        )
        for c in kept
    )
    return (
        Table("The model minus readers", ("Model minus", "Measure", "Difference", "p", "p (Holm)"), rows, 2)
        if rows
        else None
    )
