"""Matching against every possible assignment, against a dense solution with scikit-learn's table, and by its properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.metrics.cluster import contingency_matrix

from overread.core.errors import ArgumentError, InputError
from overread.evaluation.instances.instance_match import DENSE, assigned, centres, match_centres, match_instances
from overread.images.outlines.outlines import outlines_of

LABELS = arrays.arrays(np.int64, (6, 7), elements=st.integers(0, 4))


def dense(truth, drawn):
    """IoU of every true with every predicted object, from scikit-learn's contingency table."""
    t, p = np.unique(truth), np.unique(drawn)
    table = contingency_matrix(truth.ravel(), drawn.ravel()).astype(float)
    union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    return (table / union)[np.ix_(t > 0, p > 0)]


def best(iou, threshold):
    """The number of pairs and the sum of IoU of the best of all assignments, tried one by one."""
    small = iou if iou.shape[0] <= iou.shape[1] else iou.T
    found = (0, 0.0)
    for columns in itertools.permutations(range(small.shape[1]), small.shape[0]):
        held = [small[i, j] for i, j in enumerate(columns) if small[i, j] > threshold]
        found = max(found, (len(held), sum(held)))
    return found


@settings(max_examples=60, deadline=None)
@given(LABELS, LABELS, st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.75]))
def test_no_assignment_is_better(truth, drawn, threshold):
    found = match_instances(truth, drawn, iou=threshold)
    many, total = best(dense(truth, drawn), threshold)
    assert found.hits == many
    assert found.iou.sum() == pytest.approx(total)
    assert (found.iou > threshold).all()
    assert len(set(found.pairs[:, 0])) == len(set(found.pairs[:, 1])) == found.hits


def as_stardist_does(truth, drawn, threshold):
    """Its published rule (``stardist.matching``): one assignment, of the pairs at the threshold and then of the best IoU."""
    scores = dense(truth, drawn)
    if not scores.size:
        return 0
    costs = -(scores > threshold).astype(float) - scores / (2 * min(scores.shape))
    pairs = linear_sum_assignment(costs)
    return int((scores[pairs] > threshold).sum())


@settings(max_examples=60, deadline=None)
@given(LABELS, LABELS, st.sampled_from([0.3, 0.5, 0.6]))
def test_hits_are_those_of_a_dense_assignment(truth, drawn, threshold):
    assert match_instances(truth, drawn, iou=threshold).hits == as_stardist_does(truth, drawn, threshold)


@settings(max_examples=60, deadline=None)
@given(LABELS, LABELS, st.permutations(range(1, 5)), st.permutations(range(1, 5)))
def test_what_objects_are_called_changes_nothing(truth, drawn, names, others):
    one = match_instances(truth, drawn, iou=0.3)
    renamed = np.array([0, *names])[truth], np.array([0, *(10 * n for n in others)])[drawn]
    other = match_instances(*renamed, iou=0.3)
    for number in ("hits", "missed", "false"):
        assert getattr(one, number) == getattr(other, number)
    assert (one.instances.merges, one.instances.splits) == (other.instances.merges, other.instances.splits)
    assert sorted(one.true_status) == sorted(other.true_status)
    assert sorted(one.predicted_status) == sorted(other.predicted_status)


@settings(max_examples=60, deadline=None)
@given(LABELS, LABELS)
def test_to_swap_truth_and_prediction_swaps_merges_and_splits(truth, drawn):
    one, other = match_instances(truth, drawn), match_instances(drawn, truth)
    assert (one.instances.merges, one.instances.splits) == (other.instances.splits, other.instances.merges)
    assert (one.missed, one.false) == (other.false, other.missed)
    for mine, theirs in (
        (one.precision, other.recall),
        (one.recall, other.precision),
        (one.f1, other.f1),
        (one.ap, other.ap),
    ):
        assert mine == theirs or (math.isnan(mine) and math.isnan(theirs))
    word = {"hit": "hit", "miss": "false", "merged": "split", "split": "merge"}
    assert [word[s] for s in one.true_status] == list(other.predicted_status)


