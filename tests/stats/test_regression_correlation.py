"""Matthews' correlation, quadratic kappa and the C-index against scikit-learn, loops over pairs, and simulation."""

import math
from itertools import combinations

import numpy as np
import pytest
from array_metrics import mcc, quadratic_kappa
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from overread.core.errors import ArgumentError
from overread.stats.discrimination.roc import auc, concordance
from overread.stats.regression import kappa_statistic, mcc_statistic


def draw(n, classes, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    return truth, np.where(rng.random(n) < 0.6, truth, rng.integers(0, classes, n))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_values_are_those_of_scikit_learn(classes):
    truth, said = draw(300, classes)
    assert mcc(truth, said).value == pytest.approx(metrics.matthews_corrcoef(truth, said), abs=1e-12)
    kappa = metrics.cohen_kappa_score(truth, said, weights="quadratic")
    assert quadratic_kappa(truth, said).value == pytest.approx(kappa, abs=1e-12)
    assert quadratic_kappa(3 * truth + 7, 3 * said + 7).value == pytest.approx(kappa, abs=1e-12)


def test_resamples_are_those_of_a_loop():
    truth, said = draw(60, 3)
    codes = np.arange(60) // 2
    weights = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), 40).astype(np.uint16)
    found = mcc_statistic(truth, said, codes, 30).compute(weights)[:, 0]
    kappas = kappa_statistic(truth.astype(float), said.astype(float), codes, 30).compute(weights)[:, 0]
    for value, kappa, w in zip(found, kappas, weights):
        rows = np.repeat(np.arange(60), w[codes])
        assert value == pytest.approx(metrics.matthews_corrcoef(truth[rows], said[rows]))
        assert kappa == pytest.approx(metrics.cohen_kappa_score(truth[rows], said[rows], weights="quadratic"))


def slow_concordance(truth, said):
    pairs = [(i, j) for i, j in combinations(range(len(truth)), 2) if truth[i] != truth[j]]
    return np.mean([0.5 + 0.5 * np.sign((truth[i] - truth[j]) * (said[i] - said[j])) for i, j in pairs])


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_concordance_is_that_of_a_loop_over_pairs(digits):
    rng = np.random.default_rng(0)
    truth = np.round(rng.normal(size=150), digits)
    said = np.round(truth + rng.normal(size=150), digits)
    assert concordance(truth, said).value == pytest.approx(slow_concordance(truth, said), abs=1e-12)


def test_concordance_of_two_classes_is_the_auc_with_nearly_its_interval():
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.3
    score, patients = np.round(rng.normal(size=300) + truth, 1), np.arange(300) // 2
    c, a = concordance(truth.astype(float), score, patients), auc(truth, score, patients)
    assert c.value == pytest.approx(a.value, abs=1e-12)
    assert (c.low, c.high) == pytest.approx((a.low, a.high), abs=0.006)


def test_concordance_has_the_error_of_a_jackknife():
    rng = np.random.default_rng(4)
    truth = rng.normal(size=200)
    said = truth + rng.normal(size=200)
    found = concordance(truth, said)
    left = np.array([concordance(*(np.delete(x, i) for x in (truth, said))).value for i in range(200)])
    error = math.sqrt(199 / 200 * ((left - left.mean()) ** 2).sum())
    logit = lambda p: math.log(p / (1 - p))
    half = (logit(found.high) - logit(found.low)) / 2 / 1.972 * found.value * (1 - found.value)
    assert half == pytest.approx(error, rel=0.02)


def test_perfect_and_worst_have_a_width():
    truth = np.arange(40) % 4
    for metric in (mcc, quadratic_kappa, concordance):
        best = metric(truth, truth)
        assert best.low < best.value == pytest.approx(best.high) == 1
    worst = mcc(truth % 2, 1 - truth % 2)
    assert -1 == worst.low == worst.value < worst.high < 0
    assert concordance(truth, -truth).high > concordance(truth, -truth).value == 0


FLAT = "the truth is one class, or all cases are called one"


@pytest.mark.parametrize(
    ("truth", "said", "why"),
    [
        ([1, 1], [0, 1], (FLAT, "", "the truth is constant")),
        ([0, 1], [1, 1], (FLAT, "", "")),
        ([1, 1], [1, 1], (FLAT, "the grades are all equal", "the truth is constant")),
    ],
)
def test_undefined_says_why(truth, said, why):
    assert tuple(f(truth, said).undefined for f in (mcc, quadratic_kappa, concordance)) == why
    assert concordance([], []).undefined == "no cases"
    assert concordance([0, 1, 1], [0, math.nan, 1]).undefined == "1 of 3 values are not finite"


values = st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(values, values, st.integers(0, 3)), max_size=20))
def test_any_input_has_a_value_or_a_reason(rows):
    truth, said, patients = ([row[k] for row in rows] for k in range(3))
    clean = bool(rows) and all(map(math.isfinite, (*truth, *said)))
    found = [f(truth, said, patients, resamples=20) for f in (mcc, quadratic_kappa)] if clean else []
    for e in (*found, concordance(truth, said, patients)):
        assert bool(e.undefined) == math.isnan(e.value)
        if not e.undefined and not math.isnan(e.low):
            assert -1 <= e.low <= e.value + 1e-6
            assert e.value - 1e-6 <= e.high <= 1


@pytest.mark.slow
def test_a_million_cases():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=1_000_000)
    assert concordance(truth, truth + rng.normal(size=1_000_000)).value == pytest.approx(0.75, abs=0.002)
    assert mcc(truth > 0, rng.random(1_000_000) > 0.5, resamples=20).value == pytest.approx(0, abs=0.01)


def test_bad_arguments_are_refused():
    with pytest.raises(ArgumentError):
        concordance([0, 1], [1])
    for metric in (mcc, quadratic_kappa, concordance):
        with pytest.raises(ArgumentError):
            metric([0, 1], [0, 1], level=1.5)


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [200, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("patients", "images"), [(80, 1), (200, 1), (100, 3)])
def test_coverage(patients, images, repeats):
    def cohort(rng, patients, images):
        own, extra = (np.repeat(rng.normal(size=patients), images) for _ in range(2))
        said = own + 0.6 * extra + 0.6 * rng.normal(size=len(own))
        grade = lambda x: np.digitize(x, [-0.7, 0.3, 1.2]).astype(float)
        return own, said, grade(own), grade(said), np.repeat(np.arange(patients), images)

    def estimates(own, said, true, called, codes, many):
        return (
            mcc(true > 1, called > 1, codes, resamples=many),
            quadratic_kappa(true, called, codes, resamples=many),
            concordance(own, said, codes),
        )

    known = [e.value for e in estimates(*cohort(np.random.default_rng(99), 300_000, 1), 2)]
    held = np.zeros(3)
    for seed in range(repeats):
        found = estimates(*cohort(np.random.default_rng(seed), patients, images), 300)
        held += [e.low <= v <= e.high for e, v in zip(found, known)]
    slack = 0.0 if repeats > 2000 else 0.025
    assert (held / repeats >= 0.925 - slack).all(), held / repeats
    assert (held / repeats <= 0.975 + slack).all(), held / repeats
