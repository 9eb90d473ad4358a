"""Are the masks sound? What a table of outlines can have wrong, found before anything is trained."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.described_rows import DescribedRows, Found, Severity, file_state, found_in
from overread.cases.audit.fingerprints import components
from overread.cases.cases import Cases, mask_paths, paths
from overread.core.errors import checked, require
from overread.core.phrases import count as counted
from overread.core.progress import Progress, silent
from overread.images.address import file_of
from overread.images.outlines.mask_address import mask_file, several
from overread.images.outlines.mask_description import NO_MASK, OTHER_SIZE, describe_mask
from overread.stats.estimate import rounded

#: Objects of at most so many pixels, or of this part of the median area, are specks.
SPECK, SPECK_SHARE = 4, 0.02
#: Of a mask that is not its image's: less contrast than this part of the median, where the median is at least this.
ELSEWHERE, TELLING = 0.35, 0.4
#: From this share of all objects on a flaw is worth a warning.
MANY = 0.01
MANY_SUSPECTS = 0.05
#: Of two sources: how many times the median area of one the other has before it is told.
SCALES = 2.0


@dataclass(frozen=True, eq=False)
class Masks:
    """Cases with what was seen of their masks, row by row (:data:`~.mask_description.NO_MASK`), and the pairs of equal
    images as positions."""

    cases: Cases
    rows: pd.DataFrame
    exact: NDArray[np.int64]

    @cached_property
    def read(self) -> NDArray[np.bool_]:
        """(N,) where there is a mask that could be read."""
        return self.cases.table["mask"].ne("").to_numpy() & self.rows["error"].eq("").to_numpy()

    @cached_property
    def areas(self) -> list[NDArray[np.int32]]:
        """(N,) of each image the pixels of its objects."""
        return [np.frombuffer(data, np.int32) for data in self.rows["areas"]]

    @cached_property
    def median(self) -> float:
        """The median area of all objects in pixels; NaN without any."""
        every = np.concatenate([np.empty(0, np.int32), *self.areas])
        return float(np.median(every)) if len(every) else float("nan")

    @property
    def objects(self) -> int:
        """Objects of all images."""
        return int(self.rows["objects"].sum())

    @cached_property
    def micron(self) -> NDArray[np.float64]:
        """(N,) microns of a pixel: those of the table, else those of the image's file; NaN where neither says them."""
        told = self.cases.table.get("pixel_size", pd.Series(np.nan, index=self.rows.index)).to_numpy(np.float64)
        return np.where(np.isnan(told), self.rows["pixel_size"].to_numpy(np.float64), told)


