"""Frozen features searched by folds of patients: descriptors and networks, layers, poolings, heads, penalties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from overread.cases.cases import Cases
from overread.cases.split import folds
from overread.images.descriptors import describe
from overread.images.preprocess import Preprocess
from overread.learning.ensemble import rescale
from overread.learning.fit import fit
from overread.learning.ladder import outputs_on
from overread.learning.linear_probe import FeatureRung, search_features
from overread.learning.loader import TrainingData
from overread.learning.model import Model
from overread.learning.predict import judge_on
from overread.learning.recipe import Recipe
from overread.tasks.target import Target

SIDE, PATIENTS = 40, 36
RECIPE = Recipe(
    method="features", normalise="channel mean and std", image_size=SIDE, folds=3, views=1, penalties=(1e-2, 1.0)
)
TARGET = Target("classes", ("stripes", "dots", "dark"))


def _data(target: Target = TARGET, *, volumes: bool = False) -> TrainingData:
    """Two images a patient, of stripes, of dots, or darker, under noise; three patients in four teach."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(PATIENTS), 2)
    kind = patient % len(target.names)
    images = rng.normal(110, 20, (len(patient), SIDE, SIDE))
    images[kind == 0] += 40 * np.sin(np.arange(SIDE) * 1.2)
    images[kind == 2] -= 25
    images = images.clip(0, 255).astype(np.uint8)
    size = (12, SIDE, SIDE) if volumes else (SIDE, SIDE)
    stack = np.repeat(images[:, None], 12, 1)[..., None] if volumes else np.repeat(images[..., None], 3, 3)
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(len(kind))], "case": [f"c{i}" for i in range(len(kind))],
                          "patient": [f"p{i}" for i in patient], "source": "", "view": "", "time": "", "split": "", "label": np.array(target.names)[kind]})  # fmt: skip
    cases = Cases(table, target)
    teaching = patient < PATIENTS * 3 // 4
    return TrainingData(cases, stack, tuple(f"{i:064x}" for i in range(len(kind))), Preprocess(size, 1 if volumes else 3),
                        np.flatnonzero(teaching), np.flatnonzero(~teaching))  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(squeezenet1_1(weights=None).state_dict(), folder / "squeezenet1_1_seeded.safetensors")
    return {"squeezenet1_1": str(folder)}


@pytest.fixture(scope="module")
def rungs(weights, tmp_path_factory) -> list[FeatureRung]:
    return search_features(_data(), RECIPE, weights, cache=tmp_path_factory.mktemp("cache"))


def test_the_best_comes_first_and_both_rungs_are_there(rungs) -> None:
    assert [rung.score for rung in rungs] == sorted((rung.score for rung in rungs), reverse=True)
    assert {rung.recipe.backbone for rung in rungs} == {"", "squeezenet1_1"}
    assert {rung.recipe.head for rung in rungs} == {"logistic", "svm", "ridge", "nearest-mean"}
    assert {rung.recipe.pooling for rung in rungs} == {"mean", "max", "both"}
    assert max(rung.score for rung in rungs if not rung.recipe.backbone) > 0.9
    assert len({rung.name for rung in rungs}) == len(rungs)
    assert not any(rung.recipe.open_fields for rung in rungs)


def _outputs(model: Model, data: TrainingData, rows: np.ndarray) -> np.ndarray:
    from overread.learning.device import to_tensor

    with torch.inference_mode():
        return model.network(to_tensor(data.images[rows], model.about.preprocess)).numpy()


@pytest.mark.parametrize("backbone", ["", "squeezenet1_1"])
@pytest.mark.parametrize("head", ["logistic", "svm", "ridge", "nearest-mean"])
def test_out_of_fold_outputs_are_those_of_models_that_did_not_see_the_patient(rungs, backbone, head) -> None:
    data = _data()
    rung = next(rung for rung in rungs if (rung.recipe.backbone, rung.recipe.head) == (backbone, head))
    fold = folds(data.cases.take(data.training), k=3, seed=0)
    held, rest = data.training[fold == 0], data.training[fold != 0]
    assert not set(data.cases.table["patient"].iloc[held]) & set(data.cases.table["patient"].iloc[rest])
    model = fit(data.on(rest, held), rung.recipe.changed(folds=2), weights=rung.weights or None)
    said, wanted = _outputs(model, data, held), rung.outputs[np.isin(rung.rows, held)]
    ranks = [np.corrcoef(said[:, k], wanted[:, k])[0, 1] for k in range(3)]
    assert min(ranks) > 0.99  # the weights of classes and the scale are those of other rows


