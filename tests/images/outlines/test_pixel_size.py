"""Microns of a pixel from a file's own words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tifffile
from PIL import Image

from overread.images.outlines.pixel_size import pixel_size_of

PIXELS = np.zeros((8, 9), np.uint8)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (50_800, 50_800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (4, 4), "imagej": True, "metadata": {"unit": "micron"}}, 0.25),
        ({"resolution": (4, 4), "imagej": True, "metadata": {"unit": "um"}}, 0.25),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 325, "PhysicalSizeXUnit": "nm"}}, 0.325),
        ({"ome": True, "metadata": {"axes": "YX"}}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),  # of a screen
        ({}, None),
    ],
)
def test_the_size_of_a_pixel_is_read_from_tiff(tmp_path, options, size) -> None:
    tifffile.imwrite(tmp_path / "x.tif", PIXELS, **options)
    found = pixel_size_of(str(tmp_path / "x.tif"))
    assert math.isnan(found) if size is None else found == pytest.approx(size, rel=1e-4)


def test_of_png_and_of_what_says_nothing_or_is_broken(tmp_path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.png", dpi=(25_400, 25_400))
    assert pixel_size_of(str(tmp_path / "x.png")) == pytest.approx(1.0, rel=1e-3)
    Image.fromarray(PIXELS).save(tmp_path / "y.png")
    (tmp_path / "z.tif").write_bytes(b"II*\0" + b"\xff" * 40)
    for name in ("y.png", "z.tif", "none.png"):
        assert math.isnan(pixel_size_of(str(tmp_path / name)))
