"""Checking arrays, numbering patients, quantiles."""

import numpy as np
import pytest
from scipy import stats

from overread.core.errors import ArgumentError
from overread.stats.arrays import distinct, expit, normal_quantile, numbers, patient_codes, t_quantile, zero_one


@pytest.mark.parametrize("patients", [["b", "a", "b"], [7, 3, 7], [10**12, -1, 10**12], np.array(["x", "y", "x"])])
def test_patients_are_numbered_alike_whatever_they_are_called(patients):
    codes = patient_codes(patients, 3)
    assert codes[0] == codes[2] != codes[1]
    assert sorted(set(codes)) == [0, 1]
    assert distinct(codes) == 2


def test_without_patients_each_row_is_its_own():
    assert patient_codes(None, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("truth", [[0, 2], [0, np.nan], ["a", "b"], [[0, 1]], [0.5, 1]])
def test_truth_must_be_zero_or_one(truth):
    with pytest.raises(ArgumentError):
        zero_one(truth)


def test_lengths_must_agree():
    with pytest.raises(ArgumentError, match="equally long"):
        numbers([0.1, 0.2], 3)
    with pytest.raises(ArgumentError, match="one patient per row"):
        patient_codes(["a"], 2)
    with pytest.raises(ArgumentError, match="must be numbers"):
        numbers(["high", "low"])


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_quantiles_are_those_of_scipy(level):
    assert normal_quantile(level) == pytest.approx(stats.norm.ppf(0.5 + level / 2))
    for freedom in (3, 5, 10, 30, 1000):
        assert t_quantile(level, freedom) == pytest.approx(stats.t.ppf(0.5 + level / 2, freedom), rel=0.01)


def test_expit_has_no_overflow():
    assert expit(-1000) == 0
    assert expit(1000) == 1
