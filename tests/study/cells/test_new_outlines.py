"""New images outlined: a label image each, a table that the judges take, codes where names are hidden."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import paths
from overread.cases.sources.new_images import image_cases
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import InputError
from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.images.outlines.outlines import outlines_of, write_labels
from overread.learning.model import Model
from overread.predictions import PredictedBy
from overread.study.cells.new_outlines import outline_new
from overread.tasks.target import Target

TARGET = Target("segmentation", ("object",))


@pytest.fixture
def model(monkeypatch):
    """A stand-in that finds what is bright; the third image cannot be read."""

    def segment(model, cases, **how):
        for row, path in enumerate(paths(cases)):
            if "broken" not in Path(path).name:
                yield row, outlines_of(cv2.connectedComponents((cv2.imread(path, 0) > 100).astype(np.uint8))[1])

    monkeypatch.setitem(sys.modules, "overread.cells.segment", SimpleNamespace(segment=segment))
    made = object.__new__(Model)
    object.__setattr__(made, "about", SimpleNamespace(names_salt="pepper", identifiers="ask"))
    monkeypatch.setattr(Model, "facts", property(lambda self: PredictedBy("ab" * 32, TARGET)))
    monkeypatch.setattr(Model, "saw", lambda self, patients: np.array([who == "anna" for who in patients]))
    return made


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(12):
        grey = np.zeros((30, 40), np.uint8)
        grey[4:12, 4:14], grey[15:24, 20 + number : 30] = 200, 180
        cv2.imwrite(str(tmp_path / "in" / f"anna {number}.png"), grey)
        write_labels(tmp_path / "in" / "masks" / f"{number}.png", (grey > 0).astype(np.int32) + (grey == 180))
    cv2.imwrite(str(tmp_path / "in" / "broken.png"), np.zeros((4, 4), np.uint8))
    return tmp_path / "in"


def test_a_folder_becomes_a_table_label_images_and_a_page(model, folder, tmp_path):
    (folder / "masks").rename(tmp_path / "masks")
    made = outline_new(model, image_cases([str(folder)], TARGET), tmp_path / "out")
    read = PredictedOutlines.read(made.table)
    assert (made.images, made.objects, made.judged) == (12, 24 - 2, False)
    assert "anna 3.png" in set(read.table["case"])
    assert len(read.labels(0)) == 2
    html = made.page.read_text("utf-8")
    assert html.count('class="outlines"') == 12
    assert "22 objects in 12 images" in html
    assert "1 image set aside" in html
    assert "<script" not in html


def test_masks_of_a_table_lie_beside_so_that_the_judge_takes_it(model, folder, tmp_path):
    table = pd.DataFrame({"image": [f"anna {n}.png" for n in range(12)], "mask": [f"masks/{n}.png" for n in range(12)],
                          "who": ["anna", *(f"p{n}" for n in range(11))], "scanner": "A"})  # fmt: skip
    table.to_csv(folder / "table.csv", index=False)
    cases = read_cases(folder / "table.csv", image="image", mask="mask", patient="who", source="scanner", names="keep")
    made = outline_new(model, cases, tmp_path / "out")
    read = PredictedOutlines.read(made.table)
    assert made.judged
    assert list(read.table["split"])[:2] == ["seen", ""], "anna trained the model"
    assert evaluate_outlines(read, resamples=20, allow_seen=True)["ap@0.5"].value == 1.0


def test_hidden_names_are_in_no_file(model, folder, tmp_path):
    (folder / "masks").rename(tmp_path / "masks")
    outline_new(model, image_cases([str(folder)], TARGET), tmp_path / "out", hide=True)
    for path in (tmp_path / "out").rglob("*"):
        assert "anna" not in path.name
        if path.suffix in (".csv", ".html", ".json"):
            assert "anna" not in path.read_text("utf-8")


def test_nothing_that_can_be_read_is_an_error(model, tmp_path):
    cv2.imwrite(str(tmp_path / "broken.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="none of the images"):
        outline_new(model, image_cases([str(tmp_path / "broken.png")], TARGET), tmp_path / "out")
