"""What a mask is beside its image, in numbers small enough to keep of every image of a study.

Made to be run by :func:`overread.core.sandbox.contained`, since both files may be of anybody's making.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.core.files import sha256
from overread.images.outlines.outlines import Outlines, read_outlines
from overread.images.outlines.pixel_size import pixel_size_of
from overread.images.read import read_image

#: A description of nothing: the columns, and what they are where a mask cannot be read. ``areas`` are int32, as bytes.
NO_MASK: dict[str, Any] = {
    "error": "", "digest": "", "objects": 0, "areas": b"", "classes": "", "overlapped": 0, "pieces": 0, "holes": 0, "rims": 0,
    "suspects": 0, "touching": 0, "border": 0, "smooth": False, "contrast": np.nan, "pixel_size": np.nan, "notes": "",
}  # fmt: skip
#: What the error says of a mask that has another size than its image.
OTHER_SIZE = "another size"
#: Objects are suspected to be several: this concave (area by that of the convex hull) and this many times the median area, or
#: this large by itself, in an image of at least so many objects.
CONCAVE, LARGER, FAR_LARGER, AMONG = 0.85, 1.5, 6.0, 5
#: Pixels that are looked at for the contrast.
_LOOKED_AT = 40_000


@checked
def describe_mask(mask: str, image: str, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Of a mask and its image, or stack of frames: the columns of :data:`NO_MASK`.

    ``digest``: of the labels; ``areas``: pixels of each object; ``classes``: of each object, behind commas;
    ``overlapped``: pixels claimed twice; ``pieces`` and ``holes``: objects in several pieces, and with holes; ``rims``:
    objects that are nothing but an edge between others, as a resize leaves them; ``suspects``: objects that may be
    several; ``touching``: objects that touch another; ``border``: objects cut by the border; ``smooth``: whether the file
    has grey values between background and inside; ``contrast``: how well brightness tells inside from outside, 0 to 1,
    NaN where one of the two is missing; ``pixel_size``: microns of a pixel as the image's file says.

    Raises :class:`ImageError` where either cannot be read, or their sizes differ.
    """
    pixels = read_image(image).pixels
    if pixels.ndim == 4:  # a stack of frames under one mask: what is bright in any
        pixels = pixels.max(axis=0)
    found = read_outlines(
        mask, size=(pixels.shape[0], pixels.shape[1]), classes=classes if tuple(classes) != ("object",) else ()
    )
    told = _objects(found)
    return {
        "error": "", "digest": sha256(repr(found.size).encode() + found.labels.tobytes()), "objects": len(found),
        "areas": found.areas.astype(np.int32).tobytes(), "classes": ",".join(found.classes) if any(found.classes) else "",
        "overlapped": found.overlapped, **told, "smooth": any("grey values between" in note for note in found.notes),
        "contrast": contrast(pixels, found.labels > 0), "pixel_size": pixel_size_of(image), "notes": "; ".join(found.notes),
    }  # fmt: skip


def _objects(found: Outlines) -> dict[str, int]:
    from scipy import ndimage

    labels, many = found.labels, len(found)
    if not many:
        return dict.fromkeys(("pieces", "holes", "rims", "suspects", "touching", "border"), 0)
    neighbours = _neighbours(labels)
    touching = np.unique(labels[(labels > 0) & neighbours])
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    low, high = _around(labels)
    inner = np.unique(labels[low == high])
    thin = np.setdiff1d(np.arange(1, many + 1), inner)
    beside = np.bincount(labels[neighbours], minlength=many + 1)[thin] / np.maximum(found.areas[thin - 1], 1)
    solid, holes, pieces = np.ones(many), 0, 0
    for place, box in enumerate(ndimage.find_objects(labels)):
        if box is None:
            continue
        mine = np.pad(labels[box] == place + 1, 1).astype(np.uint8)
        contours, tree = cv2.findContours(mine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        outer = [contour for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True) if parent < 0]
        pieces += len(outer) > 1
        holes += len(contours) > len(outer) and _is_open(labels[box], mine[1:-1, 1:-1])
        hull = cv2.convexHull(np.concatenate(outer))
        solid[place] = found.areas[place] / max(_filled(hull, mine.shape), 1)
    median = float(np.median(found.areas))
    concave = (solid < CONCAVE) & (found.areas > LARGER * median)
    far = (found.areas > FAR_LARGER * median) & (many >= AMONG)
    return {
        "pieces": pieces, "holes": holes, "rims": int((beside > 0.5).sum()), "suspects": int((concave | far).sum()),
        "touching": len(touching), "border": int((edge > 0).sum()),
    }  # fmt: skip


def _neighbours(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(H, W) pixels of objects that touch another object, also at a corner."""
    high = _around(labels)[1]
    low = _around(np.where(labels == 0, 2**23, labels))[0]
    return (labels > 0) & ((high != labels) | (low != labels))


def _around(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(H, W) the lowest and the highest label among each pixel and the eight around it; exact up to 2**24 objects."""
    wide, square = labels.astype(np.float32), np.ones((3, 3), np.uint8)
    return cv2.erode(wide, square), cv2.dilate(wide, square)


def _is_open(labels: NDArray[np.int32], mine: NDArray[np.uint8]) -> bool:
    """Whether any of what an object encloses is background, and not another object."""
    from scipy import ndimage

    return bool((ndimage.binary_fill_holes(mine) & (mine == 0) & (labels == 0)).any())


def _filled(hull: NDArray[Any], size: tuple[int, ...]) -> int:
    """The pixels of a convex hull."""
    mask = np.zeros(size, np.uint8)
    cv2.fillConvexPoly(mask, hull, 1)
    return int(mask.sum())


@checked
def contrast(pixels: NDArray[Any], inside: NDArray[np.bool_]) -> float:
    """How well one channel of an image (H, W, C) tells inside from outside: twice the AUC's distance from a half, 0 to 1.

    The best channel counts. Pixels beyond 40,000 are thinned out; NaN where all or none is inside.

    >>> contrast(np.array([[[9], [1]]], np.uint8), np.array([[True, False]]))
    1.0
    """
    step = max(1, int(np.sqrt(inside.size / _LOOKED_AT)))
    some, thinned = pixels[::step, ::step], inside[::step, ::step].ravel()
    many = int(thinned.sum())
    if many in (0, len(thinned)):
        return float("nan")
    best = 0.0
    for channel in np.moveaxis(some, -1, 0):
        _, place, counts = np.unique(channel.ravel(), return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2)[place.ravel()]
        area = (ranks[thinned].sum() - many * (many + 1) / 2) / (many * (len(thinned) - many))
        best = max(best, abs(2 * float(area) - 1))
    return best
