"""Which images of a series are one volume. One SeriesInstanceUID may hold several: echoes, b-values, phases,
directions.

Images that do not fit together in size, plane or spacing are parted first. Where images of one plane then share their
places, what tells them apart is looked for in their headers (:data:`TELLING`), so that no volume takes one slice from
one echo and the next from another. Slices behind a wide gap are a volume of their own: nothing is known in between. Of
several renderings of one image, one is learned from (:func:`preferred_renderings`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.images.dicom.header import RAW, SEEN, TRAITS, DicomHeader

#: Positions closer than this, in mm, are the same.
SAME_PLACE = 0.01
#: A gap of more than so many steps parts a stack: one or two lost slices can be interpolated, a region cannot.
WIDE = 4.5
#: Share of the places that hold several images from which on that is no accident.
REPEATED = 0.5
#: What may tell images of one place apart, the plainest first: words, and the value of a header, None where unknown.
TELLING: tuple[tuple[str, Callable[[DicomHeader], Any]], ...] = (
    *((name, lambda header, at=at: _number(header.traits[at]) if header.traits else None) for at, name in enumerate(TRAITS)),
    ("image type", lambda header: header.image_type or None),
    ("acquisition number", lambda header: header.acquisition),
    ("instance number", lambda header: header.number),
)  # fmt: skip
#: Of these a number means nothing by itself: only where it goes up or down along the places.
_COUNTED = ("instance number",)


@dataclass(frozen=True)
class Stack:
    """Images of one volume by their ``indices``, in the order given. ``apart``: what tells it from other stacks of one
    plane in its series, in words, empty where there is none; ``number`` of them, from 1, by the value of that, and
    ``of`` how many.
    """

    indices: tuple[int, ...]
    apart: str = ""
    number: int = 1
    of: int = 1


@checked
def fit_together(one: DicomHeader, other: DicomHeader) -> bool:
    """Whether two slices can be of one volume: same size, orientation and pixel spacing, both scouts or neither."""
    same = (one.rows, one.columns, one.is_localizer) == (other.rows, other.columns, other.is_localizer)
    placed = (one.position is None) == (other.position is None)
    turned = _close(one.orientation, other.orientation, 0.01)
    return same and placed and turned and _close(one.spacing, other.spacing, 0.001)


def _close(one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or other is None or one == other:
        return one == other
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


@checked
def stacks(headers: Sequence[DicomHeader]) -> list[Stack]:
    """The stacks of a series, in the order of their first images; those of one plane by what tells them apart."""
    found: list[list[int]] = []
    for i, header in enumerate(headers):
        for group in found:
            if fit_together(headers[group[0]], header):
                group.append(i)
                break
        else:
            found.append([i])
    return [stack for group in found for stack in _parted(headers, group)]


def _parted(headers: Sequence[DicomHeader], group: list[int]) -> list[Stack]:
    """The stacks among images of one plane."""
    first = headers[group[0]]
    if first.position is None or first.orientation is None or first.is_localizer:
        return [Stack(tuple(group))]
    place = dict(zip(group, _places(headers, group), strict=True))
    parts, words = [group], []
    if _is_repeated(place, group):
        for word, value in TELLING:
            values = {i: value(headers[i]) for i in group}
            finer = [piece for part in parts for piece in _split(part, place, values, steady=word in _COUNTED)]
            words += [word] if len(finer) > len(parts) else []
            parts = finer
    blocks = [block for part in parts for block in _blocks(headers, part)]
    words += ["place"] if len(blocks) > len(parts) else []
    return [Stack(tuple(part), " and ".join(words), n, len(blocks)) for n, part in enumerate(blocks, 1)]


def _places(headers: Sequence[DicomHeader], group: list[int]) -> list[int]:
    """A number for the place of each image along the normal of the plane (PS3.3 C.7.6.2.1.1)."""
    along = along_normal(
        np.array([headers[i].position for i in group], np.float64), headers[group[0]].orientation or ()
    )
    order = np.argsort(along, kind="stable")
    numbers = np.empty(len(group), np.int64)
    numbers[order] = np.cumsum(np.r_[0, np.diff(along[order]) > SAME_PLACE])
    return numbers.tolist()


@checked
def along_normal(positions: NDArray[np.float64], orientation: Sequence[float]) -> NDArray[np.float64]:
    """Where ``positions`` (N, 3) lie along the normal of the plane, in mm, shape (N,)."""
    return np.asarray((positions @ np.cross(orientation[:3], orientation[3:])).round(4), np.float64)


def _is_repeated(place: dict[int, int], part: list[int]) -> bool:
    """Whether images share their places as a rule."""
    counts = Counter(place[i] for i in part)
    return sum(count > 1 for count in counts.values()) >= REPEATED * len(counts)


def _split(part: list[int], place: dict[int, int], value: dict[int, Any], *, steady: bool) -> list[list[int]]:
    """``part`` in pieces by a value, or the part itself where that does not tell images of one place apart.

    Few values, no more than images in a place, are taken as they are: two echo times. More, such as times of
    acquisition, are counted within each place: the first, the second.
    """
    most = max(Counter(place[i] for i in part).values())
    kinds = {repr(value[i]): value[i] for i in part}
    if most == 1 or len(kinds) == 1:
        return [part]
    if len(kinds) <= most:
        pieces = [
            [i for i in part if repr(value[i]) == name] for name in sorted(kinds, key=lambda name: _rank(kinds[name]))
        ]
        finer = max(max(Counter(place[i] for i in piece).values()) for piece in pieces) < most
        return pieces if finer else [part]
    turns = _by_turn(part, place, value, most)
    return turns if not steady or all(_is_steady([value[i] for i in turn]) for turn in turns) else [part]


def _by_turn(part: list[int], place: dict[int, int], value: dict[int, Any], most: int) -> list[list[int]]:
    """The first of each place by a value, the second, and so on, along the places; only where each holds equally many."""
    there: dict[int, list[int]] = {}
    for i in sorted(part, key=lambda i: _rank(value[i])):
        there.setdefault(place[i], []).append(i)
    told = all(len({repr(value[i]) for i in some}) == len(some) == most for some in there.values())
    if not told or any(value[i] is None for i in part):
        return [part]
    return [[there[at][turn] for at in sorted(there)] for turn in range(most)]


def _is_steady(values: list[Any]) -> bool:
    return values in (sorted(values), sorted(values, reverse=True))


def _rank(value: Any) -> tuple[int, Any]:
    """What values are sorted by: the unknown first, numbers before words."""
    if value is None:
        return 0, ""
    return (1, value) if isinstance(value, (int, float)) else (2, str(value))


def _number(text: str) -> float | str | None:
    """A trait as a number where it is one; None where it is not known."""
    try:
        return float(text)
    except ValueError:
        return text or None


def _blocks(headers: Sequence[DicomHeader], part: list[int]) -> list[list[int]]:
    """``part`` in pieces where a gap is wider than :data:`WIDE` steps."""
    along = along_normal(np.array([headers[i].position for i in part], np.float64), headers[part[0]].orientation or ())
    steps = np.diff(np.unique(along))
    steps = steps[steps > SAME_PLACE]
    if len(steps) < 3:
        return [part]
    edges = widely(np.sort(along), float(np.median(steps)))
    which = np.searchsorted(edges, along, side="right")
    return [[i for i, n in zip(part, which.tolist(), strict=True) if n == block] for block in range(len(edges) + 1)]


@checked
def widely(places: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Where, behind a wide gap, slices in order at ``places`` (N,) in mm go on: nothing where ``step`` is not known."""
    wide = np.diff(places) > WIDE * step if math.isfinite(step) else np.zeros(max(len(places) - 1, 0), bool)
    return places[1:][wide]


