"""Scanners of phantom slides: stains, tint, sharpness, microns of a pixel; and the nuclei as each of them sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from overread.core import random
from overread.core.errors import checked

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scanner:
    """One laboratory and its scanner.

    ``pixel``: microns of a pixel as a multiple of those asked for. ``haematoxylin`` and ``eosin``: what the dyes absorb of red,
    green and blue; ``glass``: 0 … 255; ``blur`` in microns; ``noise`` in levels of 255; ``gamma`` of the picture.
    """

    name: str
    pixel: float
    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    glass: tuple[int, int, int]
    blur: float
    noise: float
    gamma: float


#: Violet and neutral; blue, sharp and finer; brownish red, warm and a little soft.
SCANNERS = (
    Scanner("north", 1.0, (0.65, 0.70, 0.29), (0.09, 0.60, 0.13), (244, 243, 245), 0.22, 1.0, 1.0),
    Scanner("south", 0.9, (0.78, 0.60, 0.22), (0.14, 0.52, 0.24), (238, 241, 247), 0.20, 1.3, 1.15),
    Scanner("west", 0.96, (0.58, 0.76, 0.40), (0.05, 0.66, 0.20), (248, 244, 236), 0.25, 1.6, 0.9),
)

#: Nuclei: their radius in microns, large ones, the greatest extent of a stamp, and how many shapes of each kind.
RADIUS, LARGE, REACH, SHAPES = 3.6, 4.9, 7.0, 32
#: Distance of grains in coarse chromatin, in microns, and how much of the light of green they move at most.
GRAIN, CONTRAST = 1.4, 0.9
_FINE = 0.1  # microns of a pixel in which stamps are drawn


@checked
@cache
def nuclei_stamps(mpp: float) -> tuple[Floats, Floats]:
    """What nuclei absorb and the grains of coarse chromatin, (2 sizes, :data:`SHAPES`, side, side) each, at ``mpp`` microns a pixel.

    Grains are shares of the light, from −1 to 1 with a mean of 0 over each nucleus: whatever the stain, coarse chromatin lets
    as much light through as fine, so that only its grain tells it.
    """
    side = 2 * int(np.ceil(REACH / mpp)) + 1
    fine = _fine_stamps()
    room = max(0, round(side * mpp / _FINE) - fine.shape[-1]) // 2
    made = np.zeros((2, 2, SHAPES, side, side), np.float32)
    for place in np.ndindex(2, 2, SHAPES):
        made[place] = cv2.resize(np.pad(fine[place], room), (side, side), interpolation=cv2.INTER_AREA)
    dye, grain = made
    inner = np.minimum(dye, 1)
    grain -= inner * (grain.sum(axis=(2, 3)) / inner.sum(axis=(2, 3)))[:, :, None, None]
    made.setflags(write=False)
    return dye, grain


@cache
def _fine_stamps() -> Floats:
    """The stamps (dye or grain, size, shape) at a tenth of a micron a pixel."""
    side = round(2 * (REACH + 0.5) / _FINE)
    line = (np.arange(side) + 0.5) * _FINE - (REACH + 0.5)
    y, x = line[:, None], line[None, :]
    made = np.zeros((2, 2, SHAPES, side, side), np.float32)
    for shape in range(SHAPES):
        u = random.uniform(0, shape, np.arange(16), "slide/nucleus")
        pale = (1 + 0.12 * _grains(shape + SHAPES, side, 3.0)) * (0.85 + 0.3 * u[15])
        grains = np.tanh(1.5 * _grains(shape, side))
        for size, radius in enumerate((RADIUS, LARGE)):
            nucleus = _nucleus(y, x, radius, u)
            made[0, size, shape], made[1, size, shape] = nucleus * pale, nucleus * grains
    return made


def _nucleus(y: Floats, x: Floats, radius: float, u: NDArray[np.float64]) -> Floats:
    """1 within an oval with a few waves, 0 outside, a soft edge of .4 µm."""
    turn, squeeze = np.pi * u[0], 1 + 0.35 * u[1]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle = np.arctan2(across, along)
    edge = radius * (0.85 + 0.3 * u[2]) * (1 + sum(0.05 * np.cos(k * angle + 2 * np.pi * u[2 + k]) for k in (2, 3, 4)))
    depth = edge - np.hypot(along / np.sqrt(squeeze), across * np.sqrt(squeeze))
    return np.asarray(np.clip(depth / 0.4 + 0.5, 0, 1), np.float32)


def _grains(shape: int, side: int, apart: float = GRAIN) -> Floats:
    """Noise of mean 0 and deviation 1 whose bumps are about so many microns apart."""
    white = random.normal(0, shape, np.arange(side * side), "slide/grain").reshape(side, side)
    for _ in range(2):  # twice, so that little is left of coarser noise
        white = ndimage.gaussian_filter(white, apart / _FINE / 3.4, mode="wrap") - ndimage.gaussian_filter(white, apart / _FINE / 2.8, mode="wrap")  # fmt: skip
    return np.asarray(white / white.std(), np.float32)


@checked
@cache
def surface(name: str, side: int, scale: float) -> Floats:
    """A periodic random surface of mean 0 and deviation 1, smooth over so many pixels: two periods, (2 side, 2 side)."""
    white = random.normal(0, 0, np.arange(side * side), f"slide/{name}").reshape(side, side)
    smooth = ndimage.gaussian_filter(white, scale, mode="wrap") if scale > 0 else white
    made = np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)
    made = np.pad(made, (0, side), mode="wrap")
    made.setflags(write=False)
    return made
