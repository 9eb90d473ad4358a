"""Annotations in XML: Pascal VOC's boxes and polygons, a file an image, and the regions of Aperio's ImageScope.

Read by expat without a document type, so that there are no entities, and under limits of depth and number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked
from overread.core.phrases import count
from overread.images.outlines.outline_shapes import ImageShapes, Polygons, Shape, box_of, ring_of

#: How deep elements may lie in one another, and how many there may be: each takes some 500 bytes.
_DEEPEST, _MOST = 32, 4_000_000
#: What ImageScope calls an arrow and a ruler; 0 is drawn by hand, 1 a rectangle, 2 an ellipse.
_LINES = ("3", "4")


@dataclass(frozen=True, eq=False, slots=True)
class Element:
    """One element: its name, attributes, pieces of text, and the elements in it."""

    name: str
    attributes: dict[str, str]
    texts: list[str] = field(default_factory=list)
    inside: list[Element] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its text."""
        return "".join(self.texts)

    def all(self, name: str) -> list[Element]:
        """The elements of a name right in this one."""
        return [each for each in self.inside if each.name == name]

    def word(self, name: str) -> str:
        """The text of the first element of a name; blank where there is none."""
        return next((each.text.strip() for each in self.inside if each.name == name), "")


@checked
def read_xml(path: Path) -> dict[str, ImageShapes]:
    """The shapes of the one image of a file, by the name that the file says, else by its own.

    Coordinates are taken as they stand: Pascal's first pixel is 1 in some files and 0 in others. Raises
    :class:`InputError` for what is no XML, has a document type, is nested too deep, or is of another kind.
    """
    root = parse_xml(path.read_bytes(), path.name)
    if root.name.lower() == "annotations":
        shapes, notes = _regions(root)
        return {path.stem: ImageShapes(shapes, notes=notes)}
    if root.name != "annotation":
        raise InputError(f"{path.name} is no annotation of Pascal VOC or ImageScope", given=f"<{root.name[:40]}>")
    size = next(iter(root.all("size")), None)
    sides = [size.word(name) for name in ("height", "width")] if size else []
    known = (
        (int(sides[0]), int(sides[1])) if sides and all(s.isdecimal() and 0 < int(s) < 2**31 for s in sides) else None
    )
    shapes = tuple((_shape(each), each.word("name")) for each in root.all("object"))
    return {root.word("filename") or path.stem: ImageShapes(shapes, known)}


