"""Two stages against one on smears: who is where, what is found, which stage is named, and that it goes on where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from drawn_smears import Threshold, draw_smears

from overread.cases.privacy import codes
from overread.cases.split import Split
from overread.cells.marked_images import truly_marked
from overread.cells.stages.cell_crops import Window
from overread.cells.stages.two_stages import TwoStages
from overread.core.errors import InputError, UnsoundError
from overread.core.files import read_json
from overread.core.progress import Clock, silent, unheard
from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.evaluation.ledger import record_look
from overread.images.outlines.outlines import write_labels
from overread.study import steps
from overread.study.cells.stage_run import StageChoice, StageRun
from overread.study.cells.two_stage_run import ceiling_of_run, known_test, two_stages
from overread.study.context import cases_of
from overread.study.question import Study

TINY = {
    "method": "scratch",
    "backbone": "lenet5",
    "image_size": 32,
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "augment": "none",
}
GOOD = {"method": "features", "descriptors": ["intensity", "size"], "backbone": ""}
#: Sees edges alone, of crops masked to a disc: nothing that tells these cells apart but a little of their size.
BAD = {"method": "features", "descriptors": ["lbp"], "backbone": ""}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return draw_smears(tmp_path_factory.mktemp("smears"))


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    """The one stage without what it shows beside its predictions: that is tested where it is made."""
    monkeypatch.setattr(steps, "STEPS", (steps.audit, steps.split, steps.train, steps.predict))


def study(table: Path, **more) -> Study:
    return Study.from_flat(table=str(table), image="image", mask="mask", label="diagnosis", patient="patient", positive=("cancer",), test=0.35,
                           tuning=0.3, despite=("shortcut", "near-leak"), recipe=TINY, seed=1, threads=1, **more)  # fmt: skip


def choice(**more) -> StageChoice:
    return StageChoice(**{"segmenter": "given", "window": Window(side=24, size=24), "cells": GOOD} | more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("two")


def test_cells_are_told_apart_counted_and_compared(table, folder, segmenter) -> None:
    segmenter(Threshold())
    said: list[str] = []
    found = two_stages(study(table), choice(), folder / "good", cache=folder / "cache", network=False, say=said.append)
    assert found["auc"].first.value > 0.95
    assert "cancer where at least" in found.pooled
    assert "0 patients shared" in found.proof
    assert found.ceiling is not None
    assert [step.stage for step in found.ceiling.steps] == ["segmentation", "classification", "pooling"]
    assert TwoStages.load(folder / "good") == found
    images, cells = (Split.load(folder / "good" / name / "split.csv").table for name in ("one-stage", "cells/model"))
    part = dict(zip(images["case"], images["part"], strict=True))
    assert (cells["case"].str.split("/").str[0].map(part) == cells["part"]).all()
    assert set(cells["part"]) == {"train", "tuning"}, "no cell of a tested image was learned from"
    told = pd.read_csv(folder / "good" / "cells" / "predicted-test.csv")
    assert {part[case] for case in told["image_case"]} == {"test"}
    looks = [
        line for line in (folder / "good" / "ledger.jsonl").read_text("utf-8").splitlines() if '"kind": "look"' in line
    ]
    assert len(looks) == 2, "one for the two stages, one for the comparison"


def test_it_goes_on_where_it_was_stopped(table, folder, segmenter, monkeypatch) -> None:
    segmenter(Threshold())
    before = read_json(folder / "good" / "two_stages.json")
    monkeypatch.setattr("overread.learning.train.train", None)  # nothing is trained again
    found = two_stages(study(table), choice(), folder / "good", cache=folder / "cache", network=False)
    assert read_json(folder / "good" / "two_stages.json")["differences"] == before["differences"]
    assert found == TwoStages.load(folder / "good")


def test_it_is_judged_again_after_a_mask_was_corrected(table, folder, segmenter, monkeypatch) -> None:
    segmenter(Threshold())

    def begun(*_) -> None:
        raise InputError("it has begun again")

    monkeypatch.setattr(StageRun, "runs", begun)
    mask = table.parent / "masks" / "s0.png"
    before = mask.read_bytes()
    write_labels(mask, np.eye(96, dtype=np.int32))
    with pytest.raises(InputError, match="begun again"):
        two_stages(study(table), choice(), folder / "good", cache=folder / "cache", network=False)
    mask.write_bytes(before)
    two_stages(study(table), choice(), folder / "good", cache=folder / "cache", network=False)


def test_the_ceiling_of_the_test_part_is_a_look(table, folder, segmenter) -> None:
    segmenter(Threshold())
    lines = (folder / "good" / "ledger.jsonl").read_text("utf-8").count("\n")
    found = ceiling_of_run(folder / "good", "test", cache=folder / "cache")
    assert found.part == "test"
    assert (
        found.steps[0].before.images
        == read_json(folder / "good" / "one-stage" / "split.proof.json")["proof"]["parts"]["test"]["images"]
    )
    assert (folder / "good" / "ledger.jsonl").read_text("utf-8").count("\n") == lines + 1
    ceiling_of_run(folder / "good", cache=folder / "cache")
    assert (folder / "good" / "ledger.jsonl").read_text("utf-8").count("\n") == lines + 1, "tuning images are no look"


def test_outlines_are_known_to_the_ledger_as_their_evaluation_knows_them(tmp_path) -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[2:8, 2:8], labels[10:16, 10:16] = 1, 2
    rows = []
    for place in range(12):
        for kind in ("predicted", "truth"):
            write_labels(tmp_path / "predictions" / kind / f"c{place}.png", labels)
        rows.append((f"c{place}", f"p{place}", "test", "", f"predicted/c{place}.png", f"truth/c{place}.png"))
    columns = ["case", "patient", "split", "source", "predicted", "truth"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "predictions" / "test.csv", index=False)
    judged = evaluate_outlines(
        PredictedOutlines.read(tmp_path / "predictions" / "test.csv"), ledger=tmp_path / "ledger.jsonl"
    )
    assert judged.looks == 0
    known = known_test(tmp_path, dense=True)
    assert record_look(tmp_path / "ledger.jsonl", "ceiling analysis", None, "test", test=known) == 1


def test_a_bad_segmentation_is_named(table, folder, segmenter) -> None:
    segmenter(Threshold(lost=0.8))
    found = two_stages(study(table), choice(), folder / "blind", cache=folder / "cache", network=False)
    assert found.ceiling is not None
    costs = {step.stage: step.cost.value for step in found.ceiling.steps}
    assert max(costs, key=lambda stage: costs[stage]) == "segmentation", found.ceiling.table()
    assert found.ceiling.dearest in ("segmentation", "")
    assert ceiling_of_run(folder / "blind", "test", cache=folder / "cache").dearest == "segmentation"


@pytest.mark.slow
def test_a_bad_classifier_is_named(table, folder, segmenter) -> None:
    segmenter(Threshold())
    asked = choice(cells=BAD, window=Window(side=8, size=8))  # lies within the smallest cell: no border, no size
    found = two_stages(study(table), asked, folder / "dull", cache=folder / "cache", network=False)
    assert found.ceiling is not None
    costs = {step.stage: step.cost.value for step in found.ceiling.steps}
    assert max(costs, key=lambda stage: costs[stage]) == "classification", found.ceiling.table()
    assert ceiling_of_run(folder / "dull", "test", cache=folder / "cache").dearest == "classification"


@pytest.mark.slow
def test_cells_are_pooled_by_a_network(table, folder, segmenter) -> None:
    segmenter(Threshold())
    pooled = {
        "method": "scratch",
        "backbone": "lenet5",
        "image_size": 28,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "augment": "none",
    }
    found = two_stages(
        study(table), choice(pool="mean", pooled=pooled), folder / "pooled", cache=folder / "cache", network=False
    )
    assert "mean of what the cells show" in found.pooled
    assert found.ceiling is not None
    assert [step.stage for step in found.ceiling.steps] == ["segmentation", "classification and pooling"]
    assert np.isfinite(found["auc"].difference.value)


def test_what_cannot_be_is_said(table, folder, segmenter) -> None:
    segmenter(Threshold())
    with pytest.raises(InputError, match="need outlines"):
        two_stages(study(table).changed(mask=""), choice(), folder / "a", cache=folder / "cache", network=False)
    assert not (folder / "a").exists()
    with pytest.raises(InputError, match="no such class"):
        two_stages(study(table), choice(count=("mast",)), folder / "good", cache=folder / "cache", network=False)
    with pytest.raises(InputError, match="no two stages"):
        ceiling_of_run(folder / "nowhere")


def test_a_segmenter_that_knows_codes_knows_the_patients_whose_names_are_kept(table, tmp_path, monkeypatch) -> None:
    seen = set(codes(["p0"], "pepper"))
    about = SimpleNamespace(names_salt="pepper", identifiers="as-written")
    model = SimpleNamespace(about=about, has_seen=lambda patients: len(seen & set(patients)))
    monkeypatch.setattr("overread.study.cells.stage_run.model_in", lambda folder: model)
    asked = study(table, names="keep")
    cases = cases_of(asked)
    images = replace(cases, table=cases.table.assign(patient=[f"p{row}" for row in range(len(cases))]))
    parts = pd.DataFrame({"case": images.table["case"], "patient": images.table["patient"], "part": "test"})
    run = StageRun(asked, choice(), tmp_path, None, False, silent, unheard, Clock(None), {})
    with pytest.raises(UnsoundError, match="seen 1 patient "):
        run.segments(images, Split(parts, "patients", 0), 0.0)


def test_boxes_are_read_at_the_size_of_their_images(tmp_path) -> None:
    """A box says nothing of its image's size: the image is asked, and no mask is left out in silence."""
    table = draw_smears(tmp_path / "smears", patients=4)
    rows = [
        (f"s{i}.png", name, 10 + 30 * k, 10, 24 + 30 * k, 28)
        for i in range(4)
        for k, name in enumerate(("red", "white"))
    ]
    pd.DataFrame(rows, columns=["file", "cell", "xmin", "ymin", "xmax", "ymax"]).to_csv(
        tmp_path / "boxes.csv", index=False
    )
    cases = cases_of(
        Study.from_flat(table=str(table), image="image", mask=str(tmp_path / "boxes.csv"), patient="patient")
    )
    assert cases.target.names == ("red", "white")
    errors: dict[int, str] = {}
    found = list(truly_marked(cases, names=cases.target.names, pixels=False, errors=errors))
    assert not errors
    assert [outlines.classes for *_, outlines in found] == [("red", "white")] * 4
    assert all(outlines.size == (96, 96) for *_, outlines in found)
