"""One way to make a figure: matplotlib without a screen or a global state, as SVG with text as text and as PNG, equal bytes.

And what several figures are made of: ``roc_axes(axes, size)``, ``curve_with_band(axes, x, y, low=…, high=…, label=…,
rank=…)`` on axes of a :func:`sheet`, and ``forest_rows(rows, name=…, title=…, across=…, size=…)``, a whole figure.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.core.files import write_bytes, write_text
from overread.evaluation.curves import Range, ReaderPoint
from overread.evaluation.metrics import ENDINGS
from overread.reporting import words
from overread.stats.estimate import Estimate

#: Okabe & Ito (2008), "Color universal design": told apart with every kind of colour blindness.
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#000000", "#7A7A7A")
INK, SOFT, FAINT = "#1f2933", "#5b6770", "#d5dbe1"
#: Of texts on a coloured field, which stays as it is on a dark page: on a light one, and on a dark one.
ON_LIGHT, ON_DARK = "#16202a", "#fbfcfd"
#: What a page replaces by its own colours, so that figures can be read on a dark one too.
_THEME = {INK: "ink", "#000000": "ink", SOFT: "soft", FAINT: "rule", "#0072b2": "blue", "#ffffff": "page", "#8895a1": "edge",
          "#f6f7f9": "wash", "#fdf3ec": "wash", "#edf5fa": "wash"}  # fmt: skip

_STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "overread", "text.parse_math": False, "font.family": "DejaVu Sans",
    "font.size": 9, "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.titlesize": 9, "axes.titlelocation": "left",
    "axes.titlecolor": SOFT, "legend.frameon": False, "legend.fontsize": 8.5, "lines.linewidth": 1.8,
    "xtick.major.size": 3, "ytick.major.size": 3, "axes.labelsize": 9, "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.titley": 1.0,  # no axis has ticks above it: to look for them takes as long as to draw
}  # fmt: skip
_FONTS = "'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


#: Points of a screen that an inch takes in a notebook.
INCH = 96
#: Dots per inch of a PNG: journals ask for 200 and more of a drawing at the width it is printed in.
DPI = 220


@checked
def save_figures(figures: Iterable[Figure], folder: Path, *, png: bool = True) -> list[Path]:
    """Write ``<name>.svg`` and, where it was made on a sheet, ``<name>.png`` of each; gives their paths.

    The PNG is white, at :data:`DPI`, in the font that comes with matplotlib. Equal figures give equal bytes.
    """
    written = []
    for figure in figures:
        text = f'<?xml version="1.0" encoding="utf-8"?>\n{figure.svg}\n'
        written.append(write_text(folder / f"{figure.name}.svg", text))
        if png and figure.drawing is not None:
            written.append(write_bytes(folder / f"{figure.name}.png", png_of(figure.drawing)))
    return written


@checked
def png_of(drawing: Sheet) -> bytes:
    """The bytes of a PNG of a sheet that :func:`finish` has laid out for its SVG."""
    with _styled():
        _hold_labels(drawing)
        drawing.set(facecolor="white", dpi=DPI)
        canvas = FigureCanvasAgg(drawing)
        canvas.draw()
        return png_bytes(np.asarray(canvas.buffer_rgba())[:, :, :3])


def _hold_labels(drawing: Sheet) -> None:
    """Axis labels stay where the SVG has them: to look again for the ticks that they avoid takes a third of a drawing."""
    to_sheet = drawing.transFigure.inverted()
    for axes in drawing.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.label.get_text():
                place = axis.label.get_transform().transform(axis.label.get_position())
                across, up = to_sheet.transform(place)
                axis.set_label_coords(across, up, transform=drawing.transFigure)


def png_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) as a PNG at :data:`DPI`. Each row is told as its difference from the one above, without trying the
    other filters: of drawings that is as small, and quicker than the libraries are.
    """
    height, width = pixels.shape[:2]
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    flat = np.ascontiguousarray(pixels).reshape(height, -1)
    rows[:, 0], rows[0, 1:] = 2, flat[0]  # 2: the filter "up"
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])  # modulo 256
    per_metre = round(DPI / 0.0254)
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"pHYs": struct.pack(">IIB", per_metre, per_metre, 1),
             b"IDAT": zlib.compress(rows.tobytes(), 2), b"IEND": b""}  # fmt: skip
    made = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts.items()]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


@contextmanager
def _styled() -> Iterator[None]:
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's browser has other fonts
        yield


class Sheet(Canvas):
    """A figure of matplotlib that a notebook shows without pyplot."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = (round(INCH * inches) for inches in self.get_size_inches())
        return png_of(self), {"width": width, "height": height}


@contextmanager
def sheet(width: float, height: float) -> Iterator[Sheet]:
    """An empty sheet, in inches, in the style of the report."""
    with _styled():
        yield Sheet(figsize=(width, height), layout="constrained")


def finish(drawing: Sheet, name: str, title: str, alt: str, caption: str, *, wide: bool | None = None) -> Figure:
    """The sheet as a :class:`Figure`, wide if it is wider than half a page. Call it within :func:`sheet`."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(drawing).print_svg(buffer, metadata=nothing)  # savefig would lay it out and draw it twice
    drawing.set_layout_engine("none")  # a PNG takes the same places
    svg = label(_tidy(buffer.getvalue(), name), name, title, alt)
    broad = bool(drawing.get_figwidth() > 6) if wide is None else wide
    return Figure(name, title, alt, caption, svg, broad, drawing)


