"""The shared drawing: where pixels lie, PNG that another library reads back, levels that are cut off."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from overread.core.errors import ArgumentError
from overread.synthetic.picture import eight_bits, inside, places, png, write_png


def test_places_are_the_middles_of_pixels():
    y, x = places(5)
    assert np.allclose(y[:, 2], [-0.8, -0.4, 0, 0.4, 0.8])
    assert np.allclose(x, y.T)


def test_inside_is_the_logistic_function_without_overflow():
    depth = np.array([-1e6, -3.0, 0, 2.0, 1e6])
    with np.errstate(all="raise"):
        assert np.allclose(inside(depth), expit(depth))


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3)], ids=["grey", "colour"])
def test_png_is_read_back_by_another_library(shape, tmp_path):
    pixels = eight_bits(np.random.default_rng(0).random(shape) * 1.2 - 0.1)
    assert {pixels.min(), pixels.max()} == {0, 255}
    write_png(tmp_path / "a.png", pixels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)
    little = png(np.zeros((64, 64), np.uint8), level=9)
    assert little != png(np.zeros((64, 64), np.uint8), level=0)
    assert not np.asarray(Image.open(io.BytesIO(little))).any()


def test_what_is_no_picture_is_refused():
    with pytest.raises(ArgumentError):
        png(np.zeros((0, 4), np.uint8))
