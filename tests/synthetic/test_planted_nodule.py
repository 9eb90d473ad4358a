"""Chests with a nodule or none: the same bytes from the same seed, and the nodule is all that tells them apart."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.core.errors import ArgumentError
from overread.synthetic.phantoms import chest_air, draw_chest
from overread.synthetic.planted_nodule import draw_planted_nodules, nodule_and_chest


def test_the_same_seed_gives_the_same_bytes_and_the_share_that_was_asked_for(tmp_path) -> None:
    first, again = (draw_planted_nodules(tmp_path / name, patients=20, prevalence=0.3, seed=2).parent for name in "ab")
    for path in sorted(first.rglob("*.*")):
        assert (again / path.relative_to(first)).read_bytes() == path.read_bytes(), path.name
    table = pd.read_csv(first / "metadata.csv", keep_default_na=False)
    assert (table["diagnosis"] == "nodule").sum() == 6
    assert ((table["mask"] != "") == (table["diagnosis"] == "nodule")).all()
    for row in table[table["mask"] != ""].itertuples():
        assert (first / row.mask).exists()
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        draw_planted_nodules(tmp_path, prevalence=1.0)


@pytest.mark.parametrize("size", [48, 64, 128])
def test_outside_of_the_nodule_the_image_is_that_of_the_chest_without_to_the_bit(size) -> None:
    for key in range(8):
        with_it, mask = nodule_and_chest(5, key, size=size)
        without = draw_chest(5, key, -9.0, device=key % 3, size=size)
        change = with_it.astype(int) - without
        around = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) > 0
        assert (change[~around] == 0).all()
        assert change[mask].min() >= 0.4 * change.max() > 0 or with_it[mask].max() == 255
        assert chest_air(5, key, size=size)[mask].min() > 0.8
        assert cv2.connectedComponents(mask.astype(np.uint8))[0] == 2
