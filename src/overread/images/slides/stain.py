"""Haematoxylin and eosin: measured, brought to a common look, and varied; on (H, W, 3) uint8 pixels.

Everything is done on optical densities, −log10(pixel / 245): stains that mix add up there. What takes up hardly any light is
glass and stays as it is, so that a white tile is given back unchanged.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, one_of, require
from overread.images.address import Address
from overread.images.image import file_key
from overread.images.slides.artefacts import PENS, pen_marks

#: The darkest that a pixel counts as when its densities are varied, on the scale 0 … 1.
DARKEST = 1 / 255
#: How pixels may be brought to a common look.
STAINS = ("none", "reinhard", "macenko")
#: The value of empty glass, and the density below which a pixel is glass (β of Macenko 2009, of the length of the three).
GLASS, LEAST = 245.0, 0.15
#: Pixels of tissue that a measurement needs; degrees that its two stains must lie apart.
FEWEST, _APART = 500, 3.0
#: Percent of the angles, and of the amounts, that count as extreme (Macenko 2009: α = 1).
_EXTREME = 1.0
#: Pixels that are measured at most, evenly spread.
_MOST = 200_000
#: Haematoxylin, eosin and a residual (DAB) as densities of red, green and blue (Ruifrok and Johnston 2001, table 1).
RUIFROK = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
#: From red, green and blue to the cones' LMS, and from their logarithms to lαβ (Reinhard 2001, equations 4 to 6).
_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
Triple: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class StainMatrix:
    """What :func:`macenko` measures: the densities of ``haematoxylin`` and ``eosin`` in red, green and blue, of length 1, and
    the ``amounts`` of both that one pixel in a hundred exceeds. ``undefined``: why it could not be measured, else blank."""

    haematoxylin: Triple = (0.0, 0.0, 0.0)
    eosin: Triple = (0.0, 0.0, 0.0)
    amounts: tuple[float, float] = (0.0, 0.0)
    undefined: str = ""


@dataclass(frozen=True)
class StainColours:
    """What :func:`reinhard` measures: ``mean`` and ``std`` of tissue in lαβ. ``undefined``: why it could not, else blank."""

    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (0.0, 0.0, 0.0)
    undefined: str = ""


#: What pixels are brought to: OpenSlide's CMU-1-Small-Region (CC0) as :func:`slide_stain` measures it.
TARGET = StainMatrix((0.629, 0.673, 0.390), (0.141, 0.849, 0.509), (1.219, 0.677))
TARGET_COLOURS = StainColours((-0.6056, -0.0569, 0.0263), (0.3032, 0.0506, 0.0137))


@checked
def macenko(pixels: NDArray[np.uint8]) -> StainMatrix:
    """The two stains of pixels (H, W, 3), by the plane that holds most of their densities and the extreme angles in it.

    Undefined for fewer than 500 pixels of tissue, and where the two stains lie less than 3° apart. Source: Macenko 2009, "A
    method for normalizing histology slides for quantitative analysis", ISBI, 1107–1110: V, the first two eigenvectors of
    the covariance of the densities above β; φ = atan2(OD · V₂, OD · V₁); the stains are V · (cos φ, sin φ) at its 1st and
    99th percentile, that with more red is haematoxylin; amounts by least squares, their 99th percentile.
    """
    dense = _tissue(pixels)
    if len(dense) < FEWEST:
        return StainMatrix(undefined=f"{len(dense)} pixels of tissue")
    _, vectors = np.linalg.eigh(np.cov(dense.T))
    plane = vectors[:, [2, 1]]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    flat = dense @ plane
    angles = np.percentile(np.arctan2(flat[:, 1], flat[:, 0]), [_EXTREME, 100 - _EXTREME])
    if np.degrees(angles[1] - angles[0]) < _APART:
        return StainMatrix(undefined="one stain alone")
    stains = [plane @ (math.cos(angle), math.sin(angle)) for angle in angles]
    first, second = sorted((_unit(each) for each in stains), key=lambda each: -each[0])
    amounts = np.linalg.lstsq(np.stack([first, second], axis=1), dense.T, rcond=None)[0]
    top = np.percentile(amounts, 100 - _EXTREME, axis=1).tolist()
    if min(top) <= 0 or min(first.min(), second.min()) < -0.2:
        return StainMatrix(undefined="colours that are not those of two stains")
    return StainMatrix(_triple(first), _triple(second), (top[0], top[1]))


@checked
def reinhard(pixels: NDArray[np.uint8]) -> StainColours:
    """Mean and standard deviation of tissue in pixels (H, W, 3), in lαβ.

    Undefined for fewer than 500 pixels of tissue, and where they have one colour. Source: Reinhard 2001, "Color transfer
    between images", IEEE CG&A 21:34, equations 4 to 8; of tissue only, since glass says nothing of a stain.
    """
    flat = _evenly(pixels.reshape(-1, 3))
    flat = flat[np.linalg.norm(_density(flat), axis=1) >= LEAST]
    if len(flat) < FEWEST:
        return StainColours(undefined=f"{len(flat)} pixels of tissue")
    values = _to_lab(flat)
    std = values.std(axis=0)
    if std.min() < 1e-4:
        return StainColours(undefined="one colour alone")
    return StainColours(_triple(values.mean(axis=0)), _triple(std))


@checked
def mean_density(pixels: NDArray[np.uint8]) -> Triple:
    """The mean density of red, green and blue of tissue in pixels (H, W, 3), of length 1: of both stains together; 0 of glass."""
    dense = _tissue(pixels)
    if not len(dense):
        return 0.0, 0.0, 0.0
    return _triple(_unit(dense.mean(axis=0)))


@checked
def measure_stain(pixels: NDArray[np.uint8], how: str) -> StainMatrix | StainColours:
    """What :func:`normalise` needs of pixels (H, W, 3): ``how`` is ``macenko`` or ``reinhard``."""
    one_of(how, STAINS[1:], "stain")
    return macenko(pixels) if how == "macenko" else reinhard(pixels)


@checked
def normalise(pixels: NDArray[np.uint8], measured: StainMatrix | StainColours) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) with the look of the target, from what was measured on their slide, or on themselves.

    Macenko: amounts of the two stains scaled to those of the target, mixed with its stains; what lies outside of their plane
    is dropped. Reinhard: (x − mean) / std of the slide to those of the target. Glass keeps its colour, and pixels between
    it and tissue go over from the one to the other; where nothing was measured, all pixels stay.
    """
    require(pixels.ndim == 3 and pixels.shape[2] == 3, "stains need colours (H, W, 3)", given=pixels.shape)
    if measured.undefined:
        return pixels
    dense = _density(pixels)
    if isinstance(measured, StainMatrix):
        made = GLASS * 10 ** -np.maximum(dense @ _mixing(measured), 0)
    else:
        scale = np.array(TARGET_COLOURS.std) / measured.std
        made = _from_lab((_to_lab(pixels) - measured.mean) * scale + TARGET_COLOURS.mean)
    share = np.clip(np.linalg.norm(dense, axis=-1, keepdims=True) / LEAST, 0, 1)
    return np.clip(np.rint(share * made + (1 - share) * pixels), 0, 255).astype(np.uint8)


