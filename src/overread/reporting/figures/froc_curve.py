"""Marks against lesions: the FROC curve of each reader, and every measure as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from overread.core.errors import checked
from overread.evaluation.detection import Localisation
from overread.evaluation.metrics import FRACTIONS
from overread.reporting import words
from overread.reporting.figures.canvas import COLOURS, INK, STROKES, Figure, finish, quiet_grid, sheet
from overread.reporting.words import Table

#: Curves in one figure, at most.
LINES = 8
_RATES_OF = {"camelyon16": "CAMELYON16", "luna16": "LUNA16"}


@checked
def size_words(found: Localisation) -> str:
    """How many images, patients and lesions there are."""
    c = found.counts
    return f"{words.size(c['images'], c['patients'])}, {words.count(c['lesions'], 'lesion')}"


@checked
def rates_words(found: Localisation) -> str:
    """The rates of false positives that are read, and whose they are."""
    rates = ", ".join(_rate(rate) for rate in found.about["rates"])
    house = _RATES_OF.get(str(found.about["rates of"]), "")
    return f"{rates} false positives per image" + (f" (the rates of {house})" if house else "")


def _rate(rate: float) -> str:
    return FRACTIONS.get(rate, f"{rate:g}")


@checked
def lesion_table(found: Localisation) -> Table:
    """Every measure of a search for lesions, by reader where there are several."""
    several = any(e.where for e in found.estimates)
    rows = [
        ((words.name(e.where.get("reader", "")),) if several else ())
        + (words.label(e.metric), words.value(e), e.undefined or words.interval(e))
        for e in found.estimates
    ]
    head = (("Reader",) if several else ()) + ("Measure", "Value", f"{words.percent(found.about['level'])} interval")
    return Table(f"On {size_words(found)}", head, tuple(rows), 2 if several else 1)


@checked
def froc_figure(found: Localisation) -> Figure | None:
    """The FROC of each reader with its band, and the rates marked; None where no curve is defined."""
    drawn = [(name, curve) for name, curve in found.curves.items() if "band" in curve]
    if not drawn:
        return None
    with sheet(6.4, 4.3) as drawing:
        axes = drawing.subplots()
        for rank, (name, curve) in enumerate(drawn[:LINES]):
            _curve(axes, found, name, curve, rank, banded=len(drawn) < 4)
        _axes(axes, found.about["rates"])
        axes.set_title(size_words(found))
        axes.legend(loc="lower right")
        band = f"Shaded: {words.percent(found.about['level'])} intervals, by patient. " if len(drawn) < 4 else ""
        caption = f"{band}Dots: {rates_words(found)}.{words.first_of(drawn, LINES)}"
        return finish(drawing, "froc", "FROC curve", _alt(found), caption, wide=True)


def _curve(axes: Axes, found: Localisation, name: str, curve: dict[str, Any], rank: int, *, banded: bool) -> None:
    band, colour = curve["band"], COLOURS[rank % len(COLOURS)]
    across = np.array(band["false positives per image"])
    if banded:
        axes.fill_between(across, np.array(band["low"]), np.array(band["high"]), color=colour, alpha=0.16, linewidth=0)
    x, y = np.array(curve["false positives per image"]), np.array(curve["sensitivity"])
    end = float(across.max())
    inside = x <= end
    # straight lines between the steps, as the estimates read it; the last height is carried on
    axes.plot(np.append(x[inside], end), np.append(y[inside], np.interp(end, x, y)), color=colour,
              linestyle=STROKES[rank % len(STROKES)], label=_label(found, name))  # fmt: skip
    at = np.isin(across, found.about["rates"])
    axes.plot(across[at], np.array(band["value"])[at], "o", color=colour if rank else INK, markersize=4.5, zorder=5)


def _label(found: Localisation, name: str) -> str:
    e = found["mean sensitivity", name]
    mean = f"mean {words.percent(e.value)} ({words.interval(e, 2)})"
    return f"{words.name(name, 20)}: {mean}" if name else mean.capitalize()


def _axes(axes: Axes, rates: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(rates), [_rate(rate) for rate in rates])
    axes.minorticks_off()
    axes.set(xlim=(min(rates) / 2, max(rates) * 1.05), ylim=(0, 1.02), xlabel="False positives per image (logarithmic)", ylabel="Sensitivity, share of lesions found")  # fmt: skip
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1], [f"{p}\u00a0%" for p in (0, 20, 40, 60, 80, 100)])
    quiet_grid(axes)


def _alt(found: Localisation) -> str:
    lines = (f"{words.label(e.metric)}{' of ' + words.name(e.where['reader']) if 'reader' in e.where else ''} {words.percent(e.value)}"
             for e in found.estimates if "sensitivity" in e.metric and not e.undefined)  # fmt: skip
    return "; ".join(lines) + "."
