"""Small volumes: a gland of three lobes whose surface swells and roughens with the signal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from overread import chance
from overread.errors import checked, require
from overread.phantoms.microscope import severity


@checked
def draw(seed: int, key: int, signal: float, *, device: int = 0, size: int = 28) -> NDArray[np.uint8]:
    """One volume, (size, size, size) uint8, axes depth, row, column; brighter inside the gland.

    >>> draw(0, 1, 2.0, size=16).shape
    (16, 16, 16)
    """
    require(size >= 12, "size must be at least 12 voxels", given=size)
    u = chance.uniform(seed, key, np.arange(40), "gland")
    line = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"))  # (3, D, H, W)
    inside = np.maximum.reduce(
        [_lobe(grid, u[9 * lobe : 9 * lobe + 9], severity(signal)) for lobe in range(3)]
    )
    noise = chance.normal(seed, key, np.arange(size**3), "noise").reshape(inside.shape)
    grey = 0.15 + 0.55 * inside + (0.05 + 0.02 * (device % 3)) * noise
    return np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8)


def _lobe(grid: NDArray[np.float32], u: NDArray[np.float64], strength: float) -> NDArray[np.float32]:
    centre, axis = 0.5 * (u[:3] - 0.5), u[3:6] - 0.5
    offset = grid - centre.astype(np.float32)[:, None, None, None]
    axis = axis / max(float(np.linalg.norm(axis)), 1e-6)
    along = np.tensordot(axis.astype(np.float32), offset, axes=1)
    across = np.sqrt(np.maximum((offset**2).sum(axis=0) - along**2, 0))
    swelling = (0.13 + 0.13 * strength) * (0.9 + 0.2 * u[6])
    bumps = 1 + (0.05 + 0.3 * strength) * np.sin(9 * along + 6.28 * u[7]) * np.cos(7 * across + 6.28 * u[8])
    distance = np.sqrt((along / 0.55) ** 2 + (across / (swelling * bumps)) ** 2)
    return (1 / (1 + np.exp(np.clip((distance - 1) * 8, -40, 40)))).astype(np.float32)
