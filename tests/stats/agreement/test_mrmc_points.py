"""Readers as points, and a model's curve read where they stand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from overread.core.errors import ArgumentError
from overread.stats.agreement.mrmc import compare_with_reader, reader_points
from overread.stats.proportions import wilson


def draw(rng, cases=100, ill=0.4, distance=1.5, images=1, cut=0.6):
    """A model and a reader of the same skill, who find the same cases hard."""
    truth = np.repeat(np.arange(cases) < ill * cases, images)
    hard = math.sqrt(0.4) * np.repeat(rng.normal(size=cases), images)
    score, reader = distance * truth + hard + math.sqrt(0.6) * rng.normal(size=(2, len(truth)))
    return truth, score, reader > cut * distance, np.repeat(np.arange(cases), images)


def test_points_are_those_of_scikit_learn_and_wilson():
    truth, score, calls, _ = draw(np.random.default_rng(0))
    points = reader_points(truth, np.column_stack((calls, score > 1)), names=("first", "second"))
    for called, point in zip((calls, score > 1), points):
        assert point.sensitivity.value == pytest.approx(metrics.recall_score(truth, called))
        assert point.specificity.value == pytest.approx(metrics.recall_score(~truth, ~called))
    hits = calls[truth].mean()
    assert (points[0].sensitivity.low, points[0].sensitivity.high) == pytest.approx(
        wilson(hits, 40, 1.959964), abs=1e-6
    )
    assert points[1].specificity.of == "second"


def test_a_case_that_a_reader_did_not_read_is_left_out():
    points = reader_points([1, 1, 0, 0], [[1, np.nan], [0, 1], [0, np.nan], [1, np.nan]])
    assert points[0].sensitivity.images == 2
    assert points[1].sensitivity.value == 1
    assert points[1].specificity.undefined == "0 negatives"
    assert reader_points([1, 0], np.zeros((2, 0))) == []


def slow(truth, score, calls):
    """The highest sensitivity of any threshold that is at least as specific as the reader, and the reverse."""
    sensitivity, specificity = calls[truth].mean(), (~calls[~truth]).mean()
    points = [((score >= t)[truth].mean(), (score < t)[~truth].mean()) for t in [*score, math.inf]]
    at_specificity = max(one for one, other in points if other >= specificity - 1e-12)
    at_sensitivity = max(other for one, other in points if one >= sensitivity - 1e-12)
    return at_specificity - sensitivity, at_sensitivity - specificity


@pytest.mark.parametrize("seed", range(5))
def test_differences_are_those_of_the_definition(seed):
    truth, score, calls, _ = draw(np.random.default_rng(seed), cases=60)
    found = compare_with_reader(truth, score, calls, resamples=50)
    expected = slow(truth, score, calls)
    assert found.sensitivity.difference.value == pytest.approx(expected[0])
    assert found.specificity.difference.value == pytest.approx(expected[1])
    assert found.sensitivity.second.value == pytest.approx(calls[truth].mean())
    assert found.sensitivity.first.value - found.sensitivity.second.value == pytest.approx(expected[0])


def test_between_two_steps_the_curve_is_a_line():
    """Scores 2, 1, 0 with 1/2, 1/2, 0 of the ill and 0, 1/2, 1/2 of the well: at specificity 3/4, sensitivity 3/4."""
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    score = np.array([2, 2, 1, 1, 1, 1, 0, 0])
    calls = np.array([1, 0, 0, 0, 1, 0, 0, 0])
    found = compare_with_reader(truth, score, calls, resamples=50)
    assert found.sensitivity.first.value == pytest.approx(0.75)
    assert found.specificity.first.value == pytest.approx(1.0)  # at sensitivity 1/4


def test_the_interval_is_that_of_a_slow_bootstrap():
    rng = np.random.default_rng(4)
    truth, score, calls, patients = draw(rng, cases=80, images=2)
    found = compare_with_reader(truth, score, calls, patients)
    rows = [np.flatnonzero(patients == p) for p in range(80)]
    spread = []
    for _ in range(400):
        pick = np.concatenate([rows[p] for p in rng.integers(0, 80, 80)])
        spread.append(slow(truth[pick], score[pick], calls[pick]))
    expected = np.std(spread, axis=0)
    assert found.sensitivity.error == pytest.approx(expected[0], rel=0.12)
    assert found.specificity.error == pytest.approx(expected[1], rel=0.12)
    gap = found.sensitivity
    assert gap.p == pytest.approx(2 * stats.norm.sf(abs(gap.difference.value) / gap.error), rel=1e-6)


def test_perfect_answers_keep_a_width():
    truth = np.arange(40) < 20
    found = compare_with_reader(truth, truth.astype(float), truth.astype(float))
    gap = found.sensitivity.difference
    assert gap.value == 0
    assert (gap.low, gap.high) == pytest.approx((-0.161, 0.161), abs=1e-3)
    assert found.sensitivity.p == 1


@pytest.mark.parametrize(
    ("truth", "score", "why"),
    [
        ([1, 1], [0.1, 0.2], "0 negatives"),
        ([0, 1], [0.1, np.nan], "1 of 2 scores are not finite"),
        ([], [], "no cases"),
    ],
)
def test_undefined_says_why(truth, score, why):
    found = compare_with_reader(truth, score, np.ones(len(truth)))
    assert found.sensitivity.difference.undefined == found.specificity.first.undefined == why
    assert math.isnan(found.sensitivity.p)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_reader_has_an_answer(data):
    size = data.draw(st.integers(0, 10))
    row = lambda kind: data.draw(st.lists(kind, min_size=size, max_size=size))
    odd = data.draw(st.booleans())
    truth, calls = row(st.booleans()), row(st.sampled_from([0.0, 1.0, np.nan] if odd else [0.0, 1.0]))
    score = row(st.sampled_from([0.0, 1.0, 2.0, np.nan, np.inf] if odd else [0.0, 1.0, 2.0]))
    patients = row(st.integers(0, 4))
    found = compare_with_reader(truth, score, calls, patients, resamples=30)
    points = reader_points(truth, np.reshape(calls, (size, 1)), patients)
    differences = [found.sensitivity, found.specificity]
    every = [e for d in differences for e in (d.first, d.second, d.difference)]
    for e in [*every, points[0].sensitivity, points[0].specificity]:
        assert math.isnan(e.value) == bool(e.undefined)
        if not e.undefined and math.isnan(e.low):
            assert "no interval" in e.method
        elif not e.undefined:
            assert -1 <= e.low <= e.value + 1e-12
            assert e.value - 1e-12 <= e.high <= 1


def test_bad_arguments_are_refused():
    for call in (
        lambda: compare_with_reader([0, 1], [0.1, 0.2], [0, 0.5]),
        lambda: compare_with_reader([0, 1], [0.1, 0.2], [0]),
        lambda: reader_points([0, 1], [0, 1]),
        lambda: reader_points([0, 1], [[0], [2]]),
        lambda: reader_points([0, 1], [["no"], ["yes"]]),
        lambda: reader_points([0, 1], [[0], [1]], names=["a", "b"]),
    ):
        with pytest.raises(ArgumentError):
            call()


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cases", "ill", "distance", "images"),
    [(100, 0.5, 1.5, 1), (100, 0.2, 2.0, 1), (120, 0.5, 1.0, 1), (80, 0.5, 1.5, 3)],
)
def test_a_model_as_good_as_the_reader_is_covered(cases, ill, distance, images):
    repeats, held = 2000, np.zeros(2)
    for seed in range(repeats):
        truth, score, calls, patients = draw(np.random.default_rng(seed), cases, ill, distance, images)
        found = compare_with_reader(truth, score, calls, patients, resamples=300)
        held += [d.difference.low <= 0 <= d.difference.high for d in (found.sensitivity, found.specificity)]
    assert (held / repeats >= 0.925).all(), held / repeats
    assert (held / repeats <= 0.975).all(), held / repeats