#: Columns of which a query (``--where``) decides which renderings are taken.
DECIDING = ("intent", "image_type", "secondary_capture")


@checked
def preferred_renderings(table: pd.DataFrame) -> tuple[NDArray[np.bool_], list[str]]:
    """Which rows of the table of an export are learned from, as a mask (N,), and what is told of the others.

    Left out are images FOR PROCESSING of a view that stands there FOR PRESENTATION as well (PS3.3 C.8.11.7), and
    secondary captures (screen shots, results of CAD) beside the images of their study: whoever learns from both learns
    from two kinds of pixels, and which of them an image has may tell its label.
    """
    view = table["view"].str.replace(r" \d+$", "", regex=True)  # several of one view are numbered
    view_of_case = list(zip(table["case"], view, strict=True))
    seen = {one for one, intent in zip(view_of_case, table["intent"], strict=True) if intent == SEEN}
    raw = (table["intent"] == RAW).to_numpy(bool) & np.fromiter((one in seen for one in view_of_case), bool, len(table))
    captured = (table["secondary_capture"] == "YES").to_numpy(bool)
    copies = captured & table["case"].isin(table["case"][~captured]).to_numpy(bool)
    told = (
        (raw, "FOR PROCESSING beside the same view FOR PRESENTATION", "intent == 'FOR PROCESSING'"),
        (copies, "secondary captures beside other images of their study", "secondary_capture == 'YES'"),
    )
    notes = [
        f'left out: {int(mask.sum()):,} of {len(table):,} images, {what}; --where "{query}" takes these instead'
        for mask, what, query in told if mask.any()
    ]  # fmt: skip
    return ~(raw | copies), notes
