"""Several networks as one, and calibrated outputs, against slow restatements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit, softmax

from overread.core.errors import ArgumentError
from overread.images.preprocess import Preprocess
from overread.learning.device import standardise
from overread.learning.ensemble import OFFSETS, calibration_of, rescale, shared_preprocess
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.tasks.classes import Binary, Classes
from overread.tasks.findings import Findings
from overread.tasks.target import Target

TARGET = Target("binary", ("well", "ill"), ("ill",))


def a_model(seed: int, mean: float = 0.5, side: int = 28, **fields) -> Model:
    torch.manual_seed(seed)
    recipe = Recipe(method="scratch", backbone="lenet5", image_size=side, views=1, normalise="channel mean and std")
    preprocess = Preprocess(size=(side, side), channels=1, normalise="channel mean and std", mean=(mean,), std=(0.1 + mean / 2,))  # fmt: skip
    about = replace(About(recipe, preprocess, TARGET, Origin("lenet5", 61_110, licence=f"licence {seed}")), **fields)
    return Model(make_network(about).eval(), about)


def together(models, shares, **fields) -> Model:
    return Model.of_members(models, shares, replace(models[0].about, **fields))


def test_an_ensemble_says_the_mean_of_what_its_members_say_of_their_own_images() -> None:
    models = [a_model(0, 0.5), a_model(1, 0.3), a_model(2, 0.2)]
    whole = together(models, (0.5, 0.25, 0.25))
    pixels = torch.rand(4, 1, 28, 28)
    with torch.inference_mode():
        said = whole.network(standardise(pixels, whole.about.preprocess))
        each = [model.network(standardise(pixels, model.about.preprocess)) for model in models]
        features = whole.network.features(standardise(pixels, whole.about.preprocess))
    np.testing.assert_allclose(said, 0.5 * each[0] + 0.25 * each[1] + 0.25 * each[2], atol=1e-5)
    assert features.shape == (4, 3 * 84)


def test_members_of_a_smaller_size_get_smaller_images() -> None:
    models = [a_model(0, side=28), a_model(1, side=56)]
    whole = together(models, (0.5, 0.5))
    assert whole.about.preprocess.size == (56, 56)
    small = torch.rand(2, 1, 28, 28)
    pixels = small.repeat_interleave(2, -1).repeat_interleave(2, -2)  # an average over blocks gives the small one back
    with torch.inference_mode():
        x = standardise(pixels, whole.about.preprocess)
        said, large = whole.network(x), models[1].network(x)
        own = models[0].network(standardise(small, models[0].about.preprocess))
    np.testing.assert_allclose(said, (own + large) / 2, atol=0.02)


def test_it_is_saved_and_loaded_like_any_model(tmp_path) -> None:
    whole = together([a_model(0), a_model(1, 0.3)], (0.75, 0.25), seen=("aa",), salt="s")
    again = Model.load(whole.save(tmp_path))
    assert again == whole
    assert again.about.shares == (0.75, 0.25)
    assert again.about.seen == ("aa",)
    assert "lenet5" in again.about.backbone.name
    assert again.about.backbone.licence == "licence 0; licence 1"
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(again.network(x), whole.network(x))


def test_one_member_is_no_ensemble() -> None:
    models = [a_model(0), a_model(1)]
    alone = together(models, (0.0, 1.0), salt="s")
    assert alone.network is models[1].network
    assert not alone.about.members
    assert alone.about.salt == "s"


@pytest.mark.parametrize("other", [{"normalise": "mean image"}, {"bits": 16}, {"fit": "pad"}, {"channels": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3}])  # fmt: skip
def test_images_that_cannot_be_made_of_one_another_are_refused(other) -> None:
    one = a_model(0).about.preprocess
    with pytest.raises(ArgumentError, match="different ways"):
        shared_preprocess([one, replace(one, **other)])


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_a_temperature_is_found_again(true) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (20_000, 3))
    chance = softmax(logits, axis=1)
    labels = (rng.random(20_000)[:, None] > chance.cumsum(axis=1)).sum(axis=1)
    offsets = np.array([0.4, -0.5, 0.1])
    found, moved = calibration_of(Classes(("a", "b", "c")), (logits - offsets) * true, labels, np.zeros(3))
    assert found == pytest.approx(true, rel=0.05)
    assert moved == pytest.approx(offsets, abs=0.07)


def test_the_temperature_minimises_the_likelihood_of_findings_with_a_shift_and_blanks() -> None:
    rng = np.random.default_rng(2)
    outputs = rng.normal(0, 3, (4000, 2))
    shift = np.array([1.0, -0.5])
    labels = (rng.random((4000, 2)) < expit(outputs / 2 + shift)).astype(float)
    labels[::3, 0] = np.nan
    found, offsets = calibration_of(Findings(("x", "y")), outputs, labels, shift)

    def loss(parameters):
        p = expit(outputs / parameters[0] + shift + parameters[1:])
        each = -np.where(np.isnan(labels), np.nan, labels * np.log(p) + (1 - labels) * np.log(1 - p))
        return np.nanmean(each) + (np.square(parameters[1:]).sum()) / (2 * OFFSETS**2 * (~np.isnan(labels)).sum())

    slow = minimize(loss, [1.0, 0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-10})
    assert [found, *offsets] == pytest.approx(slow.x, abs=0.01)


def test_the_offset_of_a_rare_class_hardly_moves_and_that_of_an_absent_one_stays_finite() -> None:
    """Thirty cases of three classes, of which one has a single case and one none: chances as common as they are."""
    labels = np.array([0] * 29 + [1])
    temperature, offsets = calibration_of(Classes(("a", "b", "c")), np.zeros((30, 3)), labels, np.zeros(3))
    assert np.isfinite([temperature, *offsets]).all()
    assert offsets[0] > offsets[1] > offsets[2] > -3 * OFFSETS
    assert np.abs(offsets.sum()) < 0.05
    aside = np.array([[0.0, np.log(3)]] * 400)  # a training under weights: 75 % where 40 % are ill
    ill = np.arange(400) % 5 < 2
    temperature, offsets = calibration_of(Binary(("no", "yes")), aside, ill.astype(int), np.zeros(2))
    chance = softmax(aside[0] / temperature + offsets)[1]
    assert chance == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("labels", [np.zeros(200, int), np.arange(10) % 2, np.full(100, -1)])
def test_too_little_is_known_for_a_temperature(labels) -> None:
    outputs = np.random.default_rng(0).normal(size=(len(labels), 2))
    temperature, offsets = calibration_of(Binary(("a", "b")), outputs, labels, np.zeros(2))
    assert (temperature, offsets.tolist()) == (1.0, [0.0, 0.0])


def test_a_rescaled_model_says_what_was_asked_alone_and_in_an_ensemble() -> None:
    shift = np.array([0.3, -0.7])
    models = [a_model(0), a_model(1, 0.3)]
    whole = together(models, (0.5, 0.5))
    x = torch.rand(3, 1, 28, 28)
    with torch.inference_mode():
        before = whole.network(x).numpy().copy()
        rescale(whole.network, 2.0, shift)
        np.testing.assert_allclose(whole.network(x), before / 2 + shift, atol=1e-5)
        alone = a_model(5)
        before = alone.network(x).numpy().copy()
        rescale(alone.network, 0.5, shift)
        np.testing.assert_allclose(alone.network(x), before / 0.5 + shift, atol=1e-5)
    with pytest.raises(ArgumentError, match="no linear head"):
        rescale(torch.nn.Flatten(), 2.0, shift)


@pytest.mark.parametrize("shares", [(0.5,), (0.5, 0.0), (0.5, -0.1)])
def test_shares_that_do_not_fit_are_refused(shares) -> None:
    about = a_model(0).about
    with pytest.raises(ArgumentError, match="share above 0"):
        replace(about, members=(about, about), shares=shares)