def _tidy(svg: str, name: str) -> str:
    """Only the svg element; its names prefixed, so that many figures can live in one page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", _FONTS, svg)
    return re.sub(r"[ \t]+\n", "\n", svg).strip()


def renamed(figure: Figure, name: str, title: str) -> Figure:
    """The same figure under another name, so that two of a kind can live in one page."""
    svg = re.sub(rf'(?<=["#( ]){figure.name}-', f"{name}-", figure.svg).replace(figure.title, title)
    return Figure(name, title, figure.alt, figure.caption, svg, figure.wide, figure.drawing)


def label(svg: str, name: str, title: str, alt: str) -> str:
    """Give an svg element its role, title and description."""
    head, rest = svg.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*pt"', "", head)
    about = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(alt)}</desc>'
    return f'{head} role="img" aria-labelledby="{name}-title {name}-desc">{about}{rest}'


@checked
def themed(svg: str) -> str:
    """An SVG whose ink, lines and paper are those of the page that it stands in."""
    return re.sub(r"#[0-9a-f]{6}\b(?=[;\"])", lambda found: f"var(--{_THEME[found[0]]})" if found[0] in _THEME else found[0], svg)  # fmt: skip


def unit_square(axes: Axes, across: str, up: str) -> None:
    """A square from 0 to 1 on both axes, in percent, with a quiet grid."""
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), xlabel=across, ylabel=up, aspect="equal")
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    percents = [words.percent(tick) for tick in ticks]
    axes.set_xticks(ticks, percents)
    axes.set_yticks(ticks, percents)
    quiet_grid(axes)


def percent_axis(*axes: Axis) -> None:
    """Ticks as percentages, with the digits they need."""
    for axis in axes:
        axis.set_major_formatter(lambda tick, _: f"{round(100 * tick, 9):.3g}\u00a0%".replace("-", "\u2212"))


def quiet_grid(axes: Axes) -> None:
    """Thin grey lines behind everything."""
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


# -- a figure as pages and files hold it --------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A drawing for a page: ``svg`` holds ``title`` and ``alt`` for those who cannot see it; ``caption`` says N.

    ``wide`` ones take a row of their own. ``drawing`` is the sheet a PNG is drawn from, when one is asked for.
    """

    name: str
    title: str
    alt: str
    caption: str
    svg: str
    wide: bool = False
    drawing: Any = field(default=None, repr=False, compare=False)


# -- what several figures are made of -----------------------------------------------------------------------------


#: Numbers to draw, (N,).
Values = Sequence[float] | NDArray[Any]
#: What has two ends.
Interval = Estimate | Range | None
#: Strokes told apart without colour; the curve of rank 0 is solid.
STROKES = (
    "-",
    (0, (6, 1.6)),
    (0, (6, 1.6, 1.2, 1.6)),
    (0, (1.2, 1.2)),
    (0, (10, 2)),
    (0, (6, 1.6, 1.2, 1.6, 1.2, 1.6)),
    (0, (3, 1.2)),
    (0, (3, 3)),
)
#: The stroke of lines that only help to read: a coin, no skill, perfect agreement.
THIN = (0, (4, 3))
#: Endings of metrics that are differences of others.
_BETWEEN = tuple(f" {ending}" for ending in ENDINGS)


@checked
def roc_axes(axes: Axes, size: str = "") -> None:
    """Sensitivity against false alarms from 0 to 100 %, with the diagonal of a coin; ``size`` stands above (N)."""
    unit_square(axes, "1 − specificity (false alarms)", "Sensitivity")
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=THIN)
    axes.set_title(size)


@checked
def curve_with_band(
    axes: Axes,
    x: Values,
    y: Values,
    *,
    low: Values | None = None,
    high: Values | None = None,
    label: str = "",
    rank: int = 0,
) -> None:
    """A line, and its interval as a pale band. ``rank`` 0, 1, 2 … picks a colour together with a stroke.

    ``x``, ``y``, ``low``, ``high``: (N,), NaN where there is no number.
    """
    colour, stroke = COLOURS[rank % len(COLOURS)], STROKES[rank % len(STROKES)]
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, y, color=colour, linestyle=stroke, label=label or None)


@checked
def cross(
    axes: Axes,
    at: tuple[float, float],
    up: Interval,
    across: Interval,
    colour: str,
    width: float = 1.3,
    zorder: float = 2,
) -> None:
    """The intervals of sensitivity (``up``) and specificity as lines through a point of a ROC curve, where there are any."""
    x, y = at
    if up and math.isfinite(up.low):
        axes.plot([x, x], [up.low, up.high], color=colour, linewidth=width, zorder=zorder)
    if across and math.isfinite(across.low):
        axes.plot([1 - across.high, 1 - across.low], [y, y], color=colour, linewidth=width, zorder=zorder)


