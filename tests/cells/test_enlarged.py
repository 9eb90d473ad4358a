"""Images of small objects, shown larger: sizes, rows, labels there and back, and what a whole image is cut into."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from overread.cells.enlarged import (
    ACROSS,
    STEP,
    WIDEST,
    Enlarged,
    Middle,
    enlarged_labels,
    magnification,
    median_across,
    places_of,
    widest,
)
from overread.cells.tiled import Held


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)


@pytest.mark.parametrize("times", [1.25, 2.0, 3.0])
def test_rows_are_those_of_an_image_resized_whole(pixels, times):
    large = Enlarged(Held(pixels), times)
    height, width = large.size
    expected = cv2.resize(pixels.astype(np.float64), (width, height), interpolation=cv2.INTER_LINEAR)
    assert np.abs(large.rows(0, height) - expected).max() <= 0.51


@pytest.mark.parametrize("times", [1.25, 1.75, 3.0])
def test_rows_do_not_depend_on_what_is_read_with_them(pixels, times):
    large = Enlarged(Held(pixels), times)
    height = large.size[0]
    parts = [large.rows(top, min(top + 7, height)) for top in range(0, height, 7)]
    assert np.array_equal(np.concatenate(parts), large.rows(0, height))


@pytest.mark.parametrize("times", [1.25, 1.5, 2.0, 3.0])
def test_labels_come_back_as_they_were(times):
    labels = np.random.default_rng(1).integers(0, 9, (40, 33)).astype(np.int32)
    large = enlarged_labels(labels, times)
    assert large.shape == Enlarged(Held(labels[..., None]), times).size
    rows, columns = (places_of(side, times) for side in labels.shape)
    assert np.array_equal(large[np.ix_(rows, columns)], labels)


@pytest.mark.parametrize("step", [1, 5, 64])
def test_labels_are_written_band_by_band_from_top_to_bottom(step):
    labels = np.random.default_rng(2).integers(0, 9, (40, 33)).astype(np.int32)
    large = Enlarged(Held(labels[..., None]), 1.75)
    shown, made, tops = enlarged_labels(labels, 1.75), [], []

    def write(top: int, band: np.ndarray) -> None:
        tops.append(top)
        made.append(band)

    smaller = large.smaller(write)
    for top in range(0, len(shown), step):
        smaller(top, shown[top : top + step])
    assert np.array_equal(np.concatenate(made), labels)
    assert tops == [0, *np.cumsum([len(band) for band in made])[:-1]]


def test_the_median_object_is_brought_to_one_size():
    for across in (9.4, 11.0, 14.5, 20.0):
        assert abs(across * magnification(across, 8.0) - ACROSS) <= across / 8 + 1e-9
    assert magnification(100.0, 3.0) == magnification(float("nan"), 3.0) == magnification(5.0, 1.0) == 1.0
    assert np.isnan(median_across(np.zeros(3, np.int64)))


def test_an_image_is_enlarged_no_wider_than_memory_has_a_bound_for():
    for width in (100, 7_999, 8_001, 11_000, 24_000, 90_000):
        times = widest(width, 3.0)
        assert times == 1 or width * times <= WIDEST
        assert times == 3 or width * (times + STEP) > WIDEST


def test_rows_of_a_wide_image_take_little_more_memory_than_they_have():
    wide = Enlarged(Held(np.zeros((400, 6000, 1), np.uint8)), 3.0)
    tracemalloc.start()
    rows = wide.rows(0, 600)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * rows.nbytes


def test_the_middle_of_an_image(pixels):
    middle = Middle(Held(pixels), 20)
    assert middle.size == (20, 20)
    assert np.array_equal(middle.rows(0, 20), pixels[20:40, 13:33])
    assert Middle(Held(pixels), 64).size == (61, 47)
