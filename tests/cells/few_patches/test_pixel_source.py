"""Images read by windows: stored plainly, packed, or as a picture, they are the same pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile

from overread.cells.few_patches.pixel_source import open_pixels, unpack_tiff
from overread.core.errors import ImageError


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    home = tmp_path_factory.mktemp("pixels")
    pixels = np.random.default_rng(0).integers(0, 60000, (70, 90)).astype(np.uint16)
    tifffile.imwrite(home / "plain.tif", pixels)
    tifffile.imwrite(home / "packed.tif", pixels, compression="zlib", rowsperstrip=16)
    tifffile.imwrite(home / "tiled.tif", pixels, compression="zlib", tile=(32, 48))
    cv2.imwrite(str(home / "picture.png"), pixels)
    return home, pixels


@pytest.mark.parametrize("name", ["plain.tif", "packed.tif", "tiled.tif", "picture.png"])
def test_windows_of_every_form_are_the_same(stored, name):
    home, pixels = stored
    with open_pixels(str(home / name)) as source:
        assert source.size == (70, 90)
        assert (source.mean, source.std) == (pytest.approx(pixels.mean()), pytest.approx(pixels.std()))
        padded = np.pad((pixels - pixels.mean()) / pixels.std(), 40, mode="reflect")
        for top, left, height, width in ((-30, 5, 50, 40), (60, 80, 40, 45), (10, 20, 16, 8)):
            wanted = padded[top + 40 : top + 40 + height, left + 40 : left + 40 + width]
            assert np.abs(source.window(top, left, height, width) - wanted).max() < 1e-5


def test_what_is_stored_plainly_is_not_read_at_once(stored):
    home, _ = stored
    with open_pixels(str(home / "plain.tif")) as source:
        assert isinstance(source.pixels, np.memmap)


@pytest.mark.parametrize("name", ["packed.tif", "tiled.tif", "plain.tif"])
def test_a_large_one_is_unpacked_piece_by_piece(stored, name, tmp_path):
    home, pixels = stored
    height, width, kind = unpack_tiff(str(home / name), str(tmp_path / "scratch"))
    assert np.array_equal(np.memmap(tmp_path / "scratch", kind, "r", shape=(height, width)), pixels)


def test_what_is_no_flat_image_is_refused(stored):
    home, pixels = stored
    tifffile.imwrite(home / "stack.tif", np.stack([pixels] * 3), photometric="minisblack")
    tifffile.imwrite(home / "nan.tif", np.full((8, 8), np.nan, np.float32))
    for name, said in (("stack.tif", "flat images"), ("nan.tif", "NaN"), ("none.tif", "does not exist")):
        with pytest.raises(ImageError, match=said), open_pixels(str(home / name)):
            pass
