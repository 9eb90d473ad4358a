"""Errors of a predicted number against scikit-learn and scipy."""

import numpy as np
import pytest
from array_metrics import errors_of
from scipy import stats
from sklearn import metrics

from overread.stats.regression import METRICS


def test_values_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.normal(1e4, 3, 200)  # far from zero: sums of squares must not lose digits
    said = truth + rng.normal(0.5, 1, 200)
    found = {e.metric: e for e in errors_of(truth, said, np.arange(200) // 2, of="age")}
    assert {m: e.value for m, e in found.items()} == pytest.approx({
        "mae": metrics.mean_absolute_error(truth, said), "rmse": metrics.root_mean_squared_error(truth, said),
        "bias": (said - truth).mean(), "r2": metrics.r2_score(truth, said), "pearson": stats.pearsonr(truth, said)[0],
    })  # fmt: skip
    assert all(e.low < e.value < e.high and e.patients == 100 for e in found.values())
    assert found["r2"].high < 1


def test_undefined_says_why():
    flat = dict(zip(METRICS, errors_of([2, 2, 2], [1, 2, 3])))
    assert flat["r2"].undefined == flat["pearson"].undefined == "the truth or the prediction is constant"
    assert flat["mae"].value == pytest.approx(2 / 3)


def test_a_perfect_prediction_is_defined():
    found = {e.metric: e.value for e in errors_of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])}
    assert found == pytest.approx({"mae": 0, "rmse": 0, "bias": 0, "r2": 1, "pearson": 1})