def test_the_winner_becomes_a_model_that_loads_and_says_the_same(rungs, tmp_path) -> None:
    data = _data()
    for backbone in ("", "squeezenet1_1"):
        rung = next(rung for rung in rungs if rung.recipe.backbone == backbone)
        model = fit(data, rung.recipe, weights=rung.weights or None)
        again = Model.load(model.save(tmp_path / (backbone or "none")))
        assert again.digest == model.digest
        assert (_outputs(again, data, data.tuning) == _outputs(model, data, data.tuning)).all()
        judge = judge_on(
            data.images, data.tuning, torch.from_numpy(data.cases.labels), TARGET.task, model.about.preprocess
        )
        assert judge(model.network)["score"] > 0.85


def test_a_model_describes_the_pixels_of_the_pack() -> None:
    data = _data()
    model = fit(data, RECIPE.changed(descriptors=("lbp", "colour")))
    from overread.learning.device import to_tensor

    x = to_tensor(data.images[:5], model.about.preprocess)
    assert np.array_equal(model.network.features(x).numpy(), describe(data.images[:5], ("lbp", "colour")))
    assert model.about.backbone.name == "descriptors"


def test_descriptors_stand_beside_a_network(weights, tmp_path) -> None:
    data = _data()
    recipe = RECIPE.changed(backbone="squeezenet1_1", descriptors=("colour",), pooling="both")
    model = fit(data, recipe, weights=weights["squeezenet1_1"])
    assert model.network.width == 2 * 512 + describe(data.images[:1], ("colour",)).shape[1]
    again = Model.load(model.save(tmp_path))
    assert np.array_equal(_outputs(again, data, data.tuning), _outputs(model, data, data.tuning))


def test_volumes_have_descriptors_and_need_no_network(tmp_path) -> None:
    data = _data(volumes=True)
    rungs = search_features(data, RECIPE, {})
    assert rungs[0].score > 0.9
    model = fit(data, rungs[0].recipe)
    assert np.isfinite(_outputs(Model.load(model.save(tmp_path)), data, data.tuning)).all()


def test_the_search_resumes_from_its_cache(weights, tmp_path, monkeypatch) -> None:
    from overread.learning import linear_probe

    data = _data()
    first = search_features(data, RECIPE, weights, cache=tmp_path)
    monkeypatch.setattr(linear_probe, "_forward", lambda *_: pytest.fail("the features are in the cache"))
    again = search_features(data, RECIPE, weights, cache=tmp_path)
    assert [(rung.name, rung.score) for rung in again] == [(rung.name, rung.score) for rung in first]
    assert all(np.array_equal(a.outputs, b.outputs) for a, b in zip(first, again))


def test_the_tuning_rows_do_not_matter(weights) -> None:
    data = _data()
    cases = replace(data.cases, table=data.cases.table.assign(
        label=[label if i in set(data.training) else "dots" for i, label in enumerate(data.cases.table["label"])]))  # fmt: skip
    one, two = (search_features(each, RECIPE, {}) for each in (data, replace(data, cases=cases)))
    assert all(np.array_equal(a.outputs, b.outputs) for a, b in zip(one, two))


def test_what_is_drawn_alike_is_weighed_alike_by_a_head(weights) -> None:
    data = _data()
    uneven = data.on(np.concatenate([rows[: 4 + 4 * k] for k, rows in enumerate(
        data.training[data.cases.labels[data.training] == label] for label in range(3))]), data.tuning)  # fmt: skip
    drawn, weighed, plain = (search_features(uneven, RECIPE.changed(**fields), {}, heads=("logistic",)) for fields in (
        {"sampling": "balanced", "balance": 0.0}, {"balance": 1.0}, {"balance": 0.0}))  # fmt: skip
    assert all(np.array_equal(a.outputs, b.outputs) for a, b in zip(drawn, weighed))
    assert not np.array_equal(drawn[0].outputs, plain[0].outputs)


