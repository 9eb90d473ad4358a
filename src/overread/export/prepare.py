"""Pixels of an image file as the model takes them, by numpy and Pillow alone.

``about`` is the part "preprocessing" of the export.json beside this file. For images of 8 or 16 bits in grey or colour;
of DICOM files and volumes export.json says in words what comes before. The same whole numbers as overread's own,
but for JPEG files of at least twice the size, which overread decodes at a part of it.
"""

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def prepare(path: str | PathLike[str], about: dict[str, Any]) -> NDArray[np.float32]:
    """(channels, height, width) float32 from 0 to 1 of an image file."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode[0] in "IF":  # 16 bits
        x = np.rint(np.asarray(image, float) / 257)[..., None]
    else:
        x = np.asarray(image.convert("L" if about["channels"] == 1 or image.mode in "1L" else "RGB"), float)
        x = x.reshape(*x.shape[:2], -1)
    (height, width), (down, across) = about["size"], x.shape[:2]
    if about["fit"] != "squash":  # crop: the shorter side is kept; pad: the longer
        scale = (min if about["fit"] == "crop" else max)(down / height, across / width)
    if about["fit"] == "crop":
        inner = min(down, max(1, round(height * scale))), min(across, max(1, round(width * scale)))
        top, left = (down - inner[0]) // 2, (across - inner[1]) // 2
        x = x[top : top + inner[0], left : left + inner[1]]
    if about["fit"] == "pad":
        inner = min(height, max(1, round(down / scale))), min(width, max(1, round(across / scale)))
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        small, x = resize(x, *inner), np.zeros((height, width, x.shape[2]))
        x[top : top + inner[0], left : left + inner[1]] = small
    else:
        x = resize(x, height, width)
    planes = np.repeat(x, about["channels"] // x.shape[2], axis=2).transpose(2, 0, 1)
    return planes.astype(np.float32) / np.float32(255)


def resize(x: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Whole boxes where they fit; then linearly where less than half is left to go, else by area. As OpenCV rounds."""
    down, across = max(1, x.shape[0] // height), max(1, x.shape[1] // width)
    if x.shape[0] % down == x.shape[1] % across == 0:
        means = x.reshape(x.shape[0] // down, down, x.shape[1] // across, across, -1).mean(axis=(1, 3))
        x = np.floor(means + 0.5) if down == across == 2 else np.rint(means)
    if x.shape[:2] == (height, width):
        return x
    if x.shape[0] >= 2 * height or x.shape[1] >= 2 * width:
        return np.rint(np.einsum("ih,hwc,jw->ijc", area(x.shape[0], height), x, area(x.shape[1], width), optimize=True))
    (above, below, upper, lower), (left, right, near, far) = linear(x.shape[0], height), linear(x.shape[1], width)
    x = (x[:, left] * near[:, None] + x[:, right] * far[:, None]) // 16
    return (x[above] * upper[:, None, None] // 65536 + x[below] * lower[:, None, None] // 65536 + 2) // 4


def area(have: int, want: int) -> NDArray[Any]:
    """(want, have): how much of each old pixel is in each new one."""
    old, new = np.arange(have), np.arange(want)[:, None] * have / want
    return (np.minimum(new + have / want, old + 1) - np.maximum(new, old)).clip(0) * want / have


def linear(have: int, want: int) -> tuple[NDArray[Any], ...]:
    """Of each new pixel the two old ones and their weights, in steps of 1/2048."""
    place = (np.arange(want) + 0.5) * have / want - 0.5
    first, share = np.floor(place).astype(int), place % 1
    return first.clip(0), (first + 1).clip(0, have - 1), np.rint((1 - share) * 2048), np.rint(share * 2048)
