"""A map over its image, in colours: numbers in, pixels out; needs no torch.

Maps that are 0 or above are drawn by viridis, whose steps look alike, signed ones in red (for the target) and blue (against
it). How opaque a colour is grows with the value, so that where a map says nothing the image is seen as it is.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.images.conversions import eight_bits

#: The most opaque that a colour gets.
OPAQUE = 0.65
#: The height of a picture in pixels, at least and at most, and the bytes that its file may have.
SMALLEST, LARGEST, MOST_BYTES = 224, 448, 512 * 1024
#: Colours of maps that are 0 or above, and of signed ones.
EVEN, DIVERGING = "viridis", "RdBu_r"


@checked
def overlay(image: NDArray, values: NDArray, *, signed: bool = False, scale: float = 0.0) -> NDArray[np.uint8]:
    """The map ``values`` (H, W) in colours over an ``image`` (H, W, C), as (H, W, 3) uint8.

    ``scale``: the value of the strongest colour; 0: the largest magnitude of the map. Values that are NaN stay without
    colour.

    >>> overlay(np.zeros((8, 8, 1), np.uint8), np.eye(8)).shape
    (8, 8, 3)
    """
    from matplotlib import colormaps  # slow to load, and not wanted where stored maps are only read

    require(values.shape == image.shape[:2], "the map has another size than the image", given=f"{values.shape}, {image.shape[:2]}")  # fmt: skip
    share = np.nan_to_num(values.astype(np.float64)) / (scale or strongest(values) or 1.0)
    share = np.clip(share, -1 if signed else 0, 1)
    colours = colormaps[DIVERGING](0.5 + share / 2) if signed else colormaps[EVEN](share)
    opaque = OPAQUE * np.sqrt(np.abs(share))[..., None]
    mixed = colours[..., :3] * 255 * opaque + grey_or_colour(image) * (1 - opaque)
    return np.asarray(mixed.round(), np.uint8)


@checked
def even_colours(values: NDArray) -> NDArray[np.uint8]:
    """The colours (…, 3) of values 0 … 1, red, green, blue: one scale for all maps that are 0 or above, on pages and in the viewer.

    >>> even_colours(np.array([0.0, 1.0])).tolist()
    [[68, 1, 84], [253, 231, 36]]
    """
    from matplotlib import colormaps

    return np.asarray(colormaps[EVEN](np.clip(values, 0, 1), bytes=True), np.uint8)[..., :3]


@checked
def strongest(values: NDArray) -> float:
    """The largest magnitude in a map, 0 of one that is empty or NaN throughout."""
    known = values[np.isfinite(values)]
    return float(np.abs(known).max()) if known.size else 0.0


@checked
def grey_or_colour(image: NDArray) -> NDArray[np.uint8]:
    """An image (H, W, C) as a screen shows it, (H, W, 3): deep pixels between their 0.5th and 99.5th percentile.

    Of channels that are neither one nor three the first is shown.
    """
    pixels = image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1)
    return eight_bits(pixels)


@checked
def picture(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of pixels (H, W, 3), small enough for a page: see :data:`MOST_BYTES`; small images in large pixels."""
    height = len(pixels)
    factor = max(1, SMALLEST // height) if height < SMALLEST else min(1.0, LARGEST / height)
    while True:
        shape = tuple(max(1, round(s * factor)) for s in pixels.shape[1::-1])
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
        done, data = cv2.imencode(".png", cv2.resize(np.ascontiguousarray(pixels[..., ::-1]), shape, interpolation=how))
        assert done
        if len(data) <= MOST_BYTES:
            return bytes(data.tobytes())
        factor *= 0.8
