"""A factorial on one table: the design, the cells, what is left out, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import ArgumentError, InputError, OverreadError, UnavailableError
from overread.evaluation.comparison.grid_result import ENSEMBLE, Grid, called_at
from overread.evaluation.comparison.opinion_pool import choose_shares
from overread.evaluation.operating_point import choose_thresholds
from overread.learning.predict import load_model
from overread.predictions import Predictions
from overread.study.context import RunContext
from overread.study.cross_validation import Folded, called_by_fold
from overread.study.factorial import Cell, Judged, Readers, _asked, _reason, cells_of, factors_of, grid, parse_vary
from overread.study.question import Study

VARY = {
    "features": [{"name": "lbp", "descriptors": ["lbp"]}, {"name": "bits", "descriptors": ["intensity"], "codes": "hyperplanes", "bits": 64}, {"name": "no weights", "backbone": "resnet18"}],
    "head": ["svm", "ridge"],
}  # fmt: skip


def question(phantom, **more) -> Study:
    return Study.from_flat(table=str(phantom), image="image", label="diagnosis", patient="patient", source="microscope", seed=3, threads=1, tuning=0.2,
                           recipe={"method": "features", "image_size": 32, "penalties": [0.01]}, **more)  # fmt: skip


@pytest.fixture(scope="module")
def made(phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid") / "g"
    lines: list[str] = []
    return folder, grid(question(phantom), VARY, folder, network=False, readers=Readers(), say=lines.append), lines


def test_every_cell_is_a_run_on_one_split_and_a_row_of_the_table(made):
    folder, board, _ = made
    cells = sorted(path.name for path in (folder / "cells").iterdir())
    assert cells == ["bits-ridge", "bits-svm", "lbp-ridge", "lbp-svm"]
    head = load_model(folder / "cells" / "bits-svm").network.get_submodule("head")
    assert (head.raw, head.bits, head.in_features) == (19 + 2 * 19, 64, 64)
    splits = {(folder / "cells" / cell / "split.csv").read_bytes() for cell in cells}
    assert splits == {(folder / "split.csv").read_bytes()}
    assert set(board.systems) == {"lbp, svm", "lbp, ridge", "bits, svm", "bits, ridge", ENSEMBLE}
    assert board.levels["lbp, svm"] == ("lbp", "svm")
    assert board.told("lbp, svm", "sensitivity", "malignant") is not None
    assert not list(folder.rglob("ledger.jsonl")), "the tuning part is no look at the test"
    for name in ("grid.json", "grid.csv", "metrics.json", "grid.html", "disagreement/disagreement.json"):
        assert (folder / name).exists(), name
    assert Grid.load(folder).table() == board.table()


def test_a_cell_without_weights_is_left_out_with_its_reason(made):
    folder, board, _ = made
    assert [each.name for each in board.left_out] == ["no weights, svm", "no weights, ridge"]
    assert "resnet18" in board.left_out[0].reason
    assert "resnet18" in (folder / "grid.html").read_text("utf-8")
    assert "no weights, svm" in (folder / "grid.csv").read_text("utf-8")


def test_the_ensemble_is_the_mean_of_its_members_by_weights_from_tuning(made):
    folder, board, _ = made
    assert sum(board.shares.values()) == pytest.approx(1)
    mixed = Predictions.read(folder / "predictions" / "tuning.csv").table["p:malignant"]
    places = {"lbp, svm": "lbp-svm", "lbp, ridge": "lbp-ridge", "bits, svm": "bits-svm", "bits, ridge": "bits-ridge"}
    wanted = sum(share * Predictions.read(folder / "cells" / places[name] / "predictions/tuning.csv").table["p:malignant"]
                 for name, share in board.shares.items())  # fmt: skip
    assert mixed.to_numpy() == pytest.approx(wanted.to_numpy(), abs=1e-8)
    alone = choose_shares({name: Predictions.read(folder / "cells" / at / "predictions/tuning.csv") for name, at in places.items()})  # fmt: skip
    assert board.shares == alone, "the tuning tables alone choose them"


def test_called_again_nothing_is_trained_and_a_new_level_is_added(made, phantom):
    folder, board, _ = made
    weights = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    assert len(weights) == 4
    more = {**VARY, "head": ["svm", "ridge", "nearest-mean"]}
    again = grid(question(phantom), more, folder, network=False)
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert len(list(folder.rglob("model.safetensors"))) == 6
    assert again.told("lbp, svm", "auc", "malignant") == board.told("lbp, svm", "auc", "malignant")


def test_a_rule_that_cannot_be_told_costs_no_look_and_no_result(made, phantom, tmp_path):
    folder, _, _ = made
    readers = tmp_path / "readers.csv"
    readers.write_text("case,reader,label\nnobody,r,1\n")
    for asked, match in (
        (Readers(systems=("lbp, svm", "lpb, ridge")), "that may disagree"),
        (Readers(str(readers)), "no reader has read"),
    ):
        with pytest.raises(OverreadError, match=match):
            grid(question(phantom), VARY, folder, part="test", network=False, readers=asked)
    assert not list(folder.rglob("ledger.jsonl"))


def test_one_cell_has_its_table_though_there_is_nobody_to_disagree(made, phantom, tmp_path):
    folder, _, _ = made
    shutil.copytree(folder, tmp_path / "g")
    board = grid(question(phantom), {"features": VARY["features"][:1], "head": ["svm"]}, tmp_path / "g", part="test", network=False, readers=Readers())  # fmt: skip
    assert board.systems == ("lbp, svm",)
    assert "no rule of disagreement" in " ".join(board.cautions)
    assert Grid.load(tmp_path / "g").part == "test"
    assert not (tmp_path / "g" / "disagreement" / "disagreement.json").exists(), "not that of another part"


def test_the_test_part_is_opened_through_the_ledgers(made, phantom):
    folder, _, _ = made
    board = grid(question(phantom), VARY, folder, part="test", network=False)
    looks = {path.parent.name: len(path.read_text().splitlines()) for path in folder.rglob("ledger.jsonl")}
    assert looks == {"lbp-svm": 1, "lbp-ridge": 1, "bits-svm": 1, "bits-ridge": 1, "g": 1}
    assert board.part == "test"
    assert board.images == len(Predictions.read(folder / "cells/lbp-svm/predictions/test.csv"))
    point = json.loads((folder / "grid.json").read_text())
    assert point["part"] == "test"


def test_another_study_in_the_folder_is_refused_and_nothing_is_left_out_for_it(made, phantom):
    folder, _, _ = made
    with pytest.raises(InputError, match="another study"):
        grid(question(phantom).changed(seed=4), VARY, folder, network=False)


# -- the design ---------------------------------------------------------------------------------------------------


def test_what_is_typed_becomes_factors():
    found = parse_vary(
        [
            "backbone=lenet5, cnn_small",
            "epochs=1,2",
            'augmentation=[{name="none"}, {name="extra", augmentation={turn=0.75}}]',
        ]
    )
    assert found["backbone"] == ["lenet5", "cnn_small"]
    assert found["epochs"] == [1, 2]
    factors = factors_of(found)
    assert [level.name for level in factors[2].levels] == ["none", "extra"]
    assert factors[2].levels[1].changes == {"augmentation": {"turn": 0.75}}
    for wrong, match in ((["backbone"], "name=value"), (["epochs=1", "epochs=2"], "twice"), (["a=[1"], "no array")):
        with pytest.raises(InputError, match=match):
            parse_vary(wrong)
    with pytest.raises(InputError, match="different names"):
        factors_of({"epochs": [1, 1]})


def test_a_level_may_be_a_file_and_what_it_says_of_augmentation_holds(tmp_path, phantom):
    (tmp_path / "extra.toml").write_text("[augmentation]\nturn = 0.75\nclahe = 0.5\n")
    study = Study.from_flat(table="t.csv", recipe={"method": "scratch"})
    cells, _ = cells_of(study, factors_of({"augment": ["none", str(tmp_path / "extra.toml")], "backbone": ["lenet5"]}))
    assert [cell.name for cell in cells] == ["none, lenet5", "extra, lenet5"]
    assert cells[1].study.training.recipe["augmentation"]["turn"] == 0.75
    assert cells[1].study.training.recipe["augment"] == "given"
    assert cells[0].study.training.recipe["augment"] == "none"


def test_a_level_that_is_wrong_everywhere_is_an_error_and_a_contradiction_is_left_out():
    study = Study.from_flat(table="t.csv", recipe={})
    with pytest.raises(OverreadError, match="alexnet"):
        cells_of(study, factors_of({"backbone": ["alexnt", "lenet5"], "epochs": [1, 2]}))
    with pytest.raises(InputError, match="no field"):
        cells_of(study, factors_of({"epoch": [1, 2]}))
    cells, lost = cells_of(study, factors_of({"method": ["scratch", "finetune"], "frozen": [0, 2]}))
    assert [cell.levels for cell in cells] == [("scratch", "0"), ("finetune", "0"), ("finetune", "2")]
    assert [each.name for each in lost] == ["scratch, 2"]
    assert "held still" in lost[0].reason


def test_a_cell_has_one_folder_whatever_the_others_are():
    def places(names):
        levels = [{"name": name, "epochs": k + 1} for k, name in enumerate(names)]
        return {c.name: c.place for c in cells_of(Study.from_flat(table="t.csv"), factors_of({"length": levels}))[0]}

    together = places(["β", "γ", "long one", "long-one", "Long one", "plain"])
    assert len({place.lower() for place in together.values()}) == 6
    assert together["plain"] == "plain"
    assert places(["γ"])["γ"] == together["γ"]
    assert places(["γ", "β"]) == {name: together[name] for name in ("γ", "β")}


def test_what_is_left_out_names_no_file_and_no_cell_of_the_table():
    error = InputError("the file cannot be read", given="/home/anna/smith.png", todo="look at it")
    assert _reason(error) == "the file cannot be read. Look at it."
    assert "anna" not in _reason(RuntimeError("cannot open /home/anna/smith.png"))


def test_what_a_grid_does_not_tell_is_refused_by_name(tmp_path):
    for field, more in (("net_benefit_at", {}), ("fixed", {}), ("prevalence", {}), ("decide", {"folds": "3"})):
        study = Study.from_flat(table="t.csv", **{field: "prior" if field == "decide" else 0.2}, **more)
        with pytest.raises(InputError, match=field):
            grid(study, {}, tmp_path / "g")
    assert not (tmp_path / "g").exists()


# -- whom the rule of disagreement is for, on tables -------------------------------------------------------------------


PERFECT = Readers()


def scored(skill: float, seed: int, names=("ill",)) -> Predictions:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(90)],
            "patient": [f"p{i}" for i in range(90)],
            "fold": [str(i % 3) for i in range(90)],
        }
    )
    for k, name in enumerate(names):
        ill = np.arange(90) // 3 % 2 == k % 2
        frame[f"label:{name}"], frame[f"p:{name}"] = (
            ill.astype(int),
            1 / (1 + np.exp(-skill * ill - rng.normal(size=90))),
        )
    if len(names) == 1:
        frame = frame.rename(columns={"label:ill": "label"}).replace({"label": {1: "ill", 0: "well"}})
    return Predictions.from_frame(frame, names if len(names) == 1 else ())


def asked_of(skills, readers=PERFECT, names=("ill",), folds=False):
    study, made, found = Study.from_flat(table="t.csv"), {}, {}
    context = RunContext(study, Path("none"))
    for place, (name, skill) in enumerate(skills.items()):
        table = scored(skill, place, names)
        cell = Cell(name, name, (name,), study)
        if folds:
            tuning = {str(k): scored(skill, 10 * place + k, names) for k in range(3)}
            made[cell] = Folded(table, tuning)
            found[name] = Judged(table, called_by_fold(study, made[cell]))
        else:
            made[cell], points = None, choose_thresholds(table)
            found[name] = Judged(table, called_at(table, points, ""), points)
    return _asked(context, made, found, readers)


def test_the_best_two_on_tuning_data_are_asked_with_folds_too():
    for folds in (False, True):
        asked, told = asked_of({"poor": 0.1, "good": 3.0, "fair": 1.5}, folds=folds)
        assert list(asked.called) == ["good", "fair"]
        assert told == []


def test_of_several_findings_the_one_that_is_told_is_named():
    asked, told = asked_of({"a": 1.0, "b": 2.0}, names=("mass", "fluid"))
    assert {c.of for c in asked.called.values()} == {"mass"}
    assert "mass alone" in told[0]
    other, none = asked_of({"a": 1.0, "b": 2.0}, Readers(finding="fluid"), names=("mass", "fluid"))
    assert {c.of for c in other.called.values()} == {"fluid"}
    assert none == []


def test_wrong_words_of_the_rule_are_refused(tmp_path):
    wrong = (
        (Readers(systems=("a",)), "two systems"),
        (Readers(finding="benin"), "finding that two"),
        (Readers(str(tmp_path / "none.csv")), "none.csv"),
    )
    for readers, match in wrong:
        with pytest.raises(OverreadError, match=match):
            asked_of({"a": 1.0, "b": 2.0}, readers)


def test_without_a_positive_class_there_is_nobody_to_ask():
    found = {name: Judged(scored(1.0, k)) for k, name in enumerate(("a", "b"))}
    asked, told = _asked(RunContext(Study.from_flat(table="t.csv"), Path("none")), {}, found, Readers())
    assert asked is None
    assert "--positive" in told[0]


def test_the_seed_can_be_varied_without_another_split():
    cells, _ = cells_of(Study.from_flat(table="t.csv", seed=1), factors_of({"seed": [1, 2]}))
    assert [cell.study.training.seed for cell in cells] == [1, 2]


def test_no_cell_at_all_is_the_error_of_the_first(phantom, tmp_path):
    study = replace(question(phantom))
    with pytest.raises(UnavailableError, match="weights"):
        grid(study, {"backbone": ["resnet18", "resnet34"]}, tmp_path / "g", network=False)
    with pytest.raises(ArgumentError, match="part"):
        grid(study, {}, tmp_path / "g", part="train")
    assert not (tmp_path / "g").exists()
