"""Outlines in the XML of ASAP, as CAMELYON16 and CAMELYON17 publish them: corners in pixels of level 0, in groups.

``<ASAP_Annotations><Annotations><Annotation Type PartOfGroup><Coordinates><Coordinate Order X Y/>``, and the groups, which
may lie in each other, under ``<AnnotationGroups>`` (github.com/computationalpathologygroup/ASAP, "annotation").
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked
from overread.core.phrases import count
from overread.images.outlines.annotation_xml import Element
from overread.images.outlines.outline_shapes import ring_of
from overread.images.slides.lesion_files.drawn_outlines import DrawnOutline, DrawnOutlines

#: Outlines have an area; what else ASAP draws has none. A spline is taken by its corners.
_AREAS = ("polygon", "rectangle", "spline", "")
_DEEPEST = 16


@checked
def read_asap(root: Element) -> DrawnOutlines:
    """The outlines of a document of ASAP. Raises :class:`ImageError` for corners that are no numbers."""
    parents = {
        each.attributes.get("Name", "").strip(): each.attributes.get("PartOfGroup", "").strip()
        for held in root.all("AnnotationGroups")
        for each in held.all("Group")
    }
    drawn: list[DrawnOutline] = []
    told: Counter[str] = Counter()
    for each in (one for held in root.all("Annotations") for one in held.all("Annotation")):
        kind = each.attributes.get("Type", "").strip().lower()
        corners = [point for held in each.all("Coordinates") for point in held.all("Coordinate")]
        if kind not in _AREAS or len(corners) < 3:
            told["without an area (dots, measurements, fewer than 3 corners) left out"] += 1
            continue
        if kind == "spline":
            told["drawn as splines taken by their corners"] += 1
        drawn.append(DrawnOutline(_ring(corners), _groups(each.attributes.get("PartOfGroup", ""), parents)))
    return DrawnOutlines(tuple(drawn), tuple(f"{count(many, 'outline')} {what}" for what, many in told.items()))


def _ring(corners: list[Element]) -> NDArray[np.float64]:
    try:
        rows = [tuple(float(point.attributes[key]) for key in ("X", "Y")) for point in corners]
        order = [float(point.attributes.get("Order", at)) for at, point in enumerate(corners)]
    except (KeyError, ValueError) as error:
        raise ImageError("the corners of an outline cannot be read", given=str(error)[:80]) from error
    return ring_of([rows[at] for at in sorted(range(len(rows)), key=order.__getitem__)])


def _groups(name: str, parents: dict[str, str]) -> tuple[str, ...]:
    """A group, and those that it lies in."""
    found: list[str] = []
    name = name.strip()
    while name and name.lower() != "none":
        if name in found or len(found) > _DEEPEST:
            raise InputError("the groups of the outlines lie in each other", given=name[:80])
        found.append(name)
        name = parents.get(name, "")
    return tuple(found)
