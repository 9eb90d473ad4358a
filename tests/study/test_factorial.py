"""A factorial on one table: the design, the cells, what is left out, and that it goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from overread.core.errors import ArgumentError, InputError, OverreadError, UnavailableError
from overread.evaluation.comparison.grid_result import ENSEMBLE, Grid
from overread.learning.predict import load_model
from overread.predictions import Predictions
from overread.study.factorial import Readers, cells_of, factors_of, grid, parse_vary
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
    own = [board.told(name, "auc", "malignant").value for name in places]
    assert board.told(ENSEMBLE, "auc", "malignant").value >= max(own), "on the data that chose the weights"


def test_called_again_nothing_is_trained_and_a_new_level_is_added(made, phantom):
    folder, board, _ = made
    weights = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
    assert len(weights) == 4
    more = {**VARY, "head": ["svm", "ridge", "nearest-mean"]}
    again = grid(question(phantom), more, folder, network=False)
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert len(list(folder.rglob("model.safetensors"))) == 6
    assert again.told("lbp, svm", "auc", "malignant") == board.told("lbp, svm", "auc", "malignant")


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
