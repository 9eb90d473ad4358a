"""How well objects were outlined: AP over the overlap that is asked for, the sizes of objects, counts against counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.core.phrases import count
from overread.reporting import words
from overread.reporting.case_rows import SizeRow
from overread.reporting.figures import canvas
from overread.reporting.figures.canvas import COLOURS, INK, SOFT, THIN, VERMILION, Figure
from overread.stats.estimate import Estimate

#: Markers that tell sources apart beside their colours.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
#: Sources that are drawn apart, at most; the smaller ones together.
MOST = 6


@dataclass(frozen=True)
class IouCurve:
    """AP at each IoU (K,) of a group; ``low`` and ``high`` (K,) its interval, blank where there is none."""

    name: str
    iou: tuple[float, ...]
    ap: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@checked
def ap_over_iou(curves: Sequence[IouCurve], size: str, level: float = 0.95) -> Figure | None:
    """The share TP / (TP + FP + FN) against the IoU that counts as found, of all images and of each source; None without one."""
    drawn = [curve for curve in curves if any(map(math.isfinite, curve.ap))][: MOST + 1]
    if not drawn:
        return None
    with canvas.sheet(4.6, 4.15) as drawing:
        axes = drawing.subplots()
        for rank, curve in enumerate(drawn):
            band = {"low": curve.low, "high": curve.high} if rank == 0 and curve.low else {}
            canvas.curve_with_band(axes, curve.iou, curve.ap, label=words.name(curve.name, 24), rank=rank, **band)
        axes.set(xlim=(0.485, 0.965), ylim=(-0.015, 1.015), xlabel="IoU that two outlines must exceed to be one object",
                 ylabel="AP: TP / (TP + FP + FN)", title=size)  # fmt: skip
        canvas.quiet_grid(axes)
        axes.legend(loc="lower left")
        told = "; ".join(f"{c.name} {words.number(c.ap[0], 2)} at {c.iou[0]:g}, {words.number(c.ap[-1], 2)} at {c.iou[-1]:g}" for c in drawn)  # fmt: skip
        shade = f" Band: {words.percent(level)} interval of the first." if drawn[0].low else ""
        caption = f"A curve that falls early: objects are found, but their borders are rough.{shade}{words.first_of(curves, MOST + 1)}"
        return canvas.finish(drawing, "ap-over-iou", "AP over the overlap", f"{size}. {told}.", caption)


@checked
def object_sizes(rows: Sequence[SizeRow]) -> Figure | None:
    """The areas of the true objects of each source on a logarithmic axis, as boxes of quartiles; None without an object."""
    rows = sorted((row for row in rows if row.objects), key=lambda row: -row.objects)[: 2 * MOST]
    if not rows:
        return None
    with canvas.sheet(9.0, 1.25 + 0.42 * len(rows)) as drawing:
        axes = drawing.subplots()
        for y, row in enumerate(rows):
            axes.plot([row.low, row.high], [y, y], color=SOFT, linewidth=1.1)
            axes.barh(y, row.third - row.first, 0.5, left=row.first, color=COLOURS[0], alpha=0.35, linewidth=0)
            axes.plot([row.middle, row.middle], [y - 0.25, y + 0.25], color=COLOURS[0], linewidth=2.2)
        canvas.plain_rows(axes, [f"{words.name(row.source or 'all', 28)}, n = {row.objects:,}" for row in rows], [False] * len(rows))  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:,.6g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        unit = words.name(rows[0].unit, 12)
        axes.set(xlabel=f"Area of an object ({unit})", title=count(sum(row.objects for row in rows), "true object"))
        canvas.roomy(drawing)
        told = "; ".join(f"{row.source or 'all'}: median {row.middle:,.0f}" for row in rows)
        return canvas.finish(drawing, "object-sizes", "Sizes of the objects", f"Areas in {unit}. {told}.",
                             "Line: median; box: middle half; whisker: 95 % of the objects.", wide=True)  # fmt: skip


@checked
def counts_against_counts(
    true: ArrayLike, predicted: ArrayLike, sources: Sequence[str], bias: Estimate | None = None, limits: tuple[float, float] | None = None
) -> Figure | None:  # fmt: skip
    """Predicted minus true objects of each image against their mean (Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8).

    ``true`` and ``predicted`` (N,), ``sources`` (N,). ``limits``: of agreement. None without an image.
    """
    a, b, of = np.asarray(true, np.float64), np.asarray(predicted, np.float64), np.asarray(sources, object)
    require(len(a) == len(b) == len(of), "each image has two counts and a source", given=f"{len(a)}, {len(b)} and {len(of)}")  # fmt: skip
    if not len(a):
        return None
    names = sorted(set(of.tolist()), key=lambda name: (-int((of == name).sum()), name))
    with canvas.sheet(4.6, 4.15) as drawing:
        axes = drawing.subplots()
        axes.axhline(0, color=SOFT, linewidth=0.9)
        for rank, name in enumerate(names[:MOST]):
            rows = (of == name) | ((rank == MOST - 1) & ~np.isin(of, names[:MOST]))
            several = rank == MOST - 1 and len(names) > MOST
            label = f"{len(names) - MOST + 1} other sources" if several else words.name(name or "all", 24)
            axes.plot((a[rows] + b[rows]) / 2, b[rows] - a[rows], _MARKERS[rank], color=COLOURS[rank], markersize=4.2,
                      alpha=0.75, markeredgecolor="none", label=f"{label}, n = {int(rows.sum()):,}")  # fmt: skip
        if bias is not None and math.isfinite(bias.value):
            axes.axhline(bias.value, color=INK, linewidth=1.3)
        for edge in limits or ():
            if math.isfinite(edge):
                axes.axhline(edge, color=VERMILION, linewidth=1.1, linestyle=THIN)
        if (a + b).max() > 600:
            axes.set_xscale("symlog", linthresh=10)
            axes.xaxis.set_major_formatter(ScalarFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="Objects in the image (mean of true and predicted)", ylabel="Predicted minus true", title=count(len(a), "image"))  # fmt: skip
        canvas.quiet_grid(axes)
        axes.legend(loc="best", handletextpad=0.2)
        said = f"bias {words.in_sentence(bias)}" if bias is not None else ""
        between = f"95 % of images lie between {words.number(limits[0], 1)} and {words.number(limits[1], 1)}" if limits and all(map(math.isfinite, limits)) else ""  # fmt: skip
        alt = "; ".join(filter(None, (f"{count(len(a), 'image')}", said, between)))
        return canvas.finish(drawing, "counts", "Counts", f"{alt}.", "Line: bias; dashed: limits of agreement, between which 95 % of images lie. Above 0: too many objects.")  # fmt: skip
