"""A tile of a heat map is prepared as a tile of training is, also where stains are brought to one look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from overread.images.preprocess import load
from overread.images.slides.slide import open_slide, read_tile
from overread.images.slides.tile_settings import Tiles
from overread.learning.model import Model
from overread.slides.tile_answers import TileAnswers


@pytest.mark.parametrize("stain", ["reinhard", "macenko"])
def test_stain_of_a_tile_of_a_map_is_that_of_training(stain, slide_model, make_slide):
    plain = slide_model(tiles=Tiles(size=32, centre=16, stride=16, mpp=(1.0,)))
    model = Model(plain.network, replace(plain.about, preprocess=replace(plain.about.preprocess, stain=stain)))
    path = make_slide(160, 208)
    slide = open_slide(path)
    places = [(40.0, 40.0), (100.0, 80.0), (150.0, 110.0), (5.0, 5.0)]
    tiles = np.stack([read_tile(slide, x, y, 32, 1.0) for x, y in places])
    trained = np.stack([load(f"{path}#tile={x:g},{y:g},32,1", model.about.preprocess) for x, y in places])
    assert np.abs(trained.astype(int) - tiles).mean() > 2  # something was done
    mapped = TileAnswers.of(model, slide, "cpu", 8)(tiles[:, None])
    np.testing.assert_allclose(mapped, TileAnswers.of(plain, slide, "cpu", 8)(trained[:, None]), atol=1e-6)
    assert np.abs(mapped - TileAnswers.of(plain, slide, "cpu", 8)(tiles[:, None])).max() > 1e-4
