"""Intervals around a predicted number: the quantile, its coverage with clusters, and what cannot be fitted."""

import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.stats.calibration.conformal import fit_intervals, interval_coverage


@pytest.mark.parametrize("seed", range(5))
def test_the_width_is_the_order_statistic(seed):
    rng = np.random.default_rng(seed)
    truth, said = rng.normal(size=(2, 40)) * 7
    found = fit_intervals(truth, said, level=0.8).half_widths[0]
    assert found == pytest.approx(np.sort(np.abs(truth - said))[int(np.ceil(41 * 0.8)) - 1], rel=1e-12)


def test_each_patient_counts_once():
    truth = np.zeros(13)
    said = np.array([9.0] * 4 + list(range(1, 10)))  # one patient with four large residuals, nine with one
    patients = [0] * 4 + list(range(1, 10))
    assert fit_intervals(truth, said, patients, level=0.5).half_widths == (pytest.approx(6.0),)
    assert fit_intervals(truth, said, level=0.5).half_widths == (pytest.approx(7.0),)


def test_groups_have_widths_of_their_own_and_too_few_no_end():
    truth, said = np.zeros(30), np.r_[np.arange(20) / 10, np.arange(10) * 1.0]
    groups = ["a"] * 20 + ["b"] * 10
    found = fit_intervals(truth, said, groups=groups, level=0.9)
    assert found.width(3, ["b", "a", "b"]).tolist() == pytest.approx([9.0, 1.8, 9.0])
    assert np.isinf(fit_intervals([0, 0], [1, 2], level=0.9).half_widths[0])
    assert interval_coverage([0], [5], [np.inf])[1].undefined.startswith("too few tuning patients")
    with pytest.raises(ArgumentError, match="without tuning data"):
        found.width(1, ["c"])
    with pytest.raises(ArgumentError, match="finite"):
        fit_intervals([0, np.nan], [1, 2])


def test_a_prediction_that_is_not_finite_holds_nothing_and_no_case_is_undefined():
    assert interval_coverage([1, 1], [np.nan, 1], [1, 1])[0].value == 0.5
    assert interval_coverage([], [], [])[0].undefined


def test_simulated_coverage_with_clusters():
    """Of new patients' images, over many fits: nominal 90 %, at least that and hardly more."""
    rng, held = np.random.default_rng(1), []
    for _ in range(400):

        def draw(people):
            size = rng.integers(1, 6, people)
            who = np.repeat(np.arange(people), size)
            return who, rng.normal(size=people)[who] + rng.normal(size=len(who)) * np.exp(rng.normal(size=people))[who]

        who, error = draw(60)
        width = fit_intervals(error, 0 * error, who, level=0.9).half_widths[0]
        new, error = draw(100)
        first = np.unique(new, return_index=True)[1]
        held.append((np.abs(error[first]) <= width).mean())
    assert 0.895 < np.mean(held) < 0.925
