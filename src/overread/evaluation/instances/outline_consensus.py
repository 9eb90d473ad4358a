"""What several readers' outlines have in common: objects that a majority drew, and how they drew them.

Which objects there are is told by matching, their shapes by STAPLE (Warfield, Zou & Wells 2004), which weighs each reader
by how well he agrees with what all seem to mean. STAPLE of whole foregrounds would join what touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, one_of, require
from overread.core.phrases import count
from overread.images.outlines.outlines import Outlines, outlines_of
from overread.stats.arrays import Booleans, Floats, Integers
from overread.stats.overlap import Instances

__all__ = ["SHAPES", "ForegroundConsensus", "consensus_outlines", "foreground_consensus"]

#: How the shape of an object is made of those that readers drew.
SHAPES = ("staple", "average")
#: Pixels of background around an object, for its shape.
MARGIN = 2


@dataclass(frozen=True, eq=False)
class ForegroundConsensus:
    """The ``probability`` (H, W) that a pixel is of an object, and how each reader tells: ``sensitivity``,
    ``specificity`` (R,)."""

    probability: Floats
    sensitivity: tuple[float, ...]
    specificity: tuple[float, ...]

    @property
    def mask(self) -> Booleans:
        """(H, W) where it is at least one half."""
        return np.asarray(self.probability >= 0.5, bool)


@checked
def foreground_consensus(labels: Sequence[NDArray[Any]]) -> ForegroundConsensus:
    """STAPLE of the foregrounds of several readers' label images (H, W): the reader's marks against what all seem to mean.

    Warfield, Zou & Wells 2004, by SimpleITK. Where no reader drew anything, nothing is foreground. Raises
    :class:`ArgumentError` for fewer than two readers, or different sizes.

    >>> one = np.pad(np.ones((4, 4), int), 2)
    >>> int(foreground_consensus([one, one, np.roll(one, 1)]).mask.sum())
    16
    """
    masks = [np.asarray(image) > 0 for image in labels]
    require(len(masks) > 1, "a consensus needs two readers", given=count(len(masks), "reader"))
    require(
        len({m.shape for m in masks}) == 1,
        "all readers' label images must have one size",
        given=sorted({m.shape for m in masks}),
    )
    probability, sensitivity, specificity = _staple(masks)
    return ForegroundConsensus(probability, sensitivity, specificity)


def _staple(masks: Sequence[Booleans]) -> tuple[Floats, tuple[float, ...], tuple[float, ...]]:
    import SimpleITK as sitk

    if all((mask == masks[0]).all() for mask in masks):  # nothing is to be estimated
        return masks[0].astype(np.float64), (1.0,) * len(masks), (1.0,) * len(masks)
    staple = sitk.STAPLEImageFilter()
    staple.SetForegroundValue(1.0)
    staple.SetMaximumIterations(100)
    found = staple.Execute([sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks])
    return (
        sitk.GetArrayFromImage(found).astype(np.float64),
        tuple(staple.GetSensitivity()),
        tuple(staple.GetSpecificity()),
    )


@checked
def consensus_outlines(labels: Sequence[NDArray[Any]], *, shape: str = "staple", iou: float = 0.5) -> Outlines:
    """The objects that more than half of the readers drew, each in the shape that those who drew it have in common.

    ``labels``: a label image (H, W) of each reader, of one size. Objects of two readers are one where their intersection
    over union exceeds ``iou``, at least one half; what is joined so over several readers is one object, and counts each
    reader once. ``shape``: ``staple``, or ``average`` of the distances to the borders (Rohlfing & Maurer 2007), which is
    taken for two readers anyhow, since two cannot outvote each other. A pixel of two objects goes to the likelier. Of one
    reader it is what he drew. Raises :class:`ArgumentError` for no reader, or different sizes.

    >>> one = np.array([[1, 1, 0, 2, 2]]); other = np.array([[1, 1, 0, 0, 0]])
    >>> consensus_outlines([one, other, other]).labels.tolist()
    [[1, 1, 0, 0, 0]]
    """
    one_of(shape, SHAPES, "shape")
    require(0.5 <= iou < 1, "readers' objects are one above an IoU from .5 on", given=iou)
    images = [outlines_of(np.asarray(image)).labels for image in labels]
    require(len(images) > 0, "a consensus needs a reader")
    require(
        len({i.shape for i in images}) == 1,
        "all readers' label images must have one size",
        given=sorted({i.shape for i in images}),
    )
    if len(images) == 1:
        return outlines_of(images[0])
    groups, alone = _groups(images, iou)
    likely, made = np.full(images[0].shape, 0.5), np.zeros(images[0].shape, np.int32)
    for number, members in enumerate(groups, 1):
        box, probability = _shape(images, members, shape)
        better = probability > likely[box]
        made[box][better], likely[box][better] = number, probability[better]
    told = (
        (f"{count(alone, 'object')} that half of the readers or fewer drew {'is' if alone == 1 else 'are'} left out",)
        if alone
        else ()
    )
    return outlines_of(made, notes=told)


def _groups(images: Sequence[NDArray[np.int32]], iou: float) -> tuple[list[list[tuple[int, int]]], int]:
    """The objects, each as the (reader, number) of those that drew it, that more than half drew; how many others there are."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    many = [int(image.max(initial=0)) for image in images]
    start = np.concatenate(([0], np.cumsum(many)))
    edges: list[NDArray[np.int64]] = []
    for a, b in combinations(range(len(images)), 2):
        found = Instances.of(images[a], images[b])
        good = found.iou > iou
        edges.append(np.column_stack((start[a] + found.rows[good], start[b] + found.columns[good])))
    pairs = np.concatenate(edges)
    nodes = int(start[-1])
    if not nodes:
        return [], 0
    _, group = connected_components(
        coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (nodes, nodes)), directed=False
    )
    reader = np.repeat(np.arange(len(images)), many)
    order: Integers = np.argsort(group, kind="stable").astype(np.int64)
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    kept = [part for part in parts if 2 * len(set(reader[part].tolist())) > len(images)]
    told = [[(int(reader[node]), int(node - start[reader[node]] + 1)) for node in part] for part in kept]
    return told, len(parts) - len(kept)


def _shape(
    images: Sequence[NDArray[np.int32]], members: list[tuple[int, int]], shape: str
) -> tuple[tuple[slice, ...], Floats]:
    """The box of an object and how likely each pixel in it belongs to it, after those readers who drew it."""
    from scipy.ndimage import distance_transform_edt

    drawn: dict[int, Booleans] = {}
    for reader, number in members:
        drawn[reader] = drawn.get(reader, np.zeros(images[reader].shape, bool)) | (images[reader] == number)
    whole = np.any(list(drawn.values()), axis=0)
    places = [np.flatnonzero(whole.any(axis=1 - axis)) for axis in range(2)]
    box = tuple(slice(max(int(p[0]) - MARGIN, 0), int(p[-1]) + MARGIN + 1) for p in places)
    masks = [mask[box] for mask in drawn.values()]
    if shape == "staple" and len(masks) > 2:
        return box, _staple(masks)[0]
    padded = [np.pad(mask, 1) for mask in masks]  # beyond the box is background, also at the edge of the image
    depth = np.mean([distance_transform_edt(m) - distance_transform_edt(~m) for m in padded], axis=0)[1:-1, 1:-1]
    return box, np.asarray(1 / (1 + np.exp(-depth)), np.float64)
