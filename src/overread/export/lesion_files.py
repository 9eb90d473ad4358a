"""Lesions of slides for QuPath: GeoJSON of the points that were found and of the regions above the threshold."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import ArgumentError, checked, require
from overread.core.files import write_text
from overread.images.outlines.polygons import object_polygons

__all__ = ["SlideLesions", "lesions_geojson", "write_lesions"]

#: What a colour-blind reader tells from H&E (Okabe & Ito 2008).
_COLOUR = [0, 114, 178]
#: What the ids of objects are made of, so that the same lesion has the same id in every export.
_SPACE = uuid.UUID("0b5b1f6e-3c0d-5e6c-8a43-6f7665727264")


@dataclass(frozen=True, eq=False)
class SlideLesions:
    """What leaves the house of one slide.

    ``name`` of its file, without an ending; ``group``: the class that lesions are of. ``lesions``: the columns ``x``, ``y``
    (µm from the upper left corner of level 0), ``score`` and ``area`` (µm²). ``regions`` (H, W): cells of the heat map above
    the threshold, numbered from 1, each ``cell`` µm of a side from ``origin`` on, with the ``highest`` score of each. ``mpp``:
    µm of a pixel of level 0.
    """

    name: str
    group: str
    lesions: pd.DataFrame
    regions: NDArray[np.integer]
    highest: NDArray[np.float64]
    cell: float
    mpp: float
    origin: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        require({"x", "y", "score", "area"} <= set(self.lesions.columns), "a table of lesions has the columns x, y, score and area", given=", ".join(map(str, self.lesions.columns)))  # fmt: skip
        require(
            self.cell > 0 and self.mpp > 0, "a cell and a pixel have a size in microns", given=(self.cell, self.mpp)
        )
        require(len(self.highest) == int(self.regions.max(initial=0)), "there is a highest score of each region", given=len(self.highest))  # fmt: skip
        if Path(self.name).name != self.name or self.name in ("", ".", ".."):
            raise ArgumentError("the name of a slide is no name of a file", given=self.name)


@checked
def lesions_geojson(slide: SlideLesions) -> dict[str, Any]:
    """The lesions of a slide as a FeatureCollection (RFC 7946) in pixels of level 0, as QuPath 0.4 and later read it.

    Annotations: a point a lesion, named by its rank, with its score; a polygon, or several, a region along the edges of the
    cells of the heat map. Each has the class and its area in µm².
    """
    numbers = slide.lesions[["x", "y", "score", "area"]].to_numpy(np.float64)
    found = [
        _feature(slide, f"lesion {rank}", {"type": "Point", "coordinates": _pixels(row[:2], slide.mpp)}, {"score": row[2], "area µm^2": row[3]})
        for rank, row in enumerate(numbers, start=1)
    ]  # fmt: skip
    cells = np.bincount(slide.regions.ravel(), minlength=1)
    for number, pieces in object_polygons(slide.regions):
        rings = [
            [_pixels(np.concatenate([ring, ring[:1]]) * slide.cell + slide.origin, slide.mpp) for ring in piece]
            for piece in pieces
        ]
        shape = (
            {"type": "Polygon", "coordinates": rings[0]}
            if len(rings) == 1
            else {"type": "MultiPolygon", "coordinates": rings}
        )
        found.append(
            _feature(
                slide,
                f"region {number}",
                shape,
                {"highest score": slide.highest[number - 1], "area µm^2": cells[number] * slide.cell**2},
            )
        )
    return {"type": "FeatureCollection", "features": found}


@checked
def write_lesions(folder: str | os.PathLike[str], slides: Iterable[SlideLesions]) -> list[Path]:
    """``NAME.geojson`` of each slide; gives the paths."""
    made = ((Path(folder) / f"{slide.name}.geojson", json.dumps(lesions_geojson(slide), ensure_ascii=False, allow_nan=False, separators=(",", ":")))
            for slide in slides)  # fmt: skip
    return [write_text(path, text + "\n") for path, text in made]


def _pixels(points: NDArray[np.float64], mpp: float) -> Any:
    """Places in µm as pixels of level 0, to a hundredth."""
    return np.round(np.asarray(points, np.float64) / mpp, 2).tolist()


def _feature(slide: SlideLesions, name: str, geometry: dict[str, Any], numbers: dict[str, float]) -> dict[str, Any]:
    about = {"objectType": "annotation", "name": name, "classification": {"name": slide.group, "color": _COLOUR},
             "measurements": {key: float(value) for key, value in numbers.items() if np.isfinite(value)}}  # fmt: skip
    identity = str(uuid.uuid5(_SPACE, json.dumps([slide.name, name, geometry])))
    return {"type": "Feature", "id": identity, "geometry": geometry, "properties": about}
