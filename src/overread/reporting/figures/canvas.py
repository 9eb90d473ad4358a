"""One way to make a figure: matplotlib without a screen or a global state, as SVG with text as text and as PNG, equal bytes."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
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
from matplotlib.figure import Figure as Sheet
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.core.files import write_bytes, write_text

#: Okabe & Ito (2008), "Color universal design": told apart with every kind of colour blindness.
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#000000", "#7A7A7A")
INK, SOFT, FAINT = "#1f2933", "#5b6770", "#d5dbe1"

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


def label(svg: str, name: str, title: str, alt: str) -> str:
    """Give an svg element its role, title and description."""
    head, rest = svg.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*pt"', "", head)
    about = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(alt)}</desc>'
    return f'{head} role="img" aria-labelledby="{name}-title {name}-desc">{about}{rest}'


def unit_square(axes: Axes, across: str, up: str) -> None:
    """A square from 0 to 1 on both axes, in percent, with a quiet grid."""
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), xlabel=across, ylabel=up, aspect="equal")
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    axes.set_xticks(ticks, [f"{100 * t:.0f}\u00a0%" for t in ticks])
    axes.set_yticks(ticks, [f"{100 * t:.0f}\u00a0%" for t in ticks])
    quiet_grid(axes)


def percent_axis(*axes: Axis) -> None:
    """Ticks as percentages, with the digits they need."""
    for axis in axes:
        axis.set_major_formatter(lambda tick, _: f"{round(100 * tick, 9):.3g}\u00a0%".replace("-", "\u2212"))


def quiet_grid(axes: Axes) -> None:
    """Thin grey lines behind everything."""
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


# -- A figure as pages and files hold it; nothing here loads matplotlib -------------------------------------------


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
