"""A run whose classes stand in a tree: training classes from training patients, and judged at coarser levels."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cases.cases import Cases
from overread.cli.main import app
from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.core.progress import unheard
from overread.evaluation.evaluate import Evaluation
from overread.predictions import Predictions
from overread.study.context import RunContext, cases_of
from overread.study.question import Study
from overread.study.steps import evaluate, predict, run, set_up, train
from overread.synthetic.disease_tree import TREE, draw_disease_tree
from overread.tasks.taxonomy import partition

SMALL = {"method": "scratch", "backbone": "lenet5", "image_size": 28, "epochs": 1, "batch_size": 64}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """Seventy patients; six images are labelled by their group alone, as where no biopsy was taken."""
    path = draw_disease_tree(tmp_path_factory.mktemp("tree"), patients=70, size=28, images_per_patient=2, seed=4)
    table = pd.read_csv(path)
    grown = table.index[table["diagnosis"] == "cyst"][:12:2]
    table.loc[grown, "diagnosis"] = "benign growth"
    table.to_csv(path, index=False)
    return path


def _study(cohort: Path, **more) -> Study:
    given = {
        "judge_at": ("danger", "three-way"),
        "max_class_size": 20,
        "taxonomy": str(cohort.with_name("taxonomy.csv")),
    } | more
    return Study.from_flat(table=str(cohort), image="image", label="diagnosis", patient="patient", seed=1, recipe=SMALL, threads=1, **given)  # fmt: skip


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tree"
    _judged(_study(cohort), folder)
    return folder


def _judged(study: Study, folder: Path, say=unheard) -> None:
    """A run up to its evaluation; maps, an index and the report are others' subjects."""
    context = RunContext(study, folder, network=False, say=say, table=cases_of(study))
    set_up(context, context.labelled())
    for step in (train, predict, evaluate):
        step(context)


def test_classes_are_cut_by_the_images_of_training_patients_alone(done, cohort) -> None:
    held = json.loads((done / "partition.json").read_text())
    labelled = cases_of(_study(cohort)).table.merge(pd.read_csv(done / "split.csv")[["case", "part"]], on="case")
    taught = labelled[labelled["part"] == "train"]
    whole = partition(TREE, taught["label"], taught["patient"], max_class_size=20)
    by_hand = {c["name"]: (c["images"], c["patients"]) for c in held["classes"]}
    assert by_hand == {c.name: (c.images, c.patients) for c in whole.classes}
    assert "glandular" in by_hand
    assert "signet ring" not in by_hand
    assert "papillary" not in by_hand
    learned = Cases.load(done / "cases.csv")
    assert learned.target.names == whole.names
    assert set(learned.table["label"][learned.table["table label"] == "signet ring"]) == {"glandular"}


def test_images_labelled_above_every_class_teach_nothing_and_are_judged_where_they_can_be(done) -> None:
    learned = Cases.load(done / "cases.csv").table
    inner = learned[learned["table label"] == "benign growth"]
    assert len(inner) == 6
    assert (inner["label"] == "").all()
    excluded = pd.read_csv(done / "excluded.csv")
    parts = pd.read_csv(done / "split.csv").set_index("case")["part"]
    tested = [case for case in inner["case"] if parts.get(case) == "test"]
    assert set(excluded["case"]) == set(inner["case"]) - set(tested)
    assert excluded["reason"].str.contains("no training class of the taxonomy").all()
    assert json.loads((done / "split.proof.json").read_text())["proof"]["left out"]["the label lies under no training class of the taxonomy"] == len(excluded)  # fmt: skip
    test = Predictions.read(done / "predictions" / "test.csv")
    fine, coarse = (Evaluation.load(done / "evaluation" / where) for where in ("", "levels/three-way"))
    assert coarse["accuracy"].images == len(test) == fine["accuracy"].images + len(tested)


