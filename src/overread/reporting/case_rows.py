"""What a run keeps of single cases for a reader's eye, as typed rows: errors, nearest cases, pictures of the audit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GalleryEntry:
    """A confident error, or where ``correct`` the correct case that stands ``beside`` the case of one.

    ``withheld``: no picture is kept, because its pixels may name a patient.
    """

    case: str = ""
    truth: str = ""
    predicted: str = ""
    probability: float = math.nan
    thumbnail: str = ""
    correct: bool = False
    beside: str = ""
    withheld: bool = False


@dataclass(frozen=True)
class Neighbour:
    """A known case that is near to one, by the distance of the index."""

    case: str = ""
    label: str = ""
    source: str = ""
    distance: float = math.nan
    thumbnail: str = ""


@dataclass(frozen=True)
class NeighbourRow:
    """The known cases nearest to a ``case``, the nearest first, of ``index/neighbours.json``."""

    case: str = ""
    neighbours: tuple[Neighbour, ...] = ()


@dataclass(frozen=True)
class AuditPicture:
    """What a finding of the audit is about, as small pictures of one case or of two side by side."""

    kind: str = ""
    words: str = ""
    cases: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    thumbnails: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutlineShape:
    """An object as a page draws it: its ``status`` (hit, miss, false, merge, split, found), its outline as the data of an
    SVG path in pixels of the picture, and what is ``said`` of it where a pointer rests on it."""

    status: str = ""
    path: str = ""
    said: str = ""


@dataclass(frozen=True)
class OverlayEntry:
    """A test image with its outlines, of ``overlays/overlays.json``; ``why`` it is shown: ``worst`` or ``random``.

    ``picture``: a JPEG in the run's folder, blank where it is ``withheld`` because its pixels may name a patient; of a
    large image the window of ``width`` × ``height`` pixels with the most errors, from (``left``, ``top``) on. ``brighter``:
    by how much the picture was brightened. ``counts``: objects of the whole image by status.
    """

    case: str = ""
    why: str = ""
    source: str = ""
    ap: float = math.nan
    counts: dict[str, int] = field(default_factory=dict, hash=False)
    picture: str = ""
    width: int = 0
    height: int = 0
    left: int = 0
    top: int = 0
    full: tuple[int, int] = (0, 0)
    brighter: float = 1.0
    withheld: bool = False
    shapes: tuple[OutlineShape, ...] = ()


@dataclass(frozen=True)
class SizeRow:
    """The areas of the true objects of a ``source`` in the test part, of ``overlays/sizes.json``: how many there are, and
    the areas in ``unit`` below which 2.5, 25, 50, 75 and 97.5 % of them lie."""

    source: str = ""
    objects: int = 0
    low: float = math.nan
    first: float = math.nan
    middle: float = math.nan
    third: float = math.nan
    high: float = math.nan
    unit: str = "pixels"
