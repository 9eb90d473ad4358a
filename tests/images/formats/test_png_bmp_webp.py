"""Headers of PNG and BMP are those of Pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as Pillow

from overread.images.formats.png_bmp_webp import bmp_header, png_header

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