def test_each_level_is_the_sum_below_it_at_a_threshold_from_tuning_data(done) -> None:
    test = Predictions.read(done / "predictions" / "test.csv")
    for level in ("danger", "three-way"):
        over, found = TREE.at(level), Evaluation.load(done / "evaluation" / "levels" / level)
        sums = {n: sum(test.table[f"p:{f}"] for f in test.target.names if over[f] == n) for n in TREE.nodes_at(level)}
        truth = test.table["table label"].map(over)
        if level == "danger":
            threshold = found.operating[0].threshold
            called = np.where(sums["malignant"] >= threshold, "malignant", "benign")
        else:  # whatever rule was chosen: the class with the largest gain
            names = np.array(found.decision.names)
            chances = np.stack([sums[name] for name in names], 1)
            called = names[np.argmax(chances @ np.array(found.decision.gains), 1)]
        assert found["accuracy"].value == pytest.approx((called == truth.to_numpy()).mean())
    danger = Evaluation.load(done / "evaluation" / "levels" / "danger")
    positive = (test.table["table label"].map(TREE.at("danger")) == "malignant").to_numpy()
    score = sum(test.table[f"p:{f}"] for f in test.target.names if TREE.at("danger")[f] == "malignant").to_numpy()
    pairs = score[positive][:, None] - score[~positive][None, :]
    assert danger["auc", "malignant"].value == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert len((done / "ledger.jsonl").read_text().splitlines()) == 1, "one look at the test part, whatever the levels"
    assert danger.about.ledger.entry == 1


def test_called_again_nothing_is_done_anew_and_another_level_is_another_judgement(done, cohort, tmp_path) -> None:
    before = {p: (done / p).stat().st_mtime_ns for p in ("model/model.json", "evaluation/metrics.json")}
    said: list[str] = []
    _judged(_study(cohort), done, said.append)
    assert {p: (done / p).stat().st_mtime_ns for p in before} == before
    assert "the model is there already" in said
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    _judged(_study(cohort, judge_at=("danger",)), copy, said.append)
    assert (copy / "model" / "model.json").read_bytes() == (done / "model" / "model.json").read_bytes()
    assert [path.name for path in (copy / "evaluation" / "levels").iterdir()] == ["danger"]
    assert Evaluation.load(copy / "evaluation").looks == 1


def test_another_tree_under_the_same_names_of_levels_is_another_judgement(done, cohort, tmp_path) -> None:
    copy, study = tmp_path / "run", _study(cohort)
    shutil.copytree(done, copy)
    context = RunContext(study, copy, network=False, table=cases_of(study))
    evaluate(context)
    assert len((copy / "ledger.jsonl").read_text().splitlines()) == 1
    moved = pd.read_csv(copy / "taxonomy.csv", keep_default_na=False)
    moved.loc[moved["child"] == "spindle", "parent"] = "benign growth"
    moved.to_csv(copy / "taxonomy.csv", index=False)
    evaluate(context)
    assert len((copy / "ledger.jsonl").read_text().splitlines()) == 2
    before, after = (Evaluation.load(run / "evaluation" / "levels" / "danger")["auc", "malignant"] for run in (done, copy))  # fmt: skip
    assert before.value != after.value


def test_a_run_with_a_tree_of_its_own_is_judged_in_no_other(done, cohort, tmp_path) -> None:
    copy = shutil.copytree(done, tmp_path / "run")
    for command in ("compare", "leaderboard"):
        said = CliRunner().invoke(app, [command, str(copy), str(done), "--taxonomy", str(cohort.with_name("taxonomy.csv")), "--judge-at", "danger"])  # fmt: skip
        assert said.exit_code
        assert "a tree of their own" in str(said.exception or said.output), command


def test_levels_that_would_lie_in_one_folder_are_refused(cohort) -> None:
    with pytest.raises(ArgumentError, match="in one folder.*'a/b' and 'a-b'"):
        _study(cohort, judge_at=("a/b", "danger", "a-b"))
    with pytest.raises(ArgumentError, match="'Danger' and 'danger'"):
        _study(cohort, judge_at=("Danger", "danger"))


