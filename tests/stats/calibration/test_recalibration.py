"""Recalibration against scikit-learn, scipy's optimum, and what each promises."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from sklearn.calibration import _sigmoid_calibration
from sklearn.isotonic import IsotonicRegression

from overread.core.errors import ArgumentError
from overread.stats.calibration.recalibration import (
    Isotonic,
    Platt,
    PriorShift,
    Temperature,
    estimate_prior,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from overread.stats.calibration.reliability import intercept_and_slope

logit = lambda p: np.log(p / (1 - p))
expit = lambda x: 1 / (1 + np.exp(-x))


def draw(n, seed=0, digits=9):
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.5, 1.5, n)
    return rng.random(n) < expit(0.5 * x + 0.3), np.round(expit(x), digits).clip(1e-4, 1 - 1e-4)


def several(n, seed=0):
    rng = np.random.default_rng(seed)
    score = rng.normal(size=(n, 4)) * 2
    drawn = np.array([rng.choice(4, p=row) for row in np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)])
    sharp = np.exp(2.5 * score)
    return drawn, sharp / sharp.sum(axis=1, keepdims=True)


def test_temperature_is_the_optimum_of_scipy():
    truth, p = draw(400)
    loss = lambda t: np.logaddexp(0, -np.where(truth, 1, -1) * logit(p) / t).mean()
    best = optimize.minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(truth, p).temperature == pytest.approx(best, rel=1e-5)
    classes, table = several(400)
    inside = np.log(np.clip(table, 1e-6, 1))

    def loss_of(t):
        x = inside / t
        return (np.log(np.exp(x).sum(axis=1)) - x[np.arange(400), classes]).mean()

    best = optimize.minimize_scalar(loss_of, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    assert fit_temperature(classes, table).temperature == pytest.approx(best, rel=1e-5)


def test_temperature_finds_what_was_done_and_keeps_the_order():
    classes, table = several(20_000)
    fitted = fit_temperature(classes, table)
    assert fitted.temperature == pytest.approx(2.5, rel=0.05)
    found = fitted.apply(table)
    np.testing.assert_array_equal(found.argmax(axis=1), table.argmax(axis=1))
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_platt_is_that_of_scikit_learn_and_calibrates():
    truth, p = draw(500)
    a, b = _sigmoid_calibration(logit(p), truth.astype(int))
    fitted = fit_platt(truth, p)
    assert (fitted.slope, fitted.intercept) == pytest.approx((-a, -b), abs=1e-3)
    intercept, slope = intercept_and_slope(truth, fitted.apply(p))
    assert (intercept.value, slope.value) == pytest.approx((0, 1), abs=0.03)


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_isotonic_is_that_of_scikit_learn(digits):
    truth, p = draw(300, digits=digits)
    known = IsotonicRegression(out_of_bounds="clip").fit(p, truth)
    at = np.linspace(0, 1, 501)
    np.testing.assert_allclose(fit_isotonic(truth, p).apply(at), known.predict(at), atol=1e-9)


def test_known_shares_are_bayes_rule():
    shift = PriorShift((0.5, 0.5), (0.9, 0.1))
    found = shift.apply([0.5, 0.9, 0.0, 1.0])
    assert found == pytest.approx([0.1, 0.9 * 0.1 / (0.9 * 0.1 + 0.1 * 0.9), 0, 1])
    table = PriorShift((0.5, 0.25, 0.25), (0.2, 0.4, 0.4)).apply([[0.5, 0.25, 0.25]])
    assert table[0].tolist() == pytest.approx([0.2, 0.4, 0.4])
    np.testing.assert_allclose(PriorShift((0.5, 0.5), (0.9, 0.1)).apply([[0.1, 0.9]])[0, 1], found[1])


@pytest.mark.parametrize("known", [0.05, 0.3, 0.7])
def test_em_finds_the_prevalence_and_the_optimum(known):
    rng = np.random.default_rng(1)
    ill = rng.random(20_000) < known
    p = expit(2 * (rng.normal(size=20_000) + ill * 2) - 2)  # the posterior at even shares
    found = estimate_prior(p, 0.5)
    assert found.deployment[1] == pytest.approx(known, abs=0.015)
    loss = lambda q: -np.log(q * p / 0.5 + (1 - q) * (1 - p) / 0.5).mean()
    best = optimize.minimize_scalar(loss, bounds=(1e-6, 1 - 1e-6), method="bounded", options={"xatol": 1e-10}).x
    assert found.deployment[1] == pytest.approx(best, abs=1e-5)
    several_ = estimate_prior(np.column_stack([1 - p, p]), [0.5, 0.5])
    assert several_.deployment == pytest.approx(found.deployment)


def test_they_are_saved_as_plain_fields():
    truth, p = draw(100)
    for fitted in (fit_temperature(truth, p), fit_platt(truth, p), fit_isotonic(truth, p), estimate_prior(p, 0.3)):
        read = json.loads(json.dumps(dataclasses.asdict(fitted)))
        again = type(fitted)(**{k: tuple(v) if isinstance(v, list) else v for k, v in read.items()})
        assert again == fitted
        np.testing.assert_array_equal(again.apply(p), fitted.apply(p))


def test_classes_told_apart_one_class_and_constants_stay_finite():
    apart = np.arange(40) >= 20
    assert fit_temperature(apart, np.where(apart, 0.9, 0.2)).temperature == pytest.approx(0.01, rel=1e-3)
    assert fit_temperature(apart, np.where(apart, 0.1, 0.8)).temperature == pytest.approx(100, rel=1e-3)
    for truth in (apart, np.ones(40), np.zeros(40)):
        for p in (np.where(apart, 1.0, 0.0), np.full(40, 0.3), np.linspace(0, 1, 40)):
            for fit in (fit_temperature, fit_platt, fit_isotonic):
                found = fit(truth, p).apply(p)
                assert ((found >= 0) & (found <= 1)).all()
    assert fit_platt(apart, np.full(40, 0.3)).apply([0.3])[0] == pytest.approx(0.5, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_any_tuning_data_give_rising_probabilities_and_nan_stays_nan(rows):
    truth, p = ([row[k] for row in rows] for k in range(2))
    for fit in (fit_temperature, fit_isotonic):
        found = fit(truth, p).apply([0.0, *sorted(p), 1.0])
        assert (np.diff(found) >= -1e-12).all()
    for fitted in (
        fit_temperature(truth, p),
        fit_platt(truth, p),
        fit_isotonic(truth, p),
        PriorShift((0.5, 0.5), (1, 0)),
    ):
        found = fitted.apply([math.nan, *p])
        assert math.isnan(found[0])
        assert np.isfinite(found[1:]).all() or isinstance(fitted, PriorShift)


@pytest.mark.slow
def test_a_million_cases():
    truth, p = draw(1_000_000)
    for fit in (fit_temperature, fit_platt, fit_isotonic):
        fit(truth, p).apply(p)
    estimate_prior(p[:200_000], 0.4)


def test_bad_arguments_are_refused():
    for fit in (fit_temperature, fit_platt, fit_isotonic):
        for truth, p in (([], []), ([0, 1], [0.5, math.nan]), ([0, 1], [0.5, 1.5]), ([0, 1], [0.5])):
            with pytest.raises(ArgumentError):
                fit(truth, p)
    for call in (
        lambda: fit_temperature([0, 3], [[0.5, 0.5]] * 2),
        lambda: fit_temperature([0], np.ones((1, 1, 1))),
        lambda: PriorShift((0.5, 0.5), (0.9, 0.2)),
        lambda: PriorShift((1.0, 0.0), (0.5, 0.5)),
        lambda: PriorShift((0.5, 0.5), (0.9, 0.1)).apply([[0.1, 0.2, 0.7]]),
        lambda: estimate_prior([], 0.5),
        lambda: estimate_prior([0.5, math.inf], 0.5),
    ):
        with pytest.raises(ArgumentError):
            call()
    assert {type(x).__name__ for x in (Temperature(1.0), Platt(0.0, 1.0), Isotonic((0.0,), (0.0,)))}
