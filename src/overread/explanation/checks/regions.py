"""Do maps lie where no finding can be? The share of attribution in places that betray a shortcut, beside their area.

Outside the body, the field of view or the lesion, along the border, on burned-in text: a model that looks there has learned
of scanners, rulers and labels (Zech et al. 2018; DeGrave, Janizek & Lee 2021). A share is held against that of the area,
which a map without any preference would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.core.errors import checked, require
from overread.core.phrases import count
from overread.images.burned_in_text import text_boxes
from overread.images.crop import DARK, brightest, circular_field
from overread.stats.resample import bootstrapped, mean_statistic

__all__ = ["RegionShare", "region_lines", "region_shares", "regions_of", "shares"]

#: The border is this part of the side, at each end.
BORDER = 0.05
#: A ground of less than this part of the image is none, and one of more leaves no body.
_GROUND = (0.02, 0.9)
#: Fewer patients than this are named with the finding as few.
FEW = 10

BODY, FIELD, EDGE, TEXT, LESION = "outside the body", "outside the field", "along the border", "on burned-in text", "outside the lesion"  # fmt: skip


@checked
def regions_of(pixels: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> dict[str, NDArray[np.bool_]]:
    """The places of an image (H, W, C), or of a volume (D, H, W, 1), where no finding can be, each of its sides.

    Along the border: the outer twentieth of each side. Outside the field: off the circle of a fundus camera, a dermatoscope
    or an endoscope. Outside the body: the dark ground that reaches the border, around the largest piece that is not dark.
    Text is looked for in images, not in volumes. Outside the lesion: where its ``mask`` is known. What an image does not
    have is left out.
    """
    shape = pixels.shape[:-1]
    require(
        mask is None or mask.shape == shape,
        "mask and image must have one size",
        given=f"{None if mask is None else mask.shape}, {shape}",
    )
    found = {EDGE: _border(shape)}
    circle = circular_field(pixels) if len(shape) == 2 else None
    if circle is not None:
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        found[FIELD] = (rows - circle.row) ** 2 + (columns - circle.column) ** 2 > circle.radius**2
    elif (ground := _ground(pixels)) is not None:
        found[BODY] = ground
    if len(shape) == 2 and (boxes := text_boxes(pixels)):
        found[TEXT] = np.zeros(shape, bool)
        for box in boxes:
            found[TEXT][box.slices] = True
    if mask is not None and mask.any() and not mask.all():
        found[LESION] = ~mask
    return {name: where for name, where in found.items() if where.any() and not where.all()}


def _border(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    where = np.ones(shape, bool)
    where[tuple(slice(max(1, round(BORDER * n)), n - max(1, round(BORDER * n))) for n in shape)] = False
    return where


def _ground(pixels: NDArray[Any]) -> NDArray[np.bool_] | None:
    """What is not the largest piece that is not dark, its holes filled; None where the ground is all or next to nothing."""
    grey = brightest(pixels) if pixels.ndim == 3 else pixels[..., 0]
    grey = ndimage.median_filter(grey, 3)
    low, high = float(grey.min()), float(np.percentile(grey, 99))
    if not low < DARK * high:
        return None
    pieces, many = ndimage.label(grey > low + DARK * (high - low))
    if not many:
        return None
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    ground = ~ndimage.binary_fill_holes(pieces == largest)
    return np.asarray(ground) if _GROUND[0] <= ground.mean() <= _GROUND[1] else None


@checked
def shares(values: NDArray[Any], regions: Mapping[str, NDArray[np.bool_]]) -> dict[str, tuple[float, float]]:
    """Of each region its share of the absolute attribution of a map, and of the area; nothing of a map that is 0.

    >>> shares(np.array([[3.0, 0.0], [-1.0, 0.0]]), {"left": np.array([[True, False], [True, False]])})
    {'left': (1.0, 0.5)}
    """
    size = np.abs(np.nan_to_num(values))
    total = float(size.sum())
    if not total or not math.isfinite(total):
        return {}
    return {name: (float(size[where].sum()) / total, float(where.mean())) for name, where in regions.items()}


@dataclass(frozen=True)
class RegionShare:
    """The mean share of attribution in one region, over the ``cases`` that have it, with an interval by patient.

    ``area``: the mean share of the area; ``finding``: one sentence where the interval lies above it, else blank.
    """

    method: str
    region: str
    share: float
    low: float
    high: float
    area: float
    cases: int
    patients: int
    finding: str = ""


@checked
def region_shares(
    method: str, found: Sequence[Mapping[str, tuple[float, float]]], patients: Sequence[str], *, level: float = 0.95
) -> tuple[RegionShare, ...]:
    """A row for every region that a case has, from what :func:`shares` gave of each of N cases, and their patients (N,).

    The interval is that of the mean difference to the area's share, by patient, around the area: share and area of a case
    belong together, since a region is large in one image and small in another.
    """
    require(len(found) == len(patients), "each case needs its patient", given=f"{len(found)}, {len(patients)}")
    rows = []
    for region in dict.fromkeys(name for each in found for name in each):
        held = [i for i, each in enumerate(found) if region in each]
        share, area = np.array([found[i][region] for i in held]).T
        codes = np.unique([patients[i] for i in held], return_inverse=True)[1].astype(np.int64)
        many = int(codes.max()) + 1
        made = bootstrapped(mean_statistic("share", share - area, codes, many, scale="plain"), codes, level=level)[0]
        mean = float(area.mean())
        low, high = mean + made.low, mean + made.high
        rows.append(RegionShare(method, region, float(share.mean()), low, high, mean, len(held), many,
                                _finding(region, float(share.mean()), low, high, mean, len(held), many)))  # fmt: skip
    return tuple(rows)


def _finding(region: str, share: float, low: float, high: float, area: float, cases: int, patients: int) -> str:
    if not low > area:
        return ""
    few = f", of {count(patients, 'patient')} only" if patients < FEW else ""
    return (f"The model looks {region} more than by chance: {share:.0%} of the attribution ({low:.0%} to {high:.0%}) lies on"
            f" {area:.0%} of the area, in {count(cases, 'case')}{few}.")  # fmt: skip


@checked
def region_lines(rows: Sequence[RegionShare]) -> list[str]:
    """As the terminal shows them: a line for each method and region, and its finding."""
    return [
        f"  {r.method}, {r.region}: {r.share:.1%} of the attribution ({r.low:.1%} to {r.high:.1%}) on {r.area:.1%} of the area"
        f" in {count(r.cases, 'case')}{' — ' + r.finding if r.finding else ''}"
        for r in rows
    ]
