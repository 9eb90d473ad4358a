"""Likelihood ratios, against their definition, a published example and simulation; rates at a fixed other rate; O:E."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats
from scipy.special import xlog1py, xlogy
from sklearn import metrics as sk

from overread.stats.calibration.reliability import observed_to_expected
from overread.stats.classification import at_prevalence, likelihood_ratios
from overread.stats.discrimination.partial_auc import fixed_rates_statistic
from overread.stats.resample import bootstrapped


def cases(tp, fn, fp, tn):
    return [1] * (tp + fn) + [0] * (fp + tn), [1] * tp + [0] * fn + [1] * fp + [0] * tn


@pytest.mark.parametrize("cells", [(45, 5, 10, 40), (130, 10, 90, 300), (8, 12, 30, 950)])
def test_many_cases_take_the_log_method(cells):
    """Simel, Samsa & Matchar 1991: ln LR ± z √(1/a − 1/(a+b) + 1/c − 1/(c+d))."""
    tp, fn, fp, tn = cells
    plus, minus = likelihood_ratios(*cases(*cells), level=0.9)
    z = scipy_stats.norm.ppf(0.95)
    for found, a, c in ((plus, tp, fp), (minus, fn, tn)):
        value = a / (tp + fn) / (c / (fp + tn))
        error = math.sqrt(1 / a - 1 / (tp + fn) + 1 / c - 1 / (fp + tn))
        assert found.value == pytest.approx(value)
        assert (found.low, found.high) == pytest.approx(
            (value * math.exp(-z * error), value * math.exp(z * error)), rel=1e-6
        )
        assert "Simel" in found.method


@pytest.mark.parametrize(
    "cells", [(20, 0, 3, 30), (17, 3, 0, 30), (20, 0, 0, 30), (0, 20, 2, 28), (1, 0, 0, 1), (19, 1, 1, 99)]
)
def test_an_empty_cell_keeps_its_interval(cells):
    plus, minus = likelihood_ratios(*cases(*cells))
    if cells[2] == 0 and cells[0]:
        assert "infinite" in plus.undefined
        assert 1 < float(plus.undefined.rpartition("above ")[2].split()[0]) < cells[0] / (sum(cells[:2])) * sum(
            cells[2:]
        ) or cells == (1, 0, 0, 1)
    else:
        assert 0 <= plus.low <= plus.value <= plus.high < math.inf
        assert plus.high > 0
    if not minus.undefined:
        assert 0 <= minus.low <= minus.value <= minus.high
        assert minus.high > 0


@pytest.mark.parametrize(
    "cells",
    [
        (10, 0, 50, 950),
        (60, 0, 40, 0),
        (9, 1, 50, 950),
        (4, 0, 1, 1999),
        (1, 29, 10, 0),
        (2, 28, 3, 37),
        (30, 0, 30, 1),
    ],
)
def test_the_ends_are_where_the_likeliest_shares_of_that_ratio_are_refused(cells):
    """Koopman 1984, restated: Pearson's χ² from the shares that a search finds likeliest is z² at both ends."""
    z = scipy_stats.norm.ppf(0.975)
    found = likelihood_ratios(*cases(*cells))[0]
    assert "Koopman" in found.method
    for ratio in (found.low, found.high):
        assert away_from_the_likeliest(cells, ratio) == pytest.approx(z * z, rel=1e-4), ratio


def away_from_the_likeliest(cells, ratio):
    """Pearson's χ² of the cells from the likeliest two shares, the first of them ``ratio`` times the second."""
    tp, fn, fp, tn = cells

    def shares(log_second):
        return (tp, fn, min(1.0, ratio * math.exp(log_second))), (fp, tn, math.exp(log_second))

    def unlikely(log_second):
        return -sum(xlogy(a, p) + xlog1py(b, -p) for a, b, p in shares(log_second))

    most = min(0.0, -math.log(ratio))  # neither share above 1
    options = {"xatol": 1e-12, "maxiter": 2000}
    inside = optimize.minimize_scalar(unlikely, bounds=(most - 12, most), method="bounded", options=options).x
    likeliest = shares(min((inside, most), key=unlikely))
    return sum((a - (a + b) * p) ** 2 / ((a + b) * p * (1 - p)) for a, b, p in likeliest if 0 < p < 1)


def test_they_are_what_moves_the_prior_odds():
    truth, called = cases(40, 6, 9, 70)
    odds = 0.1 / 0.9
    for ratio, posterior in zip(likelihood_ratios(truth, called), at_prevalence(truth, called, 0.1)):
        change = (lambda x: x) if ratio.metric == "lr+" else (lambda x: 1 - x)
        ends = sorted(change(odds * r / (1 + odds * r)) for r in (ratio.low, ratio.high))
        assert ends == pytest.approx([posterior.low, posterior.high])