@checked
def perturb(pixels: NDArray[Any], scale: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[Any]:
    """Pixels (H, W, 3), uint8 or uint16, with other amounts of haematoxylin, eosin and residual: each times ``scale`` (3,) plus
    ``shift`` (3,).

    Source: Tellez 2018, "Whole-slide mitosis detection in H&E breast histology …", IEEE TMI 37:2126, section III: s' = α s + β
    with s = −ln(pixel) · M⁻¹ after Ruifrok and Johnston 2001. White gets the tint that β is. Never NaN: black counts as 1.
    """
    full = 255 if pixels.dtype == np.uint8 else 65535
    (matrix,) = stain_maps(np.stack([scale, shift])[None])
    table = -np.log(np.maximum(np.arange(full + 1) / full, DARKEST)).astype(np.float32)
    dense = cv2.transform(table[pixels], matrix)
    made = cv2.exp(-np.maximum(dense, 0)) * np.float32(full)
    return np.rint(made).astype(pixels.dtype)


@checked
def stain_maps(stain: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, 3, 4) the affine maps of the densities −ln(pixel) of red, green and blue that scales and shifts (B, 2, 3) of the
    three stains are: M⁻¹ · diag(α) · M, and β · M."""
    stains = np.stack([_unit(np.array(each)) for each in RUIFROK])
    linear = np.einsum("ij,bj,jk->bki", np.linalg.inv(stains), stain[:, 0], stains)
    return np.concatenate([linear, (stain[:, 1] @ stains)[:, :, None]], axis=2)


# -- the stain of a whole slide --------------------------------------------------------------------------------------

#: A slide is measured on so many squares of so many pixels of 2 µm, evenly spread over its tissue.
_SQUARES, _SIDE, _MPP = 32, 96, 2.0
_SLIDES: OrderedDict[Any, StainMatrix | StainColours] = OrderedDict()


@checked
def slide_stain(address: Address, how: str) -> StainMatrix | StainColours:
    """The stain of the slide that an address lies in, measured once: on 32 squares of its tissue at 2 µm a pixel, away from ink.

    So every tile of a slide is changed alike, also one of a single stain. Raises :class:`ImageError` where it cannot be read.
    """
    key = (file_key(address.path, "stain"), address.mpp, how)
    if key not in _SLIDES:
        _SLIDES[key] = measure_stain(_sampled(address), how)
        while len(_SLIDES) > 4096:
            _SLIDES.popitem(last=False)
    return _SLIDES[key]


def _sampled(address: Address) -> NDArray[np.uint8]:
    """Squares of a slide's tissue side by side (h, w, 3)."""
    from overread.images.slides.slide import OVERVIEW_MPP, region_of, slide_of

    slide = slide_of(address.path, address.mpp)
    width, height = (max(1, math.ceil(side / OVERVIEW_MPP)) for side in slide.size)
    dense = _density(region_of(slide, 0.0, 0.0, width, height, OVERVIEW_MPP))
    ink = pen_marks(dense.astype(np.float32), PENS, 4).astype(np.uint8)
    near = cv2.dilate(ink, np.ones((9, 9), np.uint8)) > 0  # a square reaches as far
    spread = dense.max(axis=2) - dense.min(axis=2)
    coloured = np.argwhere((np.linalg.norm(dense, axis=2) >= LEAST) & (spread >= 0.08) & ~near)
    if not len(coloured):
        return np.full((1, 1, 3), 255, np.uint8)
    picked = coloured[np.unique(np.linspace(0, len(coloured) - 1, _SQUARES).astype(np.int64))]
    half = _SIDE * _MPP / 2
    squares = [
        region_of(slide, (column + 0.5) * OVERVIEW_MPP - half, (row + 0.5) * OVERVIEW_MPP - half, _SIDE, _SIDE, _MPP)
        for row, column in picked.tolist()
    ]
    return np.concatenate(squares)


@checked
def with_stain(pixels: NDArray[Any], how: str, address: Address | None = None) -> NDArray[Any]:
    """Pixels (H, W, 3) as a model that was taught with the ``stain`` field sees them: by their slide's stain where they are of
    one, else by their own; unchanged for ``none``, and where they are not RGB of 8 bits."""
    if how == "none" or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        return pixels
    measured = slide_stain(replace(address, tile=None, slide=True), how) if address is not None and address.whole_slide else measure_stain(pixels, how)  # fmt: skip
    return normalise(pixels, measured)


# -- arithmetic ------------------------------------------------------------------------------------------------------


def _density(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """−log10(pixel / glass), at least 0; black counts as 1."""
    table = np.maximum(-np.log10(np.maximum(np.arange(256), 1) / GLASS), 0)
    return np.asarray(table[pixels])


def _tissue(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Densities (N, 3) of pixels that are not glass."""
    require(pixels.ndim == 3 and pixels.shape[2] == 3, "stains need colours (H, W, 3)", given=pixels.shape)
    dense = _density(_evenly(pixels.reshape(-1, 3)))
    return np.asarray(dense[np.linalg.norm(dense, axis=1) >= LEAST])


def _evenly(flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return flat[:: max(1, -(-len(flat) // _MOST))]


def _mixing(measured: StainMatrix) -> NDArray[np.float64]:
    """(3, 3) from densities to those of the target: amounts by least squares, scaled, mixed anew."""
    own = np.stack([measured.haematoxylin, measured.eosin])
    wanted = np.stack([TARGET.haematoxylin, TARGET.eosin])
    return np.asarray(np.linalg.pinv(own) @ np.diag(np.array(TARGET.amounts) / measured.amounts) @ wanted)


def _to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    cones = (np.maximum(pixels.astype(np.float64), 1) / 255) @ _LMS.T
    return np.asarray(np.log10(cones) @ _LAB.T)


def _from_lab(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Red, green and blue 0 … 255, not rounded; what no screen shows is cut."""
    cones = 10 ** np.clip(values @ np.linalg.inv(_LAB).T, -6, 2)
    return np.asarray(np.clip(cones @ np.linalg.inv(_LMS).T, 0, 1) * 255)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vector / np.linalg.norm(vector))


def _triple(values: NDArray[np.float64]) -> Triple:
    red, green, blue = values.tolist()
    return red, green, blue