@checked
def describe_masks(
    cases: Cases, readable: NDArray[np.bool_], *, threads: int = 0, progress: Progress = silent,
    cache: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row an image of ``cases``, in their order: what its mask is (:func:`~.mask_description.describe_mask`).

    Images without a mask, and those that are not ``readable`` (N,), have a row of nothing; a mask that cannot be read has
    its reason in ``error``. ``threads``: processes, 0 for as many as there are cores. ``cache``: a folder that keeps rows by
    path, size and time of change. No mask stays in memory: of an object are kept the four bytes of its area.
    """
    require(len(readable) == len(cases), "each image is readable or not", given=f"{len(readable)} for {len(cases)}")
    masks, images = mask_paths(cases), paths(cases)
    classes = list(cases.target.names if cases.target.task.dense else ())
    tasks = [(mask, image, classes) for mask, image in zip(masks, images, strict=True)]
    return _KEPT.describe(describe_mask, tasks, _keys(masks, images, classes, readable), what="reading masks", threads=threads,
                          progress=progress, cache=cache)  # fmt: skip


_KEPT = DescribedRows("masks", 2, NO_MASK, {})


def _keys(masks: list[str], images: list[str], classes: list[str], readable: NDArray[np.bool_]) -> list[str]:
    """A key for each mask and image from their paths, sizes and times of change; blank where there is nothing to be read."""
    state = functools.cache(file_state)

    def key(mask: str, image: str) -> str:
        files = (file_of(image), *(mask_file(one) for one in several(mask)))
        return _KEPT.key(classes, os.path.abspath(image), os.path.abspath(mask), *map(state, files))

    return [key(mask, image) if mask and there else "" for mask, image, there in zip(masks, images, readable, strict=True)]  # fmt: skip


@checked
def check_masks(masks: Masks) -> list[Found]:
    """Everything that is wrong with the masks."""
    return [found for check in CHECKS for found in check(masks) if found[5]]


@checked
def unusable(masks: Masks) -> dict[str, str]:
    """The reason of each case whose mask cannot be used."""
    names, errors = masks.cases.table["case"], masks.rows["error"]
    return {names[place]: f"mask: {errors[place]}" for place in np.flatnonzero(errors != "")}


# -- masks that cannot be used -------------------------------------------------------------------------------------


def _unreadable(masks: Masks) -> list[Found]:
    errors = masks.rows["error"]
    differ = errors.str.contains(OTHER_SIZE, regex=False)
    broken = np.flatnonzero((errors != "") & ~differ)
    severity: Severity = "error" if len(broken) * 20 > max(len(errors), 1) else "warning"
    found = found_in("unreadable-mask", severity, f"{counted(len(broken), 'mask')} cannot be read, and {'its image is' if len(broken) == 1 else 'their images are'} set aside, first: {errors[broken[0]].rstrip('.') if len(broken) else ''}",
                     "Restore these files, or blank their cells.", broken)  # fmt: skip
    sizes = np.flatnonzero(differ)
    return found + found_in("mask-size", "error", f"{counted(len(sizes), 'mask has', 'masks have')} another size than the image, first: {errors[sizes[0]].rstrip('.') if len(sizes) else ''}",
                            "Save masks at the size of their images; of those resized take the original ones.", sizes)  # fmt: skip


# -- masks that belong elsewhere -----------------------------------------------------------------------------------


def _copies(masks: Masks) -> list[Found]:
    """One image with different masks, and one mask of different images."""
    digest, read = masks.rows["digest"].to_numpy(object), masks.read
    pairs = masks.exact[read[masks.exact].all(axis=1)] if len(masks.exact) else masks.exact
    torn = pairs[digest[pairs[:, 0]] != digest[pairs[:, 1]]]
    found = found_in("conflicting-mask", "warning", f"{counted(len(torn), 'pair')} of images that are the same, pixel for pixel, have different masks",
                     "Find out which mask is right, or treat them as two readers' (overread readers).", np.unique(torn), len(torn))  # fmt: skip
    full = pd.Series(digest)[read & (masks.rows["objects"] > 0).to_numpy()]
    images = pd.Series(components(len(digest), masks.exact))[full.index]  # equal images are one
    rows = full.index[images.groupby(full).transform("nunique") > 1].to_numpy(np.int64)
    return found + found_in("mask-copied", "warning", f"{counted(len(rows), 'image shares', 'images share')} a mask with another image",
                            "A mask was copied to the wrong name: restore that of each image.", rows)  # fmt: skip


def _elsewhere(masks: Masks) -> list[Found]:
    contrast = masks.rows["contrast"].to_numpy(np.float64)
    usual = float(np.nanmedian(contrast)) if np.isfinite(contrast).any() else 0.0
    rows = np.flatnonzero(contrast < ELSEWHERE * usual) if usual >= TELLING else np.empty(0, np.int64)
    return found_in("mask-elsewhere", "warning", f"{counted(len(rows), 'mask does', 'masks do')} not lie on what {'its image shows' if len(rows) == 1 else 'their images show'}: brightness tells inside from outside by {rounded(float(np.nanmax(contrast[rows])) if len(rows) else 0)} at most, in the median image by {rounded(usual)}",
                    "Look at them: the mask of another image, or one that was flipped, turned or shifted.", rows)  # fmt: skip


# -- masks that are flawed -----------------------------------------------------------------------------------------


def _interpolated(masks: Masks) -> list[Found]:
    rims, objects = masks.rows["rims"], masks.rows["objects"]
    rows = np.flatnonzero(masks.rows["smooth"].astype(bool) | ((rims >= 3) & (rims > 0.1 * objects)))
    return found_in("interpolated-mask", "warning", f"{counted(len(rows), 'mask was', 'masks were')} resized so that labels were mixed: there are grey values, or numbers that stand only along edges",
                    "Take the original masks, or resize them by nearest neighbour; numbers along edges would be learned as objects.", rows)  # fmt: skip


def _flawed(masks: Masks) -> list[Found]:
    """Flaws of single objects: how many objects of how many images."""
    found: list[Found] = []
    for kind, column, what, advice in (
        ("split-object", "pieces", "in several pieces under one number", "One object or several? Number each piece that is an object of its own."),
        ("hollow-object", "holes", "with holes", "Fill them, unless the object has holes."),
        ("merged-objects", "suspects", "that may be several under one number: concave, or far larger than the others", "Look at them: objects that touch need a number each; masks of one value cannot tell them apart."),
    ):  # fmt: skip
        many, rows = int(masks.rows[column].sum()), np.flatnonzero(masks.rows[column] > 0)
        most = {"hollow-object": 1.0, "merged-objects": MANY_SUSPECTS}.get(kind, MANY)
        severity: Severity = "warning" if many > most * max(masks.objects, 1) else "note"
        found += found_in(
            kind, severity, f"{counted(many, 'object')} {what}, in {counted(len(rows), 'image')}", advice, rows
        )
    pixels, rows = int(masks.rows["overlapped"].sum()), np.flatnonzero(masks.rows["overlapped"] > 0)
    return found + found_in("overlaps", "note", f"{counted(pixels, 'pixel is', 'pixels are')} claimed by more than one object, in {counted(len(rows), 'image')}; the smaller object has them",
                            "A label image holds one object a pixel: see that the outlines are meant so.", rows)  # fmt: skip


def _specks(masks: Masks) -> list[Found]:
    if np.isnan(masks.median):
        return []
    few = max(SPECK, SPECK_SHARE * masks.median)
    each = np.array([int((areas <= few).sum()) for areas in masks.areas], np.int64)
    rows, many = np.flatnonzero(each), int(each.sum())
    severity: Severity = "warning" if many > MANY * masks.objects else "note"
    return found_in("specks", severity, f"{counted(many, 'object')} of at most {few:,.0f} pixels, where the median object has {masks.median:,.0f}, in {counted(len(rows), 'image')}",
                    "Slips of the pen count as objects: remove them, or see that they are meant.", rows)  # fmt: skip


def _empty(masks: Masks) -> list[Found]:
    rows = np.flatnonzero(masks.read & (masks.rows["objects"] == 0).to_numpy())
    severity: Severity = "error" if len(rows) and len(rows) == int(masks.read.sum()) else "note"
    return found_in("empty-mask", severity, f"{counted(len(rows), 'mask holds', 'masks hold')} no object",
                    "Right where the image shows none: it teaches that too, and every object found there is false.", rows)  # fmt: skip


def _one_object(masks: Masks) -> list[Found]:
    """Components of one mask, where most objects touch the border of another: numbers would tell them apart."""
    rows = np.flatnonzero(
        masks.rows["notes"].str.contains("one mask, whose", regex=False) & (masks.rows["objects"] > 1)
    )
    return found_in("one-mask", "note", f"{counted(len(rows), 'mask has', 'masks have')} one value for all objects: those that touch count as one",
                    "Where objects touch, a label image with a number for each tells them apart.", rows)  # fmt: skip


def _scales(masks: Masks) -> list[Found]:
    held = objects_by_source(masks)
    sized = {name: one["median pixels"] for name, one in held.items() if one["objects"] >= 30}
    if len(sized) < 2:
        return []
    low, high = min(sized, key=lambda name: sized[name]), max(sized, key=lambda name: sized[name])
    if sized[high] < SCALES * sized[low]:
        return []
    told = " (--pixel-size brings them to one scale)" if np.isnan(masks.micron).all() else ""
    return found_in("object-scale", "note", f"the median object has {sized[high]:,.0f} pixels in {high} and {sized[low]:,.0f} in {low}",
                    f"A network sees sizes: give microns of a pixel where the microscopes differ{told}.", np.flatnonzero(masks.read), 1)  # fmt: skip


def _described(masks: Masks) -> list[Found]:
    """How many objects there are, and how large, by source."""
    told = "; ".join(f"{name}: {_in_words(one)}" for name, one in objects_by_source(masks).items() if one["objects"])
    return found_in("objects", "note", f"{counted(masks.objects, 'object')} in {counted(int(masks.read.sum()), 'mask')} ({told})",
                    "See that numbers and sizes are what you know of these images.", np.flatnonzero(masks.read), masks.objects)  # fmt: skip


def _in_words(one: dict[str, Any]) -> str:
    pixels, each = one["pixels"], one["objects an image"]
    words = f"median {each['median']:,.0f} an image (5–95 %: {each['5 %']:,.0f}–{each['95 %']:,.0f}), area {pixels['median']:,.0f} pixels ({pixels['5 %']:,.0f}–{pixels['95 %']:,.0f})"
    square = one.get("square microns")
    return words + (
        f", {rounded(square['median'])} µm² ({rounded(square['5 %'])}–{rounded(square['95 %'])})" if square else ""
    )


CHECKS: tuple[Callable[[Masks], list[Found]], ...] = (
    _unreadable, _copies, _elsewhere, _interpolated, _flawed, _specks, _empty, _one_object, _scales, _described,
)  # fmt: skip


# -- what there is, counted ----------------------------------------------------------------------------------------


@checked
def objects_by_source(masks: Masks) -> dict[str, dict[str, Any]]:
    """Of each source (``""`` where none is named) and of all together: masks, objects, objects an image, and areas in
    pixels and in square microns, each with its median and the range from the 5th to the 95th percentile."""
    sources = masks.cases.table["source"].to_numpy(object)
    groups = {str(name): masks.read & (sources == name) for name in sorted(set(sources[masks.read]))}
    groups = groups if len(groups) > 1 else {}
    return {name: _summary(masks, rows) for name, rows in {**groups, "all": masks.read}.items() if rows.any()}


def _summary(masks: Masks, rows: NDArray[np.bool_]) -> dict[str, Any]:
    places, each = np.flatnonzero(rows), masks.rows["objects"].to_numpy()[rows]
    areas = np.concatenate([np.empty(0), *(masks.areas[place] for place in places)])
    scaled = [masks.areas[place] * masks.micron[place] ** 2 for place in places if np.isfinite(masks.micron[place])]
    found = {"masks": len(places), "objects": int(each.sum()), "objects an image": _spread(each), "median pixels": float(np.median(areas)) if len(areas) else 0.0,
             "pixels": _spread(areas)}  # fmt: skip
    classes = pd.Series(
        [name for cell in masks.rows["classes"].to_numpy()[rows] if cell for name in cell.split(",")]
    ).value_counts()
    found |= {"classes": {str(name): int(many) for name, many in sorted(classes.items())}} if len(classes) else {}
    if scaled and sum(map(len, scaled)):
        found["square microns"] = _spread(np.concatenate(scaled))
    return found


def _spread(values: NDArray[Any]) -> dict[str, float]:
    if not len(values):
        return {}
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
    return {"median": float(median), "5 %": float(low), "95 %": float(high), "min": float(values.min()), "max": float(values.max())}  # fmt: skip
