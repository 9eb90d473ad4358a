"""Outlines of objects on their image: found, missed, found where nothing is, joined, cut. Told apart by colour and by stroke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from overread.core.errors import checked, one_of
from overread.core.phrases import count
from overread.reporting import words
from overread.reporting.case_rows import OutlineShape, OverlayEntry
from overread.reporting.figures.canvas import Figure, label


@dataclass(frozen=True)
class Stroke:
    """How objects of a status are drawn: Okabe & Ito's colours (2008), and dashes in points of the screen."""

    colour: str
    dashes: str
    width: float
    meaning: str


#: In the order in which they are drawn, the rarest on top. Upper case: these do not change with the colours of a page.
STROKES: Mapping[str, Stroke] = {
    "found": Stroke("#56B4E9", "", 1.5, "found by the model"),
    "hit": Stroke("#56B4E9", "", 1.5, "found: the outlines agree (IoU above 0.5)"),
    "false": Stroke("#D55E00", "2 2.4", 2.8, "false: the model outlines what is no object"),
    "miss": Stroke("#F0E442", "6 3", 2.0, "missed, or not told apart from another (the true outline)"),
    "split": Stroke("#009E73", "6 2 1.5 2", 2.2, "split: a piece of one object"),
    "merge": Stroke("#CC79A7", "11 3", 2.6, "merge: one outline over several objects"),
}
#: Dark under each line, so that it is seen on a bright image too.
_HALO, _HALO_MORE = "#101418", 1.6
#: Colours of classes, where objects are told apart by what they are.
CLASS_COLOURS = ("#56B4E9", "#E69F00", "#CC79A7", "#F0E442", "#009E73", "#D55E00")


@checked
def overlay(entry: OverlayEntry, address: str, title: str, key: str, *, wide: bool = False) -> Figure:
    """An image with its outlines. ``address``: of the picture, as a data URL; names in the drawing begin with ``key``.

    Press on it to see the image alone; a pointer that rests on an object is told of it.
    """
    caption = " ".join((f"{counted(entry.counts)}.", *_shown_how(entry), *_reason(entry)))
    alt = f"{title}: {counted(entry.counts)}"
    return Figure(key, title, alt, caption, overlay_svg(entry, address, key, title, alt), wide)


@checked
def overlay_svg(entry: OverlayEntry, address: str, key: str, title: str, alt: str) -> str:
    """The drawing alone: an SVG element whose names begin with ``key``."""
    size = f'width="{entry.width}" height="{entry.height}"'
    picture = f'<image href="{escape(address)}" {size} preserveAspectRatio="none"/>' if address else f'<rect {size} fill="#777"/>'  # fmt: skip
    groups = [_group(key, status, [s for s in entry.shapes if s.status == status]) for status in STROKES]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="outlines" viewBox="0 0 {entry.width} {entry.height}">'
    return label(f"{head}{picture}<g>{''.join(groups)}</g></svg>", key, title, alt)


@checked
def legend(statuses: Sequence[str], name: str = "outline-legend") -> Figure:
    """What each stroke means, a row a status."""
    for status in statuses:
        one_of(status, STROKES, "the status of an object")
    rows = []
    for place, status in enumerate(status for status in STROKES if status in statuses):
        y = 14 + 22 * place
        rows.append(f'<rect x="4" y="{y - 9}" width="58" height="18" fill="{_HALO}"/>{_line(status, y)}'
                    f'<text x="74" y="{y + 4}" fill="#1f2933">{escape(STROKES[status].meaning)}</text>')  # fmt: skip
    height = 6 + 22 * len(rows)
    style = "font-family=\"'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\" font-size=\"13\""
    alt = "; ".join(STROKES[status].meaning for status in statuses)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 470 {height}" {style}>{"".join(rows)}</svg>'
    return Figure(name, "What the outlines say", alt, "", label(svg, name, "What the outlines say", alt), False)


@checked
def counted(counts: Mapping[str, int]) -> str:
    """The objects of an image by status, in words.

    >>> counted({"hit": 31, "miss": 2, "merge": 1})
    '31 found, 2 missed; 0 false, 1 merge, 0 pieces'
    """
    if "found" in counts:
        return f"{count(counts['found'], 'object')} found"
    hit, miss, false = (counts.get(status, 0) for status in ("hit", "miss", "false"))
    merged, split = count(counts.get("merge", 0), "merge"), count(counts.get("split", 0), "piece")
    return f"{hit:,} found, {miss:,} missed; {false:,} false, {merged}, {split}"


def _shown_how(entry: OverlayEntry) -> list[str]:
    said = []
    if entry.full not in ((0, 0), (entry.width, entry.height)):
        wide, high = entry.full
        said.append(f"A window of {entry.width} × {entry.height} pixels of {wide} × {high}, where most errors are.")
    if entry.brighter > 1:
        said.append(f"Shown {entry.brighter:.3g} times brighter than it is.")
    return said


def _reason(entry: OverlayEntry) -> list[str]:
    return ["The picture is kept back: there is text in its pixels."] if entry.withheld else []


def _group(key: str, status: str, shapes: Sequence[OutlineShape]) -> str:
    """The objects of a status: dark and wide below, then in their colour; each says what it is."""
    if not shapes:
        return ""
    stroke, name = STROKES[status], f"{key}-{status}"
    paths = "".join(f'<path d="{escape(s.path)}" vector-effect="non-scaling-stroke"><title>{escape(words.name(s.said, 200))}</title></path>' for s in shapes)  # fmt: skip
    common = 'fill="none" stroke-linejoin="round" pointer-events="all"'
    below = f'<g stroke="{_HALO}" stroke-width="{stroke.width + _HALO_MORE:g}" stroke-opacity="0.75" pointer-events="none"><use href="#{name}"/></g>'
    dashes = f' stroke-dasharray="{stroke.dashes}"' if stroke.dashes else ""
    above = f'<g stroke="{stroke.colour}" stroke-width="{stroke.width}"{dashes}><g id="{name}" class="objects" {common}>{paths}</g></g>'
    return below + above


def _line(status: str, y: int) -> str:
    stroke = STROKES[status]
    dashes = f' stroke-dasharray="{stroke.dashes}"' if stroke.dashes else ""
    return f'<path d="M10 {y}H56" fill="none" stroke="{stroke.colour}" stroke-width="{stroke.width + 0.6:g}"{dashes}/>'
