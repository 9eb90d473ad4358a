"""Holm's correction against statsmodels; gaps and heterogeneity against their definitions and simulation."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

from overread.core.errors import ArgumentError
from overread.stats.estimate import Estimate, independent_difference, undefined
from overread.stats.hypotheses import gaps, heterogeneity, holm
from overread.stats.proportions import proportion


@pytest.mark.parametrize("p", [[0.04], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.02, 1.0, 0.0]])
def test_holm_is_that_of_statsmodels(p):
    """A few: their function collects the garbage of the whole test run at each call."""
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p):
    """A hypothesis is rejected when every set of hypotheses with it is (Marcus, Peritz & Gabriel 1976)."""
    sets = [s for size in range(1, len(p) + 1) for s in combinations(range(len(p)), size)]
    slow = [max(min(1, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(len(p))]
    np.testing.assert_allclose(holm(p), slow, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_nan_is_no_test(p):
    found, known = holm(p), [x for x in p if not math.isnan(x)]
    assert np.isnan(found).tolist() == np.isnan(p).tolist()
    np.testing.assert_array_equal(found[~np.isnan(found)], holm(known))


def share(k, n):
    return proportion([1] * k + [0] * (n - k), metric="sensitivity")


def test_gaps_are_differences_with_corrected_p_values():
    groups = [share(80, 100), share(40, 60), share(10, 30), undefined("sensitivity", "0 positives")]
    found = gaps(groups)
    raw = [independent_difference(g, groups[0], metric="sensitivity gap") for g in groups[1:]]
    assert [g.gap.p for g in found[:2]] == [d.p for d in raw[:2]]
    assert [g.adjusted for g in found[:2]] == holm([d.p for d in raw[:2]]).tolist()
    assert math.isnan(found[2].adjusted)
    assert "0 positives" in found[2].gap.difference.undefined
    against = gaps(groups[1:3], reference=groups[0])
    assert [g.gap.difference.value for g in against] == [g.gap.difference.value for g in found[:2]]


def test_q_is_that_of_statsmodels():
    values, errors = np.array([0.1, 0.3, 0.25, 0.6]), np.array([0.05, 0.1, 0.07, 0.2])
    groups = [Estimate("bias", v, v - 1.959964 * e, v + 1.959964 * e) for v, e in zip(values, errors)]
    found = heterogeneity(groups, scale="plain")
    known = combine_effects(values, errors**2)
    assert found.statistic == pytest.approx(known.q, rel=1e-5)
    assert found.p == pytest.approx(stats.chi2.sf(known.q, 3), rel=1e-5)
    assert (found.freedom, found.groups) == (3, 4)


def test_q_of_shares_is_near_pearsons_chi_squared():
    found = heterogeneity([share(740, 1000), share(1380, 2000), share(1050, 1500)])
    known = stats.chi2_contingency([[740, 260], [1380, 620], [1050, 450]], correction=False)
    assert found.statistic == pytest.approx(known.statistic, rel=0.03)


def test_groups_without_an_interval_are_left_out_and_ends_have_errors():
    none = heterogeneity([share(8, 10), undefined("sensitivity", "0 positives")])
    assert none.undefined == "1 of 2 groups have an interval"
    assert math.isnan(none.p)
    ends = heterogeneity([share(20, 20), share(0, 20), share(10, 20)])
    assert ends.p < 1e-5
    flat = heterogeneity([Estimate("x", 0.5, 0.5, 0.5), share(10, 20)])
    assert "without width" in flat.undefined
    wide = Estimate("rmse", 2.0, 1.0, 4.0)
    assert heterogeneity([wide, wide], scale="positive").p == 1


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [300, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("sizes", "chance"), [((50, 80, 200), 0.8), ((30,) * 4, 0.9), ((100,) * 5, 0.7)])
def test_equal_groups_are_told_apart_in_5_percent(sizes, chance, repeats):
    told = gap = 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        groups = [proportion(rng.random(n) < chance) for n in sizes]
        told += heterogeneity(groups).p < 0.05
        gap += min(g.adjusted for g in gaps(groups)) < 0.05
    assert 0.02 <= told / repeats <= 0.085
    assert gap / repeats <= 0.075


def test_bad_arguments_are_refused():
    for call in (
        lambda: holm([1.2]),
        lambda: gaps([share(1, 2)]),
        lambda: heterogeneity([share(1, 2)] * 2, scale="logit"),
    ):
        with pytest.raises(ArgumentError):
            call()
