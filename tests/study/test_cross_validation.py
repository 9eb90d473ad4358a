"""Cross-validation as a study: who is judged by whom, thresholds from outside of the fold, and what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import InputError
from overread.evaluation.comparison.grid_result import ENSEMBLE, FOLDS
from overread.study.context import cases_of
from overread.study.cross_validation import Dealt, TablesByFold, _key_of, called_by_fold, pooled_folds, read_folds
from overread.study.factorial import _at_points, _in_folds, grid
from overread.study.question import Study, number_of

VARY = {"descriptors": [["lbp"], ["intensity"]]}


def question(phantom, recipe, **more) -> Study:
    return Study.from_flat(
        table=str(phantom),
        image="image",
        label="diagnosis",
        patient="patient",
        source="microscope",
        seed=3,
        threads=1,
        recipe=recipe,
        **more,
    )


FEATURES = {"method": "features", "image_size": 32, "head": "ridge", "penalties": [0.01]}


@pytest.fixture(scope="module")
def made(phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds") / "g"
    study = question(phantom, FEATURES, folds="3")
    return folder, grid(study, VARY, folder, network=False), study


def test_each_patient_is_judged_once_in_a_fold_of_his_own(made):
    folder, board, _ = made
    dealt = pd.read_csv(folder / "folds.csv", dtype=str)
    assert set(dealt["fold"]) == {"1", "2", "3"}
    assert dealt.groupby("patient")["fold"].nunique().max() == 1
    told = read_folds(folder / "cells" / "lbp")
    assert told.held_out.table["case"].is_unique
    assert dict(zip(told.held_out.table["case"], told.held_out.table["fold"], strict=True)) == dict(
        zip(dealt["case"], dealt["fold"], strict=True)
    )
    assert board.part == "folds"
    assert (board.folds, board.images) == (3, len(dealt))
    assert board.told("intensity", FOLDS, "malignant") is not None


def test_thresholds_and_weights_of_a_fold_come_from_outside_of_it(made):
    folder, _, study = made
    cells = {name: read_folds(folder / "cells" / name) for name in ("lbp", "intensity")}
    for each in cells.values():
        for fold, tuning in each.tuning.items():
            inside = set(each.held_out.table["patient"][each.held_out.table["fold"] == fold])
            assert not inside & set(tuning.table["patient"])
    told = cells["lbp"]
    turned = told.held_out.table["fold"] == "1"
    upside = told.held_out.scores.copy()
    upside[turned.to_numpy()] = upside[turned.to_numpy()][:, ::-1]
    other = type(told)(told.held_out.with_scores(upside), told.tuning)
    before, after = (called_by_fold(study, each)[0].flagged for each in (told, other))
    outside = told.held_out.table["case"][~turned]
    assert all(before[case] == after[case] for case in outside), "what a fold says moves no other call"
    assert any(before[case] != after[case] for case in told.held_out.table["case"][turned])
    _, shares = pooled_folds(cells)
    _, again = pooled_folds({**cells, "lbp": other})
    assert shares == again, "what is said of held-out cases chooses no weights"


def test_what_is_kept_is_made_anew_where_what_made_it_changes(phantom):
    """The shares of the split deal the tuning part of a trained network; numbers beside the pixels teach."""
    dealt, trained = Dealt(pd.DataFrame({"case": ["a"], "patient": ["a"], "fold": [1]}), 1), {"method": "scratch"}
    seen = {**FEATURES, "extra_inputs": ["age"]}

    def key(recipe, cases=None, **more) -> str:
        study = question(phantom, recipe, folds="4", **more)
        return _key_of(study, cases or cases_of(study), dealt)

    assert key(trained, tuning=0.2) == key(trained, tuning=0.2)
    assert key(trained, tuning=0.2) != key(trained, tuning=0.4)
    assert key(trained, test=0.2) != key(trained, test=0.6)
    assert key(FEATURES, tuning=0.2) == key(FEATURES, tuning=0.4), "frozen features have no tuning part"
    cases = cases_of(question(phantom, FEATURES))
    young, old = (replace(cases, table=cases.table.assign(age=start + np.arange(len(cases)))) for start in (20.0, 60.0))
    assert key(seen, young) != key(seen, old)
    assert key(FEATURES, young) == key(FEATURES, old)


def test_tables_of_the_folds_are_made_when_asked_for_and_hold_fold_case_and_scores(made):
    """With leave-one-out all of them at once would be patients times cases rows with every column."""
    folder, board, _ = made
    cell = folder / "cells" / "lbp"
    assert list(pd.read_csv(cell / "predictions" / "folds-tuning.csv", nrows=1).columns[:2]) == ["fold", "case"]
    told = read_folds(cell)
    asked = list[str]()

    def table(fold: str):
        asked.append(fold)
        return told.tuning[fold]

    counted = replace(told, tuning=TablesByFold(tuple(told.tuning), table))
    assert len(counted.tuning) == 3
    assert not asked
    assert counted.tuning["3"].digest == told.tuning["3"].digest
    assert asked == ["3"]
    with pytest.raises(KeyError):
        counted.tuning["9"]
    whole, _ = pooled_folds({"one": counted, "other": told})
    assert asked == ["3", *told.tuning], "each is made once for its weights, and none is kept"
    assert set(whole.tuning["2"].table["case"]) == set(told.tuning["2"].table["case"])
    assert any("auc within folds compares cases of one model" in caution for caution in board.cautions)


def test_a_question_without_a_threshold_in_one_fold_is_left_out_with_its_reason(made):
    folder, _, study = made
    told, heard = read_folds(folder / "cells" / "lbp"), []
    tuning = dict(told.tuning)
    assert called_by_fold(study, told, heard.append)
    assert not heard
    tuning["2"] = tuning["2"].take((tuning["2"].table["label"] == "benign").to_numpy())
    assert called_by_fold(study, replace(told, tuning=tuning), heard.append) == ()
    assert "fold 2" in heard[0]
    assert _in_folds(study, replace(told, tuning=tuning)).lost == tuple(heard)
    alone = _at_points(study, tuning["2"], told.held_out, "tuning", folder / "ledger.jsonl")
    assert alone.called == alone.frozen == ()
    assert "no sensitivity and specificity" in alone.lost[0]


def test_it_is_kept_and_read_again(made, phantom):
    folder, board, study = made
    kept = folder / "cells" / "lbp" / "predictions" / "folds.csv"
    before = kept.stat().st_mtime_ns
    again = grid(study, VARY, folder, network=False)
    assert kept.stat().st_mtime_ns == before
    assert again.told("lbp", "auc", "malignant") == board.told("lbp", "auc", "malignant")
    assert ENSEMBLE in again.systems
    assert any("judged 1 time before" in caution for caution in again.cautions)
    assert any("share most of their training patients" in caution for caution in board.cautions)


@pytest.mark.slow
def test_leave_one_out_is_by_patient_with_whoever_shares_an_image(phantom, tmp_path):
    study = question(phantom, {**FEATURES, "descriptors": ["intensity"]}, folds="leave-one-out")
    board = grid(study, {}, tmp_path / "g", network=False)
    dealt = pd.read_csv(tmp_path / "g" / "folds.csv", dtype=str)
    assert dealt.groupby("patient")["fold"].nunique().max() == 1
    assert board.folds == dealt["fold"].nunique() >= 0.9 * dealt["patient"].nunique()
    assert len(board.systems) == 1


@pytest.mark.slow
def test_networks_are_trained_once_a_fold_and_tuned_on_others(phantom, tmp_path):
    recipe = {"method": "scratch", "backbone": "lenet5", "epochs": 1, "image_size": 32, "batch_size": 16}
    study = question(phantom, recipe, tuning=0.2, folds="2")
    board = grid(study, {}, tmp_path / "g", network=False)
    cell = next((tmp_path / "g" / "cells").iterdir())
    told = read_folds(cell)
    for fold, tuning in told.tuning.items():
        inside = set(told.held_out.table["patient"][told.held_out.table["fold"] == fold])
        assert not inside & set(tuning.table["patient"])
        assert 0 < len(tuning) < len(told.held_out)
    assert np.isfinite(board.told(board.systems[0], "auc", "malignant").value)
    assert len(list((cell / "folds").glob("*.csv"))) == 2


def test_what_folds_cannot_be_is_refused(phantom, tmp_path):
    for wrong in ("1", "many", "-3", "2.5"):
        with pytest.raises(InputError, match="folds are a number"):
            number_of(wrong)
    with pytest.raises(InputError, match="at random by patient"):
        grid(question(phantom, FEATURES, by_time=True, folds="3"), VARY, tmp_path / "g", network=False)
