"""Each cell as an image of its own: windows around objects, written so that they are cases like any other.

The patient of a cell is the patient of its image, and its part of the split is that of the image: no two cells of one image
can stand on two sides.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from overread.cases.cases import Cases
from overread.cases.split import Split, prove
from overread.core.errors import InputError, UnsoundError, checked, require
from overread.core.files import publish
from overread.images.outlines.outlines import Outlines
from overread.tasks.target import Target

#: Name of the array in a file of crops.
ARRAY = "cells"
#: Columns of a table of cells that say whose they are: the case of the image, and the object's number in it.
IMAGE_CASE, IMAGE_ROW, OBJECT = "image_case", "image_row", "object"
#: Of the cells that decide the window, this share fits into it, with so much room around them.
FITS, ROOM = 0.95, 1.25
#: Cells whose sizes decide a window are at least so many pixels across.
LEAST_SIDE = 8


@dataclass(frozen=True)
class Window:
    """What is cut out around a cell.

    ``side``: pixels of the square around its middle; the same for all cells, so that size can be seen. ``microns``: the
    side in microns instead, for images whose pixel size is known. ``size``: pixels of a side as the crop is stored,
    shrunk by area or enlarged linearly. ``masked``: what lies outside of the cell is the median of its window.
    """

    side: float = 0.0
    microns: float = 0.0
    size: int = 64
    masked: bool = False

    def __post_init__(self) -> None:
        require(self.side >= 0 and self.microns >= 0, "a window has a side above 0", given=(self.side, self.microns))
        require(not (self.side and self.microns), "the side of a window is given in one way", given=f"{self.side:g} pixels and {self.microns:g} microns",
                todo="give --cell-window or --cell-microns")  # fmt: skip
        require(4 <= self.size <= 1024, "crops are stored with 4 to 1,024 pixels of a side", given=self.size)

    def pixels(self, pixel_size: float) -> float:
        """The side in pixels of an image of this pixel size. Raises :class:`InputError` where it would have to be known."""
        if not self.microns:
            return self.side
        if not pixel_size > 0:
            raise InputError("a window in microns needs the pixel size of every image", given=f"{self.microns:g} microns",
                             todo="give --pixel-size, or the window in pixels: --cell-window")  # fmt: skip
        return self.microns / pixel_size


@checked
def window_side(outlines: Iterable[Outlines]) -> float:
    """The side in pixels, an even number, that holds :data:`FITS` of these cells with :data:`ROOM` around them.

    Raises :class:`InputError` where there is no cell.
    """
    sides = [max(region[0].stop - region[0].start, region[1].stop - region[1].start)
             for each in outlines for region in ndimage.find_objects(each.labels) if region is not None]  # fmt: skip
    if not sides:
        raise InputError("there is no cell whose size could decide the window", todo="say it: --cell-window PIXELS")
    return float(2 * math.ceil(max(float(np.quantile(sides, FITS)), LEAST_SIDE) * ROOM / 2))


@checked
def cut_cells(
    pixels: NDArray[Any], outlines: Outlines, window: Window, *, pixel_size: float = 0.0
) -> NDArray[np.uint8]:
    """(K, size, size, C) uint8: a window around the middle of each object's bounding box, in the order of the labels.

    ``pixels`` (H, W, C) or (H, W); of more than 8 bits they are scaled by the range of the image. Beyond the image the
    edge is repeated. An object that others cover whole is cut out around nothing: its crop is black.
    """
    planes = _eight_bits(pixels[..., None] if pixels.ndim == 2 else pixels)
    require(planes.shape[:2] == outlines.labels.shape, "the image and its mask are not of one size", given=(planes.shape[:2], outlines.labels.shape))  # fmt: skip
    side = window.pixels(pixel_size)
    require(side >= 1, "a window has a side above 0", given=side)
    made = np.zeros((len(outlines), window.size, window.size, planes.shape[2]), np.uint8)
    regions = ndimage.find_objects(outlines.labels, max_label=len(outlines))
    for number, region in enumerate(regions):
        if region is not None:
            made[number] = _cut(planes, outlines.labels, number + 1, region, side, window)
    return made


def _cut(planes: NDArray[np.uint8], labels: NDArray[np.int32], label: int, region: tuple[slice, slice], side: float, window: Window) -> NDArray[np.uint8]:  # fmt: skip
    whole = max(1, round(side))
    middle = [(place.start + place.stop) / 2 for place in region]
    top, left = (round(at - whole / 2) for at in middle)
    rows, columns = (np.clip(np.arange(start, start + whole), 0, length - 1) for start, length in zip((top, left), labels.shape))  # fmt: skip
    crop = planes[np.ix_(rows, columns)]
    if window.masked:
        inside = labels[np.ix_(rows, columns)] == label
        crop = np.where(inside[..., None], crop, np.median(crop, axis=(0, 1)).astype(np.uint8))
    how = cv2.INTER_AREA if whole > window.size else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(crop), (window.size, window.size), interpolation=how)
    return np.asarray(resized, np.uint8).reshape(window.size, window.size, planes.shape[2])


def _eight_bits(planes: NDArray[Any]) -> NDArray[np.uint8]:
    if planes.dtype == np.uint8:
        return planes
    low, high = float(planes.min()), float(planes.max())
    scaled = (planes.astype(np.float32) - low) * (255 / (high - low) if high > low else 0)
    return np.asarray(scaled.round(), np.uint8)


@checked
def write_crops(path: str | Path, crops: NDArray[np.uint8]) -> list[str]:
    """Write crops (K, size, size, C), K ≥ 1, as the array :data:`ARRAY` of an ``.npz`` file; returns the address of each."""
    require(len(crops) > 0, "there is no crop to write")
    path = Path(path)
    # a fixed date, so that the same cells make the same bytes
    about = zipfile.ZipInfo(f"{ARRAY}.npy")
    with publish(path) as beside, zipfile.ZipFile(beside, "w") as archive, archive.open(about, "w", force_zip64=True) as member:  # fmt: skip
        np.lib.format.write_array(member, np.ascontiguousarray(crops), allow_pickle=False)
    return [f"{path}#{ARRAY}/{row}" for row in range(len(crops))]


# -- cells as cases -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CutImage:
    """The cells of one image: its row among the cases, where each crop lies, and the class of each, ``""`` unknown."""

    row: int
    addresses: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        require(len(self.addresses) == len(self.classes), "each crop needs a class, which may be blank",
                given=f"{len(self.addresses)} and {len(self.classes)}")  # fmt: skip


@checked
def cells_as_cases(images: Cases, cut: Sequence[CutImage], target: Target) -> Cases:
    """Each cell as a case of its own, with its class for a label; its patient and source are those of its image.

    ``target``: of the classes of cells. The columns :data:`IMAGE_CASE`, :data:`IMAGE_ROW` (from 0) and :data:`OBJECT` (the
    number in the label image) say which cell it is.
    """
    known = set(target.names)
    rows = [
        {"image": address, "case": f"{about[IMAGE_CASE]}/{about[IMAGE_ROW]}/{number}", "label": name if name in known else "", OBJECT: str(number)} | about
        for each, about in _with_roles(images, cut)
        for number, (address, name) in enumerate(zip(each.addresses, each.classes, strict=True), 1)
    ]  # fmt: skip
    return _cases(rows, images, target, ["label", IMAGE_CASE, IMAGE_ROW, OBJECT])


@checked
def cells_of_cases(images: Cases, cut: Sequence[CutImage]) -> Cases:
    """The cells of a case as its images, with its label: what a network learns from that pools over them."""
    labels = list(images.target.columns)
    rows = [
        {"image": address, "case": about[IMAGE_CASE], OBJECT: str(number)} | about | {name: images.table[name].iloc[each.row] for name in labels}
        for each, about in _with_roles(images, cut)
        for number, address in enumerate(each.addresses, 1)
    ]  # fmt: skip
    return _cases(rows, images, images.target, [*labels, IMAGE_CASE, IMAGE_ROW, OBJECT])


def _cases(rows: list[dict[str, Any]], images: Cases, target: Target, columns: list[str]) -> Cases:
    table = pd.DataFrame(rows, columns=["image", "case", "patient", "source", *columns]).assign(
        view="", time="", split=""
    )
    return Cases(table, target, "", salt=images.salt, identifiers=images.identifiers)


def _with_roles(images: Cases, cut: Sequence[CutImage]) -> Iterator[tuple[CutImage, dict[str, str]]]:
    for each in cut:
        row = images.table.iloc[each.row]
        yield each, {"patient": str(row["patient"]), "source": str(row["source"]), IMAGE_CASE: str(row["case"]), IMAGE_ROW: str(each.row)}  # fmt: skip


@checked
def carried_split(parts: Split, cells: Cases) -> Split:
    """The split ``parts`` of the images carried over to their cells: each in the part of its image; with its own proof.

    ``cells``: of :func:`cells_as_cases` or :func:`cells_of_cases`. Raises :class:`UnsoundError` for cells of an image that
    is in no part, and where the proof fails, which would mean that cells of one patient stand on two sides.
    """
    part_of = dict(zip(parts.table["case"], parts.table["part"], strict=True))
    part = cells.table[IMAGE_CASE].map(part_of)
    if part.isna().any():
        raise UnsoundError("there are cells of images that are in no part of the split", given=f"{cells.table.loc[part.isna(), IMAGE_CASE].nunique()} images",
                           todo="cut out cells of the images of the split alone")  # fmt: skip
    table = (
        cells.table[["case", "patient"]]
        .assign(part=part)
        .drop_duplicates("case")
        .sort_values("case", ignore_index=True)
    )
    proof = prove(table, cells, None, {}, [], True)
    owner = dict(zip(parts.table["case"], parts.table["patient"], strict=True))
    strange = int((cells.table[IMAGE_CASE].map(owner) != cells.table["patient"]).sum())
    if proof["patients shared"] or strange:
        raise UnsoundError("cells of one patient stand in two parts", given=f"{proof['patients shared']} patients shared, {strange} cells of another patient than their image",
                           todo="split the images by patient")  # fmt: skip
    proof |= {
        "checked": f"each cell is in the part of its image, and has its patient; of the images: {parts.proof.get('checked', 'no proof')}"
    }
    return Split(table, f"carried over from the images: {parts.method}", parts.seed, proof)
