"""Phantom slices of cryo-electron tomograms: membranes, vesicles and ribosomes in noise, each known.

Dark is dense, as in an electron micrograph. What is seen of a feature suffers as in a tomogram: little contrast, strong
noise, and a blur along one direction for the tilts that are missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import publish, write_bytes, write_csv
from overread.core.progress import Progress, silent
from overread.synthetic.phantoms import smooth_noise

FEATURES = ("membrane", "vesicle", "ribosome")
#: Side of a marked patch in pixels.
PATCH = 64
#: Standard deviation of the noise, where a feature takes about 1 of density.
NOISE = 0.55
_MOST = 4096


@dataclass(frozen=True, eq=False)
class Slice:
    """``pixels``: uint8 (H, W); ``features``: of each the pixels (H, W) that it takes."""

    pixels: NDArray[np.uint8]
    features: dict[str, NDArray[np.bool_]]


@checked
def draw_tomogram(
    folder: str | os.PathLike[str], *, slices: int = 8, annotated: int = 2, size: int = 384, patches: int = 10, seed: int = 0,
    progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw slices and marked patches into ``folder`` and give the path of the patches' table.

    Writes ``slices/*.tif`` (8 bits, ``size`` pixels a side), ``truth/FEATURE/*.png``, ``marked/*.png`` (the feature within a
    marked patch, as a person would paint it), ``slices.csv`` (image, tomogram, and a column ``truth:FEATURE`` for the slices
    that are not annotated) and ``patches.csv``: image, x, y (the centre, in pixels), side, feature, present, mask. Of each
    feature there are ``patches`` with it and as many squares without it, all in the ``annotated`` first slices. The same seed gives
    the same bytes. Raises ArgumentError for values out of range.
    """
    import tifffile

    require(1 <= annotated < slices, "some slices are annotated, and others judged", given=f"{annotated} of {slices}")
    require(size >= 2 * PATCH, f"a slice has at least {2 * PATCH} pixels a side", given=size)
    require(patches >= 2, "a feature needs at least 2 patches", given=patches)
    home, rows = Path(folder), list[list[object]]()
    drawn: list[Slice] = []
    for number in range(slices):
        name, made = f"S{number + 1:03d}", draw_slice(seed, number, size=size)
        with publish(home / "slices" / f"{name}.tif") as temporary:
            tifffile.imwrite(temporary, made.pixels, photometric="minisblack", software="", metadata=None)
        judged = number >= annotated
        for feature, mask in made.features.items():
            write_bytes(home / "truth" / feature / f"{name}.png", _png(mask))
        truth = [f"truth/{feature}/{name}.png" if judged else "" for feature in FEATURES]
        rows.append([f"slices/{name}.tif", f"T{number + 1:03d}", *truth])
        drawn.append(made)
        progress("drawing slices", number + 1, slices)
    write_csv(home / "slices.csv", pd.DataFrame(rows, columns=["image", "tomogram", *(f"truth:{f}" for f in FEATURES)]))
    marks = [
        row
        for at, feature in enumerate(FEATURES)
        for row in _marked(seed, home, drawn[:annotated], feature, at, patches)
    ]
    columns = ["image", "x", "y", "side", "feature", "present", "mask"]
    return write_csv(home / "patches.csv", pd.DataFrame(marks, columns=columns))