@checked
def parse_xml(data: bytes, name: str) -> Element:
    """The root of a document. Raises :class:`InputError` for one with a document type, which could hold entities."""
    root, open_, many = Element("", {}), list[Element](), 0
    open_.append(root)

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal many
        many += 1
        if len(open_) > _DEEPEST or many > _MOST:
            raise InputError(f"{name} is nested too deep, or holds too much", given=f"{many:,} elements")
        made = Element(tag, attributes)
        open_[-1].inside.append(made)
        open_.append(made)

    def end(tag: str) -> None:
        open_.pop()

    def text(words: str) -> None:
        if not open_[-1].inside:
            open_[-1].texts.append(words)

    def refuse(*about: Any) -> None:
        raise InputError(
            f"{name} has a document type, which can hold entities", todo="remove the line that begins with <!DOCTYPE"
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, end, text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (
        expat.ExpatError,
        ValueError,
        LookupError,
    ) as error:  # also an encoding that is not known, or of several bytes
        raise InputError(f"{name} is not valid XML", given=str(error)[:80]) from error
    return root.inside[0]


def _shape(row: Element) -> Shape | ImageError:
    try:
        if polygon := next(iter(row.all("polygon")), None):
            return Polygons((ring_of(_corners(polygon)),))
        box = next(iter(row.all("bndbox")), None)
        if box is None:
            raise ImageError("an object has no polygon and no box", given=row.word("name")[:40])
        return box_of(*(box.word(side) for side in ("xmin", "ymin", "xmax", "ymax")))
    except ImageError as error:
        return error
    except ValueError as error:
        return ImageError("an object's outline cannot be read", given=str(error)[:80])


def _corners(polygon: Element) -> list[tuple[float, float]]:
    """Of ``<pt><x/><y/></pt>``, or of ``<x1/><y1/><x2/><y2/> …``."""
    if points := polygon.all("pt"):
        return [(float(point.word("x")), float(point.word("y"))) for point in points]
    sides = {each.name: each.text for each in polygon.inside}
    many = sum(name.startswith("x") for name in sides)
    if any(f"{axis}{i}" not in sides for i in range(1, many + 1) for axis in "xy"):
        raise ImageError("a polygon has an x and a y for each corner", given=", ".join(list(sides)[:6]))
    return [(float(sides[f"x{i}"]), float(sides[f"y{i}"])) for i in range(1, many + 1)]


def _regions(root: Element) -> tuple[tuple[tuple[Shape | ImageError, str], ...], tuple[str, ...]]:
    """Regions of ImageScope: corners as attributes X and Y, the class as the name of their layer; and what was left out.

    A negative region is a hole of the smallest region of its layer that encloses it.
    """
    found: list[tuple[Shape | ImageError, str]] = []
    lines = outside = 0
    for layer in root.all("Annotation"):
        name = layer.attributes.get("Name", "").strip()
        drawn: list[Shape | ImageError] = []
        holes: list[NDArray[np.float64]] = []
        for region in (each for held in layer.all("Regions") for each in held.all("Region")):
            shape = _region(region)
            if shape is None:
                lines += 1
            elif isinstance(shape, Polygons) and region.attributes.get("NegativeROA", "").strip() == "1":
                holes.append(shape.rings[0])
            else:
                drawn.append(shape)
        outside += _cut_out(drawn, holes)
        found += [(shape, name) for shape in drawn]
    notes = []
    if lines:
        notes.append(f"{count(lines, 'region')} without an area (rulers, arrows, fewer than 3 corners) left out")
    if outside:
        notes.append(f"{count(outside, 'negative region')} that no region encloses left out")
    return tuple(found), tuple(notes)


def _region(region: Element) -> Shape | ImageError | None:
    """The shape of a region, its error where it cannot be read; none where it has no area."""
    kind = region.attributes.get("Type", "").strip()
    corners = [point.attributes for held in region.all("Vertices") for point in held.all("Vertex")]
    if kind in _LINES or len(corners) < 3:
        return None
    try:
        return Polygons((ring_of([(float(p["X"]), float(p["Y"])) for p in corners]),))
    except ImageError as error:
        return error
    except (KeyError, ValueError) as error:
        return ImageError("a region's corners cannot be read", given=str(error)[:80])


def _cut_out(drawn: list[Shape | ImageError], holes: list[NDArray[np.float64]]) -> int:
    """Put each hole into the smallest region that encloses it; returns how many are in none."""
    places = [at for at, shape in enumerate(drawn) if isinstance(shape, Polygons)] if holes else []
    rings = [shape.rings[0] for shape in drawn if isinstance(shape, Polygons)] if holes else []
    boxes = np.array([(*ring.min(axis=0), *ring.max(axis=0)) for ring in rings]).reshape(-1, 4)
    areas = np.array([_area(ring) for ring in rings])
    mine: dict[int, list[NDArray[np.float64]]] = {}
    for hole in holes:
        around = (boxes[:, :2] <= hole.min(axis=0)).all(axis=1) & (boxes[:, 2:] >= hole.max(axis=0)).all(axis=1)
        near = sorted(np.flatnonzero(around).tolist(), key=lambda at: areas[at])
        inside = next((at for at in near if _encloses(rings[at], hole)), None)
        if inside is not None:
            mine.setdefault(inside, []).append(hole)
    for at, held in mine.items():
        drawn[places[at]] = Polygons((rings[at],), tuple(held))
    return len(holes) - sum(map(len, mine.values()))


def _area(ring: NDArray[np.float64]) -> float:
    x, y = (ring - ring[0]).T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def _encloses(ring: NDArray[np.float64], hole: NDArray[np.float64]) -> bool:
    """Whether every corner of a hole lies in a ring or on its border."""
    contour = (ring - ring[0]).astype(np.float32)  # from its own corner: slides are wide
    return all(cv2.pointPolygonTest(contour, (float(x), float(y)), False) >= 0 for x, y in hole - ring[0])
