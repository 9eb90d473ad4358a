"""From a file of weights to a model, end to end, on phantoms: weights are drawn here, so nothing is downloaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from torchvision.models import squeezenet1_1

from overread.cases.cases import Cases
from overread.cases.sources.read_cases import read_cases
from overread.cases.split import Split, split
from overread.core.errors import ArgumentError, UnavailableError, UnsoundError
from overread.core.identifiers import counted
from overread.core.progress import Clock
from overread.images.augment import Augmentation
from overread.images.preprocess import Preprocess
from overread.learning import auto
from overread.learning.fit import fit
from overread.learning.loader import TrainingData, decode
from overread.learning.predict import load_model, predict
from overread.learning.recipe import Recipe
from overread.learning.train import train
from overread.networks.backbones import BACKBONES
from overread.synthetic.cohort import draw_cohort

SIDE = 72
FEATURES = Recipe(method="features", backbone="squeezenet1_1", image_size=SIDE, folds=3, seed=4, penalties=(1e-2, 1e-1))
SCRATCH = Recipe(method="scratch", backbone="cnn_small", image_size=24, epochs=1, batch_size=16, learning_rate=2e-3,
                 normalise="channel mean and std", precision="float32", views=1, seed=1)  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[Cases, Split]:
    folder = tmp_path_factory.mktemp("cohort")
    table = draw_cohort(folder, patients=48, images_per_patient=(1, 2), size=SIDE, seed=5)
    cases = read_cases(table, image="image", label="diagnosis", patient="patient", source="microscope", names="keep")
    return cases, split(cases, test=0.2, tuning=0.2, seed=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with one file of "pretrained" weights: torchvision's own network, drawn from a seed."""
    folder = tmp_path_factory.mktemp("weights")
    save_file(published().state_dict(), folder / "squeezenet1_1_seeded.safetensors")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def features(cohort, weights, cache):
    return train(*cohort, FEATURES, weights=weights, cache=cache, threads=1, network=False)


def published() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return squeezenet1_1(weights=None).eval()


