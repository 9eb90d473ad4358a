"""Fields of cells that touch, with the pixels of each: what the phantoms of microscopes and of cancer cells are drawn from.

A cell is a closed curve around its centre, round but for a few waves; where two would overlap, each pixel belongs to the cell
that it lies deeper in, so that they touch along a line and no pixel is claimed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.core import random
from overread.core.errors import checked, require
from overread.synthetic.phantoms import EOSIN, HAEMATOXYLIN, smooth_noise

#: Places tried for each cell, and how near, as a share of the two radii together, centres may lie.
_TRIES, _NEAREST = 24, 0.8
#: A cell of fewer pixels, most of it under others or beyond the border, is left out.
FEWEST = 12


@dataclass(frozen=True)
class Look:
    """How cells of a kind look: ``radius`` in microns, how ``uneven`` their outline is (the size of its waves, as a share of
    the radius), how ``dense`` their dye, and how ``coarse`` their chromatin."""

    radius: float = 4.0
    uneven: float = 0.06
    dense: float = 1.0
    coarse: float = 0.15


@dataclass(frozen=True)
class Microscope:
    """How a microscope shows cells: microns of a ``pixel``, ``blur`` in pixels, ``noise`` (0 … 1), ``background`` and
    ``light`` of the cells (0 … 1), how much the background is ``shaded``, and whether the cells are ``stained`` (dark on
    bright) rather than fluorescent."""

    pixel: float
    blur: float
    noise: float
    background: float
    light: float
    shaded: float
    stained: bool = False


#: Sharp and bright; dim, blurred and unevenly lit, of a higher magnification; stained tissue in transmitted light.
MICROSCOPES = {
    "A": Microscope(0.5, 0.6, 0.02, 0.06, 0.62, 0.05),
    "B": Microscope(0.36, 1.6, 0.05, 0.16, 0.26, 0.35),
    "C": Microscope(0.5, 0.7, 0.025, 0.0, 1.0, 0.25, True),
}


@dataclass(frozen=True, eq=False)
class Field:
    """``labels``: int32 (H, W); ``depth``: (H, W) 0 at the border of a cell to 1 in its middle; ``kinds``: (K,) which look
    each cell has; ``centres``: (K, 2) rows and columns."""

    labels: NDArray[np.int32]
    depth: NDArray[np.float64]
    kinds: NDArray[np.int64]
    centres: NDArray[np.float64]


@checked
def draw_field(
    seed: int, key: int, kinds: NDArray[np.int64], looks: tuple[Look, ...], *, pixel: float, size: int, touching: float
) -> Field:  # fmt: skip
    """Cells of these ``kinds`` (n,), indices of ``looks``, in a field of ``size`` pixels a side.

    A share ``touching`` of them is placed at a cell that is there already. Cells for which there is no room, and those
    that keep fewer than 12 pixels, are left out. ``key`` names the field: the same seed and key give the same field.
    """
    require(size >= 48, "a field has at least 48 pixels a side", given=size)
    drawn = random.uniform(seed, key, np.arange(max(len(kinds), 1))[:, None] * 64 + np.arange(64), "cell")
    radii = np.array([looks[kind].radius for kind in kinds]) / pixel * (0.8 + 0.4 * drawn[: len(kinds), 0])
    centres, kept = _places(seed, key, radii, size, touching)
    deepest, labels = np.zeros((size, size)), np.zeros((size, size), np.int32)
    for place, cell in enumerate(kept):
        reach = int(np.ceil(2.2 * radii[cell]))
        top, left = (max(0, int(c) - reach) for c in centres[place])
        box = np.s_[top : int(centres[place, 0]) + reach, left : int(centres[place, 1]) + reach]
        rows, columns = _axes(top, left, deepest[box].shape)
        depth = _depth(rows - centres[place, 0], columns - centres[place, 1], radii[cell], looks[kinds[cell]].uneven, drawn[cell])  # fmt: skip
        mine = depth > deepest[box]
        labels[box][mine], deepest[box][mine] = place + 1, depth[mine]
    return _numbered(labels, deepest, kinds[kept], centres)


def _places(
    seed: int, key: int, radii: NDArray[np.float64], size: int, touching: float
) -> tuple[NDArray[np.float64], list[int]]:
    """Centres (k, 2) and which cells found one."""
    centres, kept = np.empty((0, 2)), list[int]()
    for cell, radius in enumerate(radii):
        u = random.uniform(seed, key, cell * 4096 + np.arange(4 * _TRIES + 1), "place")
        for t in range(_TRIES):
            a, b, c, d = u[4 * t : 4 * t + 4]
            if kept and u[-1] < touching:
                other = int(a * len(kept))
                reach, angle = (radius + radii[kept[other]]) * (0.84 + 0.12 * b), 2 * np.pi * c
                centre = centres[other] + reach * np.array([np.sin(angle), np.cos(angle)])
            else:
                centre = np.array([a, d]) * size
            inside = bool(((centre > 0.3 * radius) & (centre < size - 0.3 * radius)).all())
            apart = np.hypot(*(centres - centre).T) > _NEAREST * (radii[kept] + radius) if kept else np.ones(1, bool)
            if inside and bool(apart.all()):
                centres, kept = np.vstack([centres, centre]), [*kept, cell]
                break
    return centres, kept


def _axes(top: int, left: int, size: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows (h, 1) and columns (1, w) of the middles of pixels."""
    return top + np.arange(size[0])[:, None] + 0.5, left + np.arange(size[1])[None, :] + 0.5


