"""Headers of PNG and BMP are those of Pillow; pictures that zeros took the place of are found in WebP and JPEG 2000."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from overread.core.errors import ImageError
from overread.images.formats.png_bmp_webp import bmp_header, png_header
from overread.images.read import read_image

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)


def encoded(kind: str, **options: object) -> bytes:
    handle = io.BytesIO()
    Pillow.fromarray(PIXELS).save(handle, kind, **options)
    return handle.getvalue()


def test_a_png_header_drops_what_is_not_needed() -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("k", "v" * 10_000, zip=True)
    plain, wordy = encoded("PNG"), encoded("PNG", pnginfo=text)
    assert len(wordy) > len(plain)
    assert png_header(wordy).payload == plain


def test_a_bmp_header_is_that_of_pillow() -> None:
    assert bmp_header(encoded("BMP")) == (37, 53, 24)


TEXTURE = cv2.normalize(
    cv2.GaussianBlur(RNG.random((200, 296, 3), np.float32), (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX
).astype(np.uint8)
KINDS: dict[str, dict[str, object]] = {
    "WEBP": {"quality": 80}, "WEBP low": {"quality": 5}, "WEBP lossless": {"lossless": True}, "WEBP fast": {"quality": 100, "method": 0},
    "JPEG2000": {}, "JPEG2000 bare": {"no_jp2": True}, "JPEG2000 tiles": {"tile_size": (64, 64)},
    "JPEG2000 layers": {"irreversible": True, "quality_layers": [40, 20, 10]}, "JPEG2000 by component": {"progression": "CPRL"},
}  # fmt: skip


def as_kind(kind: str, pixels: np.ndarray) -> bytes:
    handle = io.BytesIO()
    Pillow.fromarray(pixels).save(handle, kind.split()[0], **KINDS[kind])
    return handle.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [False, True])
def test_zeros_in_place_of_the_rest_are_found(kind: str, alpha: bool) -> None:
    """With or without the end marker behind them, and in the middle."""
    if alpha and "JPEG2000" in kind:
        pytest.skip("the same codestream")
    data = as_kind(kind, np.dstack([TEXTURE, TEXTURE[..., 0]]) if alpha else TEXTURE)
    read_image(data)
    for part in (0.05, 0.1, 0.25, 0.4):
        count = max(int(len(data) * part), 300)
        for kept in (0, 2, 40 if "JPEG2000" in kind else 3):
            broken = data[: len(data) - count - kept] + bytes(count) + data[len(data) - kept :]
            with pytest.raises(ImageError, match="damaged|cut off|not valid|no image"):
                read_image(broken)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_and_fine_patterns_are_not_accused(kind: str, level: int) -> None:
    """Long runs of zeros stand in whole files, too."""
    for side in (64, 512):
        flat = np.full((side, side, 3), level, np.uint8)
        corner, disc = flat.copy(), flat.copy()
        corner[: side // 4, : side // 4] = RNG.integers(0, 255, (side // 4, side // 4, 3))
        cv2.circle(disc, (side // 2, side // 2), side // 3, (200, 90, 30), -1)
        chess = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((side // 8, side // 8)))[..., None] * np.full(
            3, level or 9
        )
        ramp = np.broadcast_to((np.arange(side) * 255 // side)[None, :, None], (side, side, 3))
        for pixels in (flat, corner, disc, chess, ramp):
            read_image(as_kind(kind, np.ascontiguousarray(pixels).astype(np.uint8)))