@checked
def reader_points(axes: Axes, readers: Sequence[ReaderPoint]) -> None:
    """One diamond a reader, with thin crosses; readers without both numbers are left out."""
    for i, reader in enumerate(readers):
        x, y = 1 - reader.specificity.value, reader.sensitivity.value
        if math.isfinite(x + y):
            cross(axes, (x, y), reader.sensitivity, reader.specificity, SOFT, 0.9)
            label = "" if i else f"Readers ({len(readers)})"
            axes.plot(x, y, "D", color=INK, markersize=4.5, markerfacecolor="white", zorder=6, label=label or None)


@dataclass(frozen=True)
class ForestRow:
    """A line of a forest: a name, an estimate, and what stands for N; a heading where there is no estimate.

    ``whole`` marks the estimate over everything: a diamond. ``note`` stands behind the numbers, such as p = .03.
    """

    label: str
    estimate: Estimate | None = None
    n: str = ""
    whole: bool = False
    note: str = ""


@checked
def forest_rows(
    rows: Sequence[ForestRow],
    *,
    name: str,
    title: str,
    across: str,
    size: str = "",
    caption: str = "",
    line: float | None = None,
    margin: float | None = None,
) -> Figure:
    """Estimates one below the other with their intervals, names and N to the left, numbers to the right.

    ``across`` is the axis with its unit, ``size`` stands above, ``line`` is where nothing differs (0 for
    differences), ``margin`` a declared margin. Undefined estimates keep their row and say why.
    """
    with sheet(9.0, 1.0 + 0.27 * len(rows)) as drawing:
        axes = drawing.subplots()
        for place, stroke, colour in ((line, "-", SOFT), (margin, THIN, VERMILION)):
            if place is not None:
                axes.axvline(place, color=colour, linewidth=0.9, linestyle=stroke)
        for y, row in enumerate(rows):
            mark(axes, row.estimate, y, INK if row.whole else BLUE)
        _beside(axes, rows)
        axes.set(xlabel=across + _unit(axes, rows), title=size)
        roomy(drawing)
        alt = "; ".join(f"{row.label} {words.in_sentence(row.estimate)}" for row in rows if row.estimate)
        level = next((row.estimate.level for row in rows if row.estimate and not row.estimate.undefined), 0.95)
        dashed = "Dashed: the margin. " if margin is not None else ""
        note = f"Squares: estimates with {words.percent(level)} intervals. {dashed}"
        return finish(drawing, name, title, f"{title}: {alt}.", (note + caption).strip(), wide=True)


@checked
def roomy(drawing: Sheet) -> None:
    """Leave room beside long names: the letters of the PNG, and of other fonts, are wider than those of the layout."""
    engine = drawing.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.16)


def _unit(axes: Axes, rows: Sequence[ForestRow]) -> str:
    """Ticks in percent where the estimates are; what the axis says of differences, which are in points."""
    named = [row.estimate.metric for row in rows if row.estimate]
    if not any(words.is_percentage(name) for name in named):
        return ""
    if not all(name.endswith(_BETWEEN) for name in named):
        percent_axis(axes.xaxis)
        return ""
    axes.xaxis.set_major_formatter(lambda tick, _: f"{round(100 * tick, 9):.3g}".replace("-", "−"))
    return " (percentage points)"


def _beside(axes: Axes, rows: Sequence[ForestRow]) -> None:
    """Names to the left, numbers to the right."""
    labels = [words.name(row.label, 36) + (f", n = {row.n}" if row.n else "") for row in rows]
    plain_rows(axes, labels, [row.estimate is None or row.whole for row in rows])
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(rows)), [_numbers(row) for row in rows])
    right.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)


def _numbers(row: ForestRow) -> str:
    e = row.estimate
    if e is None:
        return row.note
    text = words.name(e.undefined, 44) if e.undefined else words.cell(e, 3 if words.is_percentage(e.metric) else 2)
    return f"{text}; {row.note}" if row.note else text


@checked
def plain_rows(axes: Axes, labels: Sequence[str], bold: Sequence[bool]) -> None:
    """A vertical axis of rows from above, named, without ticks or a line."""
    bare_rows(axes, len(labels))
    axes.set_yticks(range(len(labels)), labels)
    for tick, heavy in zip(axes.get_yticklabels(), bold, strict=True):
        tick.set_fontweight("bold" if heavy else "normal")


@checked
def bare_rows(axes: Axes, many: int) -> None:
    """The same without names, beside axes that have them."""
    axes.set_ylim(many - 0.4, -0.6)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


@checked
def mark(axes: Axes, estimate: Estimate | None, y: float, colour: str = BLUE) -> None:
    """An estimate with its interval at height ``y``; nothing where it is undefined."""
    if estimate is None or estimate.undefined or not math.isfinite(estimate.value):
        return
    if math.isfinite(estimate.low):
        ends = [estimate.low, estimate.high]
        axes.plot(ends, [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    axes.plot(estimate.value, y, "D" if colour == INK else "s", color=colour, markersize=5.5)
