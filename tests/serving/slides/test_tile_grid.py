"""Tiles of a picture: every pixel of every level lies in exactly one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.serving.slides.tile_grid import TILE, TileGrid, coarsest


@pytest.mark.parametrize(("width", "height"), [(1, 1), (512, 512), (513, 512), (3000, 2200), (100_000, 7)])
def test_every_pixel_of_a_level_is_in_one_tile(width, height):
    grid = TileGrid(width, height)
    assert grid.reduction(grid.most) == 1
    for level in range(max(0, grid.most - 3), grid.most + 1):
        by = 2 ** (grid.most - level)
        size = math.ceil(width / by), math.ceil(height / by)
        across, down = (math.ceil(side / TILE) for side in size)
        boxes = [grid.box(level, column, row) for row in range(down) for column in range(across)]
        assert sum(w * h for _, _, w, h in boxes) == size[0] * size[1]
        assert {(left, top) for left, top, _, _ in boxes} == {
            (c * TILE, r * TILE) for r in range(down) for c in range(across)
        }
        assert not grid.has(level, across, 0)
        assert not grid.has(level, 0, down)


def test_level_0_is_one_tile_and_no_level_below_it():
    for width in (1, 512, 513, 1024, 1025, 99_999, 2**20):
        grid = TileGrid(width, 3)
        assert grid.has(0, 0, 0)
        assert not grid.has(0, 1, 0)
        assert math.ceil(width / grid.reduction(0)) <= TILE
        assert grid.most == 0 or math.ceil(width / grid.reduction(1)) > TILE


def test_a_tile_of_the_coarsest_level_takes_no_more_than_may_be_read():
    for width in np.random.default_rng(1).integers(1, 300_000, 50).tolist():
        for side in (4096, 16_384, 70_000):
            least = coarsest(width, 17, side)
            grid = TileGrid(width, 17, least)
            assert TILE * grid.reduction(least) <= side or least == grid.most
            assert least == 0 or TILE * 2 * grid.reduction(least) > side


def test_what_is_no_tile_is_refused():
    grid = TileGrid(3000, 2200, 1)
    for place in ((0, 0, 0), (4, 0, 0), (-1, 0, 0), (3, -1, 0), (3, 6, 0), (3, 0, 5), (3, 10**9, 0)):
        assert not grid.has(*place)
        with pytest.raises(ArgumentError):
            grid.box(*place)
    with pytest.raises(ArgumentError):
        TileGrid(0, 5)