def _png(mask: NDArray[np.bool_]) -> bytes:
    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def _marked(seed: int, home: Path, drawn: list[Slice], feature: str, at: int, patches: int) -> list[list[object]]:
    """Rows of marked patches: with the feature near their centre, and squares that hold none of it."""
    size, half, rows = drawn[0].pixels.shape[0], PATCH // 2, list[list[object]]()
    inside = slice(half, size - half)
    for present in (True, False):
        places = []
        for number, made in enumerate(drawn):
            mask = made.features[feature]
            reach = cv2.boxFilter(mask.astype(np.float32), -1, (PATCH, PATCH), normalize=False)
            fit = mask[inside, inside] if present else reach[inside, inside] < 0.5
            rows_fit, columns_fit = np.nonzero(fit)
            places.append(np.column_stack([np.full(len(rows_fit), number), rows_fit + half, columns_fit + half]))
        every = np.concatenate(places)
        order = random.permutation(seed, at, len(every), f"marked {present}")
        kept: list[NDArray[np.int64]] = []
        for place in every[order]:
            if all(place[0] != other[0] or np.abs(place[1:] - other[1:]).max() >= PATCH // 2 for other in kept):
                kept.append(place)
            if len(kept) == patches:
                break
        for place in kept:
            at_slice, y, x = (int(value) for value in place)
            painted = ""
            if present:
                painted = f"marked/{feature}-{len(rows) + 1:02d}.png"
                write_bytes(
                    home / painted, _png(drawn[at_slice].features[feature][y - half : y + half, x - half : x + half])
                )
            rows.append([f"slices/S{at_slice + 1:03d}.tif", x, y, PATCH, feature, int(present), painted])
    return rows


@checked
def draw_slice(seed: int, key: int, *, size: int = 384) -> Slice:
    """One slice; ``key`` names it: the same seed and key give the same slice.

    >>> sorted(draw_slice(0, 1, size=128).features)
    ['membrane', 'ribosome', 'vesicle']
    """
    masks = {name: np.zeros((size, size), bool) for name in FEATURES}
    dense: NDArray[np.float64] = 0.25 * smooth_noise(seed, key, "ice", size, cells=max(4, size // 48))
    y, x = np.mgrid[:size, :size].astype(np.float64)
    area = (size / 384) ** 2
    for k in range(max(1, round(3 * area))):  # membranes: two leaflets along a wavy line
        u = random.uniform(seed, key, k * 16 + np.arange(16), "membrane")
        turn, off = np.pi * u[0], (u[1] - 0.5) * 0.8 * size
        along, across = (
            (x - size / 2) * np.cos(turn) + (y - size / 2) * np.sin(turn),
            (y - size / 2) * np.cos(turn) - (x - size / 2) * np.sin(turn),
        )
        wave = sum(
            size * 0.03 / (j + 1) * np.sin(2 * np.pi * ((j + 1) * along / (0.7 * size) + u[2 + j])) for j in range(3)
        )
        distance = np.abs(across - off - wave)
        dense += 1.1 * np.exp(-(((distance - 4) / 1.5) ** 2))
        masks["membrane"] |= distance <= 6.5
    taken = masks["membrane"].copy()
    for row, column, radius in _discs(seed, key, size, round(22 * area), 9.0, 15.0, taken, "vesicle"):
        distance = np.hypot(y - row, x - column)
        dense += 1.1 * np.exp(-(((distance - radius) / 1.6) ** 2)) - 0.35 * (distance < radius - 2)
        masks["vesicle"] |= distance <= radius + 2
        taken |= distance <= radius + 3
    for row, column, radius in _discs(seed, key, size, round(70 * area), 4.5, 5.8, taken, "ribosome"):
        distance = np.hypot(y - row, x - column)
        dense += 1.25 / (1 + np.exp(np.clip((distance - radius) * 2, -40, 40)))
        masks["ribosome"] |= distance <= radius
        taken |= distance <= radius + 2
    seen = cv2.GaussianBlur(dense, (0, 0), sigmaX=0.6, sigmaY=1.6)  # the tilts that are missing
    counted = random.normal(seed, key, np.arange(size * size), "noise").reshape(size, size)
    noise = cv2.GaussianBlur(counted, (0, 0), 0.8)
    seen = seen + NOISE * noise / noise.std()
    return Slice(np.clip(np.rint(140 - 34 * seen), 0, 255).astype(np.uint8), masks)


def _discs(
    seed: int, key: int, size: int, count: int, least: float, most: float, taken: NDArray[np.bool_], name: str
) -> list[tuple[float, float, float]]:  # fmt: skip
    """Rows, columns and radii of discs that leave out what is ``taken`` and each other."""
    room = cv2.distanceTransform((~taken).astype(np.uint8), cv2.DIST_L2, 5)
    drawn = random.uniform(seed, key, np.arange(_MOST * 3), name).reshape(-1, 3)
    kept: list[tuple[float, float, float]] = []
    for u in drawn:
        row, column, radius = u[0] * (size - 1), u[1] * (size - 1), least + (most - least) * u[2]
        if room[int(row), int(column)] < radius + 4:
            continue
        if all((row - r) ** 2 + (column - c) ** 2 > (radius + other + 4) ** 2 for r, c, other in kept):
            kept.append((row, column, radius))
        if len(kept) == count:
            break
    return kept
