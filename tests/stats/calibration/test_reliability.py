"""Calibration against statsmodels, scikit-learn, and models that are calibrated by construction."""

import numpy as np
import pytest
import statsmodels.api as sm
from array_metrics import brier, expected_calibration_error
from sklearn import metrics

from overread.core.errors import ArgumentError
from overread.stats.calibration.reliability import intercept_and_slope, likeness, reliability


def draw(n=600, slope=1.0, shift=0.0, seed=0):
    """Labels whose calibration slope and intercept are known."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-0.5, 1.5, n)
    return rng.random(n) < 1 / (1 + np.exp(-(shift + slope * logit))), 1 / (1 + np.exp(-logit))


def test_slope_and_intercept_are_those_of_statsmodels():
    truth, chance = draw(slope=0.6, shift=0.4)
    patients = np.arange(600) // 3
    logit = np.log(chance / (1 - chance))
    cluster = {"cov_type": "cluster", "cov_kwds": {"groups": patients}}
    theirs = sm.GLM(truth, sm.add_constant(logit), sm.families.Binomial()).fit(**cluster)
    large = sm.GLM(truth, np.ones(600), sm.families.Binomial(), offset=logit).fit(**cluster)
    for found, value, error in zip(
        intercept_and_slope(truth, chance, patients), (large.params[0], theirs.params[1]), (large.bse[0], theirs.bse[1])
    ):
        assert found.value == pytest.approx(value, abs=1e-6)
        assert (found.high - found.low) / 2 / 1.959964 == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize(
    ("truth", "chance", "why"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "the scores tell the classes apart completely"),
        ([0, 1, 0, 1], [0.5] * 4, "the scores are all equal"),
        ([1, 1], [0.5, 0.6], "0 negatives"),
        ([0, 1], [0.5, 1.6], "1 of 2 scores are not probabilities"),
        ([0, 1], [0.5, np.nan], "1 of 2 scores are not finite"),
        ([], [], "no cases"),
    ],
)
def test_a_slope_that_does_not_exist_says_why(truth, chance, why):
    assert intercept_and_slope(truth, chance)[1].undefined == why


def test_certain_probabilities_do_not_overflow():
    rng = np.random.default_rng(0)
    truth = rng.random(200) < 0.5
    chance = np.where(rng.random(200) < 0.9, truth, ~truth).astype(np.float32)  # exactly 0 and 1, some wrong
    intercept, slope = intercept_and_slope(truth, chance)
    assert 0 < slope.value < 1
    assert np.isfinite([intercept.value, slope.low]).all()


def test_brier_is_that_of_scikit_learn():
    truth, chance = draw()
    found = brier(truth, chance)
    assert found.value == pytest.approx(metrics.brier_score_loss(truth, chance))
    assert found.low < found.value < found.high


def slow_ece(truth, chance, bins):
    total = 0.0
    for k in range(bins):
        inside = (chance >= k / bins) & ((chance < (k + 1) / bins) | (k == bins - 1))
        if inside.any():
            total += inside.mean() * abs(truth[inside].mean() - chance[inside].mean())
    return total


def test_ece_is_that_of_its_definition():
    truth, chance = draw(slope=2.0)
    chance[:3] = (0.0, 1.0, 0.5)
    found, null = expected_calibration_error(truth, chance, bins=15)
    assert found.value == pytest.approx(slow_ece(truth, chance, 15))
    assert reliability(truth, chance, bins=15).ece == pytest.approx(found.value)
    assert found.value > null.high


def test_the_null_band_is_what_calibrated_models_show():
    """A calibrated model with N = 200 and 15 bins shows a mean ECE of about .07–.08, not 0."""
    chance = np.random.default_rng(1).random(200)
    shown = [slow_ece(np.random.default_rng(s).random(200) < chance, chance, 15) for s in range(300)]
    null = expected_calibration_error(chance > 0.5, chance, bins=15)[1]
    assert null.value == pytest.approx(np.mean(shown), rel=0.05)
    assert (null.low, null.high) == pytest.approx(np.quantile(shown, [0.025, 0.975]), rel=0.1)
    assert 0.06 < null.value < 0.1


def test_the_band_holds_calibrated_bins_and_is_wider_with_repeated_patients():
    held = [0, 0]
    for seed in range(40):
        truth, chance = draw(300, seed=seed)
        d = reliability(truth, chance, resamples=300)
        held[0] += ((d.null_low <= d.observed) & (d.observed <= d.null_high)).sum()
        held[1] += len(d.count)
    assert 0.92 < held[0] / held[1] < 0.995
    chance = np.repeat(np.random.default_rng(0).random(100), 5)
    alone, together = (reliability(chance > 0.5, chance, p) for p in (None, np.repeat(np.arange(100), 5)))
    assert (together.null_high - together.null_low).mean() > 1.5 * (alone.null_high - alone.null_low).mean()


def test_zero_and_one_belong_to_the_outer_bins():
    d = reliability([0, 1], [0.0, 1.0])
    assert d.count.tolist() == [1, 1]
    assert d.predicted.tolist() == [0.0, 1.0]
    with pytest.raises(ArgumentError, match="probabilities"):
        reliability([0, 1], [0.0, 1.1])
    with pytest.raises(ArgumentError, match="bins"):
        reliability([0, 1], [0.0, 1.0], bins=0)


def labels_of_patients(rng, patients, images, alike):
    """Labels of calibrated probabilities (each image its own): of a patient with one random number, or each with its own."""
    chance = 1 / (1 + np.exp(-rng.normal(-0.5, 1.2, patients * images)))
    drawn = np.repeat(rng.random(patients), images) if alike else rng.random(patients * images)
    return drawn < chance, chance, np.repeat(np.arange(patients), images)


def test_the_null_band_knows_how_alike_a_patients_labels_are():
    """As if a patient were ill as a whole, the band reached to .074 where .045 is right, and hid an understated risk."""
    rng = np.random.default_rng(0)
    truth, chance, codes = labels_of_patients(rng, 200, 10, alike=False)
    apart, alone = (reliability(truth, chance, who, resamples=400) for who in (codes, None))
    assert np.quantile(apart.null_ece, 0.975) == pytest.approx(np.quantile(alone.null_ece, 0.975), rel=0.15)
    risen = rng.random(len(chance)) < np.clip(chance + 0.06, 0, 1)
    assert reliability(risen, chance, codes, resamples=400).ece > np.quantile(apart.null_ece, 0.975)
    truth, chance, codes = labels_of_patients(rng, 200, 10, alike=True)
    whole = reliability(truth, chance, codes, resamples=400)
    assert np.quantile(whole.null_ece, 0.975) > 1.25 * np.quantile(alone.null_ece, 0.975)


@pytest.mark.parametrize(("alike", "least", "most"), [(False, 0.0, 0.1), (True, 0.9, 1.0)])
def test_likeness_is_none_of_independent_labels_and_whole_of_one_answer(alike, least, most):
    found = [likeness(*labels_of_patients(np.random.default_rng(seed), 150, 4, alike)) for seed in range(20)]
    assert least <= np.mean(found) <= most
    truth, chance, _ = labels_of_patients(np.random.default_rng(0), 150, 4, alike)
    assert likeness(truth, chance, np.arange(600)) == 0


@pytest.mark.slow
@pytest.mark.simulation
@pytest.mark.parametrize(
    ("cases", "shift", "slope"), [(100, -2.8, 1.0), (500, -4.5, 1.2), (200, -3.5, 1.0), (60, -1.0, 0.7)]
)
def test_slope_and_intercept_of_few_events_are_covered(cases, shift, slope):
    """Six events: 89 % by the plain sandwich."""
    big = np.random.default_rng(99).normal(shift, 1.2, 400_000)
    risk, start = 1 / (1 + np.exp(-slope * big)), 0.0
    for _ in range(30):
        fitted = 1 / (1 + np.exp(-(start + big)))
        start += (risk - fitted).mean() / (fitted * (1 - fitted)).mean()
    held, known = np.zeros(2), 0
    for seed in range(1500):
        rng = np.random.default_rng(seed)
        x = rng.normal(shift, 1.2, cases)
        found = intercept_and_slope(rng.random(cases) < 1 / (1 + np.exp(-slope * x)), 1 / (1 + np.exp(-x)))
        if not found[1].undefined:
            known += 1
            held += [e.low <= t <= e.high for e, t in zip(found, (start, slope))]
    assert (held / known >= 0.925).all(), held / known
