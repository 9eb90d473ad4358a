"""Polygons of label images: held against the pixels, matplotlib's filling and the valid shapes of the standard."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.path import Path as Shape

from overread.core.errors import ArgumentError
from overread.images.outlines.polygons import object_polygons, ring_area, smooth_ring


def filled(polygons, shape) -> np.ndarray:
    """The pixels whose centres lie within an odd number of rings: another's rule, ring by ring."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    inside = np.zeros(len(centres), int)
    for polygon in polygons:
        for ring in polygon:
            inside += Shape([*ring, ring[0]], closed=True).contains_points(centres)
    return (inside % 2 == 1).reshape(shape)


@settings(max_examples=150, deadline=None)
@given(arrays.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
def test_polygons_are_exactly_the_pixels(labels):
    found = dict(object_polygons(labels))
    assert list(found) == [number for number in (1, 2) if (labels == number).any()]
    for number, polygons in found.items():
        mask = labels == number
        assert np.array_equal(filled(polygons, labels.shape), mask)
        assert sum(ring_area(ring) for polygon in polygons for ring in polygon) == mask.sum()
        assert len(polygons) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
        for polygon in polygons:
            assert ring_area(polygon[0]) > 0
            assert all(ring_area(hole) < 0 for hole in polygon[1:])
            for ring in polygon:
                assert len({tuple(point) for point in ring.tolist()}) == len(ring) >= 4, "touches itself"


def test_a_ring_of_pixels_has_one_hole_and_corners_only():
    labels = np.zeros((12, 10), np.int32)
    labels[2:9, 3:8] = 5
    labels[4:6, 5:6] = 0
    ((number, ((outer, hole),)),) = object_polygons(labels)
    assert number == 5
    assert {tuple(p) for p in outer.tolist()} == {(3, 2), (8, 2), (8, 9), (3, 9)}
    assert {tuple(p) for p in hole.tolist()} == {(5, 4), (6, 4), (6, 6), (5, 6)}


def test_pixels_that_touch_at_a_corner_are_two_pieces():
    ((_, pieces),) = object_polygons(np.array([[1, 1, 0], [0, 0, 1]], np.int32))
    assert [ring_area(piece[0]) for piece in pieces] == [2.0, 1.0]


def test_a_smooth_ring_stays_half_a_pixel_near_and_fills_the_same_pixels():
    yy, xx = np.mgrid[:40, :40]
    labels = ((yy - 19) ** 2 + (xx - 21) ** 2 < 150).astype(np.int32)
    ((_, ((ring,),)),) = object_polygons(labels)
    smooth = smooth_ring(ring)
    assert np.array_equal(filled([[smooth]], labels.shape), labels == 1)
    assert abs(abs(ring_area(smooth)) - labels.sum()) < len(ring) / 8 + 1
    assert len(smooth) <= 2 * len(ring)


def test_only_flat_images_have_polygons():
    with pytest.raises(ArgumentError, match="two axes"):
        list(object_polygons(np.zeros((3, 3, 3), np.int32)))