def test_what_became_of_each_object():
    truth = np.array([[1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3, 3, 0, 4, 4, 0, 0]])
    drawn = np.array([[9, 9, 9, 9, 9, 9, 9, 0, 5, 5, 6, 6, 0, 7, 7, 0, 8]])
    found = match_instances(truth, drawn)
    assert found.true_status == ("merged", "merged", "split", "hit")
    assert found.predicted_status == ("split", "split", "hit", "false", "merge")  # 5, 6, 7, 8, 9
    assert found.instances.predicted_names.tolist() == [5, 6, 7, 8, 9]
    assert found.partner.tolist() == [-1, -1, -1, 2]
    assert (found.hits, found.missed, found.false) == (1, 3, 4)


def test_a_row_an_object():
    frame = match_instances(np.array([[1, 1, 0, 2, 2]]), np.array([[7, 7, 0, 0, 9]])).to_frame()
    assert frame["status"].tolist() == ["hit", "miss", "hit", "false"]
    assert frame["object"].tolist() == [1, 2, 7, 9]
    assert frame["partner"].tolist() == [7, None, 1, None]
    assert frame["iou"].fillna(0).tolist() == [1, 0, 1, 0]


def test_a_hit_of_a_class_has_the_right_one():
    labels = np.array([[1, 1, 0, 2, 2]])
    truth, drawn = outlines_of(labels, classes=("red", "white")), outlines_of(labels, classes=("red", "red"))
    assert match_instances(truth, drawn).hits == 2
    red, white = (match_instances(truth, drawn, of=name) for name in ("red", "white"))
    assert (red.hits, red.missed, red.false) == (1, 0, 1)
    assert (white.hits, white.missed, white.false) == (0, 1, 0)
    assert red.true_classes == ("red",)


def test_a_hundred_thousand_objects_in_one_image():
    y, x = np.mgrid[:1280, :1280]
    truth = (y // 4 * 320 + x // 4 + 1).astype(np.int32)
    drawn = np.roll(truth, 1, axis=1)
    found = match_instances(truth, drawn, iou=0.5)
    assert len(found.instances.true) == 102_400
    assert found.hits == 102_400  # 12 of the 16 pixels of each are in place: an IoU of .6
    assert match_instances(truth, drawn, iou=0.1).hits == 102_400
    assert match_instances(truth, drawn, iou=0.65).hits == 0


def test_a_large_group_is_solved_as_a_sparse_one():
    rng = np.random.default_rng(0)
    size = math.isqrt(DENSE) + 60
    rows = np.concatenate((np.arange(size), np.arange(size - 1)))  # a chain: all of them connected
    columns = np.concatenate((np.arange(size), np.arange(1, size)))
    gain = rng.random(len(rows))
    kept = assigned(rows, columns, gain)
    assert len(kept) == size
    assert set(kept.tolist()) == set(range(size)), "in a chain there is one assignment of all"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 10_000))
def test_centres_against_all_pairs(true, drawn, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 10, (true, 2)), rng.uniform(0, 10, (drawn, 2))
    found = match_centres(a, b, 3.0)
    apart = cdist(a, b) if true and drawn else np.zeros((true, drawn))
    many, total = best(np.where(apart <= 3, 2 - apart / 3, 0.0), 0.5)
    assert found.hits == many
    assert (2 - found.distance / 3).sum() == pytest.approx(total)
    assert (found.true, found.predicted) == (true, drawn)


def test_centres_are_the_mean_of_the_pixels():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, (9, 11)) * 5
    known = [np.argwhere(labels == k).mean(axis=0) for k in (5, 10, 15)]
    assert centres(labels) == pytest.approx(np.array(known))
    assert centres(np.zeros((3, 3), int)).shape == (0, 2)


def test_what_cannot_be_matched():
    with pytest.raises(InputError, match="differ in size"):
        match_instances(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(ArgumentError):
        match_instances(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ArgumentError):
        match_instances(np.zeros((2, 3), int), np.zeros((2, 3), int), iou=1.0)
    with pytest.raises(ArgumentError):
        match_centres([[0, math.nan]], [[0, 0]], 1)
    with pytest.raises(ArgumentError):
        match_centres([[0, 0]], [[0, 0]], 0)
