"""What the stages of cells keep and what they make anew: by what masks and images hold, and after a cut that was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from drawn_smears import Threshold, draw_smears

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.cells.stages.cell_crops import CutImage, Window, cells_as_cases
from overread.core.errors import InputError
from overread.core.progress import Clock, silent, unheard
from overread.images.read import read_image
from overread.learning.recipe import Recipe
from overread.predictions import Predictions
from overread.study.cells import cell_stages
from overread.study.cells.cell_answers import _with_classes
from overread.study.cells.cell_stages import StageTools, cut_true
from overread.study.cells.stage_run import StageChoice, StageRun
from overread.study.cells.two_stage_run import two_stages
from overread.study.context import cases_of
from overread.study.question import Study
from overread.tasks.target import Target

NAMES = ("normal", "cancer")


def study_of(folder: Path, **more) -> Study:
    table = draw_smears(folder / "smears", patients=6)
    held = pd.read_csv(table).assign(
        sex=list("fm") * 3, case=list("aabcde"), view=list("lrllll"), patient=list("aabcde")
    )
    held.to_csv(table, index=False)
    return Study.from_flat(table=str(table), image="image", mask="mask", patient="patient", threads=1, seed=1, pixel_size="0.5", **more)  # fmt: skip


def run_of(study: Study, folder: Path) -> StageRun:
    asked = StageChoice("given", Window(side=24, size=24))
    return StageRun(study, asked, folder / "run", folder / "cache", False, silent, unheard, Clock(), {})


def split_of(cases: Cases) -> Split:
    parts = ["train", "train", "tuning", "tuning", "test", "test"]
    return Split(cases.table[["case", "patient"]].assign(part=parts), "by hand", 0)


def without_a_cell(folder: Path) -> None:
    """The first cell of the first image's mask is removed from it, in place."""
    path = str(folder / "smears" / "masks" / "s0.png")
    mask = cv2.imread(path, -1)
    _, parts = cv2.connectedComponents(mask)
    mask[parts == 1] = 0
    cv2.imwrite(path, mask)


def test_cells_are_cut_and_taught_anew_where_a_mask_was_corrected(tmp_path, monkeypatch) -> None:
    study = study_of(tmp_path)
    run, cases = run_of(study, tmp_path), cases_of(study)
    trained: list[list[str]] = []

    class Taught:
        def save(self, home: Path) -> None:
            (home / "model.json").write_text("{}")

    def train(*_, folder: Path, **more) -> Taught:
        trained.append(sorted(path.name for path in folder.iterdir()))
        (folder / "step.pt").write_text("a checkpoint")
        return Taught()

    monkeypatch.setattr("overread.learning.train.train", train)
    monkeypatch.setattr(cell_stages.Model, "load", lambda home: None)

    def cells() -> int:
        tools = run.tools(cases, split_of(cases))
        cut = {part: cut_true(tools, part, NAMES) for part in ("train", "tuning")}
        every = [*cut["train"], *cut["tuning"]]
        listed = cells_as_cases(tools.images, every, Target("binary", NAMES))
        cell_stages._taught(tools, listed, cell_stages._cut_keys(tools, every), Recipe(), "model", Clock())
        return sum(len(each.classes) for each in cut["train"])

    assert (cells(), cells()) == (18, 18)
    assert len(trained) == 1
    without_a_cell(tmp_path)
    assert cells() == 17
    assert trained == [["of.json"], ["of.json"]], "and no checkpoint of other crops is gone on from"
    path = tmp_path / "smears" / "images" / "s0.png"
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    before = run.tools(cases, split_of(cases)).held
    assert cells() == 17
    assert len(trained) == 3
    path = str(tmp_path / "smears" / "masks" / "s5.png")
    cv2.imwrite(path, _swapped(path))
    after = run.tools(cases, split_of(cases)).held
    assert [part for part in after if after[part] != before[part]] == ["test"], "also where classes alone changed"


def _swapped(path: str) -> np.ndarray:
    mask = cv2.imread(path, -1)
    return np.where(mask > 0, 3 - mask, 0).astype(np.uint8)


def test_a_cut_that_was_stopped_leaves_no_crops_of_another_window(tmp_path, monkeypatch) -> None:
    study = study_of(tmp_path)
    cases = cases_of(study)
    tools = run_of(study, tmp_path).tools(cases, split_of(cases))
    written = cell_stages.write_crops

    def corner(cut: list[CutImage]) -> list[np.ndarray]:
        return [read_image(each.addresses[0]).pixels for each in cut]

    first, stopped = corner(cut_true(tools, "train", NAMES)), []

    def once(path: Path, crops: np.ndarray) -> list[str]:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(path)
        return written(path, crops)

    monkeypatch.setattr(cell_stages, "write_crops", once)
    with pytest.raises(KeyboardInterrupt):
        cut_true(replace(tools, window=Window(side=12, size=24)), "train", NAMES)
    monkeypatch.setattr(cell_stages, "write_crops", written)
    again = corner(cut_true(tools, "train", NAMES))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_outlines_with_classes_keep_the_columns_that_they_are_judged_by(tmp_path, segmenter) -> None:
    segmenter(Threshold())
    study = study_of(tmp_path, subgroups=("sex",))
    run, cases = run_of(study, tmp_path), cases_of(study)
    tools: StageTools = run.tools(cases, split_of(cases))
    nothing = pd.DataFrame({name: [] for name in ("case", "patient", "split", "source", "label", "p:normal", "p:cancer")})  # fmt: skip
    made = _with_classes(run, tools, "test", Predictions(nothing, Target("classes", NAMES)))
    assert made.subgroups == ("sex",)
    assert sorted(made.table["sex"]) == ["f", "m"]
    assert made.pixel_sizes.tolist() == [0.5, 0.5]
    assert made.identifiers == cases.identifiers


def test_several_images_of_a_case_are_refused_before_anything_is_trained(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(StageRun, "runs", lambda *_: pytest.fail("trained first"))
    asked = StageChoice(window=Window(side=24, size=24))
    study = study_of(tmp_path, case="case", view="view")
    with pytest.raises(InputError, match="one image of each case"):
        two_stages(study, asked, tmp_path / "two", cache=tmp_path / "cache", network=False)
