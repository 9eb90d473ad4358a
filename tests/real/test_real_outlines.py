"""Masks of real data: label images of the Data Science Bowl 2018, and boxes of BCCD."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import mask_paths, paths
from overread.cases.sources.read_cases import read_cases
from overread.cases.split import split
from overread.images.outlines.outlines import read_outlines
from overread.images.read import read_image


@pytest.fixture(scope="module")
def bowl(shared):
    if not (shared / "data/dsb2018/index.csv").exists():
        pytest.skip("no data/dsb2018 in the shared folder")
    return shared / "data/dsb2018/index.csv"


def test_every_nucleus_of_the_bowl_is_read(bowl) -> None:
    table = pd.read_csv(bowl).iloc[::6]
    cases = read_cases(bowl, mask="mask", source="microscope", names="keep")
    assert (len(cases), cases.patients) == (283, 283)
    masks, images = mask_paths(cases), paths(cases)
    for row, expected in zip(table.index, table["n_nuclei"], strict=True):
        size = read_image(images[row]).pixels.shape[:2]
        assert len(read_outlines(masks[row], size=size)) == expected


def test_the_cells_of_bccd_are_read_from_one_table_of_boxes(shared) -> None:
    folder = shared / "data/bccd"
    if not (folder / "boxes.csv").exists():
        pytest.skip("no data/bccd in the shared folder")
    boxes = pd.read_csv(folder / "boxes.csv")
    cases = read_cases(folder / "JPEGImages", mask=str(folder / "boxes.csv"), names="keep")
    assert cases.target.names == ("Platelets", "RBC", "WBC")
    assert len(cases) == boxes["file"].nunique() == 364
    for row in range(0, 364, 30):
        mine = boxes[boxes["file"] == cases.table["case"][row] + ".jpg"]
        found = read_outlines(mask_paths(cases)[row], size=(480, 640), classes=cases.target.names)
        lost = sum(int(note.split()[0]) for note in found.notes if "left out" in note)
        assert len(found) + lost == len(mine)
        assert lost <= 2
        assert set(found.classes) <= set(mine["cell"])
        assert np.median(found.areas) > 500


def test_the_rule_of_90_5_5_for_use_on_stained_images(bowl) -> None:
    cases = read_cases(bowl, mask="mask", source="microscope", names="keep")
    made = split(cases, test=0.05, tuning=0.05, deploy_to="source == 'stained'", seed=0)
    source = made.table.merge(cases.table[["case", "source"]], on="case")
    assert set(source["source"][source["part"] != "train"]) == {"stained"}
    stained = source["part"][source["source"] == "stained"].value_counts()
    assert stained["train"] > stained["tuning"] + stained["test"]
    assert made.counts()["test"]["cases"] == made.counts()["tuning"]["cases"] == 14
