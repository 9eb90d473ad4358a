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

from overread import chance
from overread.errors import checked, require

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
def draw(seed: int, key: int, signal: float, *, device: int = 0, size: int = 64) -> NDArray[np.uint8]:
    """One field of view, (size, size, 3) uint8 RGB.

    ``key`` names the image: the same seed and key give the same image. ``signal`` is about 0 for harmless and
    2 or more for malignant nuclei. ``device`` picks one of :data:`CAMERAS`. Raises ArgumentError for a size
    below 24.

    >>> draw(0, 1, 2.0, size=32).shape
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
    count = 9 + round(7 * strength + 6 * float(chance.uniform(seed, key, 0, "count")))
    drawn = chance.uniform(seed, key, np.arange(min(count, NUCLEI))[:, None] * 16 + np.arange(12), "nucleus")
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
    return 1 / (1 + np.exp(np.clip((distance - edge) / 0.6, -40, 40)))


@checked
def smooth_noise(seed: int, key: int, name: str, size: int, *, cells: int) -> NDArray[np.float64]:
    """A smooth random surface of mean 0 and range about ±1, (size, size): ``cells`` bumps along a side."""
    coarse = chance.uniform(seed, key, np.arange(cells * cells), name, -1.0, 1.0).reshape(cells, cells)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float64)


@checked
def photograph(light: NDArray, seed: int, key: int, camera: Camera) -> NDArray[np.uint8]:
    """What the camera makes of light (H, W, 3): automatic exposure and contrast, colour, blur, noise; uint8."""
    exposure = chance.uniform(seed, key, 0, "exposure", 0.56, 0.70)
    contrast = chance.uniform(seed, key, 0, "contrast", 0.12, 0.17)
    light = exposure + (light - light.mean()) * (contrast / light.mean(axis=2).std())
    light = light * np.array(camera.gain)
    light = cv2.GaussianBlur(np.clip(light, 0, 1) ** camera.gamma, (0, 0), camera.blur)
    noise = chance.normal(seed, key, np.arange(light.size), "noise").reshape(light.shape)
    return np.clip(np.rint(255 * (light + camera.noise * noise)), 0, 255).astype(np.uint8)
