"""One way to make a figure: matplotlib without a screen or a global state, SVG with text as text, equal bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Sheet

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
}  # fmt: skip
_FONTS = "'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Figure:
    """A drawing for a page: ``svg`` holds ``title`` and ``alt`` for those who cannot see it; ``caption`` says N."""

    name: str
    title: str
    alt: str
    caption: str
    svg: str


@contextmanager
def sheet(width: float, height: float) -> Iterator[Sheet]:
    """An empty sheet, in inches, in the style of the report."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's browser has other fonts
        yield Sheet(figsize=(width, height), layout="constrained")


def finish(drawing: Sheet, name: str, title: str, alt: str, caption: str) -> Figure:
    """The sheet as a :class:`Figure`. Call it within :func:`sheet`."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(drawing).print_svg(buffer, metadata=nothing)  # savefig would lay it out and draw it twice
    return Figure(name, title, alt, caption, label(_tidy(buffer.getvalue(), name), name, title, alt))


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


def quiet_grid(axes: Axes) -> None:
    """Thin grey lines behind everything."""
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
