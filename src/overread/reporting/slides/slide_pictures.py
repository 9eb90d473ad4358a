"""The slides that a report shows: small, beside their heat maps, with the true outlines and the lesions that were found."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked
from overread.core.files import read_rows, write_bytes, write_rows
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.evaluation.results import from_file_form
from overread.explanation.overlay import even_colours
from overread.images.address import parse
from overread.images.image import Image
from overread.images.read import read_image
from overread.images.slides.lesion_outlines import Lesions
from overread.images.slides.slide import OVERVIEW_MPP
from overread.reporting.outlined.overlay_entries import jpeg
from overread.reporting.thumbnails import flat, small
from overread.slides.heat_map import HeatMap
from overread.slides.lesions import NO_LESION

#: Where they are kept in a run, and under which name their list.
FOLDER, LIST = "overlays", "overlays/slides.json"
#: Slides shown of each kind: with disease and the lowest score, without and the highest, and others at random.
MISSED, FALSE, RANDOM = 3, 3, 3
#: Pixels of the longer side of a slide and of its map.
SIDE, CELLS = 480, 512
#: Lesions drawn on a slide, the highest; corners of an outline stay apart by this share of the slide's longer side.
_MOST, _APART = 60, 1 / 1200


@dataclass(frozen=True)
class ShownPlace:
    """A place that was found, in µm; ``kind``: ``hit``, ``false``, ``left out`` where it is not judged, or ``unknown`` where the lesions are."""

    x: float = 0.0
    y: float = 0.0
    score: float = math.nan
    kind: str = ""


@dataclass(frozen=True)
class ShownOutline:
    """A true outline as the data of an SVG path, in µm; whether it is ``judged``, and ``found`` by a place."""

    path: str = ""
    judged: bool = True
    found: bool = False


@dataclass(frozen=True)
class ShownSlide:
    """A slide of the test part; ``why`` it is shown: ``missed``, ``false`` or ``random``.

    ``width`` and ``height`` in µm; ``score`` of the slide by its map. ``picture``: a JPEG in the run's folder, blank where it is
    ``withheld`` because its pixels may name a patient, or cannot be read; ``heat``: a PNG of its heat map, which covers ``covers``
    (left, top, width, height) µm. ``known``: whether its true lesions are; ``lesions``: how many of them are judged, regions as the search
    counts them, of which ``found``; ``alarms``: its places from the threshold on, of which ``false`` ones on no lesion; ``places``: the highest
    of these.
    """

    case: str = ""
    why: str = ""
    source: str = ""
    truth: str = ""
    score: float = math.nan
    width: float = 0.0
    height: float = 0.0
    picture: str = ""
    heat: str = ""
    covers: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    withheld: bool = False
    known: bool = False
    lesions: int = 0
    found: int = 0
    alarms: int = 0
    false: int = 0
    places: tuple[ShownPlace, ...] = ()
    outlines: tuple[ShownOutline, ...] = ()


@dataclass(frozen=True, eq=False)
class SlideToShow:
    """What is known of a slide: the ``address`` of its overview, its heat map, true lesions (None: not known), and the places found
    on it (``x``, ``y``, ``score``, ``region``) from the threshold on."""

    case: str
    source: str
    truth: str
    score: float
    address: str
    heat_map: HeatMap
    lesions: Lesions | None
    places: pd.DataFrame


@checked
def chosen_slides(scores: Mapping[str, float], ill: Collection[str], *, seed: int = 0) -> list[tuple[str, str]]:
    """(case, why) of the slides to show: those with disease (``ill``) and the lowest scores, those without and the highest, and some of
    the others at random.

    >>> chosen_slides({"a": 0.1, "b": 0.9, "c": 0.2, "d": 0.8}, {"a", "b"})[:2]
    [('a', 'missed'), ('b', 'missed')]
    """
    order = sorted(scores, key=lambda case: (scores[case], case))
    missed = [case for case in order if case in ill][:MISSED]
    false = [case for case in reversed(order) if case not in ill][:FALSE]
    rest = sorted(set(order) - {*missed, *false})
    draw = random.uniform(seed, 0, np.arange(len(rest)), "shown slides")
    drawn = [rest[place] for place in np.argsort(draw, kind="stable")[:RANDOM]]
    return [(case, why) for why, cases in (("missed", missed), ("false", false), ("random", drawn)) for case in cases]


@checked
def write_slides(
    folder: str | Path, shown: Sequence[tuple[SlideToShow, str]], *, withheld: Collection[str] = (), progress: Progress = silent
) -> Path:  # fmt: skip
    """Write ``overlays/slides.json`` and its pictures, in the place of earlier ones; gives the path of the list.

    ``shown``: slides, and why each is shown. Of ``withheld`` ones, whose pixels may name a patient, no picture is kept; their heat
    maps and outlines are.
    """
    home = Path(folder)
    for old in (home / FOLDER).glob("*"):
        old.unlink()
    entries = []
    for number, one in enumerate(drawn_slides(shown, withheld=withheld, progress=progress), start=1):
        heat, picture = f"{FOLDER}/{number:02d}-map.png", f"{FOLDER}/{number:02d}.jpg" if one.overview else ""
        write_bytes(home / heat, one.heat)
        if picture:
            write_bytes(home / picture, one.overview)
        entries.append(replace(one.slide, picture=picture, heat=heat))
    write_rows(home / LIST, entries)
    return home / LIST


@dataclass(frozen=True, eq=False)
class DrawnSlide:
    """A slide to show: ``overview``, a JPEG, empty where there is none; ``heat``, a PNG of its heat map."""

    slide: ShownSlide
    overview: bytes
    heat: bytes


@checked
def drawn_slides(
    shown: Sequence[tuple[SlideToShow, str]], *, withheld: Collection[str] = (), progress: Progress = silent
) -> Iterator[DrawnSlide]:  # fmt: skip
    """Each of the slides with its pictures, as :func:`write_slides` has them."""
    for number, ((one, why), pixels) in enumerate(zip(shown, _overviews(shown), strict=True), start=1):
        progress("drawing slides beside their heat maps", number, len(shown))
        data, covers = heat_png(one.heat_map)
        entry = replace(_entry(one, why), withheld=one.case in withheld, covers=covers)
        yield DrawnSlide(entry, b"" if pixels is None or entry.withheld else jpeg(small(pixels, SIDE)), data)


@checked
def read_slides(folder: str | Path) -> tuple[ShownSlide, ...]:
    """Read what :func:`write_slides` wrote; none where there is no such list."""
    return read_rows(ShownSlide, Path(folder) / LIST, by=from_file_form)


@checked
def heat_png(found: HeatMap) -> tuple[bytes, tuple[float, float, float, float]]:
    """The probabilities of a map in the colours of :func:`.even_colours`, as in the viewer, by the level with at most :data:`CELLS` cells a side;
    clear where nobody looked; and what it covers (left, top, width, height), µm."""
    level = next((n for n, shape in enumerate(found.levels) if max(shape) <= CELLS), len(found.levels) - 1)
    values = found.values(level)
    colours = even_colours(np.nan_to_num(values, nan=0.0))[..., ::-1]
    alpha = np.where(np.isnan(values), 0, 255).astype(np.uint8)
    side, (rows, columns) = found.mpp * 2**level, values.shape
    data = bytes(cv2.imencode(".png", np.dstack([colours, alpha]))[1].tobytes())
    return data, (*found.origin, columns * side, rows * side)


def _overviews(shown: Sequence[tuple[SlideToShow, str]]) -> Iterator[NDArray[np.uint8] | None]:
    asked = [_seen_whole(one) for one, _ in shown]
    with closing(contained(read_image, ((address,) for address, _, _ in asked), workers=1)) as found:
        for image, (_, rows, columns) in zip(found, asked, strict=True):
            yield flat(image)[:rows, :columns] if isinstance(image, Image) else None


def _seen_whole(one: SlideToShow) -> tuple[str, int, int]:
    """The address of a picture of the whole slide, no coarser than needed, and its rows and columns: a small slide is hardly more than a dot in its
    overview."""
    width, height = one.heat_map.about.size
    mpp = max(width, height) / SIDE
    if mpp >= OVERVIEW_MPP:
        return one.address, SIDE * 64, SIDE * 64
    whole = replace(parse(one.address), slide=False, tile=(SIDE * mpp / 2, SIDE * mpp / 2, SIDE, mpp))
    return str(whole), max(1, round(height / mpp)), max(1, round(width / mpp))


def _entry(one: SlideToShow, why: str) -> ShownSlide:
    width, height = one.heat_map.about.size
    places = one.places.sort_values("score", ascending=False, kind="stable").head(_MOST)
    unjudged = "left out" if one.lesions is not None else "unknown"
    kinds = ["hit" if region >= 0 else "false" if region == NO_LESION else unjudged for region in places["region"]]
    drawn = tuple(ShownPlace(round(float(x), 1), round(float(y), 1), round(float(score), 4), kind)
                  for x, y, score, kind in zip(places["x"], places["y"], places["score"], kinds, strict=True))  # fmt: skip
    judged = (
        {number for number, left_out in enumerate(one.lesions.regions_excluded) if not left_out}
        if one.lesions
        else set()
    )
    return ShownSlide(one.case, why, one.source, one.truth, one.score, width, height, known=one.lesions is not None, lesions=len(judged),
                      found=len(judged & set(one.places["region"])), alarms=len(one.places), false=int((one.places["region"] == NO_LESION).sum()),
                      places=drawn, outlines=_outlines(one, max(width, height)))  # fmt: skip


def _outlines(one: SlideToShow, side: float) -> tuple[ShownOutline, ...]:
    if one.lesions is None:
        return ()
    hit, made = set(one.places["region"]), []
    for number, (region, left_out) in enumerate(zip(one.lesions.regions, one.lesions.regions_excluded, strict=True)):
        for at in region.outlines:
            lesion = one.lesions.lesions[at]
            path = "".join(_ring(ring, side * _APART) for ring in (lesion.polygon, *lesion.holes))
            made.append(ShownOutline(path, not left_out, number in hit))
    return tuple(made)


def _ring(ring: NDArray[np.float64], apart: float) -> str:
    """A closed line (P, 2) with fewer corners, as SVG."""
    points = cv2.approxPolyDP(np.asarray(ring, np.float32)[:, None], apart, True)[:, 0]
    return "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points.tolist()) + "Z"
