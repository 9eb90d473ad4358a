"""Lesions of heat maps against the paper's two steps, written out, and against regions counted by flood."""

from __future__ import annotations

import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.slides import lesions
from overread.slides.lesions import COLUMNS, found_lesions, lowest_code, regions_above, sides_around, windowed


def restated(codes, cell, radius, least):
    """Liu 2017: report the maximum and its place, set all within the radius to 0, again, while one reaches the threshold."""
    bits = 8 * codes.dtype.itemsize
    values = np.where(codes > 0, (codes.astype(float) - 1) / (2**bits - 2), -1.0)
    arm, found = int(radius / cell), []
    height, width = codes.shape
    while values.size and values.max() >= least - 1e-9:
        tied = np.argwhere(values == values.max())
        sums = [sum(int(codes[max(0, r - a) : r + a + 1, max(0, c - a) : c + a + 1].sum(dtype=int)) for a in sides_around(arm)) for r, c in tied]  # fmt: skip
        row, column = tied[int(np.argmax(sums))]
        found.append(
            ((column + 0.5) * cell, (row + 0.5) * cell, values[row, column], flood(codes, row, column, least) * cell**2)
        )
        for r in range(height):
            for c in range(width):
                if ((r - row) ** 2 + (c - column) ** 2) * cell**2 <= radius**2 + 1e-9:
                    values[r, c] = -1.0
    return np.array(found).reshape(-1, 4)


def flood(codes, row, column, least):
    """How many cells of at least ``least`` hang together with this one, corners too."""
    bits = 8 * codes.dtype.itemsize
    good = (codes > 0) & ((codes.astype(float) - 1) / (2**bits - 2) >= least - 1e-9)
    seen, left = {(row, column)}, [(row, column)]
    while left:
        r, c = left.pop()
        for place in ((r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            inside = 0 <= place[0] < codes.shape[0] and 0 <= place[1] < codes.shape[1]
            if inside and good[place] and place not in seen:
                seen.add(place)
                left.append(place)
    return len(seen)


@pytest.mark.parametrize(("bits", "cell", "radius", "least"), [(8, 32.0, 100.0, 0.5), (16, 64.0, 64.0, 0.2), (8, 10.0, 0.0, 0.9), (8, 7.5, 55.0, 0.0)])  # fmt: skip
@pytest.mark.parametrize("seed", range(3))
def test_lesions_are_those_of_the_two_steps_of_the_paper(seed, bits, cell, radius, least):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bits, (23, 31)).astype(f"uint{bits}")
    codes[rng.random(codes.shape) < 0.4] = 0
    codes[5:9, 5:12] = codes.max()  # a plateau, whose middle counts
    found = found_lesions(codes, cell=cell, radius=radius, least=least)
    assert tuple(found.columns) == COLUMNS
    assert np.allclose(found.to_numpy(), restated(codes, cell, radius, least))
    assert len(found) > 3


@pytest.mark.parametrize(("radius", "shares"), [(0.0, 0.9), (25.0, 0.5), (60.0, 0.02)])
def test_the_highest_few_are_the_first_of_all(radius, shares):
    """Also where most cells have one code, and where fewer stand out than are asked for."""
    rng = np.random.default_rng(4)
    codes = np.where(rng.random((60, 70)) < shares, rng.integers(1, 256, (60, 70)), 1).astype(np.uint8)
    every = found_lesions(codes, cell=10.0, radius=radius, least=0.0)
    for most in (1, 7, 40, len(every), len(every) + 3):
        some = found_lesions(codes, cell=10.0, radius=radius, least=0.0, most=most)
        assert some.equals(every.head(most))


def test_nothing_reaches_the_threshold_above_all_false_places():
    least = float(np.nextafter(1.0, 2.0))
    for kind in (np.uint8, np.uint16):
        codes = np.full((5, 5), np.iinfo(kind).max, kind)
        assert not regions_above(codes, least).any()
        assert found_lesions(codes, cell=1.0, radius=2.0, least=least).empty


def test_a_threshold_that_was_written_down_keeps_its_own_cell():
    """Of all codes of a map, as places.csv rounds the scores of its places: to nine digits."""
    for bits in (8, 16):
        codes = range(1, 2**bits)
        assert [lowest_code(float(f"{(code - 1) / (2**bits - 2):.9g}"), bits) for code in codes] == list(codes)


def test_the_middle_of_a_plateau_is_reported_not_its_corner():
    codes = np.zeros((40, 40), np.uint8)
    codes[10:21, 10:21] = 255
    found = found_lesions(codes, cell=10.0, radius=100.0, least=0.5)
    assert found.to_numpy().tolist() == [[155.0, 155.0, 1.0, 12100.0]]
    saturated = np.full((40, 40), 255, np.uint8)
    middle = found_lesions(saturated, cell=10.0, radius=1e4, least=0.5).to_numpy()[0, :2]
    assert np.abs(middle - 200).max() <= 15


def test_turned_maps_have_turned_lesions():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 65536, (40, 40)).astype(np.uint16)
    one = found_lesions(codes, cell=1.0, radius=4.0, least=0.3)
    other = found_lesions(np.ascontiguousarray(codes.T), cell=1.0, radius=4.0, least=0.3)
    assert np.allclose(one[["x", "y"]], other[["y", "x"]])


