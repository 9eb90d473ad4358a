"""Many trainings on one split: who is trained on, who is judged; real ones on a phantom cohort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overread.cases.annotators import Grades
from overread.cases.cases import Cases
from overread.cases.sources.read_cases import read_cases
from overread.cases.split import Split, split
from overread.core.errors import InputError, UnsoundError
from overread.distributed import repeated
from overread.distributed.repeated import (
    Trainings,
    recipe_again,
    train_each,
    trainings_by_grades,
    trainings_by_size,
    trainings_by_source,
)
from overread.learning.recipe import AUTO, Recipe

RECIPE = Recipe(method="scratch", backbone="cnn_small", epochs=1, image_size=32, batch_size=16, views=1)


@pytest.fixture(scope="module")
def cases(phantom) -> Cases:
    return read_cases(phantom, image="image", label="diagnosis", patient="patient", source="microscope", names="keep")


@pytest.fixture(scope="module")
def parts(cases) -> Split:
    return split(cases, test=0.2, tuning=0.2, seed=3)


def who(cases: Cases) -> set[str]:
    return set(cases.table["patient"])


def test_sizes_share_tuning_and_nest(cases, parts) -> None:
    trainings = trainings_by_size(cases, parts, ["40%", "100%", "5%"], repeats=2).all
    assert [(x.name, x.repeat) for x in trainings] == [("40%, repeat 1", 0), ("40%, repeat 2", 1), ("100%, repeat 1", 0), ("100%, repeat 2", 1)]  # fmt: skip
    assert len({x.tuning.digest for x in trainings}) == 1 == len({x.judged.digest for x in trainings})
    assert who(trainings[0].train) < who(trainings[2].train)
    assert who(trainings[0].train) != who(trainings[1].train)
    assert trainings[0].size == trainings[1].size
    assert len({x.digest for x in trainings}) == 4
    for x in trainings:
        assert not who(x.train) & who(x.judged)
        assert who(x.train) <= who(cases.only(parts, "train"))
    assert "5% of the training set is left out" in trainings_by_size(cases, parts, ["5%", "40%", "100%"]).notes[0]
    test = trainings_by_size(cases, parts, ["40%", "100%"], part="test").all[0]
    assert who(test.judged) == who(cases.only(parts, "test"))


@pytest.mark.parametrize("sizes", [["x", "100%"], ["0%", "100%"], ["120%"], ["2.5", "100%"], ["100%"], ["1%", "2%"]])
def test_wrong_sizes_are_told(cases, parts, sizes) -> None:
    with pytest.raises(InputError):
        trainings_by_size(cases, parts, sizes)


def test_sites_where_nobody_could_be_judged_are_refused_before_training(cases, parts) -> None:
    with pytest.raises(InputError, match="no source has 10 patients in the tuning part"):
        trainings_by_source(cases, parts)


def test_sources_teach_alone_and_without_one_and_never_who_is_judged(cases) -> None:
    parts = split(cases, test=0.1, tuning=0.5, seed=3)  # thirty patients of three sources: one has ten
    found = trainings_by_source(cases, parts)
    names = [x.name for x in found.all]
    sources = sorted(set(cases.table["source"]))
    assert set(names) <= {*sources, *(f"all but {s}" for s in sources)}
    untaught = [n for n in found.notes if n.startswith("no model is trained on ")]
    assert len(names) + len(untaught) == 6
    assert any("counted, not judged" in n for n in found.notes) == any(
        k < 10 for k in cases.only(parts, "tuning").table.groupby("source")["patient"].nunique()
    )
    for x in found.all:
        assert set(x.train.table["source"]) | set(x.tuning.table["source"]) <= set(x.sources)
        assert not (who(x.train) | who(x.tuning)) & who(x.judged)
        assert not who(x.train) & who(x.tuning)
        assert who(x.judged) == who(cases.only(parts, "tuning"))
    one = Cases(cases.table.assign(source="a"), cases.target, cases.root)
    with pytest.raises(InputError, match="two sources"):
        trainings_by_source(one, parts)


def test_fewer_grades_change_training_labels_only(cases, parts) -> None:
    rng = np.random.default_rng(0)
    names = list(cases.target.names)
    rows = [(c, f"r{r}", "", t if rng.random() < 0.7 else rng.choice(names))
            for c, t in zip(cases.table["case"], cases.table["label"], strict=True) for r in range(3)]  # fmt: skip
    grades = Grades(pd.DataFrame(rows, columns=["case", "reader", "modality", "label"]), "label")
    trainings = trainings_by_grades(cases, parts, grades, [1, 3], repeats=1).all
    one, three = (x.train.table.set_index("case")["label"] for x in trainings)
    truth = cases.table.set_index("case")["label"]
    assert (one == truth[one.index]).mean() < (three == truth[three.index]).mean() < 1
    for x in trainings:
        assert (x.judged.table["label"] == truth[x.judged.table["case"]].to_numpy()).all()
        assert (x.tuning.table["label"] == truth[x.tuning.table["case"]].to_numpy()).all()
    assert [x.size.value for x in trainings] == [1.0, 3.0]
    with pytest.raises(InputError, match="two numbers"):
        trainings_by_grades(cases, parts, grades, [2])


def test_trainings_are_kept_and_only_what_is_missing_is_trained_again(cases, parts, tmp_path, monkeypatch) -> None:
    trainings = trainings_by_size(cases, parts, ["40%", "100%"], repeats=1)
    heard: list[bool] = []

    def learn() -> list:
        heard.clear()
        return train_each(trainings, RECIPE, tmp_path / "steps", cache=tmp_path / "cache", threads=1, network=False,
                      done=lambda training, new: heard.append(new))  # fmt: skip

    first = learn()
    assert heard == [True, True]
    for training, predictions, model in first:
        assert set(predictions.table["case"]) == set(training.judged.table["case"])
        assert set(predictions.table["split"]) == {"tuning"}
        assert model
    assert first[0][2] != first[1][2]
    assert not [p for p in (tmp_path / "steps").iterdir() if p.is_dir()], "checkpoints are gone"
    made = sorted((tmp_path / "steps").glob("*.csv"))
    made[0].unlink()
    again = learn()
    assert sorted(heard) == [False, True]
    assert [p.digest for _, p, _ in again] == [p.digest for _, p, _ in first], "the same again, byte for byte"
    monkeypatch.setattr(repeated, "train", None)
    assert [p.digest for _, p, _ in learn()] == [p.digest for _, p, _ in first]


def test_a_judged_patient_among_the_teachers_is_refused(cases, parts, tmp_path) -> None:
    from dataclasses import replace

    training = trainings_by_size(cases, parts, ["40%", "100%"], repeats=1).all[1]
    for broken in (replace(training, judged=training.train.take(np.arange(5))),
                   replace(training, judged=training.tuning.take(np.arange(3)))):  # fmt: skip
        with pytest.raises(UnsoundError, match="judged"):
            train_each(Trainings((broken,)), RECIPE, tmp_path, network=False)
    assert not list(Path(tmp_path).glob("*.csv"))


def test_the_recipe_is_the_runs_own_and_frozen_features_where_it_was_left_open() -> None:
    tuned = Recipe(method="finetune", backbone="resnet18")
    assert recipe_again(AUTO, tuned, True).method == "features"
    assert recipe_again(tuned, tuned, True) == tuned
    assert recipe_again(AUTO, RECIPE, False) == RECIPE
