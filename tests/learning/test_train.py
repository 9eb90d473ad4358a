"""Training from cases and a split, in Python, on a phantom cohort."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from overread import Recipe, choose_threshold, evaluate, predict, read_cases, split, train
from overread.core.errors import InputError, UnavailableError, UnsoundError
from overread.core.files import fingerprint
from overread.core.progress import Clock
from overread.learning.model import Model
from overread.networks import weights

SCRATCH = Recipe(method="scratch", backbone="cnn_small", epochs=1, image_size=32, batch_size=16, seed=1)


@pytest.fixture(scope="module")
def cohort(phantom):
    cases = read_cases(phantom, image="image", label="diagnosis", patient="patient", source="microscope")
    return cases, split(cases, test=0.2, tuning=0.2, seed=1)


def test_the_python_path_of_the_design(cohort, tmp_path) -> None:
    cases, parts = cohort
    model = train(cases, parts, SCRATCH.changed(epochs=2), threads=1, cache=tmp_path)
    tuning, test = (predict(model, cases.only(parts, part), threads=1) for part in ("tuning", "test"))
    point = choose_threshold(tuning, sensitivity=0.9)
    result = evaluate(test, at=point, by=("sex",))
    assert 0 <= result["auc", cases.target.positive[0]].value <= 1
    with pytest.raises(UnsoundError):
        evaluate(tuning, at=point)
    assert Model.load(model.save(tmp_path / "model")) == model
    assert len(model.history) == 2


def test_only_training_rows_teach_and_normalise(cohort, tmp_path) -> None:
    """Test images may say anything: the model does not change by a bit."""
    cases, parts = cohort
    first = train(cases, parts, SCRATCH, threads=1, cache=tmp_path)
    test = parts.rows(cases, "test")
    table = cases.table.copy()
    table.loc[test, "image"] = "missing.png"
    from dataclasses import replace

    second = train(replace(cases, table=table), parts, SCRATCH, threads=1, cache=tmp_path)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    )


def test_descriptors_alone_are_trained_on_as_the_recipe_asks(cohort, tmp_path) -> None:
    cases, parts = cohort
    recipe = Recipe(method="features", descriptors=("lbp", "colour"), image_size=24, penalties=(1e-2,))
    model = train(cases, parts, recipe, threads=1, cache=tmp_path)
    assert model.about.recipe.descriptors == ("lbp", "colour")


@pytest.mark.slow
def test_a_plan_is_kept_when_training_resumes(cohort, tmp_path) -> None:
    cases, parts = cohort
    recipe = Recipe(seed=1, backbone="cnn_small", epochs=1, image_size=24)

    def trained():
        return train(cases, parts, recipe, threads=1, cache=tmp_path / "cache", folder=tmp_path / "checkpoints",
                     clock=Clock(6000.0), network=False)  # fmt: skip

    trained()
    kept = json.loads((tmp_path / "checkpoints" / "plan.json").read_text())
    network = kept["plan"]["candidates"][-1]["recipe"]
    assert network["method"] == "scratch"
    network["label_smoothing"] = 0.25  # as if another machine had decided so
    kept["digest"] = fingerprint({name: value for name, value in kept.items() if name != "digest"})
    (tmp_path / "checkpoints" / "plan.json").write_text(json.dumps(kept))
    model = trained()
    assert 0.25 in {each.recipe.label_smoothing for each in (model.about, *model.about.members)}


@pytest.fixture(scope="module")
def go_on(cohort, tmp_path_factory):
    """``go_on(folder)`` trains, or goes on where a training in the folder stopped."""
    cases, parts = cohort
    recipe = Recipe(seed=1, backbone="cnn_small", epochs=1, method="scratch", image_size=24)
    cache = tmp_path_factory.mktemp("cache")
    return lambda folder: train(cases, parts, recipe, threads=1, cache=cache, folder=folder, network=False)


@pytest.fixture(scope="module")
def checkpoints(go_on, tmp_path_factory):
    """The checkpoints of a training, to copy."""
    folder = tmp_path_factory.mktemp("trained") / "checkpoints"
    go_on(folder)
    return folder


@pytest.mark.parametrize("damage", ["{}", "", '{"key": "x", "plan"', "[]", "a flipped bit", "another value", "FIFO"])
def test_a_damaged_plan_is_refused_and_its_checkpoints_stay(go_on, checkpoints, tmp_path, damage) -> None:
    """A checkpoint would go on by another plan. Once: a KeyError, or another training in silence."""
    folder = shutil.copytree(checkpoints, tmp_path / "checkpoints")
    before = (folder / "last.safetensors").read_bytes()
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").unlink()
    if damage == "FIFO":
        os.mkfifo(folder / "plan.json")
    else:
        changed = {
            "a flipped bit": text.replace("0.002", "0.003"),
            "another value": text.replace('"snapshot": "best"', '"snapshot": "last"'),
        }
        (folder / "plan.json").write_text(changed.get(damage, damage))
        assert changed.get(damage, damage) != text
    with pytest.raises(InputError, match="Delete the folder"):
        go_on(folder)
    assert (folder / "last.safetensors").read_bytes() == before


def test_decisions_and_time_are_said_before_anything_is_trained(cohort, tmp_path, monkeypatch) -> None:
    said = []
    monkeypatch.setattr(weights, "PACKAGES", ())  # few features to look at
    monkeypatch.setattr(
        "overread.learning.ladder.fit", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("now it trains"))
    )
    with pytest.raises(RuntimeError, match="now it trains"):
        train(*cohort, Recipe(epochs=2), cache=tmp_path, threads=1, network=False, say=said.append)
    for what in ("method", "backbone", "image size", "epochs", "time"):
        assert sum(line.strip().startswith(f"{what}: ") for line in said) == 1, (what, said)


def test_without_weights_features_say_the_way_around(cohort, tmp_path, monkeypatch) -> None:
    cases, parts = cohort
    monkeypatch.setattr(weights, "PACKAGES", ())
    monkeypatch.setattr(weights, "where", lambda: tmp_path / "store")
    monkeypatch.delenv("OVERREAD_WEIGHTS", raising=False)
    with pytest.raises(UnavailableError, match="scratch"):
        train(cases, parts, Recipe(method="features"), network=False, cache=tmp_path, threads=1)


def test_one_class_only_in_training_is_refused(cohort, tmp_path) -> None:
    cases, parts = cohort
    table = cases.table.assign(label=cases.target.names[0])
    from dataclasses import replace

    with pytest.raises(UnsoundError, match="one class only"):
        train(replace(cases, table=table), parts, SCRATCH, cache=tmp_path, threads=1)


@pytest.mark.parametrize("normalise", ["min-max", "z-score", "mean image", "channel mean"])
def test_every_normalisation_trains_and_is_saved(cohort, tmp_path, normalise) -> None:
    cases, parts = cohort
    model = train(cases, parts, SCRATCH.changed(normalise=normalise), threads=1, cache=tmp_path)
    again = Model.load(model.save(tmp_path / "m"))
    few = cases.only(parts, "test").take(np.arange(3))
    assert predict(again, few, threads=1) == predict(model, few, threads=1)
    assert (model.mean_image is not None) == (normalise == "mean image")


def test_checkpoints_of_another_split_teach_nothing(cohort, tmp_path) -> None:
    """The same folder, another split: without this, yesterday's training patients would be in today's weights."""
    cases, parts = cohort
    other = split(cases, test=0.2, tuning=0.2, seed=9)
    train(cases, parts, SCRATCH, threads=1, cache=tmp_path, folder=tmp_path / "checkpoints")
    second = train(cases, other, SCRATCH, threads=1, cache=tmp_path, folder=tmp_path / "checkpoints")
    assert second == train(cases, other, SCRATCH, threads=1, cache=tmp_path)