def test_what_cannot_be_is_refused_before_anything_is_trained(cohort, tmp_path) -> None:
    with pytest.raises(InputError, match="lies above the level 'kind'"):
        run(_study(cohort, judge_at=("kind",)), tmp_path / "a", network=False)
    assert not (tmp_path / "a" / "model").exists()
    with pytest.raises(InputError, match="'benign growth' is an inner node"):
        run(_study(cohort, max_class_size=0), tmp_path / "b", network=False)
    with pytest.raises(InputError, match="no level 'danger-2'"):
        run(_study(cohort, judge_at=("danger-2",)), tmp_path / "c", network=False)
    with pytest.raises(InputError, match="'bad' is no node"):
        run(_study(cohort, positive=("bad",)), tmp_path / "d", network=False)
    with pytest.raises(ArgumentError, match="there is none"):
        _study(cohort, taxonomy="")
    with pytest.raises(ArgumentError, match="in one way"):
        _study(cohort, label_at="three-way")
    findings = Study.from_flat(
        table=str(cohort), image="image", value="sex", taxonomy=str(cohort.with_name("taxonomy.csv"))
    )
    with pytest.raises(InputError):
        cases_of(findings)


def test_a_class_too_rare_by_itself_needs_the_tree(cohort, tmp_path) -> None:
    table = pd.read_csv(cohort)
    table["diagnosis"] = table["diagnosis"].replace("benign growth", "cyst")
    table.to_csv(tmp_path / "metadata.csv", index=False)
    (tmp_path / "images").symlink_to(cohort.parent / "images")
    alone = replace(_study(cohort, max_class_size=0), table=str(tmp_path / "metadata.csv"))
    with pytest.raises(UnsoundError, match="fewer than 3 patients with .*signet ring"):
        run(alone, tmp_path / "run", network=False)


def test_positive_nodes_stand_for_all_classes_below_them(cohort) -> None:
    made = cases_of(_study(cohort, positive=("malignant",)))
    assert set(made.target.positive) == {"spindle", "clear cell", "solid", "papillary", "signet ring"}


def test_a_new_table_is_predicted_under_the_training_classes_and_judged_at_a_level(done, cohort, tmp_path) -> None:
    said = CliRunner().invoke(app, ["predict", str(done), str(cohort), "--image", "image", "--label", "diagnosis", "--patient", "patient", "-o", str(tmp_path / "new.csv")])  # fmt: skip
    assert said.exit_code == 0, said.output
    made = Predictions.read(tmp_path / "new.csv")
    assert len(made) == 140
    assert set(made.table["label"][made.table["table label"] == "papillary"]) == {"glandular"}
    assert made.at_level(TREE, "danger", ("malignant",)).known.all()


def test_a_run_is_judged_at_another_level_later(done, tmp_path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    said = CliRunner().invoke(app, ["evaluate", str(copy), "--judge-at", "level-1", "--no-figures"])
    assert said.exit_code == 0, said.output
    assert [path.name for path in (copy / "evaluation" / "levels").iterdir()] == ["level-1"]
    again = Evaluation.load(copy / "evaluation" / "levels" / "level-1")
    assert (
        again["auc", "malignant"].value
        == Evaluation.load(done / "evaluation" / "levels" / "danger")["auc", "malignant"].value
    )
    assert again.looks == 1, "this is another look"


def test_the_direct_model_needs_one_level(done) -> None:
    said = CliRunner().invoke(app, ["direct", str(done)])
    assert said.exit_code
    assert "nobody says at which level" in str(said.exception)


@pytest.mark.slow
def test_what_fine_classes_sum_to_is_compared_with_the_direct_model(done, tmp_path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(done, copy)
    said = CliRunner().invoke(app, ["direct", str(copy), "--judge-at", "danger", "--margin", "0.02", "--offline"])
    assert said.exit_code == 0, said.output
    home = copy / "direct" / "danger"
    fine, coarse = (Predictions.read(folder / "predictions" / "test.csv") for folder in (copy, home))
    assert set(fine.table["case"]) == set(coarse.table["case"])
    assert coarse.target.names == ("benign", "malignant")
    found = json.loads((home / "comparison" / "metrics.json").read_text())
    auc = next(e["value"] for e in found if (e["metric"], e["of"]) == ("auc difference", "malignant"))
    one, other = (
        Evaluation.load(f)["auc", "malignant"].value for f in (copy / "evaluation/levels/danger", home / "evaluation")
    )
    assert auc == pytest.approx(one - other)
    assert "margin 0.02" in said.output
