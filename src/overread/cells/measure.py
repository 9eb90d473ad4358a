"""What each object of an image is like: size, shape, intensity, texture and neighbours, a row an object.

The geometry is scikit-image's (``regionprops``). Texture: Haralick 1973 (doi:10.1109/TSMC.1973.4309314) from pairs of pixels
within the object, and the local binary patterns of :mod:`overread.images.descriptors`. One object is looked at at a time, so
that the memory is that of the image whatever the number of objects.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, spatial
from skimage.measure import regionprops

from overread.core.errors import InputError, checked, require
from overread.images.descriptors import uniform_patterns
from overread.images.outlines.outlines import Outlines

#: Percentiles of the intensity that are told of each channel.
PERCENTILES = (5, 25, 50, 75, 95)
#: What is a length or an area, and stands beside its pixels in microns.
LENGTHS = ("perimeter", "equivalent diameter", "major axis", "minor axis", "nearest")
AREA = "area"
SHAPES = ("eccentricity", "solidity", "circularity", "orientation")
HARALICK = ("contrast", "homogeneity", "energy", "correlation", "entropy")
#: Grey levels of the pairs of pixels, and the four directions of Haralick 1973, (rows, columns).
LEVELS, DIRECTIONS = 16, ((0, 1), (1, 0), (1, 1), (1, -1))
#: Points of the circle of the local binary patterns, of radius 1; there are two patterns more.
POINTS = 8
#: Two objects are neighbours where their pixels are no farther apart than this, in pixels, if nobody says otherwise.
REACH = 10.0


@checked
def measure(
    outlines: Outlines, pixels: NDArray[Any] | None = None, *, pixel_size: float = 0.0, reach: float = REACH, texture: bool = True
) -> pd.DataFrame:  # fmt: skip
    """A row an object of one image, in the order of its labels.

    ``pixels`` (H, W, C) or (H, W), of the size of the labels, without which nothing is said of intensity and texture.
    ``pixel_size``: microns a pixel, 0 where nobody knows it. ``reach``: pixels within which objects are neighbours.

    Columns: ``object``, ``class``, ``area`` (pixels), ``perimeter`` (Crofton's formula in four
    directions: within 1 % of a disc's from 20 pixels across, 5 % short of a square's), ``equivalent diameter`` (of the disc of that area), ``major axis``, ``minor axis`` and
    ``eccentricity`` (of the ellipse of the same second moments), ``solidity`` (area by that of the convex hull),
    ``circularity`` (4π area by perimeter squared: 1 of a large disc, more of one of few pixels), ``orientation`` (degrees
    that the major axis is turned from the row, counter-clockwise, −90 … 90), ``y``, ``x`` (centre, pixels),
    ``touches border`` (1 where the image may cut it off), ``nearest`` (pixels from centre to the nearest centre; NaN of the
    only object), ``neighbours`` (objects within ``reach``), then of each channel ``intensity mean``, ``sd`` and
    percentiles as the image stores them, and of the grey image ``texture …``. With a ``pixel_size``
    ``area um2`` and lengths with `` um`` besides. Raises :class:`InputError` where the image is of another size.
    """
    require(pixel_size >= 0 and math.isfinite(pixel_size), "a pixel's size in microns is above 0, or 0 where unknown", given=pixel_size)  # fmt: skip
    require(reach >= 0, "neighbours lie at a distance of 0 or more", given=reach)
    labels = outlines.labels
    planes = None if pixels is None else _planes(pixels, labels.shape)
    grey = None if planes is None or not texture else _levels(planes)
    rows = [
        {"object": region.label, "class": outlines.classes[region.label - 1], **_geometry(region, labels.shape),
         "neighbours": _neighbours(labels, region, reach), **_intensity(planes, region), **_texture(grey, region)}
        for region in regionprops(labels)
    ]  # fmt: skip
    made = pd.DataFrame(rows) if rows else _empty(planes, grey is not None)
    made.insert(list(made).index("neighbours"), "nearest", _nearest(made[["y", "x"]].to_numpy(np.float64)))
    return _with_microns(made, pixel_size) if pixel_size else made


def _planes(pixels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Pixels as (H, W, C), of the size of the labels."""
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    if planes.ndim != 3 or planes.shape[:2] != shape:
        raise InputError("the image and its mask are not of one size", given=f"{planes.shape[:2]} and {shape}",
                         todo="take the mask of this image, at its own size")  # fmt: skip
    return planes


def _empty(planes: NDArray[Any] | None, texture: bool) -> pd.DataFrame:
    """The columns of an image without objects."""
    one = np.zeros((3, 3), np.int32)
    one[1, 1] = 1
    made = measure(Outlines(one, ("",)), None if planes is None else np.zeros((3, 3, planes.shape[2]), planes.dtype), texture=texture)  # fmt: skip
    return made.drop(columns="nearest").iloc[:0]


def _with_microns(made: pd.DataFrame, size: float) -> pd.DataFrame:
    for name in (AREA, *LENGTHS):
        power, unit = (2, "um2") if name == AREA else (1, "um")
        made.insert(list(made).index(name) + 1, f"{name} {unit}", made[name] * size**power)
    return made


# -- geometry ---------------------------------------------------------------------------------------------------------


