"""What every form of masks becomes before it is :class:`~.outlines.Outlines`: numbered objects on the pixels of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.core.errors import checked
from overread.core.phrases import count

#: Pixels that touch at a corner belong together.
EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True, eq=False)
class Raster:
    """Labels (H, W) of whole numbers, the class of each number from 1 on (or none), what was done, and the pixels that
    more than one object claimed."""

    labels: NDArray[Any]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    overlapped: int = 0


@checked
def components_of(mask: NDArray[np.bool_], notes: tuple[str, ...] = ()) -> Raster:
    """The connected components of one mask (H, W) as objects; pixels that touch at a corner are connected."""
    labels, found = ndimage.label(mask, structure=EIGHT)
    told = f"one mask, whose {count(found, 'connected component')} count as the objects: touching ones are one"
    return Raster(labels, (), (*notes, told) if found else notes)


@checked
def components_of_classes(values: NDArray[Any], names: dict[int, str], notes: tuple[str, ...] = ()) -> Raster:
    """The connected components of each value of a class mask (H, W) as objects of its class; other values are background."""
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
