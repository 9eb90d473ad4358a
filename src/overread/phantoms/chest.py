"""Chest-like grey phantoms: two lungs, ribs, a heart, and an opacity that grows with the signal."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from overread import chance
from overread.errors import checked, require
from overread.phantoms.microscope import severity, smooth_noise

#: Per device: contrast, blur (sigma, pixels), noise (0..1).
DETECTORS = ((1.0, 0.4, 0.02), (0.85, 0.9, 0.03), (1.1, 0.6, 0.05))


@checked
def draw(seed: int, key: int, signal: float, *, device: int = 0, size: int = 64) -> NDArray[np.uint8]:
    """One frontal view, (size, size) uint8; white is dense; ``signal`` as for the microscope.

    >>> draw(0, 1, 2.0, size=32).shape
    (32, 32)
    """
    require(size >= 24, "size must be at least 24 pixels", given=size)
    u = chance.uniform(seed, key, np.arange(16), "chest")
    y, x = _body_axes(u, size)
    lungs = [_ellipse(y, x, -0.05, side * (0.40 + 0.04 * u[5]), 0.62, 0.27 + 0.05 * u[6]) for side in (-1, 1)]
    heart = _ellipse(y, x, 0.30, 0.12 + 0.08 * u[7], 0.32, 0.27 + 0.06 * u[8])
    body = 0.72 * _ellipse(y, x, 0.1, 0.0, 1.15, 0.95)
    ribs = 0.05 * np.cos(2 * np.pi * (4.5 * y - 1.2 * x**2 + u[9]))
    air = np.maximum(*lungs) * (1 - heart)
    shadow = body - 0.48 * air + 0.06 * heart + ribs * air
    shadow += air * _opacity(u, y, x, signal) + 0.06 * smooth_noise(seed, key, "tissue", size, cells=7)
    return _expose(shadow, seed, key, u, device)


def _body_axes(u: NDArray[np.float64], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    line = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    turn, scale = 0.16 * (u[0] - 0.5), 0.88 + 0.2 * u[1]
    y, x = y - 0.24 * (u[2] - 0.5), x - 0.24 * (u[3] - 0.5)
    return (y * np.cos(turn) + x * np.sin(turn)) / scale, (x * np.cos(turn) - y * np.sin(turn)) / scale


def _ellipse(
    y: NDArray, x: NDArray, at_y: float, at_x: float, half_y: float, half_x: float
) -> NDArray[np.float64]:
    distance = np.hypot((y - at_y) / half_y, (x - at_x) / half_x)
    return 1 / (1 + np.exp(np.clip((distance - 1) * 14, -40, 40)))


def _opacity(u: NDArray[np.float64], y: NDArray, x: NDArray, signal: float) -> NDArray[np.float64]:
    side = 1.0 if u[10] < 0.5 else -1.0
    at_y, at_x, width = 0.05 + 0.3 * u[11], side * (0.32 + 0.14 * u[12]), 0.16 + 0.12 * u[13]
    return 0.42 * severity(signal) * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * width**2))


def _expose(shadow: NDArray, seed: int, key: int, u: NDArray[np.float64], device: int) -> NDArray[np.uint8]:
    contrast, blur, noise = DETECTORS[device % len(DETECTORS)]
    grey = contrast * (shadow - shadow.mean()) + 0.42 + 0.12 * u[14]
    grey = cv2.GaussianBlur(grey, (0, 0), blur)
    grey += noise * chance.normal(seed, key, np.arange(grey.size), "noise").reshape(grey.shape)
    return np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8)
