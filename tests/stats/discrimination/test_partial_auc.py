"""Partial areas against scikit-learn, the whole area, a jackknife, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn import metrics

from overread.core.errors import ArgumentError
from overread.stats.discrimination.partial_auc import partial_auc, partial_auc_difference
from overread.stats.discrimination.roc import auc, roc_curve


def draw(n, seed=0, digits=1):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    return truth, np.round(rng.normal(size=n) + truth, digits)


@pytest.mark.parametrize("digits", [0, 1, 9])
@pytest.mark.parametrize("most", [0.05, 0.1, 0.2, 0.5, 0.93])
def test_standardised_value_is_that_of_scikit_learn(digits, most):
    truth, score = draw(200, digits=digits)
    found = partial_auc(truth, score, specificity=(1 - most, 1.0), standardised=True)
    assert found.value == pytest.approx(metrics.roc_auc_score(truth, score, max_fpr=most), abs=1e-12)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_value_is_the_area_beneath_and_beside_the_curve(digits):
    truth, score = draw(150, seed=3, digits=digits)
    false, true, _ = roc_curve(truth, score)
    x = np.linspace(0.2, 0.6, 400_001)
    beneath = integrate.trapezoid(np.interp(x, false, true), x)
    assert partial_auc(truth, score, specificity=(0.4, 0.8)).value == pytest.approx(beneath, abs=1e-5)
    beside = integrate.trapezoid(1 - np.interp(x, true, false), x)
    assert partial_auc(truth, score, sensitivity=(0.2, 0.6)).value == pytest.approx(beside, abs=1e-5)


@pytest.mark.parametrize("images", [1, 3])
def test_the_whole_range_is_the_auc_with_its_interval(images):
    truth, score = draw(150)
    patients = np.arange(150) // images
    whole = auc(truth, score, patients)
    for part in ({"specificity": (0.0, 1.0)}, {"sensitivity": (0, 1)}):
        found = partial_auc(truth, score, patients, **part)
        assert (found.value, found.low, found.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-9)


def test_parts_add_up_and_standardising_is_mcclish():
    truth, score = draw(150)
    parts = [partial_auc(truth, score, specificity=r).value for r in ((0, 0.35), (0.35, 0.8), (0.8, 1))]
    assert sum(parts) == pytest.approx(auc(truth, score).value, abs=1e-12)
    raw, told = (partial_auc(truth, score, specificity=(0.7, 0.9), standardised=s) for s in (False, True))
    least, most = (0.3**2 - 0.1**2) / 2, 0.2  # McClish 1989
    for name in ("value", "low", "high"):
        assert getattr(told, name) == pytest.approx((1 + (getattr(raw, name) - least) / (most - least)) / 2)


def test_error_is_near_that_of_a_jackknife():
    truth, score = draw(600, seed=5, digits=9)
    part = {"specificity": (0.7, 0.95)}
    found = partial_auc(truth, score, **part)
    keep = [np.arange(600) != i for i in range(600)]
    values = np.array([partial_auc(truth[k], score[k], **part).value for k in keep])
    error = math.sqrt(599 / 600 * ((values - values.mean()) ** 2).sum())
    height = found.value / 0.25
    logit = lambda p: math.log(p / (1 - p))
    half = (logit(found.high / 0.25) - logit(found.low / 0.25)) / 2 / 1.96 * height * (1 - height) * 0.25
    assert half == pytest.approx(error, rel=0.05)


def test_alike_scores_differ_by_zero_and_perfect_ones_have_a_width():
    truth, score = draw(100)
    same = partial_auc_difference(truth, score, np.exp(score), specificity=(0.8, 1.0))
    assert (same.difference.value, same.difference.low, same.p) == (0, 0, 1)
    perfect = partial_auc(truth, truth * 1.0, specificity=(0.8, 1.0))
    assert perfect.low < perfect.value == pytest.approx(perfect.high) == pytest.approx(0.2)
    rng = np.random.default_rng(0)
    two = partial_auc_difference(truth, truth + rng.random(100) / 2, truth * 1.0, specificity=(0.8, 1.0))
    assert two.difference.low < two.difference.value == 0 < two.difference.high


numbers_of = st.sampled_from([0.0, 0.5, 1.0, 2.0, math.nan, math.inf])
rows_of = st.lists(st.tuples(st.booleans(), numbers_of, numbers_of, st.integers(0, 3)), max_size=25)


@settings(max_examples=150, deadline=None)
@given(rows_of, st.booleans(), st.booleans(), st.sampled_from([(0.8, 1), (0.0, 0.1), (0.4, 0.45), (0, 1)]))
def test_any_input_has_a_value_or_a_reason(rows, swap, standardised, range_):
    truth, score, other, patients = ([row[k] for row in rows] for k in range(4))
    part = {"sensitivity" if swap else "specificity": range_, "standardised": standardised}
    one = partial_auc(truth, score, patients, **part)
    two = partial_auc_difference(truth, score, other, patients, **part).difference
    for e in (one, two):
        assert bool(e.undefined) == math.isnan(e.value)
        if not e.undefined:
            assert e.low - 1e-9 <= e.value <= e.high + 1e-9


def test_bad_ranges_are_refused():
    for bad in (
        {},
        {"specificity": (0, 1), "sensitivity": (0, 1)},
        {"specificity": (0.9, 0.8)},
        {"sensitivity": (0, 2)},
    ):
        with pytest.raises(ArgumentError):
            partial_auc([0, 1], [0.1, 0.2], **bad)


def height_of(area, low, high):
    apart = math.sqrt(2) * stats.norm.ppf(area)
    return integrate.quad(lambda f: stats.norm.cdf(apart + stats.norm.ppf(f)), 1 - high, 1 - low)[0]


SETTINGS = [
    (0.8, 50, 100, (0.8, 1.0), 1, 0.0),
    (0.9, 30, 100, (0.9, 1.0), 1, 0.0),
    (0.95, 20, 80, (0.8, 1.0), 1, 0.0),
    (0.8, 100, 200, (0.7, 0.9), 1, 0.0),
    (0.8, 80, 120, (0.8, 1.0), 4, 0.5),
]


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("repeats", "case"),
    [(300, SETTINGS[2]), (300, SETTINGS[4]), *(pytest.param(3000, s, marks=pytest.mark.slow) for s in SETTINGS)],
)
def test_coverage_of_one_and_of_a_difference(repeats, case):
    area, ill, well, part, images, share = case
    truth = np.repeat(np.arange(ill + well) < ill, images)
    patients, held = np.repeat(np.arange(ill + well), images), np.zeros(2)
    known, other = height_of(area, *part), height_of(0.85, *part)
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        own, e, f = np.repeat(rng.normal(size=ill + well), images), *rng.normal(size=(2, len(truth)))
        noise = [math.sqrt(share) * own + math.sqrt(1 - share) * x for x in (e, 0.7 * e + math.sqrt(0.51) * f)]
        a, b = (math.sqrt(2) * stats.norm.ppf(x) * truth + y for x, y in zip((area, 0.85), noise))
        d = partial_auc_difference(truth, a, b, patients, specificity=part)
        held += [d.first.low <= known <= d.first.high, d.difference.low <= known - other <= d.difference.high]
    slack = 0.0 if repeats > 2000 else 0.02
    assert (held / repeats >= 0.925 - slack).all(), held / repeats
    assert (held / repeats <= 0.975 + slack).all(), held / repeats
