"""A training of ours is looked at before it begins: each fault injected once, and nothing of the training changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from overread import Model, Recipe, predict, read_cases, split, train
from overread.core.errors import InputError, UnsoundError
from overread.core.progress import Clock
from overread.images.augment import Augmentation
from overread.images.preprocess import Preprocess
from overread.learning import train as training_module
from overread.learning.fit import fit
from overread.learning.loader import Batches, TrainingData
from overread.learning.preflight import rehearsal
from overread.learning.preflight.rehearsal import rehearse

SCRATCH = Recipe(method="scratch", backbone="cnn_small", epochs=1, image_size=32, batch_size=16, seed=1, normalise="channel mean and std",
                 learning_rate=2e-3, precision="float32")  # fmt: skip


@pytest.fixture(scope="module")
def cohort(phantom):
    cases = read_cases(phantom, image="image", label="diagnosis", patient="patient", source="microscope")
    return cases, split(cases, test=0.2, tuning=0.2, seed=1)


@pytest.fixture(scope="module")
def data(cohort) -> TrainingData:
    cases, parts = cohort
    rng = np.random.Generator(np.random.Philox(key=1))
    images = rng.integers(0, 255, (len(cases), 32, 32, 3), dtype=np.uint8)
    rows = parts.rows(cases, "train"), parts.rows(cases, "tuning")
    return TrainingData(cases, images, ("",) * len(cases), preprocess_of(32), *rows)


def preprocess_of(side: int) -> Preprocess:
    return Preprocess(size=(side, side), channels=3)


class Mine(nn.Module):
    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


class Restless(Mine):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.dropout(x, 0.5))


def test_a_sound_training_passes_with_a_forecast(data) -> None:
    found = rehearse(data, SCRATCH, threads=1, seconds=30)
    assert found.sound, found
    assert found.forecast.step > 0
    assert found.forecast.memory > 94_186 * 4 * 6
    assert "one batch" in found.lines[0]
    assert "memory" in found.lines[0]


@pytest.mark.parametrize(
    ("kind", "recipe", "change"),
    [
        ("learning-rate", SCRATCH.changed(learning_rate=1e-7), {}),
        ("learning-rate", SCRATCH.changed(learning_rate=9.0), {}),
        ("batch-of-one", SCRATCH.changed(batch_size=1, backbone="resnet_tiny"), {}),
        ("constant", SCRATCH, {"images": "black"}),
        ("same-patient", SCRATCH, {"patient": "one"}),
    ],
)
def test_a_fault_of_a_training_is_found(data, kind, recipe, change) -> None:
    if "images" in change:
        data = replace(data, images=np.full_like(data.images, 7))
    if "patient" in change:
        table = data.cases.table.copy()
        table.loc[[data.training[0], data.tuning[0]], "patient"] = "x"
        data = replace(data, cases=replace(data.cases, table=table))
    assert rehearse(data, recipe, threads=1).of(kind).severity == "error"


def test_labels_of_other_rows_after_a_shuffle_are_found(data, monkeypatch) -> None:
    right = Batches._load

    def wrong(self, *given):
        rows, x, y = right(self, *given)
        return rows, x, y.roll(1)

    monkeypatch.setattr(Batches, "_load", wrong)
    assert "labels of" in rehearse(data, SCRATCH, threads=1).of("alignment").found


def test_augmented_or_restless_judging_is_found(data, monkeypatch) -> None:
    assert rehearse(data, SCRATCH, network=Restless(), threads=1).of("eval-mode") is not None
    losses = iter(range(100))
    monkeypatch.setattr(rehearsal, "judge_on", lambda *_, **__: lambda network: {"loss": float(next(losses))})
    assert rehearse(data, SCRATCH, threads=1).of("validation") is not None


def test_memory_and_time_that_will_not_suffice_are_said(data, monkeypatch) -> None:
    monkeypatch.setattr(rehearsal, "memory_left", lambda device: 1e6)
    found = rehearse(data, SCRATCH.changed(epochs=1000), threads=1, left=1.0)
    assert {fault.kind for fault in found} == {"memory", "time"}
    assert all(fault.severity == "warning" for fault in found)
    assert "1000 epochs" in found.of("time").found.replace(",", "")


def test_training_never_notices_the_rehearsal(data) -> None:
    state = torch.get_rng_state()
    recipe = SCRATCH.changed(augmentation=Augmentation(rotate=20, noise=0.05), augment="given")
    alone = fit(data, recipe, threads=1)
    rehearse(data, recipe, threads=1)
    assert torch.equal(state, torch.get_rng_state())
    assert fit(data, recipe, threads=1) == alone


def test_train_stops_with_the_fix_and_says_what_it_measured(cohort, tmp_path) -> None:
    cases, parts = cohort
    with pytest.raises(UnsoundError, match="learning rate is far too small.*usual are"):
        train(cases, parts, SCRATCH.changed(learning_rate=1e-7), threads=1, cache=tmp_path)
    heard: list[str] = []
    train(cases, parts, SCRATCH, threads=1, cache=tmp_path, say=heard.append)
    assert [line for line in heard if line.startswith("  pre-flight: first loss")]


def test_a_training_that_goes_on_is_not_looked_at_again(cohort, tmp_path, monkeypatch) -> None:
    cases, parts = cohort
    calls: list[int] = []
    real = training_module.rehearse
    monkeypatch.setattr(training_module, "rehearse", lambda *a, **k: (calls.append(1), real(*a, **k))[1])
    for _ in range(2):
        train(cases, parts, SCRATCH, threads=1, cache=tmp_path / "c", folder=tmp_path / "f", clock=Clock())
    assert len(calls) == 1


# -- a network of one's own -----------------------------------------------------------------------------------------


def test_ones_own_network_learns_in_our_loop_and_is_loaded_only_when_given_again(cohort, tmp_path) -> None:
    cases, parts = cohort
    mine = Mine()
    before = [p.clone() for p in mine.parameters()]
    recipe = Recipe(epochs=2, image_size=32, seed=1)
    model = train(cases, parts, recipe, network=mine, threads=1, cache=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), before, strict=True)), "a copy is trained"
    assert not torch.equal(model.network.body.head.weight, mine.head.weight)
    assert len(model.history) == 2
    assert model == train(cases, parts, recipe, network=mine, threads=1, cache=tmp_path)
    model.save(tmp_path / "model")
    assert "Mine" in (tmp_path / "model" / "model.json").read_text()
    again = Model.load(tmp_path / "model", network=Mine())
    assert again == model
    test = cases.only(parts, "test")
    assert predict(again, test, threads=1).table.equals(predict(model, test, threads=1).table)
    with pytest.raises(InputError, match=r"has to be given again.*Model.load\(folder, network=Mine"):
        Model.load(tmp_path / "model")
    with pytest.raises(InputError, match="another class"):
        Model.load(tmp_path / "model", network=nn.Linear(2, 2))
    with pytest.raises(InputError, match="do not fit"):
        Model.load(tmp_path / "model", network=Mine(outputs=5))


def test_ones_own_network_starts_from_the_weights_that_it_brings(cohort, tmp_path) -> None:
    cases, parts = cohort
    recipe = Recipe(epochs=1, image_size=32, seed=1)
    first, second = Mine(), Mine()
    with torch.no_grad():
        second.conv.weight.mul_(2)
    made = [train(cases, parts, recipe, network=each, threads=1, cache=tmp_path).digest for each in (first, second)]
    assert made[0] != made[1]


@pytest.mark.parametrize(
    ("network", "recipe", "message"),
    [
        (Mine(outputs=5), Recipe(epochs=1, image_size=32), "5 outputs for 2 classes"),
        (nn.Sequential(nn.Flatten(), nn.Conv2d(3, 4, 3)), Recipe(epochs=1, image_size=32), "flattened before a convolution"),
        (Mine(), Recipe(backbone="lenet5"), "no backbone of the recipe"),
        (Mine(), Recipe(method="features"), "no method of the recipe"),
    ],
)  # fmt: skip
def test_a_wrong_network_of_ones_own_is_refused_before_it_learns(cohort, tmp_path, network, recipe, message) -> None:
    cases, parts = cohort
    with pytest.raises((InputError, UnsoundError), match=message):
        train(cases, parts, recipe, network=network, threads=1, cache=tmp_path)


def test_a_model_of_ours_takes_no_network(data, tmp_path) -> None:
    fit(data, SCRATCH, threads=1).save(tmp_path)
    with pytest.raises(InputError, match="no network of your own"):
        Model.load(tmp_path, network=Mine())


def test_the_first_loss_of_a_fine_tuning_is_no_fault_for_its_head_is_fitted_first(data, monkeypatch) -> None:
    """A head of large weights, as one that is drawn on features that were never normalised behaves."""
    real = rehearsal.initial_network

    def loud(recipe, *others, **named):
        network, origin = real(recipe.changed(method="scratch"), *others, **named | {"weights": None})
        with torch.no_grad():
            network.head.weight.mul_(3000)
        return network, origin

    monkeypatch.setattr(rehearsal, "initial_network", loud)
    kinds = {
        method: {
            fault.kind
            for fault in rehearse(
                data, SCRATCH.changed(method=method, backbone="squeezenet1_1"), threads=1, seconds=30
            ).faults
        }
        for method in ("scratch", "finetune")
    }
    assert "first-loss" in kinds["scratch"]
    assert "first-loss" not in kinds["finetune"]
