"""Proportions against statsmodels, and against images that share a patient."""

from statistics import NormalDist

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from overread.core.errors import ArgumentError
from overread.stats.proportions import clopper_pearson, effective_images, proportion, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 20), (20, 20), (1, 29), (15, 148), (81, 263), (1, 1)])
def test_wilson_and_exact_are_those_of_statsmodels(k, n):
    found = proportion([1] * k + [0] * (n - k))
    np.testing.assert_allclose((found.low, found.high), proportion_confint(k, n, method="wilson"), atol=1e-12)
    np.testing.assert_allclose(clopper_pearson(k, n), proportion_confint(k, n, method="beta"), atol=1e-12)
    exact = proportion([1] * k + [0] * (n - k), method="exact")
    assert (exact.low, exact.high) == clopper_pearson(k, n)


def test_one_image_a_patient_is_plain_wilson():
    good = np.arange(50) % 3 == 0
    assert proportion(good, np.arange(50) + 7).low == proportion(good).low


def test_copies_of_an_image_add_nothing():
    good = np.arange(60) % 4 == 0
    copied = effective_images(np.repeat(good, 5), np.repeat(np.arange(60), 5))
    assert copied == pytest.approx(60, rel=0.03)


def test_independent_images_of_a_patient_lose_little():
    rng = np.random.default_rng(3)
    counts = [effective_images(rng.random(400) < 0.3, np.arange(400) // 4) for _ in range(50)]
    assert 330 < np.mean(counts) <= 400


def test_a_share_of_one_counts_each_patient_once():
    found = proportion([1] * 40, np.arange(40) // 4)
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 10, 1.959964), abs=1e-6)
    assert found.patients == 10


def test_one_patient_with_many_images_has_a_wide_interval():
    found = proportion([1, 1, 0, 1], ["a"] * 4)
    assert found.value == 0.75
    assert found.high - found.low > 0.7


def test_nothing_is_undefined_and_bad_arguments_are_refused():
    assert proportion([], metric="ppv").undefined == "no cases"
    for call in (
        lambda: proportion([0.5]),
        lambda: proportion([1], level=2.0),
        lambda: proportion([1], method="wald"),
        lambda: proportion([1, 1], ["a", "a"], method="exact"),
        lambda: wilson(0.5, 0, 1.96),
        lambda: clopper_pearson(3, 2),
    ):
        with pytest.raises(ArgumentError):
            call()


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [400, pytest.param(4000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("patients", "share", "alike"), [(15, 0.6, 0.9), (30, 0.8, 0.5), (40, 0.9, 0.9), (60, 0.9, 0.5)]
)
def test_a_few_patients_with_many_images_are_covered(patients, share, alike, repeats):
    """One patient in five has 20 images, the others two; by their plain number the interval holds 88 to 93 %."""
    held = 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(patients), np.where(rng.random(patients) < 0.2, 20, 2))
        own, each = rng.normal(size=patients)[who], rng.normal(size=len(who))
        good = np.sqrt(alike) * own + np.sqrt(1 - alike) * each <= NormalDist().inv_cdf(share)
        found = proportion(good, who)
        held += found.low <= share <= found.high
    slack = 0.0 if repeats > 2000 else 0.025
    assert 0.925 - slack <= held / repeats <= 0.975 + slack, held / repeats
