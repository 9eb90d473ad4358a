"""The mean over images: against numpy, and its simulated coverage."""

import math

import numpy as np
import pytest

from overread.stats.regression import mean_over_images


def test_the_mean_is_that_of_numpy_and_what_has_none_is_counted():
    values = [0.2, math.nan, 0.6, math.inf, 0.7]
    found = mean_over_images("dice", values, list("aabbc"))
    assert found.value == pytest.approx(0.5)
    assert (found.images, found.patients) == (3, 3)
    assert "2 without a value left out" in found.method
    assert mean_over_images("dice", [math.nan]).undefined == "undefined for every image"
    assert mean_over_images("dice", []).undefined == "no images"
    assert math.isnan(mean_over_images("dice", [0.5, 0.6], ["a", "a"]).low)
    perfect = mean_over_images("dice", [1.0] * 20)
    assert perfect.low == pytest.approx(0.839, abs=1e-3)  # Wilson's bound of 20 of 20


def dices(rng, patients, images):
    """Mean .8, standard deviation .13, correlation of a patient's images about one half."""
    own = rng.normal(size=(patients, 1)) + rng.normal(size=(patients, images))
    return 1 / (1 + np.exp(-1.5 - 0.6 * own)).ravel(), np.repeat(np.arange(patients), images)


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [250, pytest.param(4000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("patients", "images"), [(15, 1), (40, 1), (25, 4)])
@pytest.mark.parametrize("scale", ["share", "positive"])
def test_coverage(scale, patients, images, repeats):
    change = (lambda x: x) if scale == "share" else (lambda x: 40 * (1 - x))  # distances in mm: skewed
    known, held = change(dices(np.random.default_rng(99), 500_000, 1)[0]).mean(), 0
    for seed in range(repeats):
        values, codes = dices(np.random.default_rng(seed), patients, images)
        found = mean_over_images("m", change(values), codes, scale=scale, resamples=200)
        held += found.low <= known <= found.high
    slack = 0.0 if repeats > 2000 else 0.03
    assert 0.925 - slack <= held / repeats <= min(1, 0.975 + slack), held / repeats
