"""Pictures with outlines: what is drawn, where the window lies, and that a browser could hold each pixel to its object."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as Shape

from overread.core.errors import ArgumentError
from overread.reporting.outlined.overlay_entries import Outlined, brightened, overlay_entry

LABELS = np.zeros((40, 50), np.int32)
LABELS[5:15, 5:15], LABELS[20:30, 10:24], LABELS[5:12, 30:44] = 1, 2, 3
GREY = np.full((40, 50), 120, np.uint8)


def entry(**how):
    drawn = Outlined(LABELS, ("hit", "merge", ""), ("first", "second", "third"))
    return overlay_entry("one", GREY, [drawn], {"hit": 1, "merge": 1}, **how)


def pixels_in(path: str, shape) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)
    inside = np.zeros(len(centres), int)
    for ring in filter(None, path.split("Z")):
        points = [tuple(map(float, point.split())) for point in ring[1:].split("L")]
        inside += Shape([*points, points[0]], closed=True).contains_points(centres)
    return (inside % 2 == 1).reshape(shape)


def test_each_object_is_drawn_where_it_lies_and_says_what_it_is():
    made, _ = entry()
    assert [(shape.status, shape.said) for shape in made.shapes] == [("hit", "first"), ("merge", "second")]
    for number, shape in enumerate(made.shapes, start=1):
        assert np.array_equal(pixels_in(shape.path, LABELS.shape), number == LABELS)
    assert (made.width, made.height, made.full, made.brighter) == (50, 40, (50, 40), 1.0)


def test_of_a_large_image_the_window_with_most_errors_is_shown():
    labels = np.zeros((300, 900), np.int32)
    labels[10:60, 10:60], labels[200:220, 700:720], labels[230:250, 720:745] = 1, 2, 3
    image = np.arange(300 * 900, dtype=np.uint64).reshape(300, 900).astype(np.uint8)
    drawn = Outlined(labels, ("hit", "miss", "false"), ("", "", ""))
    made, picture = overlay_entry("large", image, [drawn], {}, side=128)
    assert (made.width, made.height, made.full) == (128, 128, (900, 300))
    assert [shape.status for shape in made.shapes] == ["miss", "false"], "both errors, not the large hit"
    window = (slice(made.top, made.top + 128), slice(made.left, made.left + 128))
    assert np.array_equal(pixels_in(made.shapes[0].path, (128, 128)), labels[window] == 2)
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), 0).shape == (128, 128)


def test_a_dark_picture_is_brightened_and_says_by_how_much():
    dark = np.zeros((60, 60), np.uint8)
    dark[20:30, 20:30] = 20
    seen, factor = brightened(dark)
    assert seen.max() == 235
    assert factor == pytest.approx(235 / 20, abs=0.01)
    for kept in (GREY, np.zeros((5, 5), np.uint8), np.full((5, 5, 3), 200, np.uint8)):
        assert np.array_equal(brightened(kept)[0], kept)
        assert brightened(kept)[1] == 1.0


def test_the_picture_has_the_colours_of_the_image():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    _, picture = overlay_entry("red", red, [Outlined(np.zeros((16, 16), np.int32), (), ())], {})
    back = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert back[..., 0].min() > 230
    assert back[..., 1:].max() < 25


def test_outlines_of_another_size_and_objects_without_words_are_refused():
    with pytest.raises(ArgumentError, match="the size of their image"):
        overlay_entry("one", GREY[:-1], [Outlined(LABELS, ("hit",) * 3, ("",) * 3)], {})
    with pytest.raises(ArgumentError, match="status and words"):
        Outlined(LABELS, ("hit",), ("",))


def test_equal_images_give_equal_bytes():
    assert entry() == entry()
    assert re.fullmatch(r"(M(\d*\.?\d+ \d*\.?\d+L?)+Z)+", entry()[0].shapes[1].path)
