"""Stained nuclei under three microscopes: what a phantom patient looks like.

Light is absorbed by two dyes (Beer & Lambert; stain vectors of Ruifrok & Johnston 2001, "Quantification of
histochemical staining by color deconvolution"). Larger, darker, more irregular and more crowded nuclei mean a
higher signal. The camera sets exposure and contrast automatically: brightness and its spread alone say nothing
about the diagnosis.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.synthetic.picture import camera_noise, eight_bits, inside, places, smooth_noise

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
NUCLEI = 24  # at most, in one field of view


@dataclass(frozen=True)
class Camera:
    """One site's device: colour ``gain`` (red, green, blue), ``gamma``, ``blur`` (pixels), ``noise``."""

    gain: tuple[float, float, float]
    gamma: float
    blur: float
    noise: float


#: The devices that sources are given in turn: neutral and sharp; warm and soft; blue, dim and noisy.
CAMERAS = (
    Camera((1.00, 1.00, 1.00), 1.0, 0.3, 0.02),
    Camera((1.10, 0.98, 0.86), 0.9, 0.9, 0.03),
    Camera((0.88, 0.97, 1.12), 1.2, 0.5, 0.06),
)


@checked
def draw_microscope(seed: int, key: int, signal: float, *, device: int = 0, size: int = 64) -> NDArray[np.uint8]:
    """One field of view, (size, size, 3) uint8 RGB.

    ``key`` names the image: the same seed and key give the same image. ``signal`` is about 0 for harmless and 2 or more
    for malignant nuclei. ``device`` picks one of :data:`CAMERAS`. Raises ArgumentError for a size below 24.

    >>> draw_microscope(0, 1, 2.0, size=32).shape
    (32, 32, 3)
    """
    require(size >= 24, "size must be at least 24 pixels", given=size)
    strength = severity(signal)
    nuclei = _nuclei(seed, key, strength, size)
    stroma = 0.18 + 0.10 * smooth_noise(seed, key, "stroma", size, cells=5)
    absorbed = nuclei[..., None] * HAEMATOXYLIN + stroma[..., None] * EOSIN  # (size, size, 3)
    return photograph(np.exp(-absorbed), seed, key, CAMERAS[device % len(CAMERAS)])


@checked
def severity(signal: float) -> float:
    """The signal as 0..1: how far the appearance has gone from harmless to malignant.

    >>> severity(-9.0), severity(9.0)
    (0.0, 1.0)
    """
    return float(np.clip((signal + 2.0) / 6.5, 0.0, 1.0))


