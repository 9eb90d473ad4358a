"""Risk against coverage, one case at a time, and its bootstrap against a loop."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.core.errors import ArgumentError
from overread.stats.calibration.abstention import abstention_area, abstention_curve, abstention_statistic


def slow_area(wrong, confidence):
    """Geifman & El-Yaniv 2017: for each case the error rate among all that are at least as sure."""
    return np.mean([wrong[confidence >= c].mean() for c in confidence])


def draw(n, seed=0, digits=1):
    rng = np.random.default_rng(seed)
    wrong = rng.random(n) < 0.25
    return wrong, np.round(rng.normal(size=n) - wrong, digits)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_curve_and_area_are_those_of_the_definition(digits):
    wrong, sure = draw(200, digits=digits)
    coverage, risk, threshold = abstention_curve(wrong, sure)
    for c, r, t in zip(coverage, risk, threshold):
        assert (c, r) == pytest.approx(((sure >= t).mean(), wrong[sure >= t].mean()))
    assert coverage[-1] == 1
    assert abstention_area(wrong, sure).value == pytest.approx(slow_area(wrong, sure))


def test_resamples_are_those_of_a_loop():
    wrong, sure = draw(60)
    codes = np.arange(60) // 2
    weights = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), 50).astype(np.uint16)
    found = abstention_statistic(wrong, sure, codes).compute(weights)[:, 0]
    for value, w in zip(found, weights):
        rows = np.repeat(np.arange(60), w[codes])
        assert value == pytest.approx(slow_area(wrong[rows], sure[rows]))


def test_a_void_confidence_has_the_error_rate_and_no_errors_a_width():
    wrong, _ = draw(100)
    assert abstention_area(wrong, np.ones(100)).value == pytest.approx(wrong.mean())
    none = abstention_area(np.zeros(50), np.arange(50))
    assert none.value == none.low == 0 < none.high < 0.1


def test_undefined_says_why():
    assert abstention_area([], []).undefined == "no cases"
    assert abstention_area([0, 1], [0.1, math.inf]).undefined == "1 of 2 confidences are not finite"
    assert len(abstention_curve([0, 1], [0.1, math.nan])[0]) == 0
    with pytest.raises(ArgumentError):
        abstention_area([0, 1], [0.1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.5, math.nan]), st.integers(0, 3)), max_size=20))
def test_any_input_has_a_value_or_a_reason(rows):
    found = abstention_area(*([row[k] for row in rows] for k in range(3)), resamples=20)
    assert bool(found.undefined) == math.isnan(found.value)
    if not found.undefined and not math.isnan(found.low):
        assert 0 <= found.low <= found.value + 1e-9 <= found.high + 2e-9


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [200, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("patients", "images"), [(150, 1), (150, 3)])
def test_coverage(patients, images, repeats):
    def cohort(rng, patients, images):
        own = np.repeat(rng.normal(size=patients), images)
        signal = 0.7 * own + 0.7 * rng.normal(size=len(own))
        wrong = rng.random(len(own)) < 1 / (1 + np.exp(1 + 1.2 * signal))
        return wrong, signal, np.repeat(np.arange(patients), images)

    known = abstention_area(*cohort(np.random.default_rng(99), 300_000, 1)[:2], resamples=2).value
    held = 0
    for seed in range(repeats):
        found = abstention_area(*cohort(np.random.default_rng(seed), patients, images), resamples=300)
        held += found.low <= known <= found.high
    slack = 0.0 if repeats > 2000 else 0.025
    assert 0.925 - slack <= held / repeats <= 0.975 + slack, held / repeats
