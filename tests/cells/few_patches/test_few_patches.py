"""From marked patches to scores: which images are judged, and names of features that files cannot tell apart."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cells.few_patches.few_patches import map_features, read_images_to_map
from overread.cells.few_patches.marked_patches import MarkedPatch, MarkedPatches, read_patches
from overread.core.errors import InputError


def test_other_slices_of_what_was_learned_from_are_not_judged(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for name, tomogram in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c")):
        image = rng.integers(90, 110, (72, 72)).astype(np.uint8)
        image[20:40, 20:40] += 100
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        cv2.imwrite(str(tmp_path / f"{name}-truth.png"), np.uint8(255) * (image > 150))
        rows.append((f"{name}.png", tomogram, f"{name}-truth.png"))
    pd.DataFrame(rows, columns=["image", "tomogram", "truth:rib"]).to_csv(tmp_path / "slices.csv", index=False)
    (tmp_path / "patches.csv").write_text(
        "image,x,y,feature,present,side\na1.png,30,30,rib,1,16\na1.png,56,56,rib,0,16\n"
    )
    marked = read_patches(tmp_path / "patches.csv")
    images = read_images_to_map(tmp_path / "slices.csv", marked.features)
    found = map_features(marked, images, tmp_path / "out", steps=2)
    assert (found.mapped, found.judged, found.independent) == (4, 2, 2)
    assert found.notes == (
        "1 image with marked patches mapped, not judged",
        "1 image of the same tomogram, patient or specimen as one with marked patches mapped, not judged",
    )
    others = map_features(marked, images[2:], tmp_path / "out", steps=2)
    assert "1 image with marked patches not in the table of images" in others.notes[0]


@pytest.mark.parametrize(
    ("names", "said"), [(("ER+", "rib", "ER-"), r"'ER\+' and 'ER-'"), (("rib", "labels"), "'labels'")]
)
def test_features_whose_files_would_be_one_are_named(tmp_path, names, said):
    marked = MarkedPatches(tuple(MarkedPatch("a", 1, 2, 8, name, there) for name in names for there in (True, False)))
    with pytest.raises(InputError, match=said):
        map_features(marked, (), tmp_path)
    assert not list(tmp_path.iterdir())
