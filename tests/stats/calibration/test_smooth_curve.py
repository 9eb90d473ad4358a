"""The smooth calibration curve against a regression by statsmodels on another basis, and its band by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.interpolate import CubicSpline

from overread.core.errors import ArgumentError
from overread.stats.calibration.smooth_curve import smooth_curve, spline


def expit(x):
    return 1 / (1 + np.exp(-x))


def draw(n, seed, images=1, wave=0.0, slope=1.0):
    """Logits, and truth whose own logit is a curve of them."""
    rng = np.random.default_rng(seed)
    own = np.repeat(rng.normal(size=n), images)
    x = 1.5 * (np.sqrt(0.5) * own + np.sqrt(0.5) * rng.normal(size=len(own))) - 1
    return rng.random(len(x)) < expit(true_logit(x, wave, slope)), expit(x), np.repeat(np.arange(n), images)


def true_logit(x, wave, slope=1.0):
    return slope * x + wave * np.sin(x)


def natural(x, knots):
    """The same functions by scipy: natural cubic splines through a one at each knot, straight beyond the outer ones."""
    basis = CubicSpline(knots, np.eye(len(knots)), bc_type="natural")
    inside = basis(np.clip(x, knots[0], knots[-1]))
    slopes = basis(knots[[0, -1]], 1)
    return inside + np.minimum(x - knots[0], 0)[:, None] * slopes[0] + np.maximum(x - knots[-1], 0)[:, None] * slopes[1]


@pytest.mark.parametrize("count", [3, 4, 5])
def test_the_basis_spans_the_natural_cubic_splines(count):
    x, knots = np.linspace(-4, 4, 200), np.linspace(-2, 2, count)
    ours, theirs = spline(x, knots), natural(x, knots)
    assert np.linalg.matrix_rank(np.column_stack([ours, theirs]), tol=1e-8) == count == ours.shape[1]


@pytest.mark.parametrize("images", [1, 4])
def test_curve_and_band_are_those_of_statsmodels_on_another_basis(images):
    truth, chance, who = draw(300, 0, images, wave=0.5)
    found = smooth_curve(truth, chance, who)
    logit = np.log(chance / (1 - chance))
    knots = np.quantile(logit, [0.05, 0.35, 0.65, 0.95])
    shown = np.log(found.predicted / (1 - found.predicted))
    columns, at = natural(logit, knots), natural(shown, knots)
    fit = sm.Logit(truth.astype(float), columns).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": who, "use_correction": False}
    )
    np.testing.assert_allclose(found.observed, expit(at @ fit.params), atol=1e-6)
    error = np.sqrt(np.einsum("pi,ij,pj->p", at, fit.cov_params() * 300 / 299, at))
    wide = 1.959964 if images == 1 else 1.967930  # Student's t with 299 degrees of freedom
    np.testing.assert_allclose(found.high, expit(at @ fit.params + wide * error), atol=2e-5)
    assert "4 knots" in found.method
    assert ("by patient" in found.method) == (images > 1)


def test_a_wave_is_seen_and_a_calibrated_model_lies_within_its_band():
    truth, chance, _ = draw(20_000, 1, wave=1.0)
    found = smooth_curve(truth, chance)
    wanted = expit(true_logit(np.log(found.predicted / (1 - found.predicted)), 1.0))
    assert np.abs(found.observed - wanted).max() < 0.08
    assert ((found.predicted < found.low) | (found.predicted > found.high)).mean() > 0.5
    found = smooth_curve(*draw(20_000, 1)[:2])
    assert np.abs(found.observed - found.predicted).max() < 0.03


@pytest.mark.parametrize(
    ("truth", "chance", "why"),
    [
        ([1, 1], [0.2, 0.3], "0 negatives"), ([], [], "no cases"), ([0, 1], [0.5, 1.5], "1 of 2 scores are not probabilities"),
        ([0, 1], [0.5, np.nan], "1 of 2 scores are not finite"), ([0, 1, 1], [0.4] * 3, "the scores are all equal"),
        ([0] * 50 + [1] * 50, np.linspace(0.01, 0.99, 100), "the scores tell the classes apart completely"),
    ],
)  # fmt: skip
def test_what_has_no_curve_says_why(truth, chance, why):
    found = smooth_curve(truth, chance)
    assert found.undefined == why
    assert not len(found.observed)


def test_few_events_or_few_values_make_a_straight_line():
    truth, chance, _ = draw(60, 3)
    few = smooth_curve(truth & (np.cumsum(truth) <= 8), chance)
    assert "line" in few.method
    two = smooth_curve([0, 1, 0, 1, 1, 0] * 50, [0.2, 0.2, 0.2, 0.7, 0.7, 0.7] * 50)
    assert "line" in two.method
    assert "3 knots" in smooth_curve(*draw(70, 3)[:2]).method
    one = smooth_curve([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8], ["a"] * 4)
    assert np.isnan(one.low).all()
    with pytest.raises(ArgumentError, match="three knots"):
        spline(np.zeros(3), np.array([0.0, 1.0]))


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [200, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("patients", "images"), [(150, 1), (400, 1), (150, 4)])
def test_coverage_of_the_band(patients, images, repeats):
    held = np.zeros(3)
    for seed in range(repeats):
        truth, chance, who = draw(patients, seed, images, slope=0.7)
        found = smooth_curve(truth, chance, who)
        wanted = expit(true_logit(np.log(found.predicted / (1 - found.predicted)), 0.0, 0.7))
        held += ((found.low <= wanted) & (wanted <= found.high))[[5, 40, 90]]
    slack = 0.0 if repeats > 1000 else 0.025
    assert (held / repeats >= 0.915 - slack).all(), held / repeats  # the docs say 92 % for few patients