def test_where_nothing_reaches_the_threshold_nothing_is_found():
    codes = np.zeros((5, 5), np.uint8)
    assert found_lesions(codes, cell=1.0, radius=2.0, least=0.0).empty  # nobody looked: that is not a probability of 0
    codes[2, 2] = lowest_code(0.5, 8) - 1
    assert found_lesions(codes, cell=1.0, radius=2.0, least=0.5).empty
    assert found_lesions(np.zeros((0, 0), np.uint8), cell=1.0, radius=2.0, least=0.5).empty


@pytest.mark.parametrize("bits", [8, 16])
def test_the_lowest_code_is_the_first_whose_value_reaches_the_threshold(bits):
    values = np.arange(2**bits - 1) / (2**bits - 2)
    for least in (0.0, 0.1, 1 / 3, 0.5, 0.9999, 1.0):
        assert lowest_code(least, bits) == 1 + int(np.argmax(values >= least - 1e-12))


def test_regions_are_numbered_from_the_upper_left():
    codes = np.zeros((4, 6), np.uint8)
    codes[0, 5], codes[1, 0], codes[2, 1], codes[3, 5] = 200, 200, 200, 100
    assert regions_above(codes, 0.5).tolist() == [[0, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0], [0] * 6]


def test_what_is_no_heat_map_is_refused():
    for wrong in (np.zeros((3, 3), np.uint32), np.zeros((3, 3, 1), np.uint8)):
        with pytest.raises(ArgumentError, match="codes of 8 or 16 bits"):
            found_lesions(wrong, cell=1.0, radius=1.0, least=0.5)
    with pytest.raises(ArgumentError, match="lie in 0"):
        found_lesions(np.zeros((3, 3), np.uint8), cell=1.0, radius=1.0, least=1.5)
    with pytest.raises(ArgumentError, match="above 0"):
        found_lesions(np.zeros((3, 3), np.uint8), cell=0.0, radius=1.0, least=0.5)


@pytest.mark.parametrize(("dtype", "window"), [(np.uint8, 3), (np.uint16, 3), (np.uint16, 7)])
def test_a_window_is_the_mean_over_what_was_looked_at(dtype, window, monkeypatch):
    monkeypatch.setattr(lesions, "_ROWS", 5)  # several parts of a map of 23 rows
    draw = np.random.default_rng(window)
    codes = draw.integers(1, np.iinfo(dtype).max, (23, 17), endpoint=True).astype(dtype)
    codes[draw.random(codes.shape) < 0.3] = 0
    codes[:4, :4] = 0
    found, arm = windowed(codes, window), window // 2
    assert found.dtype == dtype
    for row, column in np.ndindex(codes.shape):
        square = codes[max(0, row - arm) : row + arm + 1, max(0, column - arm) : column + arm + 1].astype(float)
        wanted = square[square > 0].mean() if codes[row, column] else 0
        assert abs(float(found[row, column]) - wanted) <= 0.5 + 1e-9
    assert windowed(codes, 1) is codes
    for wrong in (0, 2, -3):
        with pytest.raises(ArgumentError, match="odd number"):
            windowed(codes, wrong)


def test_the_area_may_be_that_of_another_threshold():
    codes = np.ones((6, 6), np.uint8)
    codes[1, 1:4] = 255, 200, 100
    codes[4, 4] = 60
    found = found_lesions(codes, cell=10.0, radius=30.0, least=0.1, region_least=0.5)
    assert found["area"].tolist() == [200.0, 100.0], "two cells, and one that does not reach it"
    assert found_lesions(codes, cell=10.0, radius=30.0, least=0.1)["area"].tolist() == [300.0, 100.0]
