"""Phantom films: what is told of them is in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from overread.core.errors import ArgumentError
from overread.images.outlines.outlines import read_outlines
from overread.synthetic.cells.calcium import FLASH, draw_calcium, draw_film


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return draw_calcium(tmp_path_factory.mktemp("films"), movies=4, frames=16, size=64, neurons=6, specks=4, seed=3)


def test_the_table_says_what_lies_there(films):
    table = pd.read_csv(films)
    assert list(table) == ["image", "movie", "animal", "microscope", "mask", "pixel_size"]
    assert table["animal"].nunique() == 2
    neurons = pd.read_csv(films.parent / "neurons.csv")
    for row in table.itertuples():
        assert tifffile.imread(films.parent / row.image).shape == (16, 64, 64)
        outlines = read_outlines(films.parent / row.mask)
        told = neurons[neurons["movie"] == row.movie]
        assert len(outlines) == len(told)
        seen = np.array(ndimage.center_of_mass(outlines.labels > 0, outlines.labels, range(1, len(outlines) + 1)))
        assert np.abs(seen - told[["row", "column"]].to_numpy()).max() < 1.5


def test_the_same_seed_gives_the_same_bytes(films, tmp_path):
    again = draw_calcium(tmp_path, movies=4, frames=16, size=64, neurons=6, specks=4, seed=3)
    for path in sorted(films.parent.rglob("*.*")):
        assert (again.parent / path.relative_to(films.parent)).read_bytes() == path.read_bytes()


def test_neurons_flash_and_specks_do_not():
    film = draw_film(0, 5, frames=64, size=96)
    frames = film.frames.astype(float)
    for label, trace in enumerate(film.traces, 1):
        light = frames[:, film.labels == label].mean(1)
        assert np.corrcoef(light, trace)[0, 1] > 0.7
        assert trace.max() >= FLASH * 0.7
    steady = draw_film(0, 5, frames=64, size=96, specks=0).frames.mean(0)
    specks = (frames.mean(0) - steady > 300) & (film.labels == 0)
    assert specks.sum() > 100, "specks are as bright as neurons on average"
    spread = frames.std(0)
    assert spread[film.labels > 0].mean() > 1.5 * spread[specks].mean()


def test_what_is_refused(tmp_path):
    with pytest.raises(ArgumentError):
        draw_calcium(tmp_path, movies=2)
    with pytest.raises(ArgumentError):
        draw_calcium(tmp_path, frames=2)