def features_by_hand(cases: Cases) -> np.ndarray:
    """Pillow, torchvision and nothing of ours: the mean over the image and its mirror image."""
    network = published().features
    pixels = np.stack([np.asarray(Image.open(Path(cases.root) / name).convert("RGB")) for name in cases.table["image"]])
    x = torch.from_numpy(pixels / 255.0).permute(0, 3, 1, 2)
    x = (
        (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    ).float()
    with torch.inference_mode():
        return (network(x).mean((2, 3)) / 2 + network(x.flip(3)).mean((2, 3)) / 2).numpy()


def test_features_equal_scikit_learn_on_features_extracted_by_hand(cohort, features) -> None:
    cases, parts = cohort
    teachers, asked = cases.only(parts, "train"), cases.only(parts, "test")
    known, unseen = features_by_hand(teachers), features_by_hand(asked)
    mean, std = known.mean(0), known.std(0) + 1e-4
    penalty = next(row["penalty"] for row in features.history if row["chosen"])
    # a softmax over two classes has its weights w / 2 and −w / 2: half the penalty of scikit-learn's one w
    oracle = LogisticRegression(C=2 / (penalty * len(known)), class_weight="balanced", max_iter=10_000, tol=1e-10)
    oracle.fit((known - mean) / std, teachers.labels)
    wanted = oracle.predict_proba((unseen - mean) / std)
    ours = predict(features, asked, threads=1).table[[f"p:{name}" for name in cases.target.names]].to_numpy()
    assert wanted[:, 1].std() > 0.02  # they do differ from case to case
    ours, wanted = (np.log(each[:, 1] / each[:, 0]) for each in (ours, wanted))
    slope, shift = np.polyfit(wanted, ours, 1)  # calibrated: over a temperature, the weights of the classes undone
    assert np.abs(slope * wanted + shift - ours).max() < 0.05
    calibration = next(d.choice for d in features.about.decisions if d.what == "calibration")
    assert slope == pytest.approx(1 / float(calibration.removeprefix("temperature ")), rel=0.02)
    counts = np.bincount(teachers.labels)
    assert shift == pytest.approx(np.log(counts[1] / counts[0]), abs=0.15)


def test_the_penalty_is_the_one_with_the_smallest_held_out_loss(features) -> None:
    assert [row["penalty"] for row in features.history] == list(FEATURES.penalties)
    losses = [row["held-out loss"] for row in features.history]
    assert [row["chosen"] for row in features.history] == [loss == min(losses) for loss in losses]


def test_a_model_says_where_its_weights_came_from_and_loads_without_them(cohort, features, weights, tmp_path) -> None:
    cases, parts = cohort
    origin = features.about.backbone
    assert origin.pretrained
    assert (origin.name, len(origin.weights_sha256)) == ("squeezenet1_1", 64)
    again, asked = load_model(features.save(tmp_path)), cases.only(parts, "test")
    assert predict(again, asked, threads=1) == predict(features, asked, threads=1)


def test_fine_tuning_starts_from_the_linear_head(cohort, weights, cache, tmp_path) -> None:
    """At a rate of nothing the fine-tuned model is the linear head on frozen features."""
    head = train(
        *cohort, FEATURES.changed(views=1, image_size=40), weights=weights, cache=cache, threads=1, network=False
    )
    still = Recipe(method="finetune", backbone="squeezenet1_1", image_size=40, epochs=1, learning_rate=2e-6, penalties=FEATURES.penalties,
                   weight_decay=0.0, folds=3, seed=4, views=1)  # fmt: skip
    tuned = train(*cohort, still, weights=weights, cache=cache, threads=1, network=False)
    assert torch.allclose(tuned.network.head.weight, head.network.head.weight, atol=1e-3)
    assert tuned.about.preprocess.mean == (0.485, 0.456, 0.406)
    moved = train(*cohort, still.changed(learning_rate=5e-4, augment="none"), weights=weights, cache=cache, folder=tmp_path / "checkpoints",
                  threads=1, network=False)  # fmt: skip
    assert [row["epoch"] for row in moved.history] == [1]
    snapshot = next(d.choice for d in moved.about.decisions if d.what == "snapshot")
    same = torch.allclose(moved.network.head.weight, head.network.head.weight, atol=1e-6)
    assert same == (snapshot == "the linear head before fine-tuning")


def test_auto_with_weights_few_patients_and_a_budget(cohort, weights, cache, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(auto, "preferred", lambda device: ("squeezenet1_1",))
    recipe = Recipe(seed=4, folds=3, views=1, penalties=FEATURES.penalties)
    model = train(*cohort, recipe, weights=weights, cache=cache, folder=tmp_path / "checkpoints", clock=Clock(600.0),
                  threads=1, network=False)  # fmt: skip
    reasons = {d.what: (d.choice, d.why) for d in model.about.decisions}
    assert reasons["method"][0] == "features"
    assert "patients in training: too few to move a network" in reasons["method"][1]
    assert all(each.recipe.open_fields == () for each in (model.about, *model.about.members))
    plan = json.loads((tmp_path / "checkpoints" / "plan.json").read_text())["plan"]
    assert {each["recipe"]["method"] for each in plan["candidates"]} == {"features"}
    assert "squeezenet1_1" in {each["recipe"]["backbone"] for each in plan["candidates"]}
    assert {each["recipe"]["image_size"] for each in plan["candidates"]} == {96}  # enlarged to what the network can use
    assert plan["facts"]["side"] == SIDE
    told = [d.what for d in model.about.decisions]
    assert [d["what"] for d in plan["decisions"]] == told[: len(plan["decisions"])]
    assert told[-1] == "calibration"


def test_auto_with_enough_patients_fine_tunes_within_the_budget(cohort, weights, cache, monkeypatch) -> None:
    monkeypatch.setattr(auto, "preferred", lambda device: ("squeezenet1_1",))
    monkeypatch.setattr(auto, "FEW_PATIENTS", 5)
    monkeypatch.setattr(
        auto, "make_probe", lambda facts, device, filters=1.0: lambda backbone, side, batch, precision: 60.0
    )
    recipe = Recipe(seed=4, folds=3, penalties=FEATURES.penalties, augment="none", epochs=2)
    model = train(
        *cohort, recipe, weights=weights, cache=cache, clock=Clock(90.0), reserve=88.0, threads=1, network=False
    )
    decisions = [(d.what, d.choice, d.why) for d in model.about.decisions]
    assert decisions[0][:2] == ("method", "finetune")
    assert ("image size", "96") in [d[:2] for d in decisions]
    assert any(what == "epochs" and "s are left for training" in why for what, _, why in decisions)
    assert "ladder" in {what for what, _, _ in decisions}
    assert model.history  # one epoch at least is begun


def test_auto_without_weights_trains_a_small_network(cohort, cache, monkeypatch) -> None:
    monkeypatch.setattr(auto.stores, "find", lambda name, folder=None: None)
    model = train(*cohort, Recipe(epochs=1, image_size=24), cache=cache, threads=1, network=False)
    reasons = {d.what: (d.choice, d.why) for d in model.about.decisions}
    assert reasons["method"] == ("scratch", reasons["method"][1])
    assert "no pretrained weights" in reasons["method"][1]
    assert not model.about.backbone.pretrained
    assert any("resnet_small" in rung.what for rung in model.rungs)


@pytest.mark.parametrize("method", ["features", "finetune"])
def test_nothing_is_trained_on_random_weights_in_the_place_of_pretrained_ones(cohort, cache, data, method) -> None:
    recipe = FEATURES.changed(method=method, backbone="resnet18")
    with pytest.raises(UnavailableError, match="pretrained weights of resnet18"):
        train(*cohort, recipe, cache=cache, threads=1, network=False)
    settled = recipe.changed(epochs=1, batch_size=8, learning_rate=1e-3, normalise="z-score", precision="float32")
    with pytest.raises(UnavailableError, match="pretrained weights of resnet18"):
        fit(data, settled)


def test_a_network_is_fed_by_its_own_mean_and_deviation(data, weights, monkeypatch) -> None:
    """Not by ImageNet's: a row with other numbers, and the features that the head was fitted on, made by hand."""
    monkeypatch.setitem(
        BACKBONES, "squeezenet1_1", replace(BACKBONES["squeezenet1_1"], mean=(0.5,) * 3, std=(0.5,) * 3)
    )
    recipe = FEATURES.changed(image_size=24, normalise="channel mean and std", views=1, layers=())
    model = fit(data, recipe, weights=weights)
    assert (model.about.preprocess.mean, model.about.preprocess.std) == ((0.5,) * 3, (0.5,) * 3)
    x = torch.from_numpy(data.images[data.training] / 127.5 - 1).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        features = published().features(x).mean((2, 3)).numpy()
    penalty = next(row["penalty"] for row in model.history if row["chosen"])
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-4)
    oracle = LogisticRegression(C=2 / (penalty * len(x)), class_weight="balanced", max_iter=10_000, tol=1e-10)
    wanted = oracle.fit(scaled, data.cases.labels[data.training]).decision_function(scaled)
    head = model.network.head
    outputs = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    assert np.abs(outputs[:, 1] - outputs[:, 0] - wanted).max() < 0.05


# -- fit alone -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(cohort, cache) -> TrainingData:
    cases, parts = cohort
    return decode(
        cases, parts.rows(cases, "train"), parts.rows(cases, "tuning"), Preprocess(size=(24, 24)), cache, threads=1
    )


def test_fit_repeats_itself_and_touches_no_argument(data) -> None:
    before = (data.images.tobytes(), data.cases.digest, data.training.tolist(), SCRATCH)
    with torch.random.fork_rng():
        first = fit(data, SCRATCH)
        torch.manual_seed(99)  # the generator of the process is of no account
        second = fit(data, SCRATCH)
    assert first == second
    assert (data.images.tobytes(), data.cases.digest, data.training.tolist(), SCRATCH) == before


def test_a_fit_on_some_rows_sees_no_other(data) -> None:
    some = data.on(data.training[::2], data.tuning[::2])
    model = fit(some, SCRATCH)
    used = np.union1d(some.training, some.tuning)
    blank = np.array(data.images)
    blank[np.setdiff1d(np.arange(len(blank)), used)] = 255
    assert fit(replace(some, images=blank), SCRATCH) == model
    patients = set(data.cases.table["patient"].iloc[used])
    assert counted(model.about.seen) == len(patients)
    assert model.has_seen(sorted(patients)) == len(patients)
    assert model != fit(data, SCRATCH)


def test_members_of_an_ensemble_differ_and_share_the_decoded_images(data, monkeypatch) -> None:
    monkeypatch.setattr("overread.learning.loader.pack", None)
    members = [fit(data, SCRATCH.changed(seed=seed, augmentation=Augmentation())) for seed in (1, 2)]
    assert not torch.equal(members[0].network.head.weight, members[1].network.head.weight)


def test_an_open_recipe_and_wrong_rows_are_refused(data) -> None:
    with pytest.raises(ArgumentError, match=r"epochs.*plan"):
        fit(data, SCRATCH.changed(epochs=0))
    with pytest.raises(ArgumentError, match="both teach and tune"):
        data.on(data.training, data.training)
    with pytest.raises(ArgumentError, match="rows for training and for tuning"):
        data.on(data.training, data.tuning[:0])
    labels = data.cases.labels
    with pytest.raises(UnsoundError, match="one class only"):
        fit(data.on(data.training[labels[data.training] == 0], data.tuning), SCRATCH)
