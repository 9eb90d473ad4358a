"""Claims at a margin against the interval they stand for, and statsmodels' two one-sided tests."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from overread.core.errors import ArgumentError
from overread.stats.discrimination.delong import auc_difference
from overread.stats.estimate import Estimate, undefined
from overread.stats.hypotheses import equivalence, non_inferiority, superiority


def estimate(value, error, level=0.95):
    z = stats.norm.ppf(0.5 + level / 2)
    return Estimate("auc difference", value, value - z * error, value + z * error, level)


@settings(max_examples=100, deadline=None)
@given(st.floats(-0.2, 0.2), st.floats(0.001, 0.1), st.floats(0.01, 0.1), st.sampled_from([0.025, 0.05]))
def test_p_is_the_distance_from_the_margin_in_standard_errors(value, error, margin, alpha):
    d = estimate(value, error)
    up, down = stats.norm.sf((value + margin) / error), stats.norm.sf((margin - value) / error)
    close = {"rel": 1e-6, "abs": 1e-300}
    assert non_inferiority(d, margin, alpha=alpha).p == pytest.approx(up, **close)
    assert non_inferiority(d, margin, better="lower").p == pytest.approx(down, **close)
    assert superiority(d, margin).p == pytest.approx(stats.norm.sf((value - margin) / error), **close)
    assert equivalence(d, margin).p == pytest.approx(max(up, down), **close)


@settings(max_examples=100, deadline=None)
@given(st.floats(-0.1, 0.1), st.floats(0.001, 0.05), st.floats(0.01, 0.1))
def test_a_claim_is_shown_just_where_the_interval_lies_beyond_the_margin(value, error, margin):
    d = estimate(value, error)
    assert non_inferiority(d, margin).shown == (d.low > -margin)
    assert equivalence(d, margin).shown == (d.low > -margin and d.high < margin)
    assert superiority(d).shown == (d.low > 0)
    assert superiority(d, better="lower").shown == (d.high < 0)


def test_with_students_t_it_is_the_test_of_statsmodels():
    x = np.random.default_rng(0).normal(0.02, 0.1, 15)
    error, wide = x.std(ddof=1) / math.sqrt(15), stats.t.ppf(0.975, 14)
    d = Estimate("difference", x.mean(), x.mean() - wide * error, x.mean() + wide * error)
    p, low, high = ttost_paired(x, np.zeros(15), -0.08, 0.08)
    assert equivalence(d, 0.08, freedom=14).p == pytest.approx(p, rel=5e-3)
    assert non_inferiority(d, 0.08, freedom=14).p == pytest.approx(low[1], rel=5e-3)
    assert non_inferiority(d, 0.08, better="lower", freedom=14).p == pytest.approx(high[1], rel=5e-3)


def test_margin_and_direction_are_named():
    claim = non_inferiority(estimate(-0.01, 0.015), 0.05)
    assert str(claim).startswith("non-inferiority, margin 0.05 (higher is better): shown, p = 0.004")
    assert claim.bound == (-0.05,)
    assert non_inferiority(estimate(0.01, 0.015), 0.05, better="lower").bound == (0.05,)
    assert equivalence(estimate(0, 0.01), 0.05).bound == (-0.05, 0.05)


def test_an_undefined_difference_shows_nothing_and_identical_models_are_not_inferior():
    for d in (undefined("auc difference", "0 positives"), Estimate("auc difference", 0.1)):
        claim = non_inferiority(d, 0.05)
        assert not claim.shown
        assert math.isnan(claim.p)
        assert claim.undefined
    same = auc_difference([0, 1, 0, 1], [1, 2, 3, 4], [1, 2, 3, 4]).difference
    assert non_inferiority(same, 0.05).p == 0
    assert not superiority(same).shown


def test_bad_arguments_are_refused():
    d = estimate(0, 0.01)
    for call in (
        lambda: non_inferiority(d, 0.0),
        lambda: non_inferiority(d, -0.05),
        lambda: non_inferiority(d, math.nan),
        lambda: superiority(d, -0.01),
        lambda: equivalence(d, math.inf),
        lambda: non_inferiority(d, 0.05, better="more"),
        lambda: non_inferiority(d, 0.05, alpha=0.9),
    ):
        with pytest.raises(ArgumentError):
            call()


@pytest.mark.parametrize("repeats", [300, pytest.param(4000, marks=pytest.mark.slow)])
def test_at_the_margin_itself_the_claim_is_shown_in_2_and_a_half_percent(repeats):
    truth, shown = np.arange(200) < 80, 0
    new, old = (math.sqrt(2) * stats.norm.ppf(a) for a in (0.8, 0.85))
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        common, a, b = rng.normal(size=(3, 200)) * math.sqrt(0.5)
        scores = new * truth + common + a, old * truth + common + b
        shown += non_inferiority(auc_difference(truth, *scores).difference, 0.05).shown
    assert 0.01 <= shown / repeats <= 0.045
