"""Average precision and its curve against scikit-learn."""

import numpy as np
import pytest
from array_metrics import average_precision
from sklearn import metrics

from overread.stats.discrimination.roc import Areas, precision_recall_curve, rank


def draw(n, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.2
    score = rng.normal(size=n) + truth
    return truth, np.round(score, 1) if ties else score


@pytest.mark.parametrize("ties", [True, False])
def test_value_and_curve_are_those_of_scikit_learn(ties):
    truth, score = draw(400, ties=ties)
    found = average_precision(truth, score.astype(np.float32), resamples=50)
    assert found.value == pytest.approx(metrics.average_precision_score(truth, score.astype(np.float32)))
    recall, precision, thresholds = precision_recall_curve(truth, score)
    theirs = metrics.precision_recall_curve(truth, score)
    np.testing.assert_allclose(precision, theirs[0][:-1][::-1])
    np.testing.assert_allclose(recall, theirs[1][:-1][::-1])
    np.testing.assert_allclose(thresholds, theirs[2][::-1])


@pytest.mark.parametrize("ties", [True, False])
def test_weighted_areas_are_those_of_repeated_cases(ties):
    """A resample is a data set in which patients stand several times: scikit-learn, on exactly that data set."""
    truth, score = draw(120, ties=ties)
    patients = np.arange(120) // 2
    weights = np.random.default_rng(1).integers(0, 4, (20, 60)).astype(np.uint16)
    for found, weight in zip(Areas.of(rank(truth, score), patients)(weights), weights):
        rows = np.repeat(np.arange(120), weight[patients])
        assert found[0] == pytest.approx(metrics.roc_auc_score(truth[rows], score[rows]))
        assert found[1] == pytest.approx(metrics.average_precision_score(truth[rows], score[rows]))


def test_a_resample_of_one_class_has_no_area():
    truth, score = np.array([True, False]), np.array([0.8, 0.2])
    areas = Areas.of(rank(truth, score), np.array([0, 1]))
    values = areas(np.array([[2, 0], [0, 2], [0, 0]], np.uint16))
    assert np.isnan(values[:, 0]).all()


@pytest.mark.parametrize(("truth", "score"), [([1, 1], [1, 2]), ([0, 0], [1, 2]), ([], []), ([0, 1], [1, np.nan])])
def test_no_curve_where_it_is_undefined(truth, score):
    assert [len(x) for x in precision_recall_curve(truth, score)] == [0, 0, 0]


def test_awkward_inputs_have_a_value():
    assert average_precision([1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3]).value == 1
    assert average_precision([1, 0, 0, 0], [0.5] * 4).value == 0.25
    one = average_precision([1, 0, 1], [0.9, 0.95, 0.1], ["a"] * 3)
    assert one.value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert np.isnan(one.low)
    assert "no interval" in one.method
    assert str(one) == "0.583 (no interval)"


def test_a_perfect_ranking_has_a_width():
    found = average_precision([0] * 30 + [1] * 10, np.arange(40.0))
    assert found.value == found.high == 1
    assert 0.6 < found.low < 0.9


@pytest.mark.parametrize("digits", [1, 12])
@pytest.mark.parametrize("most", [9, 70_000])
def test_each_area_alone_is_that_of_both_together(digits, most):
    rng = np.random.default_rng(most)
    truth, patients = rng.random(200) < 0.3, rng.integers(0, 60, 200)
    score = np.round(rng.normal(size=200) + truth, digits)
    weights = rng.integers(0, min(most, 65_535), (7, 60)).astype(np.uint16)
    areas = Areas.of(rank(truth, score), patients)
    both = areas(weights)
    np.testing.assert_array_equal(areas.auc(weights), both[:, 0])
    np.testing.assert_array_equal(areas.precision(weights), both[:, 1])
    for found, weight in zip(both, weights[:, patients].astype(float)):
        assert found[0] == pytest.approx(metrics.roc_auc_score(truth, score, sample_weight=weight), abs=1e-12)
        known = metrics.average_precision_score(truth, score, sample_weight=weight)
        assert found[1] == pytest.approx(known, abs=1e-12)