def _depth(
    y: NDArray[np.float64], x: NDArray[np.float64], radius: float, uneven: float, u: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How deep each pixel lies in a cell, 1 in the middle and 0 or less outside."""
    turn, squeeze = np.pi * u[1], 1 + 0.35 * u[2]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle = np.arctan2(across, along)
    waves = sum(np.cos(k * angle + 2 * np.pi * u[3 + k]) / np.sqrt(k) for k in (2, 3, 4, 5))
    edge = radius * np.maximum(1 + uneven * waves, 0.3)
    return np.asarray(1 - np.hypot(along / np.sqrt(squeeze), across * np.sqrt(squeeze)) / edge)


def _numbered(
    labels: NDArray[np.int32], depth: NDArray[np.float64], kinds: NDArray[np.int64], centres: NDArray[np.float64]
) -> Field:
    """Each cell as its largest piece; those too small left out."""
    made, kept = np.zeros_like(labels), list[int]()
    for place, box in enumerate(ndimage.find_objects(labels, max_label=len(kinds))):
        if box is None:
            continue
        pieces, many = ndimage.label(labels[box] == place + 1)
        sizes = np.bincount(pieces.ravel(), minlength=many + 1)[1:]
        if sizes.max(initial=0) >= FEWEST:
            kept.append(place)
            made[box][pieces == int(sizes.argmax()) + 1] = len(kept)
    return Field(made, np.where(made > 0, depth, 0.0), kinds[kept], centres[kept])


@checked
def photograph_cells(
    seed: int, key: int, field: Field, looks: tuple[Look, ...], microscope: Microscope
) -> NDArray[np.uint8]:
    """What a microscope shows of a field, uint8 (H, W, 3)."""
    size = len(field.labels)
    dense = np.array([0.0, *(looks[kind].dense for kind in field.kinds)])[field.labels]
    coarse = np.array([0.0, *(looks[kind].coarse for kind in field.kinds)])[field.labels]
    texture = smooth_noise(seed, key, "chromatin", size, cells=max(8, size // 3))
    body = dense * np.clip(0.45 + 1.1 * field.depth, 0, 1) * (1 + 1.6 * coarse * texture)  # (H, W)
    body *= random.uniform(seed, key, 0, "exposure", 0.8, 1.2)  # how much dye there is says nothing of the cells
    shade = 1 + microscope.shaded * smooth_noise(seed, key, "shade", size, cells=4)
    if microscope.stained:
        stroma = 0.2 * shade + 0.06 * smooth_noise(seed, key, "stroma", size, cells=max(6, size // 8))
        picture = np.exp(-1.1 * microscope.light * body[..., None] * HAEMATOXYLIN - stroma[..., None] * EOSIN)
    else:
        picture = np.repeat((microscope.background * shade + microscope.light * body)[..., None], 3, axis=2)
    picture = cv2.GaussianBlur(picture, (0, 0), microscope.blur)
    noise = random.normal(seed, key, np.arange(size * size), "noise").reshape(size, size)
    return np.clip(np.rint(255 * (picture + microscope.noise * noise[..., None])), 0, 255).astype(np.uint8)
