"""Shapes drawn into pixels, against matplotlib's test of points, and encoders written from the formats' descriptions."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Curve

from overread.core.errors import ImageError
from overread.images.outlines.outline_shapes import (
    Box,
    ImageShapes,
    Polygons,
    Runs,
    box_of,
    counts_of,
    ring_of,
    runs_of_counts,
    runs_of_pairs,
)
from overread.images.outlines.raster import Patch, painted

SIZE = (40, 60)


def whole(patch: Patch, size=SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[patch.slices] = patch.pixels
    return mask


def centres(size=SIZE) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], 1)


def counts_by_hand(mask: np.ndarray) -> list[int]:
    """Counts down the columns, of background first: one pixel after another."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def compressed(counts: list[int]) -> str:
    """``rleToString`` of COCO's C library, in Python."""
    text = ""
    for place, count in enumerate(counts):
        x = int(count) - (int(counts[place - 2]) if place > 2 else 0)
        more = True
        while more:
            c = x & 0x1F
            x >>= 5
            more = x != -1 if c & 0x10 else x != 0
            text += chr((c | 0x20 if more else c) + 48)
    return text


@pytest.mark.parametrize("seed", range(8))
def test_a_pixel_belongs_to_a_polygon_when_its_centre_does(seed) -> None:
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, 9))
    ring = np.stack([30 + random.uniform(8, 40, 9) * np.cos(angles), 20 + random.uniform(5, 30, 9) * np.sin(angles)], 1)
    found = Polygons((ring_of(ring.ravel().tolist()),)).patch(SIZE, "a")
    expected = Curve(ring).contains_points(centres()).reshape(SIZE)
    assert (whole(found) == expected).all()
    outside = (ring < 0).any() or (ring[:, 0] > 60).any() or (ring[:, 1] > 40).any()
    assert bool(found.note) == outside


def test_a_hole_is_taken_out_and_rings_are_joined() -> None:
    square = [ring_of([x, y, x + s, y, x + s, y + s, x, y + s]) for x, y, s in ((10, 10, 20), (15, 15, 5), (40, 5, 4))]
    mask = whole(Polygons((square[0], square[2]), (square[1],)).patch(SIZE, ""))
    expected = np.zeros(SIZE, bool)
    expected[10:30, 10:30], expected[15:20, 15:20], expected[5:9, 40:44] = True, False, True
    assert (mask == expected).all()


def test_a_box_stands_for_the_ellipse_within() -> None:
    mask = whole(Box(10, 5, 50, 35).patch(SIZE, ""))
    x, y = centres().T
    assert (mask.ravel() == (((x - 30) / 20) ** 2 + ((y - 20) / 15) ** 2 <= 1)).all()
    assert mask.sum() == pytest.approx(np.pi * 20 * 15, rel=0.01)
    cut = Box(-10, -10, 10, 10).patch(SIZE, "")
    assert "beyond the image" in cut.note
    assert not Box(70, 5, 90, 9).patch(SIZE, "").pixels.any()
    assert ImageShapes(((Box(0, 0, 5, 5), "a"),)).told == ("1 box stands for the ellipse within",)


@pytest.mark.parametrize("seed", range(6))
def test_run_lengths_give_back_the_mask(seed) -> None:
    mask = np.random.default_rng(seed).random(SIZE) < (0.02, 0.5, 0.98)[seed % 3]
    if seed == 5:
        mask[:] = np.kron(np.random.default_rng(seed).random((4, 6)) < 0.5, np.ones((10, 10))).astype(bool)
    counts = counts_by_hand(mask)
    assert counts_of(compressed(counts)) == counts
    assert (whole(runs_of_counts(counts, SIZE).patch(SIZE, "")) == mask).all()
    for rows, flat in ((False, mask.T.ravel()), (True, mask.ravel())):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [0]])))
        text = " ".join(f"{a + 1} {b - a}" for a, b in zip(ends[::2], ends[1::2], strict=True))
        assert (whole(runs_of_pairs(text, rows=rows).patch(SIZE, "")) == mask).all()


def test_run_lengths_along_rows_are_told_from_those_down_columns() -> None:
    mask = np.zeros(SIZE, bool)
    mask[10:30, 20:45] = True
    ends = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel().astype(int), [0]])))
    text = " ".join(f"{a + 1} {b - a}" for a, b in zip(ends[::2], ends[1::2], strict=True))
    shapes = ImageShapes(((runs_of_pairs(text), ""),))
    with pytest.raises(ImageError, match="along the rows rather than down columns|order=rows"):
        list(shapes.patches(SIZE))
    assert (whole(next(iter(shapes.patches(SIZE, True)))) == mask).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ring_of([1, 2, 3, 4]), "three corners"),
        (lambda: ring_of([1, 2, 3, 4, 5]), "an x and a y"),
        (lambda: ring_of([1, 2, 3, 4, 5, float("nan")]), "no number of pixels"),
        (lambda: ring_of([1, 2, 3, 4, 5, 1e9]), "no number of pixels"),
        (lambda: ring_of(["a", 2, 3, 4, 5, 6]), "are numbers"),
        (lambda: ring_of([[1, 2, 3], [4, 5, 6]]), "an x and a y"),
        (lambda: box_of(5, 5, 1, 9), "before it begins"),
        (lambda: box_of("x", 5, 1, 9), "sides of a box are numbers"),
        (lambda: counts_of("6\x00"), "strange character"),
        (lambda: counts_of("o"), "cut off"),
        (lambda: counts_of("o" * 40), "damaged"),
        (lambda: runs_of_counts([10, 5], SIZE), "do not add up"),
        (lambda: runs_of_counts([10, -5, 2395], SIZE), "not valid"),
        (lambda: runs_of_counts([10**30], SIZE), "whole numbers"),
        (lambda: runs_of_pairs("1 2 3"), "pairs of a start"),
        (lambda: runs_of_pairs("1 -2"), "pairs of a start"),
        (lambda: runs_of_pairs("1 99999999").patch(SIZE, ""), "beyond the image"),
        (lambda: runs_of_pairs("0 3").patch(SIZE, ""), "beyond the image"),
        (lambda: runs_of_pairs("1 2000 1 2000").patch(SIZE, ""), "overlap"),
        (lambda: Runs(np.array([0]), np.array([1]), False, (9, 9)).patch(SIZE, ""), "another size"),
    ],
)
def test_what_is_no_shape_is_refused(make, words) -> None:
    with pytest.raises(ImageError, match=words):
        make()


def test_where_objects_overlap_the_smaller_one_is_kept_and_the_pixels_are_counted() -> None:
    large, small = np.ones((10, 10), bool), np.ones((4, 4), bool)
    raster = painted([Patch(2, 2, small, "s"), Patch(0, 0, large, "l"), Patch(0, 0, large, "hidden")], (12, 12))
    assert raster.labels[3, 3] == 1
    assert raster.overlapped == 100
    assert raster.classes == ("s", "l", "hidden")
    assert any("1 object wholly under smaller ones" in note for note in raster.notes)
    with pytest.raises(ImageError, match="many times over"):
        painted((Patch(0, 0, np.ones((200, 200), bool)) for _ in range(100)), (200, 200))


def test_an_integer_beyond_a_float_is_no_coordinate() -> None:
    with pytest.raises(ImageError, match="corners of a polygon are numbers"):
        ring_of([0, 0, 1, 0, 1, 10**400])
    with pytest.raises(ImageError, match="sides of a box are numbers"):
        box_of(0, 0, 1, 10**400)