def _geometry(region: Any, shape: tuple[int, ...]) -> dict[str, float]:
    top, left, bottom, right = region.bbox
    with warnings.catch_warnings():  # of objects of a line, whose hull has no area
        warnings.simplefilter("ignore")
        solidity = float(region.solidity)
    area, perimeter = float(region.area), float(region.perimeter_crofton)
    row, column = region.centroid
    return {
        AREA: area, "perimeter": perimeter, "equivalent diameter": float(region.equivalent_diameter_area),
        "major axis": float(region.axis_major_length), "minor axis": float(region.axis_minor_length),
        "eccentricity": float(region.eccentricity), "solidity": solidity,
        "circularity": 4 * math.pi * area / perimeter**2 if perimeter else math.nan,
        "orientation": _degrees(float(region.orientation)), "y": float(row), "x": float(column),
        "touches border": float(top == 0 or left == 0 or bottom == shape[0] or right == shape[1]),
    }  # fmt: skip


def _degrees(from_rows: float) -> float:
    """scikit-image's angle between the axis of rows and the major axis, as the turn from the row, counter-clockwise."""
    turned = math.degrees(math.atan2(-math.cos(from_rows), math.sin(from_rows)))
    return (turned + 90) % 180 - 90


def _nearest(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) from each centre (K, 2) to the nearest other one."""
    if len(centres) < 2:
        return np.full(len(centres), np.nan)
    return np.asarray(spatial.KDTree(centres).query(centres, k=2)[0][:, 1], np.float64)


def _neighbours(labels: NDArray[np.int32], region: Any, reach: float) -> int:
    """Other objects with a pixel whose centre is within ``reach`` pixels of one of the object's."""
    margin = math.ceil(reach)
    top, left, bottom, right = region.bbox
    around = labels[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
    others = (around > 0) & (around != region.label)
    if not others.any():
        return 0
    distance = np.asarray(ndimage.distance_transform_edt(around != region.label))
    return len(np.unique(around[others & (distance <= reach)]))


# -- intensity and texture --------------------------------------------------------------------------------------------


def _intensity(planes: NDArray[Any] | None, region: Any) -> dict[str, float]:
    if planes is None:
        return {}
    inside = planes[region.slice][region.image].astype(np.float64)  # (n, C)
    names = [""] if inside.shape[1] == 1 else [f" {channel + 1}" for channel in range(inside.shape[1])]
    mean, deviation, percentiles = inside.mean(axis=0), inside.std(axis=0), np.percentile(inside, PERCENTILES, axis=0)
    found: dict[str, float] = {}
    for channel, name in enumerate(names):
        found |= {f"intensity mean{name}": mean[channel], f"intensity sd{name}": deviation[channel]}
        found |= {f"intensity p{share}{name}": percentiles[i, channel] for i, share in enumerate(PERCENTILES)}
    return found


def _levels(planes: NDArray[Any]) -> NDArray[np.float32]:
    """The mean over the channels (H, W) on the scale 0 … 1 from the darkest to the brightest pixel of the image."""
    grey = planes.mean(axis=2, dtype=np.float32)
    low, high = float(grey.min()), float(grey.max())
    return np.asarray((grey - low) / (high - low if high > low else 1.0), np.float32)


def _texture(grey: NDArray[np.float32] | None, region: Any) -> dict[str, float]:
    if grey is None:
        return {}
    top, left, bottom, right = region.bbox
    inside = grey[region.slice]
    levels = np.minimum((inside * LEVELS).astype(np.int64), LEVELS - 1)
    found = dict(zip((f"texture {name}" for name in HARALICK), haralick(levels, region.image), strict=True))
    margin = grey[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
    y, x = min(top, 1), min(left, 1)
    pattern = uniform_patterns(margin, POINTS, 1)[y : y + bottom - top, x : x + right - left]
    share = np.bincount(pattern[region.image], minlength=POINTS + 2) / region.image.sum()
    return found | {f"texture lbp {i}": float(value) for i, value in enumerate(share)}


@checked
def haralick(levels: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[float, ...]:
    """:data:`HARALICK` of grey ``levels`` (h, w) within an object ``inside`` (h, w).

    Of pairs of pixels that both lie within it, side by side in four directions and both ways (Haralick 1973): contrast
    Σ p (i − j)², homogeneity Σ p / (1 + (i − j)²), energy Σ p², correlation, entropy −Σ p log₂ p. Of an object without
    any pair NaN; of one grey alone the correlation is 1.

    >>> haralick(np.array([[3, 3], [3, 3]]), np.ones((2, 2), bool))
    (0.0, 1.0, 1.0, 1.0, 0.0)
    """
    pairs = list(_pairs(levels, inside))
    first, second = (np.concatenate(sides) for sides in zip(*pairs, strict=True))
    if not len(first):
        return (math.nan,) * len(HARALICK)
    many = int(levels.max()) + 1
    counts = np.bincount(first * many + second, minlength=many * many).reshape(many, many).astype(np.float64)
    share = (counts + counts.T) / (2 * counts.sum())
    place = np.arange(many, dtype=np.float64)
    apart = (place[:, None] - place[None]) ** 2
    mean = float(share.sum(axis=1) @ place)
    variance = float(share.sum(axis=1) @ (place - mean) ** 2)
    together = float((place - mean) @ share @ (place - mean))
    there = share[share > 0]
    return (
        float((share * apart).sum()), float((share / (1 + apart)).sum()), float((share**2).sum()),
        together / variance if variance > 1e-12 else 1.0, float(-(there * np.log2(there)).sum()) + 0.0,
    )  # fmt: skip


def _pairs(levels: NDArray[np.int64], inside: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:  # fmt: skip
    """The levels of pixels side by side in each direction, both within the object."""
    height, width = levels.shape
    for down, across in DIRECTIONS:
        one = (slice(0, height - down), slice(max(-across, 0), width - max(across, 0)))
        other = (slice(down, height), slice(max(across, 0), width + min(across, 0)))
        both = inside[one] & inside[other]
        yield levels[one][both], levels[other][both]
