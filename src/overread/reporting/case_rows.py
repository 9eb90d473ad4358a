"""What a run keeps of single cases for a reader's eye, as typed rows: errors, nearest cases, pictures of the audit."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
