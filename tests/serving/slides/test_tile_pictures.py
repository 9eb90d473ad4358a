"""Tiles as pictures, put together again: the slide, the cells of its heat map, and what was skipped."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from served_slides import MPP, SIZE, draw_slide, pixels

from overread.images.slides.slide import open_slide
from overread.serving.slides.tile_grid import TileGrid
from overread.serving.slides.tile_pictures import (
    ENLARGED,
    SKIPPED_COLOURS,
    cells_of,
    map_tile,
    overlay_grid,
    skipped_tile,
    slide_grid,
    slide_tile,
)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return open_slide(draw_slide(tmp_path_factory.mktemp("slide") / "a.tif"))


def decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def put_together(grid: TileGrid, level: int, tile) -> np.ndarray:
    """All tiles of a level side by side."""
    columns = max(c + 1 for c in range(64) if grid.has(level, c, 0))
    rows = max(r + 1 for r in range(64) if grid.has(level, 0, r))
    return np.vstack([np.hstack([decoded(tile(level, c, r)) for c in range(columns)]) for r in range(rows)])


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_tiles_of_a_level_are_the_slide(slide, level):
    grid = slide_grid(slide)
    assert (grid.width, grid.height, grid.most, grid.least) == (*SIZE, 2, 0)
    shown = put_together(grid, level, lambda *place: slide_tile(slide, grid, *place))[..., ::-1].astype(float)
    by = 2 ** (2 - level)
    held = pixels()[: SIZE[1] // by * by, : SIZE[0] // by * by].astype(float)
    held = held.reshape(SIZE[1] // by, by, SIZE[0] // by, by, 3).mean(axis=(1, 3))
    assert shown.shape[:2] == (-(-SIZE[1] // by), -(-SIZE[0] // by))
    same = shown[: held.shape[0], : held.shape[1]]
    assert np.abs(same - held).mean() < 6  # what JPEG costs of noise
    assert abs(np.abs(same - held).mean() - np.abs(same[::-1] - held).mean()) > 5, "it is not upside down"


def test_a_tile_holds_pixels_and_nothing_else(slide):
    data = slide_tile(slide, slide_grid(slide), 2, 0, 0)
    kinds = {data[at + 1] for at in range(len(data) - 1) if data[at] == 0xFF and 0xE0 <= data[at + 1] <= 0xEF}
    assert kinds <= {0xE0}, "no marker of an application but that of JFIF: no Exif, no profile, no XMP"
    assert b"KANARIENVOGEL" not in data


def test_of_a_slide_without_a_pyramid_no_tile_takes_too_much(tmp_path):
    import tifffile

    with tifffile.TiffWriter(tmp_path / "flat.tif", bigtiff=False) as file:
        file.write(np.full((600, 30_000, 3), 200, np.uint8), tile=(256, 256), photometric="rgb", compression="zlib",
                   resolutionunit="CENTIMETER", resolution=(1e4 / MPP, 1e4 / MPP))  # fmt: skip
    grid = slide_grid(open_slide(tmp_path / "flat.tif"))
    assert grid.least == 3
    assert grid.most == 6
    assert not grid.has(2, 0, 0)
    assert grid.reduction(grid.least) * 512 <= 4096


def test_a_cell_is_a_square_and_from_afar_the_strongest_of_its_block():
    codes = np.random.default_rng(2).integers(0, 256, (150, 170), np.uint8)
    grid = overlay_grid(*codes.shape)
    shown = lambda least, level: put_together(
        grid, level, lambda *place: map_tile(codes[cells_of(grid, *place)], grid, *place, least)
    )
    near = shown(500, grid.most)
    assert near.shape == (150 * ENLARGED, 170 * ENLARGED, 4)
    seen = near[..., 3] == 255
    probability = (codes.astype(float) - 1) / 254
    assert np.array_equal(seen, ((codes > 0) & (probability >= 0.5)).repeat(ENLARGED, 0).repeat(ENLARGED, 1))
    codes = np.random.default_rng(3).integers(0, 256, (301, 703), np.uint8)
    grid = overlay_grid(*codes.shape)
    far = shown(990, 0)
    by = grid.reduction(0) // ENLARGED
    padded = np.pad(codes, [(0, -size % by) for size in codes.shape])
    highest = padded.reshape(padded.shape[0] // by, by, -1, by).max(axis=(1, 3))
    assert np.array_equal(far[..., 3] == 255, (highest.astype(float) - 1) / 254 >= 0.99)
    assert by == 2
    assert shown(0, 0)[..., 3].all(), "from 0 on all that was looked at is seen"


def test_what_nobody_looked_at_is_never_seen_and_16_bits_are_as_8():
    grid = overlay_grid(4, 4)
    codes = np.array([[0, 1, 128, 255]] * 4, np.uint8)
    deep = np.array([[0, 1, 1 + round(127 / 254 * 65_534), 65_535]] * 4, np.uint16)
    for least, seen in ((0, [0, 255, 255, 255]), (500, [0, 0, 255, 255]), (1000, [0, 0, 0, 255])):
        shown = [decoded(map_tile(held, grid, 0, 0, 0, least)) for held in (codes, deep)]
        assert shown[0][0, ::ENLARGED, 3].tolist() == seen
        assert np.array_equal(*shown)
    colours = decoded(map_tile(codes, grid, 0, 0, 0, 0))[0, ::ENLARGED, 2::-1].astype(int).tolist()
    assert colours[3] == [253, 231, 36], "the end of viridis (matplotlib), red, green, blue"
    assert colours[0] == [0, 0, 0]


def test_each_kind_of_skipped_place_has_its_colour():
    kinds = np.arange(6, dtype=np.uint8).repeat(4)[None].repeat(8, 0)
    grid = overlay_grid(*kinds.shape)
    shown = decoded(skipped_tile(kinds[cells_of(grid, 0, 0, 0)], grid, 0, 0, 0))
    assert [tuple(int(x) for x in shown[3, (4 * at + 1) * ENLARGED, [2, 1, 0, 3]]) for at in range(6)] == list(
        SKIPPED_COLOURS
    )
    assert SKIPPED_COLOURS[1][3] == 0, "tissue is left as it is"
    wide = np.ones((3, 20_000), np.uint8)
    wide[:, 19_999] = 2
    far = overlay_grid(*wide.shape)
    last = (-(-20_000 * ENLARGED // far.reduction(far.least)) - 1) // 512
    assert decoded(skipped_tile(wide[cells_of(far, far.least, last, 0)], far, far.least, last, 0)).shape[2] == 4
