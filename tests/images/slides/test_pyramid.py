"""Pyramids that we write are read by other programs, level by level, and by our reader at any place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from installed import module

from overread.core.errors import ArgumentError, ImageError
from overread.images.slides.pyramid import PyramidReader, read_plane, write_pyramid
from overread.images.slides.slide import open_slide, read_region


def noise(height: int, width: int, channels: int = 3, dtype=np.uint8) -> np.ndarray:
    shape = (height, width, 3) if channels == 3 else (height, width)
    return np.random.default_rng(3).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def written(path, pixels, tile=64, **more):
    def tile_of(row, column):
        return pixels[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]

    more = {"mpp": 0.5, "channels": 3 if pixels.ndim == 3 else 1, "dtype": pixels.dtype, **more}
    return write_pyramid(path, tile_of, width=pixels.shape[1], height=pixels.shape[0], tile=tile, **more)


def reduced(pixels: np.ndarray, how=np.mean) -> np.ndarray:
    """2 x 2 pixels become one, by loops over what there is of them; means are rounded half up."""
    height, width = (pixels.shape[0] + 1) // 2, (pixels.shape[1] + 1) // 2
    result = np.zeros((height, width, *pixels.shape[2:]), pixels.dtype)
    for row in range(height):
        for column in range(width):
            square = pixels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].astype(float)
            result[row, column] = np.floor(how(square, axis=(0, 1)) + 0.5)
    return result


@pytest.mark.parametrize(("height", "width"), [(300, 200), (129, 193), (64, 64), (65, 1), (1, 257), (191, 320)])
def test_every_level_is_the_mean_of_the_one_below(tmp_path, height, width):
    pixels = noise(height, width)
    path = written(tmp_path / "a.tif", pixels)
    with tifffile.TiffFile(path) as tiff:
        pages = [page.asarray() for page in tiff.pages]
        assert all(page.is_tiled for page in tiff.pages)
    expected = [pixels]
    while max(expected[-1].shape[:2]) > 64:
        expected.append(reduced(expected[-1]))
    assert [page.shape for page in pages] == [level.shape for level in expected]
    for page, level in zip(pages, expected):
        np.testing.assert_array_equal(page, level)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_heat_maps_of_one_channel_keep_their_highest_value(tmp_path, dtype):
    pixels = noise(150, 170, 1, dtype)
    path = written(tmp_path / "map.tif", pixels, reduction="maximum", mpp=64.0, description='{"bits": 8}')
    with PyramidReader(path) as reader:
        assert reader.sizes == ((170, 150), (85, 75), (43, 38))
        assert (reader.dtype, reader.channels, reader.description) == (dtype, 1, '{"bits": 8}')
        assert reader.mpp == pytest.approx(64.0, rel=1e-6)
        np.testing.assert_array_equal(reader.read(60, 3, 70, 100), pixels[3:103, 60:130])
        np.testing.assert_array_equal(reader.read(0, 0, 85, 75, 1), reduced(pixels, np.max))
    np.testing.assert_array_equal(read_plane(path), pixels)
    assert read_plane(path, 2).max() == pixels.max()


def test_openslide_reads_what_is_written(tmp_path):
    openslide = module("openslide", "slides")
    pixels = noise(300, 260)
    path = written(tmp_path / "a.tif", pixels)
    other = openslide.OpenSlide(str(path))
    assert other.dimensions == (260, 300)
    assert float(other.properties["openslide.mpp-x"]) == pytest.approx(0.5, rel=1e-6)
    np.testing.assert_array_equal(np.asarray(other.read_region((0, 0), 0, (260, 300)))[..., :3], pixels)
    assert [round(d) for d in other.level_downsamples] == [1, 2, 4, 8]


def test_jpeg_is_the_same_for_openslide_and_for_us(tmp_path):
    openslide = module("openslide", "slides")
    pixels = np.repeat(np.repeat(noise(40, 30), 8, 0), 8, 1)
    path = written(tmp_path / "a.tif", pixels, compression="jpeg")
    ours = read_region(open_slide(path), 0.0, 0.0, 240, 320, 0.5)
    theirs = np.asarray(openslide.OpenSlide(str(path)).read_region((0, 0), 0, (240, 320)))[..., :3]
    np.testing.assert_array_equal(ours, theirs)
    assert np.abs(ours.astype(int) - pixels).mean() < 12  # colours are halved, and this is noise


def test_the_same_tiles_make_the_same_bytes(tmp_path):
    pixels = noise(200, 300)
    assert written(tmp_path / "a.tif", pixels).read_bytes() == written(tmp_path / "b.tif", pixels).read_bytes()


def test_each_tile_is_asked_for_once_in_rows(tmp_path):
    asked, told = [], []

    def tile_of(row, column):
        asked.append((row, column))
        return np.zeros((min(64, 100 - 64 * row), min(64, 150 - 64 * column)), np.uint8)

    write_pyramid(
        tmp_path / "a.tif",
        tile_of,
        width=150,
        height=100,
        tile=64,
        mpp=1.0,
        channels=1,
        progress=lambda *x: told.append(x),
    )
    assert asked == [(row, column) for row in range(2) for column in range(3)]
    assert told[-1] == ("writing the pyramid", 6, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_tile_of_another_shape_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ArgumentError, match=r"another shape.*row 0, column 1.*\(64, 36, 3\)"):
        write_pyramid(
            tmp_path / "a.tif", lambda r, c: np.zeros((64, 64, 3), np.uint8), width=100, height=64, tile=64, mpp=1.0
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"width": 0}, {"tile": 60}, {"channels": 2}, {"dtype": np.float32}, {"mpp": 0.0}, {"compression": "lzw"},
                                   {"compression": "jpeg", "dtype": np.uint16}, {"reduction": "median"}])  # fmt: skip
def test_what_cannot_be_written_is_refused(tmp_path, wrong):
    how = {"width": 64, "height": 64, "mpp": 1.0, **wrong}
    with pytest.raises(ArgumentError):
        write_pyramid(tmp_path / "a.tif", lambda r, c: np.zeros((64, 64, 3), np.uint8), **how)


def test_places_outside_and_other_files_are_refused(tmp_path):
    path = written(tmp_path / "a.tif", noise(100, 100, 1))
    with PyramidReader(path) as reader:
        for wrong in ((90, 0, 20, 5), (-1, 0, 5, 5), (0, 0, 5, 0), (0, 0, 5, 5, 9)):
            with pytest.raises(ArgumentError):
                reader.read(*wrong)
    (tmp_path / "text.tif").write_text("no TIFF at all")
    tifffile.imwrite(tmp_path / "flat.tif", np.zeros((64, 64), np.float32))
    (tmp_path / "cut.tif").write_bytes(path.read_bytes()[:300])
    for name in ("text.tif", "flat.tif", "cut.tif", "missing.tif"):
        with pytest.raises(ImageError):
            PyramidReader(tmp_path / name)


def test_threads_share_a_reader(tmp_path):
    pixels = noise(400, 400, 1)
    path = written(tmp_path / "map.tif", pixels)
    places = [(x, y) for x in range(0, 380, 19) for y in range(0, 380, 19)]
    with PyramidReader(path) as reader, ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda place: reader.read(*place, 20, 20), places))
    for (x, y), part in zip(places, parts):
        np.testing.assert_array_equal(part, pixels[y : y + 20, x : x + 20])


def test_a_reader_never_sees_the_tiles_of_another(tmp_path):
    """Each opens, reads and is forgotten without being closed: another may get its place in memory."""
    for number in range(30):
        path = write_pyramid(
            tmp_path / f"{number}.tif",
            lambda r, c, n=number: np.full((64, 64), n, np.uint8),
            width=64,
            height=64,
            tile=64,
            mpp=1.0,
            channels=1,
        )
        assert (PyramidReader(path).read(0, 0, 64, 64) == number).all()
