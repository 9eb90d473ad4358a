"""What phantoms are drawn with: places within a picture, soft edges, noise of the camera, grey levels, and PNG files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require


@checked
def places(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column of each pixel's middle, (size, size) each, from −1 to 1 across the picture.

    >>> places(2)[0].tolist()
    [[-0.5, -0.5], [0.5, 0.5]]
    """
    line = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


@checked
def inside(depth: NDArray[np.floating]) -> NDArray[np.float64]:
    """1 well inside of an outline, 0 well outside, ½ on it: the logistic function of how deep a place lies.

    >>> inside(np.array([-99.0, 0, 99])).round(6).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.asarray(1 / (1 + np.exp(np.clip(-depth, -40, 40))))


@checked
def camera_noise(seed: int, key: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal noise of ``shape``, that of the picture named ``key``."""
    return random.normal(seed, key, np.arange(int(np.prod(shape))), "noise").reshape(shape)


@checked
def smooth_noise(seed: int, key: int, name: str, size: int, *, cells: int) -> NDArray[np.float64]:
    """A smooth random surface of mean 0 and range about ±1, (size, size): ``cells`` bumps along a side."""
    coarse = random.uniform(seed, key, np.arange(cells * cells), name, -1.0, 1.0).reshape(cells, cells)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float64)


@checked
def eight_bits(grey: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Grey or colour from 0 to 1 as whole levels from 0 to 255; what lies beyond is cut off.

    >>> eight_bits(np.array([-1.0, 0.5, 2.0])).tolist()
    [0, 128, 255]
    """
    return np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8)


@checked
def png(pixels: NDArray[np.uint8], *, level: int = -1) -> bytes:
    """A picture (H, W) or (H, W, 3 as RGB) as PNG; another ``level`` of compression gives other bytes of the same pixels."""
    require(pixels.size > 0, "a picture has a pixel or more", given=pixels.shape)
    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    how = [cv2.IMWRITE_PNG_COMPRESSION, level] if level >= 0 else []
    done, data = cv2.imencode(".png", np.ascontiguousarray(bgr), how)
    require(bool(done), "the image cannot be written as PNG", given=pixels.shape)
    return data.tobytes()


@checked
def write_png(path: Path, pixels: NDArray[np.uint8], *, level: int = -1) -> None:
    """Write :func:`png`. Not published: the table of a cohort is, after all of its pictures."""
    path.write_bytes(png(pixels, level=level))
