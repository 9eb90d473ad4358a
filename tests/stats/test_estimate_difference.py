"""Differences of independent estimates against published examples, and the test that an interval implies."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from overread.core.errors import ArgumentError
from overread.stats.estimate import (
    Estimate,
    chi_square_tail,
    error_towards,
    independent_difference,
    undefined,
    upper_tail,
)
from overread.stats.proportions import proportion


def share(k, n):
    return proportion([1] * k + [0] * (n - k), metric="sensitivity")


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((6, 7), (2, 7), 0.0582, 0.8062),
    ],
)
def test_wilson_intervals_give_method_10_of_newcombe(first, second, low, high):
    """Newcombe 1998, Statistics in Medicine 17:873, Table II, method 10; and statsmodels."""
    found = independent_difference(share(*first), share(*second)).difference
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    ends = confint_proportions_2indep(*first, *second, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-9)


def test_p_is_below_5_percent_just_where_the_interval_leaves_zero_out():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = share(int(rng.integers(0, 31)), 30), share(int(rng.integers(0, 41)), 40)
        found = independent_difference(a, b)
        assert (found.p < 0.05) == (not found.difference.low <= 0 <= found.difference.high)


def test_a_symmetric_interval_gives_back_its_error_and_t_its_own():
    e = Estimate("d", 0.1, 0.1 - 0.05 * 1.959964, 0.1 + 0.05 * 1.959964)
    assert error_towards(e, 0.0) == error_towards(e, 0.5) == pytest.approx(0.05, rel=1e-6)
    wide = stats.t.ppf(0.975, 8) * 0.05
    assert error_towards(Estimate("d", 0.1, 0.1 - wide, 0.1 + wide), 0.0, freedom=8) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("x", [-3.0, 0.0, 1.7, 6.0])
def test_tails_are_those_of_scipy(x):
    assert upper_tail(x) == pytest.approx(stats.norm.sf(x), rel=1e-12)
    assert upper_tail(x, 7) == pytest.approx(stats.t.sf(x, 7), rel=1e-9)


def test_what_is_undefined_stays_so_and_levels_must_agree():
    found = independent_difference(share(3, 4), undefined("sensitivity", "0 positives"))
    assert found.difference.undefined == "the second is undefined: 0 positives"
    assert math.isnan(found.p)
    assert "no interval" in independent_difference(Estimate("x", 0.5), share(3, 4)).difference.undefined
    with pytest.raises(ArgumentError):
        independent_difference(Estimate("x", 0.5, 0.4, 0.6, 0.9), share(3, 4))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 10, 29, 60])
def test_the_tail_of_chi_square_is_scipys(freedom):
    for x in (0.0, 1e-9, 0.3, 1.0, 3.84, 12.5, 60.0, 400.0):
        assert chi_square_tail(x, freedom) == pytest.approx(stats.chi2.sf(x, freedom), rel=1e-10, abs=1e-300)
    assert math.isnan(chi_square_tail(math.nan, freedom))
    assert chi_square_tail(math.inf, freedom) == 0
