"""Metrics of a confusion matrix against scikit-learn."""

import numpy as np
import pytest
from array_metrics import balanced_accuracy, f1
from sklearn import metrics

from overread.core.errors import ArgumentError
from overread.stats.classification import at_threshold, classes_statistic, confusion
from overread.stats.resample import bootstrap


def draw(n=300, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    return truth, np.where(rng.random(n) < 0.6, truth, rng.integers(0, classes, n))


def test_values_at_a_threshold_are_those_of_scikit_learn():
    truth, flagged = draw()
    found = {e.metric: e for e in at_threshold(truth, flagged, note="score ≥ 0.5")}
    expected = {
        "sensitivity": metrics.recall_score(truth, flagged),
        "specificity": metrics.recall_score(truth, flagged, pos_label=0),
        "ppv": metrics.precision_score(truth, flagged),
        "npv": metrics.precision_score(truth, flagged, pos_label=0),
        "accuracy": metrics.accuracy_score(truth, flagged),
    }
    assert {m: e.value for m, e in found.items()} == pytest.approx(expected)
    assert f1(truth, flagged).value == pytest.approx(metrics.f1_score(truth, flagged))
    assert balanced_accuracy(truth, flagged).value == pytest.approx(metrics.balanced_accuracy_score(truth, flagged))
    assert found["ppv"].images == flagged.sum()
    assert found["ppv"].method.startswith("score ≥ 0.5; Wilson")


def test_empty_denominators_say_why():
    why = {e.metric: e.undefined for e in at_threshold([1, 1], [1, 1])}
    assert why == {
        "sensitivity": "",
        "specificity": "0 negatives",
        "ppv": "",
        "npv": "none called negative",
        "accuracy": "",
    }
    why = {e.metric: e.undefined for e in at_threshold([0, 0], [0, 0])}
    assert why["sensitivity"] == "0 positives"
    assert why["ppv"] == "none called positive"
    assert f1([0, 0], [0, 1]).undefined == "0 positives"
    assert balanced_accuracy([1, 1], [0, 1]).undefined


def test_f1_without_a_hit_is_zero_with_a_width():
    found = f1([1] * 10 + [0] * 10, [0] * 10 + [1] * 10)
    assert (found.value, found.low) == (0, 0)
    assert 0 < found.high < 0.5


def test_several_classes_are_those_of_scikit_learn():
    truth, said = draw(classes=4)
    statistic = classes_statistic(truth, said, 4, np.arange(300), 300, of=("a", "b", "", "d"))
    found = {(e.metric, e.of): e.value for e in bootstrap([statistic], 300, resamples=20)}
    each = metrics.f1_score(truth, said, average=None)
    assert found == pytest.approx({
        ("balanced accuracy", ""): metrics.balanced_accuracy_score(truth, said),
        ("macro f1", ""): each.mean(),
        ("f1", "a"): each[0], ("f1", "b"): each[1], ("f1", "d"): each[3],
    })  # fmt: skip
    np.testing.assert_array_equal(confusion(truth, said, 4), metrics.confusion_matrix(truth, said))


def test_a_class_without_cases_is_left_out_and_said():
    statistic = classes_statistic(np.array([0, 0, 1]), np.array([0, 1, 1]), 3, np.arange(3), 3, note="argmax")
    found = bootstrap([statistic], 3, resamples=50)[0]
    assert found.value == 0.75
    assert "mean over the 2 classes present" in found.method


def test_bad_arguments_are_refused():
    for call in (
        lambda: confusion([0, 3], [0, 1], 2),
        lambda: confusion([0], [0, 1], 2),
        lambda: at_threshold([0, 1], [0]),
    ):
        with pytest.raises(ArgumentError):
            call()
