"""Outlined objects for other programs: QuPath's GeoJSON, and label images with a table that napari and Fiji open."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.core.errors import ArgumentError, checked, require
from overread.core.files import publish, write_csv, write_text
from overread.images.outlines.outlines import Outlines
from overread.images.outlines.polygons import Polygon, object_polygons

#: Of every class a colour that QuPath shows it in (Okabe & Ito 2008), in the order of the classes.
_COLOURS = ((86, 180, 233), (230, 159, 0), (204, 121, 167), (240, 228, 66), (0, 158, 115), (213, 94, 0))
#: What the ids of objects are made of, so that the same object has the same id in every export.
_SPACE = uuid.UUID("6f3f3d1c-6b5e-5c0e-9d8e-6f7665727264")
#: Columns of a table of objects that are no measurements.
_NAMES = ("case", "patient", "source", "object", "class")
_MICRON = 1e4  # in a centimetre


@dataclass(frozen=True, eq=False)
class OutlinedImage:
    """An image's objects as they leave the house.

    ``name``: of its files, without an ending. ``objects``: a row an object under its number in the column ``object``,
    with any measurements. ``pixel_size``: microns a pixel, 0 where nobody knows it.
    """

    name: str
    outlines: Outlines
    objects: pd.DataFrame
    pixel_size: float = 0.0

    def __post_init__(self) -> None:
        require("object" in self.objects, "a table of objects has the column object", given=", ".join(map(str, self.objects.columns)))  # fmt: skip
        require(math.isfinite(self.pixel_size) and self.pixel_size >= 0, "a pixel's size in microns is above 0, or 0 where unknown", given=self.pixel_size)  # fmt: skip
        if Path(self.name).name != self.name or self.name in ("", ".", ".."):
            raise ArgumentError("the name of an image is no name of a file", given=self.name)


# -- QuPath ---------------------------------------------------------------------------------------------------------


@checked
def geojson_of(image: OutlinedImage, classes: Sequence[str] = ()) -> dict[str, Any]:
    """The objects as a FeatureCollection (RFC 7946) in pixels, from the upper left corner, as QuPath 0.4 and later read it.

    Each object is a detection: a polygon with its holes along the edges of its pixels, of several pieces a multipolygon;
    its class with a colour, by its place in ``classes``; its measurements. Numbers that are not finite are left out.
    """
    said = image.objects.set_index("object")
    measured = [name for name in said.columns if name not in _NAMES and pd.api.types.is_numeric_dtype(said[name])]
    order = list(classes) or sorted(set(filter(None, image.outlines.classes)))
    features = []
    for number, pieces in object_polygons(image.outlines.labels):
        held = image.outlines.classes[number - 1]
        about: dict[str, Any] = {"objectType": "detection", "name": str(number)}
        if held:
            place = order.index(held) if held in order else len(order)
            about["classification"] = {"name": held, "color": list(_COLOURS[place % len(_COLOURS)])}
        if number in said.index:
            row = said.loc[number, measured].to_dict()
            about["measurements"] = {name: float(value) for name, value in row.items() if np.isfinite(float(value))}
        identity = str(uuid.uuid5(_SPACE, f"{image.outlines.digest} {image.name} {number}"))
        features.append({"type": "Feature", "id": identity, "geometry": _geometry(pieces), "properties": about})
    return {"type": "FeatureCollection", "features": features}


@checked
def write_geojson(
    folder: str | os.PathLike[str], images: Iterable[OutlinedImage], classes: Sequence[str] = ()
) -> list[Path]:
    """``NAME.geojson`` of each image; gives the paths."""
    made = (
        (Path(folder) / f"{image.name}.geojson", json.dumps(geojson_of(image, classes), ensure_ascii=False, allow_nan=False, separators=(",", ":")))
        for image in images
    )  # fmt: skip
    return [write_text(path, text + "\n") for path, text in made]


def _geometry(pieces: Sequence[Polygon]) -> dict[str, Any]:
    polygons = [[[*ring.tolist(), ring[0].tolist()] for ring in piece] for piece in pieces]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


# -- napari and Fiji ------------------------------------------------------------------------------------------------


@checked
def write_label_folder(
    folder: str | os.PathLike[str], images: Iterable[OutlinedImage], *, names: str = ""
) -> list[Path]:
    """``NAME.tif`` (labels of 16 bits, 32 beyond 65,535 objects) and ``NAME.csv`` of each image, and ``README.md``.

    The tables have napari's column ``index``, the number of the object in the label image, and ``class``. TIFF hold the
    size of a pixel where it is known. ``names``: what the README says of the names of files. Gives the paths.
    """
    home, written = Path(folder), list[Path]()
    for image in images:
        written.append(_write_tiff(home / f"{image.name}.tif", image))
        table = image.objects.rename(columns={"object": "index"})
        written.append(write_csv(home / f"{image.name}.csv", table[["index", *(c for c in table.columns if c != "index")]]))  # fmt: skip
    first = written[0].stem if written else "NAME"
    return [*written, write_text(home / "README.md", _README.format(first=first, names=names or "Files are named as in the run."))]  # fmt: skip


def _write_tiff(path: Path, image: OutlinedImage) -> Path:
    import tifffile

    labels, many = image.outlines.labels, len(image.outlines)
    made: dict[str, Any] = {"compression": "zlib", "software": "overread", "metadata": None}
    if image.pixel_size:
        made |= {"resolution": (_MICRON / image.pixel_size,) * 2, "resolutionunit": "CENTIMETER"}
    with publish(path) as temporary:
        tifffile.imwrite(temporary, labels.astype(np.uint16 if many <= 65_535 else np.uint32), **made)
    return path


_README = """# Outlined objects

Of each image `NAME.tif` holds the labels (0 is the background, each object has a number) and `NAME.csv` a row an object:
`index` is its number in the label image. {names}

napari shows one with

```text
napari --layer-type labels {first}.tif
```

and with the measurements of each object, which the status bar then tells under the pointer:

```python
import napari, pandas
viewer = napari.Viewer()
viewer.open("{first}.tif", layer_type="labels", features=pandas.read_csv("{first}.csv"))
napari.run()
```

Fiji opens the TIFF as they are (File > Open…, then Image > Lookup Tables > glasbey on dark). QuPath reads the GeoJSON of
`overread export RUN --geojson`: drag a file onto the open image.
"""
