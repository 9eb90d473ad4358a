"""What fits an accuracy against fallible labels: against linear programmes, scipy's laws, and cases that are drawn and counted."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linprog

from overread.core.errors import ArgumentError
from overread.stats.agreement.imperfect_truth import (
    CallRates,
    difference_bounds,
    majority,
    majority_right,
    measured_accuracy,
    order_is_certain,
    readers_needed,
    repeated_errors,
    true_accuracies,
    true_accuracy_bounds,
)

#: Whether the label is wrong, and whether each of two models disagrees with it: all that two answers leave open.
CELLS = np.array(list(itertools.product([0, 1], repeat=3)))
WRONG = [CELLS[:, 0] ^ CELLS[:, model] for model in (1, 2)]


def extremes(what, labels, first, second):
    """The least and the most of ``what`` over every joint law of wrong labels and disagreements: a linear programme."""
    sums = [np.ones(8), *CELLS.T]
    shares = [1, 1 - labels, 1 - first, 1 - second]
    return (linprog(what, A_eq=np.array(sums), b_eq=shares).fun, -linprog(-what, A_eq=np.array(sums), b_eq=shares).fun)


@pytest.mark.parametrize("seed", range(40))
def test_no_joint_law_goes_beyond_the_bounds_and_some_reach_them(seed):
    labels, first, second = np.random.default_rng(seed).random(3)
    low, high = extremes(WRONG[0], labels, first, second)
    assert true_accuracy_bounds(first, labels) == pytest.approx((1 - high, 1 - low), abs=1e-7)
    low, high = extremes(WRONG[1] - WRONG[0], labels, first, second)
    assert difference_bounds(first, second, labels) == pytest.approx((low, high), abs=1e-7)
    both = (CELLS[:, 0] * WRONG[0]).astype(float)
    assert repeated_errors(first, labels) == pytest.approx(
        extremes(both, labels, first, second)[0] / (1 - labels), abs=1e-7
    )


@pytest.mark.parametrize("seed", range(10))
def test_over_an_interval_the_widest_bounds_are_taken(seed):
    rng = np.random.default_rng(seed)
    labels, (low, measured, high) = rng.random(), np.sort(rng.random(3))
    each = np.array([true_accuracy_bounds(float(m), labels) for m in np.linspace(low, high, 4001)])
    found = true_accuracy_bounds(measured, labels, least=low, most=high)
    assert found == pytest.approx((each[:, 0].min(), each[:, 1].max()), abs=1e-3)


def test_99_against_97():
    """The case study's: 99 % against one doctor proves little."""
    assert true_accuracy_bounds(0.99, 0.97) == pytest.approx((0.96, 0.98))
    assert true_accuracy_bounds(0.97, 0.97) == pytest.approx((0.94, 1.0))
    assert not order_is_certain(0.99, 0.97, 0.97)
    assert not order_is_certain(0.99, 0.97, 0.99)
    assert order_is_certain(0.99, 0.97, 0.9901)
    assert repeated_errors(0.99, 0.97) == pytest.approx(2 / 3)
    assert math.isnan(repeated_errors(0.9, 1.0))


