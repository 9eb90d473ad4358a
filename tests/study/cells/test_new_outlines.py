"""New images outlined: a label image each, a table that the judges take, codes where names are hidden."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import WHOLE, paths
from overread.cases.privacy import codes
from overread.cases.sources.new_images import image_cases
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import InputError
from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.images.outlines.outlines import outlines_of, write_labels
from overread.learning.inputs import new_cases
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
    object.__setattr__(made, "about", SimpleNamespace(names_salt="", identifiers="ask", target=TARGET, planes=WHOLE))
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


@pytest.mark.parametrize("hide", [False, True])
def test_a_model_that_knows_codes_knows_its_patients_by_their_names(model, folder, tmp_path, monkeypatch, hide):
    """Names kept or hidden, the patients of training are marked, so that the judge refuses them."""
    model.about.names_salt = "pepper"
    monkeypatch.setattr(Model, "saw", lambda self, patients: np.isin(patients, codes(["anna"], "pepper")))
    table = pd.DataFrame({"image": [f"anna {n}.png" for n in range(12)], "who": ["anna", *(f"p{n}" for n in range(11))],
                          "ward": "A", "doctor": "anna"})  # fmt: skip
    table.to_csv(folder / "table.csv", index=False)
    cases = new_cases(model, folder / "table.csv", names="keep", roles={"patient": "who"})
    said: list[str] = []
    made = outline_new(model, cases, tmp_path / "out", hide=hide, keep=["ward"], say=said.append)
    read = PredictedOutlines.read(made.table).table
    assert list(read["split"]) == ["seen"] + 11 * [""]
    assert set(read["ward"]) == {"A"}
    assert read["patient"].iloc[0] == (codes(["anna"], "pepper")[0] if hide else "anna")
    assert ("doctor" in read) is not hide
    assert any("doctor" in line for line in said) is hide


def test_true_boxes_are_drawn_at_the_size_of_their_images_and_masks_of_another_size_left_out(model, folder, tmp_path):
    rows = [(f"anna {n}.png", "cell", 4, 4, 14, 12) for n in range(12)]
    pd.DataFrame(rows, columns=["file", "cell", "xmin", "ymin", "xmax", "ymax"]).to_csv(tmp_path / "boxes.csv", index=False)  # fmt: skip
    table = pd.DataFrame({"image": [f"anna {n}.png" for n in range(12)], "mask": [f"masks/{n}.png" for n in range(12)], "who": range(12)})  # fmt: skip
    write_labels(folder / "masks" / "3.png", np.ones((9, 9), np.int32))
    table.to_csv(folder / "table.csv", index=False)
    left_out = []
    for place, mask in enumerate((str(tmp_path / "boxes.csv"), "mask")):
        said: list[str] = []
        cases = read_cases(folder / "table.csv", image="image", mask=mask, patient="who", names="keep")
        read = PredictedOutlines.read(outline_new(model, cases, tmp_path / f"out{place}", say=said.append).table)
        assert all(read.truth(row).size == (30, 40) for row in np.flatnonzero(read.known))
        assert set(read.objects["class"]) <= {""} if read.objects is not None else True
        left_out.append(12 - int(read.known.sum()))
        assert any("1 mask of 12 left out" in line and "another size" in line for line in said) == bool(left_out[-1])
        evaluate_outlines(read, resamples=20, allow_seen=True)
    assert left_out == [0, 1]


def test_nothing_that_can_be_read_is_an_error(model, tmp_path):
    cv2.imwrite(str(tmp_path / "broken.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="none of the images"):
        outline_new(model, image_cases([str(tmp_path / "broken.png")], TARGET), tmp_path / "out")
