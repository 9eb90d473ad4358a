"""A slide of any size: written tile by tile, the same as drawn, its tumour outlined beside it."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from overread.core.errors import ArgumentError
from overread.synthetic.slides.huge_slide import draw_huge_slide
from overread.synthetic.slides.slide_pixels import draw_tile
from overread.synthetic.slides.slide_plan import plan_slide
from overread.synthetic.slides.slide_scanners import SCANNERS


def test_the_file_holds_what_is_drawn_alone(tmp_path) -> None:
    how = {"gigapixels": 0.012, "tissue_share": 0.1, "mpp": 0.5, "seed": 3}
    path = draw_huge_slide(tmp_path / "slide.tif", **how)
    side = 0.5 * np.sqrt(0.012e9)
    plan = plan_slide(3, 0, width=side, height=side, tissue_share=0.1, tumour="yes")
    with tifffile.TiffFile(path) as file:
        pages = list(file.pages)
        assert pages[0].shape[:2] == (round(side / 0.5),) * 2
        assert [round(pages[0].shape[0] / page.shape[0]) for page in pages] == [2**k for k in range(len(pages))]
        whole, small = pages[0].asarray(), pages[2].asarray()
    drawn = glass = 0
    for row in range(0, 12, 2):
        for column in range(0, 12, 2):
            tile = draw_tile(plan, SCANNERS[0], row, column, mpp=0.5)  # other tiles than those it was written in
            there = whole[256 * row : 256 * (row + 1), 256 * column : 256 * (column + 1)]
            tile = tile[: there.shape[0], : there.shape[1]].astype(int)
            assert np.abs(there - tile).mean() < 4  # JPEG
            drawn, glass = drawn + bool(tile.std() > 5), glass + bool((tile == SCANNERS[0].glass).all())
    assert drawn > 1
    assert glass > 10
    tissue = (np.abs(small.astype(int) - SCANNERS[0].glass).max(axis=2) > 30).mean()
    assert 0.05 < tissue < 0.15
    islands = ElementTree.parse(path.with_suffix(".xml")).getroot().findall("./Annotations/Annotation")
    assert len(islands) == len(plan.islands) > 0


def test_a_slide_without_size_is_refused(tmp_path) -> None:
    for wrong in ({"gigapixels": 0.0}, {"mpp": 9.0}, {"scanner": 3}, {"gigapixels": 1e-6}, {"tissue_share": 0.9}):
        with pytest.raises(ArgumentError):
            draw_huge_slide(tmp_path / "slide.tif", **({"gigapixels": 0.01} | wrong))
