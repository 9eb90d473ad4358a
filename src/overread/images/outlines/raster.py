"""What every form of masks becomes before it is :class:`~.outlines.Outlines`: numbered objects on the pixels of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.core.phrases import count

#: Pixels that touch at a corner belong together.
EIGHT = np.ones((3, 3), bool)
#: How many times over objects, with the rectangles around them, may cover an image: real ones lie beside each other.
MOST_COVERED = 32


@dataclass(frozen=True, eq=False)
class Raster:
    """Labels (H, W) of whole numbers, the class of each number from 1 on (or none), what was done, and the pixels that
    more than one object claimed."""

    labels: NDArray[Any]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    overlapped: int = 0


@dataclass(frozen=True, eq=False)
class Patch:
    """One object: its pixels (h, w) in the rectangle that begins at ``top`` and ``left``, and its class.

    ``note``: what had to be done to it, such as to cut it at the border of the image.
    """

    top: int
    left: int
    pixels: NDArray[np.bool_]
    name: str = ""
    note: str = ""

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rectangle as an index of labels (H, W)."""
        height, width = self.pixels.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@checked
def patch_of(mask: NDArray[np.bool_], name: str = "", note: str = "") -> Patch:
    """The object that a mask (H, W) of a whole image is; one without a pixel stays without."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Patch(0, 0, np.zeros((0, 0), bool), name, note)
    top, left = int(rows[0]), int(columns[0])
    return Patch(top, left, mask[top : rows[-1] + 1, left : columns[-1] + 1].copy(), name, note)


@checked
def painted(patches: Iterable[Patch], size: tuple[int, int], notes: tuple[str, ...] = ()) -> Raster:
    """Objects as labels of an image of this size, numbered in their order; where they overlap the smaller one is kept.

    Objects without a pixel in the image are left out, and that is said, as are those that lie wholly under others.
    Raises :class:`ImageError` where objects cover the image more than 32 times over.
    """
    kept, lost, done, area = list[Patch](), 0, Counter[str](), 0
    for patch in patches:
        done.update([patch.note] if patch.note else [])
        area += patch.pixels.size
        if area > MOST_COVERED * size[0] * size[1] + 1_000_000:
            raise ImageError("the outlines cover the image many times over", given=f"more than {MOST_COVERED} times", todo="see that they belong to this image")  # fmt: skip
        if patch.pixels.any():
            kept.append(patch)
        else:
            lost += 1
    labels, claims, pixels = np.zeros(size, np.int32), np.zeros(size, np.uint8), [int(p.pixels.sum()) for p in kept]
    for place in sorted(range(len(kept)), key=lambda place: -pixels[place]):  # the largest first, in their order
        patch = kept[place]
        labels[patch.slices][patch.pixels] = place + 1
        claims[patch.slices] += patch.pixels & (claims[patch.slices] < 255)
    covered = len(kept) - int((np.bincount(labels.ravel(), minlength=len(kept) + 1)[1:] > 0).sum())
    told = [f"{count(many, 'object')} {what}" for what, many in sorted(done.items())]
    told += [f"{count(lost, 'object')} without a pixel in the image left out"] if lost else []
    told += [f"{count(covered, 'object')} wholly under smaller ones left out"] if covered else []
    return Raster(labels, tuple(patch.name for patch in kept), (*notes, *told), int((claims > 1).sum()))


@checked
def joined(rasters: list[Raster]) -> Raster:
    """The objects of several masks of one image, one after the other."""
    if len(rasters) == 1:
        return rasters[0]
    size = rasters[0].labels.shape
    if any(raster.labels.shape != size for raster in rasters):
        raise ImageError("the masks of one image differ in size", given=" and ".join(f"{w} × {h}" for h, w in sorted({r.labels.shape for r in rasters})[:3]))  # fmt: skip
    notes = dict.fromkeys(note for raster in rasters for note in raster.notes)
    patches = (patch for raster in rasters for patch in patches_of(raster))
    return painted(patches, (size[0], size[1]), (f"{len(rasters)} masks of one image", *notes))


@checked
def patches_of(raster: Raster) -> list[Patch]:
    """The objects of a label image one by one, in the order of their numbers."""
    from scipy import ndimage

    names, labels = np.unique(raster.labels, return_inverse=True)
    labels = labels.reshape(raster.labels.shape) + int(names[0] != 0)
    names = names[names > 0]
    found = []
    for place, box in enumerate(ndimage.find_objects(labels, max_label=len(names))):
        name = raster.classes[int(names[place]) - 1] if raster.classes else ""
        found.append(Patch(box[0].start, box[1].start, labels[box] == place + 1, name))
    return found


@checked
def components_of(mask: NDArray[np.bool_], notes: tuple[str, ...] = ()) -> Raster:
    """The connected components of one mask (H, W) as objects; pixels that touch at a corner are connected."""
    from scipy import ndimage

    labels, found = ndimage.label(mask, structure=EIGHT)
    told = f"one mask, whose {count(found, 'connected component')} count as the objects: touching ones are one"
    return Raster(labels, (), (*notes, told) if found else notes)


@checked
def components_of_classes(values: NDArray[Any], names: Mapping[int, str], notes: tuple[str, ...] = ()) -> Raster:
    """The connected components of each value of a class mask (H, W) as objects of its class; other values are background."""
    from scipy import ndimage

    labels, classes = np.zeros(values.shape, np.int64), list[str]()
    for value, name in names.items():
        found, many = ndimage.label(values == value, structure=EIGHT)
        labels[found > 0] = found[found > 0] + len(classes)
        classes += [name] * many
    strange = np.setdiff1d(np.unique(values), [0, *names])
    told = [f"class mask: {count(len(classes), 'connected component')} count as the objects: touching ones of a class are one"]  # fmt: skip
    if strange.size:
        pixels = int(np.isin(values, strange).sum())
        told.append(f"class mask: {pixels:,} pixels of the values {', '.join(map(str, strange[:5]))}, which have no class, are background")  # fmt: skip
    return Raster(labels, tuple(classes), (*notes, *told))
