"""The knobs of a recipe through ``fit``: each has its effect on the model, and what does not go together is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from overread.cases.cases import Cases
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.images.preprocess import Preprocess
from overread.learning.fit import fit
from overread.learning.loader import TrainingData
from overread.learning.model import initial_network
from overread.learning.preflight.range_test import half_fallen, range_test
from overread.learning.recipe import Recipe, refuse_unfit
from overread.networks.stages import stage_of, stages

RECIPE = Recipe(method="scratch", backbone="lenet5", image_size=28, epochs=2, batch_size=8, learning_rate=2e-3, views=1,
                normalise="channel mean and std", precision="float32", augment="none", seed=1)  # fmt: skip


def make_cases(folder: Path, columns: dict[str, list], **asked) -> Cases:
    table = folder / "table.csv"
    count = len(next(iter(columns.values())))
    for i in range(count):
        (folder / f"{i}.png").touch()
    rows = {
        "image": [f"{i}.png" for i in range(count)],
        "patient": [f"p{i}" for i in range(count)],
        "site": ["a", "b"] * (count // 2),
    }
    pd.DataFrame(rows | columns).to_csv(table, index=False)
    return read_cases(table, image="image", patient="patient", source="site", names="keep", **asked)


def make_data(cases: Cases) -> TrainingData:
    images = np.random.default_rng(0).integers(0, 255, (len(cases), 28, 28, 1)).astype(np.uint8)
    for row, answer in enumerate(cases.target.task.yes_or_no(cases.labels)[0]):
        images[row, 4 : 4 + 5 * len(answer)] |= (np.nan_to_num(answer).repeat(5)[:, None, None] * 255).astype(np.uint8)
    rows = np.arange(len(cases))
    return TrainingData(cases, images, ("",) * len(cases), Preprocess(size=(28, 28), channels=1), rows[:32], rows[32:])


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> TrainingData:
    cases = make_cases(tmp_path_factory.mktemp("classes"), {"label": list("aaabaabc" * 6)}, label="label")
    return make_data(cases)


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> TrainingData:
    x, y = [1, 0, 0, 1, "", 0] * 8, [0, 1, "", 1, 1, 0] * 8
    return make_data(make_cases(tmp_path_factory.mktemp("findings"), {"x": x, "y": y}, labels=["x", "y"]))


@pytest.fixture(scope="module")
def quantity(tmp_path_factory) -> TrainingData:
    values = np.random.default_rng(1).normal(size=48).tolist()
    return make_data(make_cases(tmp_path_factory.mktemp("quantity"), {"volume": values}, value="volume"))


def _weights(data: TrainingData, **fields) -> bytes:
    network = fit(data, RECIPE.changed(**fields), threads=1).network
    return b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())


@pytest.fixture(scope="module")
def usual(classes) -> bytes:
    return _weights(classes)


@pytest.mark.parametrize(
    "fields",
    [{"loss": "focal"}, {"loss": "mse"}, {"loss": "hinge"}, {"loss": "cumulative"}, {"optimizer": "sgd"},
     {"optimizer": "momentum"}, {"schedule": "one-cycle"}, {"schedule": "constant"}, {"sampling": "balanced"},
     {"mix": "mixup"}, {"mix": "cutmix"}, {"source_weights": {"a": 0.1}}, {"layer_decay": 0.5}],
    ids=str,
)  # fmt: skip
def test_every_knob_has_its_effect_and_the_same_one_each_time(classes, usual, fields) -> None:
    made = _weights(classes, **fields)
    assert made != usual
    assert made == _weights(classes, **fields)


def test_what_is_usual_needs_no_name(classes, usual) -> None:
    named = {
        "loss": "cross-entropy",
        "optimizer": "adamw",
        "schedule": "cosine",
        "source_weights": {"a": 1.0, "b": 1.0},
    }
    assert _weights(classes, **named) == usual


def test_findings_and_quantities_have_their_knobs(findings, quantity) -> None:
    for data, changes in ((findings, [{"loss": "focal"}, {"finding_weights": {"x": 3.0}}, {"sampling": "balanced"}, {"mix": "mixup"}]),
                          (quantity, [{"loss": "huber"}, {"source_weights": {"b": 0.2}}])):  # fmt: skip
        plain = _weights(data)
        for fields in changes:
            assert _weights(data, **fields) != plain, fields


def test_a_source_that_counts_nothing_may_say_anything(classes) -> None:
    """Training rows of source b with other labels leave the model as it was: they do not teach. Priors apart."""
    labels = classes.cases.labels.copy()
    rows = [r for r in classes.training if classes.cases.table["source"].iloc[r] == "b"]
    table = classes.cases.table.copy()
    table.loc[rows, "label"] = table.loc[rows[::-1], "label"].to_numpy()  # as many of each class
    other = replace(classes, cases=replace(classes.cases, table=table))
    assert (other.cases.labels != labels).any()
    fields = {"source_weights": {"b": 0.0}, "balance": 0.0}
    assert _weights(other, **fields) == _weights(classes, **fields)


def test_what_does_not_go_together_is_refused_before_anything_is_read(classes, findings, quantity) -> None:
    with pytest.raises(InputError, match=r"a quantity cannot be mixed.*Leave mix out"):
        refuse_unfit(quantity.cases, RECIPE.changed(mix="mixup"))
    with pytest.raises(ArgumentError, match="huber"):
        refuse_unfit(classes.cases, RECIPE.changed(loss="huber"))
    with pytest.raises(ArgumentError, match="hinge"):
        refuse_unfit(findings.cases, RECIPE.changed(loss="hinge"))
    with pytest.raises(ArgumentError, match="source_weights"):
        refuse_unfit(classes.cases, RECIPE.changed(source_weights={"c": 0.5}))
    with pytest.raises(ArgumentError, match="finding_weights"):
        refuse_unfit(findings.cases, RECIPE.changed(finding_weights={"z": 0.5}))
    with pytest.raises(ArgumentError, match="nothing to learn"):
        fit(classes, RECIPE.changed(source_weights={"a": 0.0, "b": 0.0}), threads=1)


# -- copied and drawn anew --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    tensors = squeezenet1_1(weights=None).state_dict()
    return Path(
        save_file(tensors, path := tmp_path_factory.mktemp("w") / "squeezenet1_1_seeded.safetensors") or path
    ), tensors


@pytest.mark.parametrize("fresh", [0, 2, 9])
def test_the_last_stages_are_drawn_anew_and_the_others_copied(published, fresh) -> None:
    path, tensors = published
    recipe = RECIPE.changed(method="finetune", backbone="squeezenet1_1", fresh=fresh)
    network, _ = initial_network(recipe, Preprocess(size=(32, 32), channels=3), 2, weights=path)
    drawn, _ = initial_network(recipe.changed(method="scratch", fresh=0), Preprocess(size=(32, 32), channels=3), 2)
    found = stages(network)
    for name, tensor in network.state_dict().items():
        if name.startswith("trunk"):
            wanted = (
                drawn.state_dict()[name] if stage_of(name, found) >= 9 - fresh else tensors[name.removeprefix("trunk.")]
            )
            assert torch.equal(tensor, wanted), name


def test_more_stages_than_there_are_is_refused_with_their_names(published) -> None:
    recipe = RECIPE.changed(method="finetune", backbone="squeezenet1_1", fresh=10)
    with pytest.raises(ArgumentError, match=r"fresh = 10 of 9.*features"):
        initial_network(recipe, Preprocess(size=(32, 32), channels=3), 2, weights=published[0])


def test_more_stages_held_still_than_there_are_is_refused_with_their_names(classes) -> None:
    """Else the head would be held still too, and nothing would learn."""
    body = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    body(torch.zeros(1, *classes.preprocess.size)[None])
    with pytest.raises(ArgumentError, match=r"held still.*frozen=9, fresh=0 of 2: body"):
        fit(classes, RECIPE.changed(method="finetune", frozen=9), network=body, threads=1)


def test_a_linear_head_says_what_it_does_not_use(published, tmp_path) -> None:
    cases = make_cases(tmp_path, {"label": list("abc" * 16)}, label="label")
    data = make_data(cases)
    wide = replace(data, images=data.images.repeat(3, axis=-1), preprocess=Preprocess(size=(28, 28), channels=3))
    recipe = RECIPE.changed(
        method="features",
        backbone="squeezenet1_1",
        loss="hinge",
        optimizer="sgd",
        weight_decay=0.0,
        penalties=(0.1,),
        folds=2,
    )
    heard: list[str] = []
    model = fit(wide, recipe, weights=published[0], cache=tmp_path, threads=1, say=heard.append)
    assert any("not used: loss, optimizer, weight_decay" in line for line in heard)
    assert model.about.decisions[-1].what == "not used"


# -- the range test of the learning rate ------------------------------------------------------------------------------


def test_the_suggested_rate_learns_and_its_neighbours_by_thousands_do_not(classes) -> None:
    found = range_test(classes, RECIPE, threads=1, low=1e-7, high=100.0, steps=60)
    assert found == range_test(classes, RECIPE, threads=1, low=1e-7, high=100.0, steps=60)
    assert 1e-5 < found.suggested < 0.3
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= 60
    assert found.losses[0] == pytest.approx(np.log(3), rel=0.3)


def test_numbers_beside_the_pixels_are_shown_in_the_range_test(tmp_path) -> None:
    columns = {"label": ["a", "b", "c"] * 16, "age": [float(i) for i in range(48)]}
    data = make_data(make_cases(tmp_path, columns, label="label", keep=["age"]))
    found = range_test(data, RECIPE.changed(extra_inputs=("age",)), threads=1, steps=12)
    assert found.losses != range_test(data, RECIPE, threads=1, steps=12).losses


def test_the_smoothed_loss_is_the_weighted_mean_of_those_before(classes) -> None:
    found = range_test(classes, RECIPE, threads=1, steps=12)
    for step, value in enumerate(found.smoothed):
        weights = 0.9 ** np.arange(step, -1, -1)
        assert value == pytest.approx(np.average(found.losses[: step + 1], weights=weights))


def test_nothing_is_left_behind(classes) -> None:
    before = torch.random.get_rng_state()
    range_test(classes, RECIPE, threads=1, steps=10)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_tested_is_said(classes) -> None:
    with pytest.raises(ArgumentError, match="without a learning rate"):
        range_test(classes, RECIPE.changed(method="features", backbone="resnet18", image_size=32))
    with pytest.raises(ArgumentError, match="leaves fields open"):
        range_test(classes, RECIPE.changed(epochs=0))
    with pytest.raises(UnsoundError, match="falls at no"):
        half_fallen(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