@pytest.mark.parametrize(
    ("right", "readers", "alike"), [(0.9, 3, 0.3), (0.7, 9, 0.1), (0.97, 5, 0.6), (0.6, 101, 0.05)]
)
def test_a_majority_is_scipys(right, readers, alike):
    a, b = right * (1 / alike - 1), (1 - right) * (1 / alike - 1)
    assert majority_right(right, readers, alike=alike) == pytest.approx(
        stats.betabinom(readers, a, b).sf(readers // 2), rel=1e-9
    )
    assert majority_right(right, readers) == pytest.approx(stats.binom(readers, right).sf(readers // 2), rel=1e-9)


def test_a_majority_and_its_correlation_are_those_of_readers_that_are_drawn():
    rng = np.random.default_rng(0)
    cases, chance = 200_000, rng.beta(0.85 * 4, 0.15 * 4, 200_000)  # correlation 1 / (1 + 4)
    calls = rng.random((cases, 5)) < chance[:, None]
    assert np.corrcoef(calls[:, 0], calls[:, 1])[0, 1] == pytest.approx(0.2, abs=0.01)
    assert majority_right(0.85, 5, alike=0.2) == pytest.approx((calls.sum(1) >= 3).mean(), abs=0.004)


def drawn(model: CallRates, reader: CallRates, prevalence: float, shared: float, cases: int = 400_000):
    """Truth, label and call of cases, with errors together as ``shared`` says, by a uniform number a case."""
    rng = np.random.default_rng(1)
    truth = rng.random(cases) < prevalence
    e, f = (np.where(truth, 1 - rates.sensitivity, 1 - rates.specificity) for rates in (model, reader))
    both = e * f + shared * (np.minimum(e, f) - e * f)
    u = rng.random(cases)
    wrong_label = u < f
    wrong_call = (u < both) | ((u >= f) & (u < f + e - both))
    return truth, truth ^ wrong_label, truth ^ wrong_call


@pytest.mark.parametrize("shared", [0.0, 0.4, 1.0])
def test_what_is_measured_is_what_cases_show(shared):
    model, reader, prevalence = CallRates(0.8, 0.95), CallRates(0.9, 0.97), 0.3
    truth, label, call = drawn(model, reader, prevalence, shared)
    assert (call == truth).mean() == pytest.approx(model.accuracy(prevalence), abs=0.002)
    assert (label == truth).mean() == pytest.approx(reader.accuracy(prevalence), abs=0.002)
    assert (call == label).mean() == pytest.approx(
        measured_accuracy(model, reader, prevalence, shared=shared), abs=0.003
    )
    low, high = true_accuracy_bounds(float((call == label).mean()), float((label == truth).mean()))
    assert low - 1e-12 <= (call == truth).mean() <= high + 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_the_accuracies_that_fit_show_what_was_measured_and_no_others_do(seed):
    rng = np.random.default_rng(seed)
    reader, prevalence, shared = (
        CallRates(*rng.uniform(0.6, 1, 2)),
        rng.uniform(0.1, 0.9),
        rng.random() * (seed % 3 > 0),
    )
    grid = np.linspace(0, 1, 2001)
    shown = np.array([measured_accuracy(CallRates(a, a), reader, prevalence, shared=shared) for a in grid])
    measured = float(rng.uniform(shown.min(), shown.max() - 1e-3))
    found = true_accuracies(measured, reader, prevalence, shared=shared)
    crossings = np.flatnonzero(np.diff(np.sign(shown - measured)))
    assert sorted(found) == pytest.approx(grid[crossings], abs=1e-3)
    for a in found:
        assert measured_accuracy(CallRates(a, a), reader, prevalence, shared=shared) == pytest.approx(
            measured, abs=1e-9
        )
    if shown.max() < 0.999:
        assert true_accuracies(float(shown.max()) + 1e-3, reader, prevalence, shared=shared) == ()


def test_the_panel_that_is_needed_is_the_smallest():
    for right in (0.8, 0.9, 0.97):
        rates = CallRates(right, right - 0.05)
        found = readers_needed(rates, 0.4, 0.99)
        reached = [majority(rates, k).accuracy(0.4) > 0.99 for k in range(1, 101, 2)]
        assert found == 1 + 2 * reached.index(True)
    assert readers_needed(CallRates(0.9, 0.9), 0.5, 0.99, alike=0.3) is None


@pytest.mark.parametrize("call", [
    lambda: majority_right(0.9, 4), lambda: majority_right(0.9, 3, alike=1.0), lambda: CallRates(1.2, 0.5),
    lambda: true_accuracy_bounds(0.9, 1.1), lambda: true_accuracy_bounds(0.9, 0.9, least=0.95),
])  # fmt: skip
def test_what_is_refused(call):
    with pytest.raises(ArgumentError):
        call()
