"""Phantom slices of tomograms: what is marked holds the feature, and what is said to be free does not."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.core.errors import ArgumentError
from overread.synthetic.cells.tomogram import FEATURES, PATCH, draw_slice, draw_tomogram
from overread.synthetic.draw import draw


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_tomogram(tmp_path_factory.mktemp("tomogram"), slices=3, annotated=1, size=256, patches=4, seed=1)


def test_patches_hold_what_they_are_marked_with(drawn):
    table = pd.read_csv(drawn, keep_default_na=False)
    assert set(table["image"]) == {"slices/S001.tif"}
    assert (table.groupby(["feature", "present"]).size() == 4).all()
    half = PATCH // 2
    for row in table.itertuples():
        truth = cv2.imread(str(drawn.parent / f"truth/{row.feature}/S001.png"), cv2.IMREAD_UNCHANGED) > 0
        part = truth[row.y - half : row.y + half, row.x - half : row.x + half]
        assert part.shape == (PATCH, PATCH)
        if row.present:
            assert truth[row.y, row.x]
            painted = cv2.imread(str(drawn.parent / row.mask), cv2.IMREAD_UNCHANGED) > 0
            assert np.array_equal(painted, part)
        else:
            assert not part.any()
            assert row.mask == ""


def test_slices_that_are_judged_are_not_annotated(drawn):
    slices = pd.read_csv(drawn.parent / "slices.csv", keep_default_na=False)
    assert list(slices["truth:membrane"] == "") == [True, False, False]


def test_features_are_denser_than_what_lies_around():
    made = draw_slice(0, 2)
    for name in FEATURES:
        mask = made.features[name]
        ring = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~np.any(
            list(made.features.values()), axis=0
        )
        rim = mask if name != "vesicle" else mask & ~cv2.erode(mask.astype(np.uint8), np.ones((9, 9))).astype(bool)
        assert made.pixels[rim].mean() < made.pixels[ring].mean() - 5, name


def test_the_same_seed_gives_the_same_bytes(drawn, tmp_path):
    again = draw(tmp_path, "tomogram", {"slices": 3, "annotated": 1, "size": 256, "patches": 4}, seed=1)
    for path in sorted(drawn.parent.rglob("*.*")):
        assert (again.parent / path.relative_to(drawn.parent)).read_bytes() == path.read_bytes()


def test_what_is_refused(tmp_path):
    with pytest.raises(ArgumentError):
        draw_tomogram(tmp_path, slices=2, annotated=2)