def _nuclei(seed: int, key: int, strength: float, size: int) -> NDArray[np.float64]:
    """Optical density of haematoxylin, (size, size)."""
    count = 9 + round(7 * strength + 6 * float(random.uniform(seed, key, 0, "count")))
    drawn = random.uniform(seed, key, np.arange(min(count, NUCLEI))[:, None] * 16 + np.arange(12), "nucleus")
    spread = 0.10 + 0.25 * strength
    radius = size * (0.052 + 0.038 * strength) * (1 + spread * (2 * drawn[:, 0] - 1))
    density = (0.9 + 0.7 * strength) * (0.8 + 0.4 * drawn[:, 1])
    reach = int(np.ceil(2.0 * radius.max())) + 1
    patch = _outline(drawn, radius, strength, reach) * density[:, None, None]
    field = np.zeros((size + 2 * reach, size + 2 * reach))
    corner = (drawn[:, 2:4] * size).astype(int)
    for (y, x), nucleus in zip(corner, patch, strict=True):
        view = field[y : y + 2 * reach + 1, x : x + 2 * reach + 1]
        np.maximum(view, nucleus[: view.shape[0], : view.shape[1]], out=view)
    texture = 1 + (0.10 + 0.25 * strength) * smooth_noise(seed, key, "chromatin", size, cells=size // 3)
    return field[reach : reach + size, reach : reach + size] * texture


def _outline(drawn: NDArray[np.float64], radius: NDArray[np.float64], strength: float, reach: int) -> NDArray:
    """Soft masks of irregular ellipses, (nuclei, 2 reach + 1, 2 reach + 1)."""
    line = np.arange(-reach, reach + 1)
    y = line[None, :, None] - (drawn[:, 4] - 0.5)[:, None, None]
    x = line[None, None, :] - (drawn[:, 5] - 0.5)[:, None, None]
    turn, squeeze = np.pi * drawn[:, 6, None, None], 1 + 0.5 * drawn[:, 7, None, None]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    distance = np.hypot(along / np.sqrt(squeeze), across * np.sqrt(squeeze))
    angle = np.arctan2(across, along)
    bumps = sum(np.cos(k * angle + 2 * np.pi * drawn[:, 6 + k, None, None]) / np.sqrt(k) for k in (2, 3, 5))
    edge = radius[:, None, None] * (1 + (0.03 + 0.22 * strength) * bumps)
    return inside((edge - distance) / 0.6)


@checked
def photograph(light: NDArray, seed: int, key: int, camera: Camera) -> NDArray[np.uint8]:
    """What the camera makes of light (H, W, 3): automatic exposure and contrast, colour, blur, noise; uint8."""
    exposure = random.uniform(seed, key, 0, "exposure", 0.56, 0.70)
    contrast = random.uniform(seed, key, 0, "contrast", 0.12, 0.17)
    light = exposure + (light - light.mean()) * (contrast / light.mean(axis=2).std())
    light = light * np.array(camera.gain)
    light = cv2.GaussianBlur(np.clip(light, 0, 1) ** camera.gamma, (0, 0), camera.blur)
    return eight_bits(light + camera.noise * camera_noise(seed, key, light.shape))


# -- chest-like grey phantoms: two lungs, ribs, a heart, and an opacity that grows with the signal ----------------


#: Per device: contrast, blur (sigma, pixels), noise (0..1).
DETECTORS = ((1.0, 0.4, 0.02), (0.85, 0.9, 0.03), (1.1, 0.6, 0.05))


@checked
def draw_chest(seed: int, key: int, signal: float, *, device: int = 0, size: int = 64) -> NDArray[np.uint8]:
    """One frontal view, (size, size) uint8; white is dense; ``signal`` as for the microscope.

    >>> draw_chest(0, 1, 2.0, size=32).shape
    (32, 32)
    """
    require(size >= 24, "size must be at least 24 pixels", given=size)
    u = random.uniform(seed, key, np.arange(16), "chest")
    y, x = _body_axes(u, size)
    body, (air, heart) = 0.72 * _ellipse(y, x, 0.1, 0.0, 1.15, 0.95), _air_and_heart(u, y, x)
    ribs = 0.05 * np.cos(2 * np.pi * (4.5 * y - 1.2 * x**2 + u[9]))
    shadow = body - 0.48 * air + 0.06 * heart + ribs * air
    shadow += air * _opacity(u, y, x, signal) + 0.06 * smooth_noise(seed, key, "tissue", size, cells=7)
    return _expose(shadow, seed, key, u, device)


def _air_and_heart(
    u: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much of each pixel is lung that the heart does not cover, and how much is heart, from 0 to 1."""
    lungs = [_ellipse(y, x, -0.05, side * (0.40 + 0.04 * u[5]), 0.62, 0.27 + 0.05 * u[6]) for side in (-1, 1)]
    heart = _ellipse(y, x, 0.30, 0.12 + 0.08 * u[7], 0.32, 0.27 + 0.06 * u[8])
    return np.maximum(*lungs) * (1 - heart), heart


def _body_axes(u: NDArray[np.float64], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = places(size)
    turn, scale = 0.16 * (u[0] - 0.5), 0.88 + 0.2 * u[1]
    y, x = y - 0.24 * (u[2] - 0.5), x - 0.24 * (u[3] - 0.5)
    return (y * np.cos(turn) + x * np.sin(turn)) / scale, (x * np.cos(turn) - y * np.sin(turn)) / scale


def _ellipse(y: NDArray, x: NDArray, at_y: float, at_x: float, half_y: float, half_x: float) -> NDArray[np.float64]:
    distance = np.hypot((y - at_y) / half_y, (x - at_x) / half_x)
    return inside((1 - distance) * 14)


def _opacity(u: NDArray[np.float64], y: NDArray, x: NDArray, signal: float) -> NDArray[np.float64]:
    return 0.42 * severity(signal) * _bump(u, y, x)


def _bump(u: NDArray[np.float64], y: NDArray, x: NDArray) -> NDArray[np.float64]:
    side = 1.0 if u[10] < 0.5 else -1.0
    at_y, at_x, width = 0.05 + 0.3 * u[11], side * (0.32 + 0.14 * u[12]), 0.16 + 0.12 * u[13]
    return np.asarray(np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * width**2)))


@checked
def chest_opacity(seed: int, key: int, *, size: int = 64) -> NDArray[np.bool_]:
    """Where :func:`draw_chest` plants the opacity, (size, size): what it changes at least half as much as where it changes most.

    It lies in the lung: nothing of it shows behind the heart, nor outside of the lung, whatever its own shape there. It is empty
    where the opacity changes nothing.

    >>> bool(0.01 < chest_opacity(0, 1).mean() < 0.2)
    True
    """
    u = random.uniform(seed, key, np.arange(16), "chest")
    y, x = _body_axes(u, size)
    planted = _air_and_heart(u, y, x)[0] * _bump(u, y, x)
    return np.asarray((planted > 0) & (planted >= 0.5 * planted.max()))


@checked
def chest_air(seed: int, key: int, *, size: int = 64) -> NDArray[np.float64]:
    """How much of each pixel of :func:`draw_chest` is lung that the heart does not cover, (size, size), from 0 to 1."""
    u = random.uniform(seed, key, np.arange(16), "chest")
    return _air_and_heart(u, *_body_axes(u, size))[0]


def _expose(shadow: NDArray, seed: int, key: int, u: NDArray[np.float64], device: int) -> NDArray[np.uint8]:
    contrast, blur, noise = DETECTORS[device % len(DETECTORS)]
    grey = contrast * (shadow - shadow.mean()) + 0.42 + 0.12 * u[14]
    grey = cv2.GaussianBlur(grey, (0, 0), blur)
    return eight_bits(grey + noise * camera_noise(seed, key, grey.shape))


# -- small volumes: a gland of three lobes whose surface swells and roughens with the signal ----------------------


@checked
def draw_volume(seed: int, key: int, signal: float, *, device: int = 0, size: int = 28) -> NDArray[np.uint8]:
    """One volume, (size, size, size) uint8, axes depth, row, column; brighter inside the gland.

    >>> draw_volume(0, 1, 2.0, size=16).shape
    (16, 16, 16)
    """
    require(size >= 12, "size must be at least 12 voxels", given=size)
    u = random.uniform(seed, key, np.arange(40), "gland")
    line = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"))  # (3, D, H, W)
    gland = np.maximum.reduce([_lobe(grid, u[9 * lobe : 9 * lobe + 9], severity(signal)) for lobe in range(3)])
    return eight_bits(0.15 + 0.55 * gland + (0.05 + 0.02 * (device % 3)) * camera_noise(seed, key, gland.shape))


def _lobe(grid: NDArray[np.float32], u: NDArray[np.float64], strength: float) -> NDArray[np.float32]:
    centre, axis = 0.5 * (u[:3] - 0.5), u[3:6] - 0.5
    offset = grid - centre.astype(np.float32)[:, None, None, None]
    axis = axis / max(float(np.linalg.norm(axis)), 1e-6)
    along = np.tensordot(axis.astype(np.float32), offset, axes=1)
    across = np.sqrt(np.maximum((offset**2).sum(axis=0) - along**2, 0))
    swelling = (0.13 + 0.13 * strength) * (0.9 + 0.2 * u[6])
    bumps = 1 + (0.05 + 0.3 * strength) * np.sin(9 * along + 6.28 * u[7]) * np.cos(7 * across + 6.28 * u[8])
    distance = np.sqrt((along / 0.55) ** 2 + (across / (swelling * bumps)) ** 2)
    return inside((1 - distance) * 8).astype(np.float32)
