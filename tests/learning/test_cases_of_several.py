"""Cases of several images, from their batches to one prediction a case; phantoms whose signal only a fusion can see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from overread import Recipe, evaluate, predict, read_cases, split, train
from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import ArgumentError, InputError
from overread.images.augment import Augmentation
from overread.learning import fit as fitting
from overread.learning.loader import Batches, TrainingData, decode, samples_of
from overread.learning.model import Model
from overread.learning.predict import predict_images
from overread.synthetic import draw_cases

TINY = Recipe(method="scratch", backbone="lenet5", image_size=28, epochs=1, batch_size=16, learning_rate=2e-3, folds=2,
              precision="float32", seed=1)  # fmt: skip


def cohort_of(folder: Path, kind: str, patients: int) -> tuple[Cases, Split]:
    table = draw_cases(folder, kind=kind, patients=patients, seed=3)
    cases = read_cases(table, image="image", label="diagnosis", patient="patient", case="case", names="keep", positive=["diseased"],
                       **{role: role for role in (["time"] if kind == "growth" else ["view"])})  # fmt: skip
    return cases, split(cases, test=0.3, tuning=0.2, seed=1)


@pytest.fixture(scope="module")
def views(tmp_path_factory) -> tuple[Cases, Split]:
    return cohort_of(tmp_path_factory.mktemp("views"), "asymmetry", 30)


@pytest.fixture(scope="module")
def track(tmp_path_factory) -> tuple[Cases, Split]:
    return cohort_of(tmp_path_factory.mktemp("track"), "growth", 30)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def trained(cohort, cache, fusion: str, **fields) -> Model:
    said: list[str] = fields.pop("said", [])
    return train(*cohort, TINY.changed(fusion=fusion, **fields), cache=cache, threads=1, say=said.append)


def test_one_prediction_a_case_and_the_model_comes_back_whole(views, track, cache, tmp_path) -> None:
    for fusion in ("mean", "late", "concat", "stacked", "recurrent", "attention"):
        cohort = track if fusion == "recurrent" else views
        model, test = trained(cohort, cache, fusion), cohort[0].only(cohort[1], "test")
        made = predict(model, test, threads=1)
        assert list(made.table["case"]) == list(dict.fromkeys(test.table["case"]))
        assert np.allclose(made.scores.sum(axis=1), 1, atol=1e-6)
        again = Model.load(model.save(tmp_path / fusion))
        assert again == model
        assert predict(again, test, threads=1) == made
        if fusion == "concat":
            assert trained(cohort, cache, fusion) == model  # byte for byte
            assert model.about.views == ("left", "right")


@pytest.mark.slow
def test_an_ensemble_of_late_fusions_is_calibrated_as_any_other(views, cache) -> None:
    model = trained(views, cache, "late", members=2)
    made = predict(model, views[0].only(views[1], "test"), threads=1)
    assert len(model.about.members) == 2
    assert np.allclose(made.scores.sum(axis=1), 1, atol=1e-6)


def test_missing_and_unreadable_images_are_the_same_and_both_are_said(views, cache, tmp_path) -> None:
    cases, parts = views
    model, test = trained(views, cache, "concat"), cases.only(parts, "test")
    whole = predict(model, test, threads=1)
    lost = int(np.flatnonzero(test.table["view"] == "right")[0])
    name = test.table["case"][lost]
    said: list[str] = []
    less = predict(model, test.take(np.arange(len(test)) != lost), threads=1, say=said.append)
    assert said == [f"  1 of {len(whole)} cases lack views, which count as missing: right 1"]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    heard: list[str] = []
    table = test.table.assign(
        image=[str(broken) if i == lost else image for i, image in enumerate(test.table["image"])]
    )
    dark = predict(model, replace(test, table=table), threads=1, say=heard.append)
    assert heard == ["  1 image of 1 case cannot be read and count as missing"]
    at = {
        frame: dict(zip(made.table["case"], made.scores.tolist()))
        for frame, made in (("whole", whole), ("less", less), ("dark", dark))
    }
    assert at["less"] == at["dark"]
    assert at["less"][name] != at["whole"][name]
    assert {case: score for case, score in at["less"].items() if case != name} == {
        case: score for case, score in at["whole"].items() if case != name
    }
    alone = test.table.assign(
        image=[str(broken) if case == name else image for case, image in zip(test.table["case"], test.table["image"])]
    )
    left = predict(model, replace(test, table=alone), threads=1)
    assert set(whole.table["case"]) - set(left.table["case"]) == {name}


def test_a_view_that_training_never_saw_is_refused(views, cache) -> None:
    cases, parts = views
    model, test = trained(views, cache, "concat"), cases.only(parts, "test")
    with pytest.raises(InputError, match="does not know a view.*'oblique'"):
        predict(model, replace(test, table=test.table.assign(view=["oblique", *test.table["view"][1:]])))
    with pytest.raises(InputError, match="needs the view of every image"):
        predict(model, replace(test, table=test.table.assign(view="")))


@pytest.mark.parametrize(
    ("fusion", "change", "said"),
    [("concat", {"view": ""}, "--volumes views"),
     ("recurrent", {}, "--time"),
     ("mean", {"case": "image"}, "cases of several images.*--case")],
)  # fmt: skip
def test_a_fusion_that_cannot_be_is_refused_before_anything_is_decoded(views, tmp_path, fusion, change, said) -> None:
    cases, parts = views
    table = cases.table.assign(**{role: cases.table.get(value, value) for role, value in change.items()})
    if "case" in change:
        parts = split(replace(cases, table=table), test=0.3, tuning=0.2, seed=1)
    with pytest.raises(InputError, match=said):
        train(replace(cases, table=table), parts, TINY.changed(fusion=fusion), cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fusion", ["recurrent", "attention", "gated-attention"])
def test_a_fusion_is_learned_on_frozen_features_that_are_made_once(track, cache, fusion, tmp_path, monkeypatch) -> None:
    made: list[int] = []
    whole = fitting.extract
    monkeypatch.setattr(fitting, "extract", lambda body, images, *given, **named: made.append(len(images)) or whole(body, images, *given, **named))  # fmt: skip
    recipe = Recipe(method="features", descriptors=("lbp", "intensity"), image_size=28, fusion=fusion, epochs=4, seed=1)
    model = train(*track, recipe, cache=tmp_path, folder=tmp_path / "checkpoints", threads=1)
    assert made == [len(track[0].only(track[1], "train")) + len(track[0].only(track[1], "tuning"))]
    assert [row["epoch"] for row in model.history] == [1, 2, 3, 4]
    for folder in ("checkpoints", "anew"):
        assert train(*track, recipe, cache=tmp_path, folder=tmp_path / folder, threads=1).digest == model.digest
    assert Model.load(model.save(tmp_path / "model")).digest == model.digest
    test = track[0].only(track[1], "test")
    scores = predict(Model.load(tmp_path / "model"), test, threads=1).scores
    assert np.allclose(scores, predict(model, test, threads=1).scores)
    assert scores.std() > 0


def test_a_fusion_learned_on_frozen_features_sees_pixels_alone() -> None:
    with pytest.raises(ArgumentError, match="sees pixels alone"):
        Recipe(method="features", fusion="attention", extra_inputs=("age",))


def test_what_is_done_with_several_images_is_said(views, cache) -> None:
    said: list[str] = []
    model = trained(views, cache, "single", said=said)
    assert any("fusion: single" in line and "--fusion concat" in line for line in said)
    assert any(decision.what == "fusion" for decision in model.about.decisions)
    trained(views, cache, "concat", said=(heard := []))
    assert any("fusion: concat" in line and "left, right" in line for line in heard)


# -- batches ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(track, cache) -> TrainingData:
    cases, parts = track
    from overread.images.preprocess import Preprocess

    both = cases.take(np.sort(np.concatenate([parts.rows(cases, "train"), parts.rows(cases, "tuning")])))
    rows = parts.rows(both, "train"), parts.rows(both, "tuning")
    return decode(both, *rows, Preprocess(size=(28, 28), channels=1, mean=(0.0,), std=(1.0,)), cache)


def batches_of(data: TrainingData, augment_by: str = "case", **fields) -> Batches:
    samples = samples_of(data, TINY.changed(fusion="recurrent"))
    labels = torch.from_numpy(data.cases.labels[samples.first])
    usual = Augmentation(rotate=20, shift=0.1, brightness=0.2)
    return Batches(data.images, samples.training, labels, 6, data.preprocess, fields.pop("augmentation", usual), seed=2, threads=1,
                   cases=samples.cases, augment_by=augment_by)  # fmt: skip


def test_the_images_of_a_case_come_together_in_their_order(data) -> None:
    batches = batches_of(data, augmentation=Augmentation())
    seen = []
    for rows, x, y in batches.epoch(0):
        assert x.shape == (len(rows), 4, 1, 28, 28)
        assert torch.equal(y, batches.labels[torch.from_numpy(rows)])
        for row, images in zip(rows, x, strict=True):
            members = batches.cases[row]
            assert data.cases.table["case"].iloc[members].nunique() == 1
            assert data.cases.table["time"].iloc[members].is_monotonic_increasing
            np.testing.assert_allclose(images[:, 0].numpy(), data.images[members][..., 0] / 255, atol=1e-6)
        seen += list(rows)
    assert sorted(seen) == list(range(len(set(data.cases.table["case"].iloc[data.training]))))


def test_batches_of_cases_start_anywhere_with_the_same_images(data) -> None:
    batches = batches_of(data, augment_by="image")
    for (_, x, y), (_, x2, y2) in zip(list(batches.epoch(3))[1:], list(batches.epoch(3, 1)), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    other = replace(batches, rows=batches.rows[::-1][:9])  # another company
    held = {int(row): x for rows, xs, _ in batches.epoch(3) for row, x in zip(rows, xs)}
    assert all(torch.equal(held[int(row)], x) for rows, xs, _ in other.epoch(3) for row, x in zip(rows, xs))


@pytest.mark.parametrize("augment_by", ["case", "image"])
def test_augmentation_is_drawn_once_a_case_or_once_an_image(data, augment_by) -> None:
    """Of images that are all alike, those of one case stay alike where it is drawn once."""
    same = replace(data, images=np.broadcast_to(data.images[:1], data.images.shape))
    batches = batches_of(same, augment_by)
    for _, x, _ in batches.epoch(0):
        alike = [torch.equal(images[0], other) for images in x for other in images[1:]]
        assert all(alike) if augment_by == "case" else not any(alike)
        assert not torch.equal(x[0, 0], x[1, 0])  # cases differ


def test_noise_is_each_image_s_own(data) -> None:
    same = replace(data, images=np.full_like(data.images, 128))
    _, x, _ = next(batches_of(same, augmentation=Augmentation(noise=0.2)).epoch(0))
    assert not torch.equal(x[0, 0], x[0, 1])


def test_cases_of_different_numbers_of_images(tmp_path, cache) -> None:
    cohort = cohort_of(tmp_path, "lesion", 24)
    said: list[str] = []
    model = trained(cohort, cache, "attention", images_per_case=4, said=said)
    assert any("left out, evenly spaced" in line for line in said)
    heard: list[str] = []
    made = predict(model, cohort[0].only(cohort[1], "test"), threads=1, say=heard.append)
    assert "images_per_case=0 shows all" in heard[0]
    assert len(made) == len(set(cohort[0].only(cohort[1], "test").table["case"]))
    assert trained(cohort, cache, "attention").about.recipe.images_per_case == 0


def test_the_second_stage_learns_from_patients_that_the_classifiers_did_not(views, cache, monkeypatch) -> None:
    taught: list[set[str]] = []
    whole, asked = fitting._fit_network, fitting._said_by_views

    def fit_network(job, network, samples, folder):
        taught.append(set(job.data.cases.table["patient"].iloc[samples.first[samples.training]]))
        assert ((samples.cases >= 0).sum(axis=1) == 1).all()  # each view by its own classifier
        return whole(job, network, samples, folder)

    def said_by_views(job, network, samples, some):
        assert not taught[-1] & set(job.data.cases.table["patient"].iloc[samples.first[some]])
        return asked(job, network, samples, some)

    monkeypatch.setattr(fitting, "_fit_network", fit_network)
    monkeypatch.setattr(fitting, "_said_by_views", said_by_views)
    model = trained(views, cache, "stacked", folds=3)
    assert len(taught) == 4
    assert taught[-1] == set().union(*taught[:-1])  # the classifiers that stay
    assert any(decision.what == "second stage" for decision in model.about.decisions)
    assert len({tuple(sorted(each)) for each in taught}) == 4


def test_the_second_stage_weighs_classes_as_every_linear_head_does(views, cache, monkeypatch) -> None:
    weighed: list[float] = []
    whole = fitting.cross_validate

    def cross_validate(*given, weights, **named):
        weighed.extend(weights.tolist())
        return whole(*given, weights=weights, **named)

    monkeypatch.setattr(fitting, "cross_validate", cross_validate)
    cases, parts = views
    table, train = cases.table, set(cases.only(parts, "train").table["case"])
    left_out = table["case"].isin(train) & (table["label"] == "diseased") & (table["case"].str[-1].isin(list("02468")))
    trained((cases.take(~left_out.to_numpy()), parts), cache, "stacked", sampling="balanced", balance=0.0)
    assert weighed[0] != weighed[1]


@pytest.mark.parametrize("fusion", ["mean", "concat", "attention"])
def test_an_open_recipe_with_a_fusion_is_planned_without_what_sees_each_image_alone(views, cache, fusion) -> None:
    asked = Recipe(fusion=fusion, image_size=16, epochs=1, batch_size=8, backbone="cnn_small")
    model = train(*views, asked, cache=cache, threads=1, network=False)
    assert model.about.recipe.fusion == fusion
    assert model.about.recipe.method == "scratch"


# -- found by the right fusion, missed by others ------------------------------------------------------------------


def auc_of(cohort, cache, fusion: str, **fields) -> float:
    usual = {
        "backbone": "cnn_small",
        "augment": "none",
        "label_smoothing": 0.0,
        "learning_rate": 3e-3,
        "batch_size": 32,
    }
    model = trained(cohort, cache, fusion, **usual, **fields)
    return evaluate(predict(model, cohort[0].only(cohort[1], "test"), threads=1))["auc", "diseased"].value


def test_growth_is_found_by_following_it_in_time(tmp_path, cache) -> None:
    cohort = cohort_of(tmp_path, "growth", 100)
    assert auc_of(cohort, cache, "recurrent", epochs=8) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["single", "mean"])
def test_growth_is_missed_without_its_order(tmp_path, cache, fusion) -> None:
    assert 0.3 < auc_of(cohort_of(tmp_path, "growth", 200), cache, fusion, epochs=8) < 0.7


@pytest.mark.slow
def test_asymmetry_is_found_side_by_side_and_missed_by_each_view(tmp_path, cache) -> None:
    cohort = cohort_of(tmp_path, "asymmetry", 400)
    assert auc_of(cohort, cache, "concat", epochs=30) > 0.9
    for fusion in ("single", "stacked"):  # a second stage adds up what each view says: nothing
        assert 0.35 < auc_of(cohort, cache, fusion, epochs=6) < 0.65


@pytest.mark.slow
def test_a_lesion_in_one_of_many_slices_is_found_by_attention(tmp_path, cache) -> None:
    cohort = cohort_of(tmp_path, "lesion", 240)
    found = auc_of(cohort, cache, "attention", epochs=10)
    assert found > 0.9
    assert auc_of(cohort, cache, "single", epochs=10) < found  # not missed: a mean over slices ranks such cases, too


def test_the_images_themselves_say_nothing_of_asymmetry(tmp_path) -> None:
    """The mass of a side is as large in the diseased as in anybody: two samples of one distribution."""
    from scipy.stats import ks_2samp

    from overread.synthetic.several_images import _sizes

    sizes = {sick: np.array([_sizes("asymmetry", 0, i, sick) for i in range(2000)]) for sick in (False, True)}
    for side in (0, 1):
        assert ks_2samp(sizes[False][:, side], sizes[True][:, side]).pvalue > 0.01
    grown = [np.sort(_sizes("growth", 0, i, sick)) for i in range(50) for sick in (False, True)]
    assert np.array_equal(grown[::2], grown[1::2])
    assert (np.diff(_sizes("growth", 0, 1, True)) > 0).all()


def test_a_model_of_single_images_sees_them_as_before(views, cache) -> None:
    model, test = trained(views, cache, "single"), views[0].only(views[1], "test")
    values, _ = predict_images(model, test)
    mean = {case: values[test.table["case"] == case].mean(axis=0) for case in set(test.table["case"])}
    made = predict(model, test, threads=1)
    assert all(np.allclose(score, mean[case], atol=1e-6) for case, score in zip(made.table["case"], made.scores))
