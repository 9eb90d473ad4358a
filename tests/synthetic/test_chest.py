"""Phantom radiographs: the labels are what is drawn, where it is drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.core.errors import ArgumentError
from overread.synthetic.chest import RATIOS, draw_chest, radiograph


def test_each_finding_changes_the_part_where_it_lies():
    for number in range(5):
        plain = radiograph(0, number, 64).astype(float)
        half, lower = 32, slice(32, 60)
        fluid = radiograph(0, number, 64, effusion=True) - plain
        right, left = fluid[lower, :half].mean(), abs(fluid[lower, half:].mean())
        assert right > max(0.5, 5 * left), "the right lung, left in the image"
        foci = radiograph(0, number, 64, tuberculosis=True) - plain
        assert foci[:32].sum() > 5 * abs(foci[40:].sum())
        heart = radiograph(0, number, 64, enlarged_heart=True) - plain
        assert heart[28:50, 16:52].mean() > 1
    assert RATIOS[1][0] - RATIOS[1][1] > RATIOS[0][0] + RATIOS[0][1] - 0.05, "the widths hardly overlap"


def test_a_cohort_is_drawn_by_seed_and_films_lie_turned(tmp_path):
    tables = [pd.read_csv(draw_chest(tmp_path / name, patients=40, size=32, films=0.5, seed=3)) for name in "ab"]
    assert tables[0].equals(tables[1])
    assert (tables[0]["source"] == "film").sum() == 20
    first = tables[0].iloc[0]["image"]
    assert (tmp_path / "a" / first).read_bytes() == (tmp_path / "b" / first).read_bytes()
    for row in tables[0].itertuples():
        pixels = cv2.imread(str(tmp_path / "a" / row.image), cv2.IMREAD_GRAYSCALE)
        ratio = pixels.mean(axis=0).std() / pixels.mean(axis=1).std()
        upright = ratio > 1, "the spine stands"
        assert pixels.shape == (32, 32)
        if row.source == "digital":
            assert upright[0], upright[1]
    with pytest.raises(ArgumentError, match="share of the patients"):
        draw_chest(tmp_path, films=2.0)
    assert np.isclose(tables[0]["tuberculosis"].eq("present").mean(), 0.5)