def test_one_patient_a_fold(weights) -> None:
    data = _data(Target("binary", ("stripes", "dots"), ("dots",)))
    few = data.on(data.training[:12], data.tuning)
    rungs = search_features(few, RECIPE.changed(folds=6), {})
    assert all(np.isfinite(rung.outputs).all() and len(rung.rows) == 12 for rung in rungs)


def test_with_little_time_some_patients_are_tried_and_it_is_said(weights, monkeypatch) -> None:
    from overread.learning import linear_probe

    data, said = _data(), []
    monkeypatch.setattr(linear_probe, "_FEWEST_PATIENTS", 2)
    slow = linear_probe._forward

    def forward(network, images, *rest):  # a machine that takes .05 s an image
        made = slow(network, images, *rest)
        clock.append(0.05 * len(images))
        return made

    clock: list[float] = []
    monkeypatch.setattr(linear_probe, "_forward", forward)
    monkeypatch.setattr(linear_probe.time, "monotonic", lambda: sum(clock))
    monkeypatch.setattr(linear_probe, "Clock", lambda limit: _Clock(limit, clock))
    rungs = search_features(data, RECIPE, weights, seconds=5.0, say=said.append)
    some = [rung for rung in rungs if not rung.recipe.backbone]
    assert 0 < len(some[0].rows) < len(data.training)  # 72 images take 3.6 s, half of the time is 2.5 s
    assert set(some[0].rows) < set(data.training)
    assert all(len(rung.outputs) == len(rung.rows) for rung in rungs)
    counts = [len(rung.rows) for rung in rungs]
    assert counts == sorted(counts, reverse=True)  # scores of different patients do not compare
    assert any("27 of 54" in line or " of 54 training images" in line for line in said)
    patients = data.cases.table["patient"]
    assert not set(patients.iloc[some[0].rows]) & set(patients.iloc[np.setdiff1d(data.training, some[0].rows)])


class _Clock:
    def __init__(self, limit: float, seconds: list[float]) -> None:
        self.limit, self.seconds = limit, seconds

    elapsed = property(lambda self: sum(self.seconds))
    left = property(lambda self: self.limit - sum(self.seconds))


def test_a_model_finds_the_features_of_the_search(weights, tmp_path, monkeypatch) -> None:
    from overread.learning import linear_probe

    data = _data()
    rungs = search_features(data, RECIPE, weights, cache=tmp_path, descriptors=False, heads=("ridge",))
    some = [rung for rung in rungs if rung.recipe.backbone][:3]
    fresh = [fit(data, rung.recipe, weights=rung.weights) for rung in some]
    monkeypatch.setattr(linear_probe, "_forward", lambda *_: pytest.fail("the search has kept these features"))
    for rung, model in zip(some, fresh):
        assert fit(data, rung.recipe, weights=rung.weights, cache=tmp_path).digest == model.digest


@pytest.mark.parametrize("views", [1, 2])
def test_a_model_is_judged_by_its_kept_features_as_by_its_images(weights, rungs, tmp_path, views) -> None:
    data, rung = _data(), next(rung for rung in rungs if rung.recipe.layers)
    model = fit(data, rung.recipe.changed(views=views), weights=rung.weights, cache=tmp_path)
    rescale(model.network, 1.7, np.full(model.target.outputs, 0.3))
    kept = outputs_on(model, data, data.tuning, cache=tmp_path)
    np.testing.assert_allclose(kept, outputs_on(model, data, data.tuning), atol=1e-4)
    blank = replace(data, images=np.zeros_like(data.images))  # nothing but the features is looked at
    np.testing.assert_array_equal(outputs_on(model, blank, data.tuning, cache=tmp_path), kept)


def test_features_less_a_mean_image_are_not_kept(weights, tmp_path) -> None:
    """Two splits of the same images have two mean images, which no key tells apart."""
    data = _data()
    data = replace(data, preprocess=replace(data.preprocess, normalise="mean image"))
    recipe = RECIPE.changed(backbone="squeezenet1_1", normalise="mean image")
    fit(data, recipe, weights=weights["squeezenet1_1"], cache=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
