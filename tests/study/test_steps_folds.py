"""Cross-validation as a result: networks of folds are the model, and each patient is judged by those that have not seen him."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from overread.core.errors import ArgumentError
from overread.evaluation.evaluate import Evaluation
from overread.learning.model import Model
from overread.predictions import Predictions
from overread.study.question import Resources, Study
from overread.study.steps import run


@pytest.fixture(scope="module")
def done(phantom, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "folds"
    recipe = {
        "method": "scratch",
        "backbone": "cnn_small",
        "epochs": 2,
        "image_size": 32,
        "batch_size": 16,
        "members": 2,
    }
    study = Study.from_flat(table=str(phantom), image="image", label="diagnosis", patient="patient", source="microscope", seed=3, threads=1,
                            recipe=recipe, tuning=0.2)  # fmt: skip
    run(study, folder, network=False)
    return folder


def test_each_patient_of_training_and_tuning_is_predicted_by_those_who_have_not_seen_him(done) -> None:
    held, tuning, test = (
        Predictions.read(done / f"predictions/{name}.csv").table for name in ("held-out", "tuning", "test")
    )
    parts = json.loads((done / "split.proof.json").read_text())["proof"]["parts"]
    assert len(held) == parts["train"]["cases"] + parts["tuning"]["cases"]
    assert set(held["fold"].astype(str)) == {"1", "2"}
    assert held.groupby("patient")["fold"].nunique().max() == 1
    assert not set(held["patient"]) & set(test["patient"])
    assert tuning["case"].tolist() == held["case"].tolist()
    model = Model.load(done / "model")
    assert len(model.about.members) == 2
    assert model.has_seen(sorted(set(held["patient"]))) == held["patient"].nunique()


def test_folds_are_judged_as_one_test_and_each_alone_without_a_look(done) -> None:
    found = Evaluation.load(done / "evaluation/folds")
    whole = found["auc", "malignant"]
    first = next(e for e in found.estimates if (e.metric, e.where) == ("auc", {"fold": "1"}))
    assert whole.images == len(Predictions.read(done / "predictions/held-out.csv").table)
    assert 0 < first.images < whole.images
    assert len((done / "ledger.jsonl").read_text().splitlines()) == 1


def test_the_report_shows_them(done) -> None:
    page = (done / "report.html").read_text("utf-8")
    assert "Cross-validation" in page
    assert "Fold 2" in page
    table = page[page.index("Cross-validation: each patient") :]
    table = table[: table.index("</table>")]
    assert "AUC" in table
    assert "Sensitivity" not in table  # there is no threshold that these patients did not choose
    assert "the last, whatever its tuning score" in page
    assert any(
        "2 networks are averaged" in path.read_text("utf-8")
        for path in (done / "checklists").iterdir()
        if path.is_file()
    )


@pytest.mark.parametrize("words", [{"budget": "5m", "preset": "quick"}, {"preset": "endless"}])
def test_a_budget_is_given_in_one_way(words) -> None:
    with pytest.raises(ArgumentError):
        Resources(**words)


def test_a_preset_is_a_budget() -> None:
    assert Resources(preset="good").limit == 1800
    assert Resources(budget="90s").limit == 90
    assert Resources().limit is None