def test_what_is_undefined_says_why():
    assert [e.undefined for e in likelihood_ratios([1, 1], [1, 0])] == ["0 negatives"] * 2
    plus, minus = likelihood_ratios([1, 0], [0, 0])
    assert (plus.undefined, minus.value) == ("none called positive", 1.0)
    assert likelihood_ratios([0, 1, 1], [1, 1, 1])[1].undefined == "none called negative"
    assert likelihood_ratios([1, 0] * 30, [1, 0] * 30, np.arange(60) // 6)[0].undefined


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("ill", "well", "sensitivity", "false"), [(30, 100, 0.9, 0.2), (20, 60, 0.8, 0.03), (100, 300, 0.95, 0.1)]
)
@pytest.mark.parametrize("repeats", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_coverage_of_likelihood_ratios(ill, well, sensitivity, false, repeats):
    truth, rng, held = np.arange(ill + well) < ill, np.random.default_rng(1), np.zeros(2)
    known = sensitivity / false, (1 - sensitivity) / (1 - false)
    for _ in range(repeats):
        called = rng.random(ill + well) < np.where(truth, sensitivity, false)
        for i, e in enumerate(likelihood_ratios(truth, called)):
            low = float(e.undefined.rpartition("above ")[2].split()[0]) if "above" in e.undefined else e.low
            held[i] += low <= known[i] and (bool(e.undefined) or known[i] <= e.high)
    slack = 0.0 if repeats > 1000 else 0.02
    assert (held / repeats >= 0.925 - slack).all(), held / repeats


# -- a rate where the other is fixed ------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [1, 6])
@pytest.mark.parametrize("at", [0.5, 0.9, 0.95, 1.0])
def test_fixed_rates_are_steps_of_the_roc_curve(digits, at):
    rng = np.random.default_rng(2)
    truth = rng.random(400) < 0.3
    score = (rng.normal(size=400) + truth).round(digits)
    statistic = fixed_rates_statistic(truth, score, np.arange(400), 400, at=at)
    fpr, tpr, _ = sk.roc_curve(truth, score, drop_intermediate=False)
    wanted = [max(1 - fpr[tpr >= at - 1e-12]), max(tpr[1 - fpr >= at - 1e-12])]
    assert statistic.compute(np.ones((1, 400), np.uint16))[0] == pytest.approx(wanted)
    weights = np.random.default_rng(3).integers(0, 4, (5, 400)).astype(np.uint16)
    for row, found in zip(weights, statistic.compute(weights)):
        fpr, tpr, _ = sk.roc_curve(truth, score, sample_weight=row, drop_intermediate=False)
        assert found == pytest.approx([max(1 - fpr[tpr >= at - 1e-9]), max(tpr[1 - fpr >= at - 1e-9])])


def test_perfect_scores_have_an_interval():
    truth = np.arange(60) < 20
    for e in bootstrapped(fixed_rates_statistic(truth, truth * 1.0, np.arange(60), 60), np.arange(60), resamples=100):
        assert e.value == 1
        assert 0.7 < e.low < 0.95


@pytest.mark.simulation
@pytest.mark.parametrize(("ill", "well", "area"), [(20, 80, 0.8), (50, 50, 0.9), (100, 300, 0.85)])
@pytest.mark.parametrize("repeats", [150, pytest.param(1500, marks=pytest.mark.slow)])
def test_coverage_of_fixed_rates(ill, well, area, repeats):
    apart = math.sqrt(2) * scipy_stats.norm.ppf(area)
    known, held = scipy_stats.norm.cdf(apart + scipy_stats.norm.ppf(0.1)), np.zeros(2)
    truth, codes = np.arange(ill + well) < ill, np.arange(ill + well)
    for seed in range(repeats):
        score = np.random.default_rng(seed).normal(size=len(truth)) + apart * truth
        found = bootstrapped(fixed_rates_statistic(truth, score, codes, len(truth)), codes, resamples=300)
        held += [e.low <= known <= e.high for e in found]
    slack = 0.0 if repeats > 1000 else 0.025
    assert (held / repeats >= 0.925 - slack).all(), held / repeats


# -- observed to expected -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 3])
def test_observed_to_expected_is_about_that_of_the_delta_method(images):
    rng = np.random.default_rng(1)
    own = np.repeat(rng.normal(size=800), images)
    chance = 1 / (1 + np.exp(1 - own - rng.normal(size=len(own))))
    truth, who = rng.random(len(own)) < chance**1.2, np.repeat(np.arange(800), images)
    found = observed_to_expected(truth, chance, who)
    ratio = truth.sum() / chance.sum()
    moved = np.bincount(who, truth - ratio * chance) / chance.sum()
    assert found.value == pytest.approx(ratio)
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(moved @ moved), rel=0.03)


def test_nobody_ill_and_everybody_ill_have_an_interval():
    nobody, everybody = (observed_to_expected([x] * 40, [0.2] * 40) for x in (0, 1))
    assert (nobody.value, nobody.low) == (0, 0)
    assert nobody.high == pytest.approx(0.0876 / 0.2, abs=0.01)
    assert everybody.value == pytest.approx(5)
    assert everybody.low < 5 == pytest.approx(everybody.high)
    assert observed_to_expected([0, 1], [0.0, 0.0]).undefined == "the probabilities promise nobody"
    assert "not probabilities" in observed_to_expected([0, 1], [0.5, 3.0]).undefined


@pytest.mark.simulation
@pytest.mark.parametrize(("patients", "images", "base"), [(100, 1, -2.5), (200, 1, 0.0), (100, 4, -1.0)])
@pytest.mark.parametrize("repeats", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_coverage_of_observed_to_expected(patients, images, base, repeats):
    def draw(rng, n, k):
        own = np.repeat(rng.normal(size=n), k)
        x = base + 1.5 * (math.sqrt(0.5) * own + math.sqrt(0.5) * rng.normal(size=n * k))
        return 1 / (1 + np.exp(-1.3 * x - 0.3)), 1 / (1 + np.exp(-x)), np.repeat(np.arange(n), k)

    true, stated, _ = draw(np.random.default_rng(99), 400_000, 1)
    known, held = true.mean() / stated.mean(), 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        true, stated, who = draw(rng, patients, images)
        found = observed_to_expected(rng.random(len(true)) < true, stated, who)
        held += found.low <= known <= found.high
    assert held / repeats >= 0.925 - (0.0 if repeats > 1000 else 0.02), held / repeats
