"""The file of a heat map, read back by tifffile and against the definition of its levels."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tifffile

from overread.core.errors import ArgumentError, InputError
from overread.slides.heat_map import HeatMap, MapAbout, write_map


def about(shape, bits=8, **fields) -> MapAbout:
    return MapAbout(**{"cell": 64.0, "shape": shape, "size": (shape[1] * 64.0, shape[0] * 64.0), "bits": bits, "stride": 128, "mpp": (0.5, 2.0),
                       "tile": 256, "centre": 128, "least_tissue": 0.25, "views": 8, "model": "m" * 16, "slide": "s" * 64, "tissue": "t" * 16} | fields)  # fmt: skip


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("shape", [(300, 1100), (1, 1), (257, 3)])
def test_a_map_comes_back_as_it_was_written(shape, bits, tmp_path):
    codes = np.random.default_rng(0).integers(0, 2**bits, shape).astype(f"uint{bits}")
    made = write_map(tmp_path / "map.tif", codes, about(shape, bits, looked=7, unread=2, unread_places=((0.0, 64.0, 64.0, 64.0),), threshold=0.25))  # fmt: skip
    found = HeatMap.load(made.path)
    assert found == made
    assert np.array_equal(found.cells(), codes)
    values = found.values()
    assert np.array_equal(np.isnan(values), codes == 0)
    assert np.allclose(values[codes > 0], (codes[codes > 0] - 1.0) / (2**bits - 2))
    with tifffile.TiffFile(made.path) as file:
        held = json.loads(file.pages[0].description)
        assert file.pages[0].tile == (256, 256)
        assert file.pages[0].resolution == pytest.approx((1e4 / 64,) * 2)
        assert file.pages[0].resolutionunit == tifffile.RESUNIT.CENTIMETER
    assert (held["cell"], held["threshold"], held["model"], held["unread"]) == (64.0, 0.25, "m" * 16, 2)


def test_a_cell_of_a_level_is_the_highest_of_those_below(tmp_path):
    codes = np.random.default_rng(1).integers(0, 200, (517, 900)).astype(np.uint8)
    found = write_map(tmp_path / "map.tif", codes, about(codes.shape))
    assert list(found.levels) == [(517, 900), (259, 450), (130, 225)]
    for number in (1, 2):
        side, level = 2**number, found.cells(number)
        for row in range(0, level.shape[0], 17):
            for column in range(0, level.shape[1], 13):
                assert (
                    level[row, column]
                    == codes[row * side : (row + 1) * side, column * side : (column + 1) * side].max()
                )
    with pytest.raises(ArgumentError, match="no such level"):
        found.cells(3)


def test_score_and_lesions_of_a_map_are_in_microns(tmp_path):
    codes = np.ones((20, 30), np.uint8)
    codes[5, 7] = 255
    found = write_map(tmp_path / "map.tif", codes, about(codes.shape))
    assert found.score() == 1.0
    assert found.lesions(radius=200.0, least=0.5).to_numpy().tolist() == [[7.5 * 64, 5.5 * 64, 1.0, 64.0**2]]
    assert math.isnan(found.about.threshold)


def test_what_is_no_heat_map_is_refused(tmp_path):
    path, codes = tmp_path / "map.tif", np.ones((20, 30), np.uint8)
    with pytest.raises(InputError, match="does not exist"):
        HeatMap.load(path)
    path.write_bytes(b"II*\0 nothing")
    with pytest.raises(InputError, match="cannot be read"):
        HeatMap.load(path)
    for description in ("", "a slide", "[1]", json.dumps({"kind": "another"}), "[" * 10_000):
        tifffile.imwrite(path, codes, description=description, metadata=None, tile=(256, 256))
        with pytest.raises(InputError, match="no heat map of overread"):
            HeatMap.load(path)
    sound = write_map(path, codes, about(codes.shape))
    held = json.loads(tifffile.TiffFile(path).pages[0].description)
    for change, what in [({"shape": [20, 31]}, "does not hold the cells"), ({"bits": 16}, "does not hold the cells"), ({"format": 2}, "later overread"),
                         ({"cell": -1.0}, "no heat map"), ({"cell": "x"}, "cell is wrong"), ({"shape": [2**20, 2**20]}, "no heat map"), ({"new": 1}, "unknown key")]:  # fmt: skip
        tifffile.imwrite(path, codes, description=json.dumps(held | change), metadata=None, tile=(256, 256))
        with pytest.raises(InputError, match=what):
            HeatMap.load(path)
    with pytest.raises(ArgumentError, match="do not fit"):
        write_map(path, codes.astype(np.uint16), sound.about)
