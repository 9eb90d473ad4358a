"""A comparison of two models, drawn from its stored numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.colors import LogNorm

from overread.core.errors import checked
from overread.evaluation.comparison.compare import Comparison
from overread.evaluation.metrics import metric_named
from overread.reporting import words
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import BLUE, COLOURS, INK, SOFT, STROKES, THIN, VERMILION, Figure, ForestRow
from overread.stats.estimate import Difference, p_said

#: Classes or findings that get figures of their own, at most.
MOST = 6
#: Rows of one forest, at most.
ROWS = 40
#: Risks up to which the axis of net benefit is scaled: beyond, a false alarm weighs so much that nothing else is seen.
RISKS = 0.8


@checked
def draw_comparison(found: Comparison) -> list[Figure]:
    """Every figure that the stored numbers allow."""
    made = [claim_figure(found), forest(found), subgroup_forest(found)]
    shown = [found.primary] if found.primary in found.curves else list(found.curves)[:MOST]
    for number, of in enumerate(shown):
        ending = "" if len(shown) == 1 else f"-{number + 1}"
        made += [draw(found, of, ending) for draw in (roc, net_benefit, scatter)]
    return [figure for figure in made if figure]


# -- forests --------------------------------------------------------------------------------------------------------


def claim_figure(found: Comparison) -> Figure | None:
    """The difference that was claimed with its margin, and the same in subgroups; None without a claim."""
    if not found.verdict:
        return None
    claim, status = found.verdict.claim, found.verdict.status
    gap = claim.difference
    rows = [("All cases", gap)]
    rows += [(where_of(d), d.difference) for d in found.differences
             if d.first.where and d.difference.metric == gap.metric and d.first.of == gap.of]  # fmt: skip
    with canvas.sheet(9.0, 1.15 + 0.27 * len(rows)) as drawing:
        axes = drawing.subplots()
        axes.axvline(0, color=SOFT, linewidth=0.9)
        for bound in claim.bound:
            axes.axvline(bound, color=VERMILION, linewidth=1.1, linestyle=THIN)
        for y, (_, estimate) in enumerate(rows):
            canvas.mark(axes, estimate, y, INK if y == 0 else BLUE)
        canvas.plain_rows(
            axes, [f"{words.name(n, 30)}, n = {e.patients:,}" for n, e in rows], [y == 0 for y in range(len(rows))]
        )
        axes.set(xlabel=_across(found, gap.metric), title=f"{_size(found)}; {status}")
        canvas.roomy(drawing)
        bounds = " and ".join(words.number(b, 3) for b in claim.bound)
        alt = f"{claim.claim} at a margin of {claim.margin:g}, {status}: difference {words.in_sentence(gap)}, bound {bounds}."
        return canvas.finish(drawing, "claim", claim.claim.capitalize(), alt,
                      f"Dashed: the margin ({bounds}), {status}. Bars: {words.percent(gap.level)} intervals. n: patients.",
                      wide=True)  # fmt: skip


def forest(found: Comparison) -> Figure | None:
    """Every difference over all cases, higher is better unless said."""
    overall = [d for d in found.differences if not d.first.where]
    if len(overall) > ROWS:
        overall = [d for d in overall if d.first.metric in ("macro auc", "auc")][:ROWS]
    return _forest(found, [(named(d), d) for d in overall], "differences", "Differences", "")


def subgroup_forest(found: Comparison) -> Figure | None:
    """The main difference in every subgroup."""
    metrics = [d.first.metric for d in found.differences if d.first.of in ("", found.primary)]
    metric = next((m for m in ("auc", "macro auc", "mae") if m in metrics), "")
    rows = [(where_of(d), d) for d in found.differences
            if d.first.where and d.first.metric == metric and d.first.of in ("", found.primary)][:ROWS]  # fmt: skip
    title, few = f"{words.label(metric)} in subgroups", "Groups of fewer than ten patients are not judged."
    return _forest(found, rows, "subgroups", title, few)


def _forest(
    found: Comparison, rows: Sequence[tuple[str, Difference]], name: str, title: str, caption: str
) -> Figure | None:
    if not rows:
        return None
    adjusted = dict(zip(map(id, found.differences), found.adjusted))
    lines = [
        ForestRow(label, replace(d.difference, metric="difference"), f"{d.difference.patients:,}", note=_p_note(adjusted[id(d)]))
        for label, d in rows
    ]  # fmt: skip
    caption = f"Line: no difference. n: patients. p: after Holm's correction. ↓: less is better. {caption}".strip()
    return canvas.forest_rows(
        lines, name=name, title=title, across=_across(found, ""), size=_size(found), caption=caption, line=0.0
    )


def _p_note(p: float) -> str:
    return "" if math.isnan(p) else p_said(p)


def named(d: Difference) -> str:
    of = f", {words.group(d.first.of, limit=22)}" if d.first.of else ""
    less = " ↓" if metric_named(d.first.metric).better == "lower" else ""
    return words.label(d.first.metric) + of + less


def where_of(d: Difference) -> str:
    return ", ".join(f"{words.name(k, 16)} {words.name(v, 16)}" for k, v in d.first.where.items())


def _across(found: Comparison, metric: str) -> str:
    first, second = (words.name(n, 28) for n in found.names)
    what = words.label(metric.removesuffix(" difference")) if metric else ""
    return f"{what + ' of' if what else 'Difference,'} {first} minus {second}"


def _size(found: Comparison) -> str:
    how = "the same cases" if found.paired else "different patients"
    return f"{words.size(found.counts['images'], found.counts['patients'])}, {how}"


# -- curves ---------------------------------------------------------------------------------------------------------


def roc(found: Comparison, of: str, ending: str) -> Figure | None:
    """Both ROC curves with their operating points."""
    held = found.curves[of]
    if "roc" not in held["first"] or "roc" not in held["second"]:
        return None
    auc, sides = found["auc", of], []
    with canvas.sheet(4.3, 4.15) as drawing:
        axes = drawing.subplots()
        canvas.roc_axes(axes, _of(found, of))
        for i, (side, name, estimate) in enumerate(zip(("first", "second"), found.names, (auc.first, auc.second))):
            curve, colour = held[side], COLOURS[i]
            label = f"{words.name(name, 20)}: AUC {words.value(estimate, 2)} ({words.interval(estimate, 2)})"
            axes.plot(curve["roc"]["fpr"], curve["roc"]["tpr"], color=colour, linestyle=STROKES[i], label=label)
            point = curve["point"]
            if "rule" in point:
                axes.plot(
                    point["fpr"], point["tpr"], "os"[i], color=colour, markersize=6, markeredgecolor="white", zorder=5
                )
            sides.append(f"{words.name(name)} AUC {words.in_sentence(estimate)}")
        axes.legend(loc="lower right", handlelength=2.2)
        rules = "; ".join(
            f"{words.name(n, 20)} {held[s]['point'].get('rule', 'none')}"
            for s, n in zip(("first", "second"), found.names)
        )
        return canvas.finish(drawing, f"roc{ending}", f"ROC curves{titled(of)}", f"{'; '.join(sides)}.",
                      f"Dashed thin: a coin. Circle and square: the operating points ({rules}).")  # fmt: skip


def net_benefit(found: Comparison, of: str, ending: str) -> Figure | None:
    """By how much acting on the first does more good than on the second, at each risk."""
    held = found.curves[of]["decision"]
    if "difference" not in held:
        return None
    at, gap, low, high = (np.array(held[n], float) for n in ("threshold", "difference", "low", "high"))
    with canvas.sheet(4.3, 4.15) as drawing:
        axes = drawing.subplots()
        axes.axhline(0, color=SOFT, linewidth=0.9)
        canvas.curve_with_band(axes, at, gap, low=low, high=high)
        near = at <= RISKS
        edge = 1.1 * float(np.nanmax(np.abs(np.concatenate((low[near], high[near]))))) or 0.01
        axes.set(xlim=(0, 1), ylim=(-edge, edge), xlabel="Risk at or above which a case is treated",
                 ylabel="Net benefit difference (true positives per image)", title=_of(found, of))  # fmt: skip
        canvas.percent_axis(axes.xaxis)
        canvas.quiet_grid(axes)
        first, second = (words.name(n, 26) for n in found.names)
        axes.text(
            0.98, 0.97, f"above 0: {first} does more good", transform=axes.transAxes, ha="right", va="top", color=SOFT
        )
        best = int(np.nanargmax(np.abs(np.where(near, gap, 0))))
        largest = f"Largest up to a risk of {words.percent(RISKS)}: {words.number(gap[best], 3)} at {words.percent(at[best])}."
        return canvas.finish(drawing, f"net-benefit{ending}", f"Net benefit{titled(of)}", f"{first} minus {second}. {largest}",
                      f"{first} minus {second}, with its {words.percent(found.about['level'])} interval; "
                      f"{held['rule']}. {largest}")  # fmt: skip


def scatter(found: Comparison, of: str, ending: str) -> Figure | None:
    """How often the two scores fall where, with and without the disease."""
    held = found.curves[of]["scatter"]
    if "edges" not in held:
        return None
    edges = np.asarray(held["edges"], float)
    groups = [(word, np.asarray(held[key], float)) for word, key in (("with", "positive"), ("without", "negative"))]
    most = max(2.0, *(float(counts.max()) for _, counts in groups))
    with canvas.sheet(9.0, 4.3) as drawing:
        panels = drawing.subplots(1, 2, sharey=True)
        for axes, (word, counts) in zip(panels, groups):
            if edges[0] == 0 and edges[-1] == 1:
                canvas.unit_square(axes, "", "")
            axes.set_aspect("equal")
            shown = axes.pcolormesh(edges, edges, np.ma.masked_less(counts.T, 1), cmap="Blues", norm=LogNorm(0.5, most))
            axes.plot(edges[[0, -1]], edges[[0, -1]], color=SOFT, linewidth=0.8, linestyle=THIN)
            axes.set(
                title=f"{word} the disease (n = {int(counts.sum()):,})",
                xlabel=f"Score of {words.name(found.names[0], 30)}",
            )
        panels[0].set_ylabel(f"Score of {words.name(found.names[1], 30)}")
        drawing.colorbar(
            shown, ax=panels, label="Images", shrink=0.8, ticks=_ticks(most), format=lambda x, _: f"{x:,.0f}"
        )
        return canvas.finish(drawing, f"scores{ending}", f"The two scores{titled(of)}",
                      f"Counts of images by the scores of {found.names[0]} and {found.names[1]}, with and without the disease.",
                      "Shade: images in each field, on a logarithmic scale. Dashed: equal scores.", wide=True)  # fmt: skip


def _ticks(most: float) -> list[float]:
    return [10.0**k for k in range(int(math.log10(most)) + 1)] if most >= 10 else [1.0, math.floor(most)]


def _of(found: Comparison, of: str) -> str:
    held = found.counts["first"]
    size = words.size(found.counts["images"], found.counts["patients"])
    if not found.paired or of not in held["positives"]:
        return size
    return f"{size}\n{held['positives'][of]:,} with, {held['negatives'][of]:,} without"


def titled(of: str) -> str:
    return f": {words.group(of)}" if of else ""
