"""Conformal sets against their definition, and the coverage that they promise."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.core.errors import ArgumentError
from overread.stats.calibration.conformal import ConformalSets, fit_sets, set_coverage
from overread.stats.proportions import proportion


def draw(rng, patients, images=1, classes=4):
    own = np.repeat(rng.normal(size=(patients, classes)), images, axis=0)
    truth = np.repeat(rng.choice(classes, patients, p=[0.5, 0.25, 0.15, 0.1]), images)
    score = np.exp(0.7 * own + 0.7 * rng.normal(size=own.shape) + 1.2 * np.eye(classes)[truth])
    return truth, score / score.sum(axis=1, keepdims=True), np.repeat(np.arange(patients), images)


def slow_scores(probability, method):
    if method == "lac":
        return 1 - probability
    return np.array([[row[row >= p].sum() for p in row] for row in probability])


@pytest.mark.parametrize("method", ["lac", "aps"])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_threshold_is_the_finite_sample_quantile(method, level):
    truth, probability, _ = draw(np.random.default_rng(0), 99)
    probability = np.round(probability, 2)
    fitted = fit_sets(truth, probability, method=method, level=level)
    own = np.sort(slow_scores(probability, method)[np.arange(99), truth])
    assert fitted.thresholds[0] == pytest.approx((own[math.ceil(100 * level) - 1],) * 4)
    expected = slow_scores(probability, method) <= fitted.thresholds[0][0] + 1e-12
    np.testing.assert_array_equal(fitted.sets(probability), expected)


def test_too_few_patients_leave_no_class_out():
    truth, probability, _ = draw(np.random.default_rng(0), 18)
    assert fit_sets(truth, probability, level=0.95).thresholds[0][0] == math.inf
    assert fit_sets(truth, probability, level=0.95).sets(probability).all()
    assert math.isfinite(fit_sets(*draw(np.random.default_rng(0), 19)[:2], level=0.95).thresholds[0][0])


def test_copies_of_an_image_change_nothing():
    truth, probability, _ = draw(np.random.default_rng(2), 60)
    many = np.random.default_rng(0).integers(1, 6, 60)
    copied = fit_sets(np.repeat(truth, many), np.repeat(probability, many, axis=0), np.repeat(np.arange(60), many))
    assert copied == fit_sets(truth, probability)


def test_each_class_and_each_group_has_its_own_threshold():
    truth, probability, _ = draw(np.random.default_rng(1), 400)
    site = np.where(np.arange(400) % 2, "a", "b")
    fitted = fit_sets(truth, probability, by_class=True, groups=site)
    assert fitted.groups == ("a", "b")
    for g, row in zip("ab", fitted.thresholds):
        for k, threshold in enumerate(row):
            rows = (site == g) & (truth == k)
            own = np.sort(1 - probability[rows, k])
            rank = math.ceil((rows.sum() + 1) * 0.9)
            assert threshold == (own[rank - 1] if rank <= rows.sum() else math.inf)
    one = fitted.sets(probability[:1], ["a"])
    np.testing.assert_array_equal(one[0], 1 - probability[0] <= np.array(fitted.thresholds[0]) + 1e-12)


def test_they_are_saved_as_plain_fields():
    truth, probability, _ = draw(np.random.default_rng(1), 100)
    fitted = fit_sets(truth, probability, method="aps")
    read = json.loads(json.dumps(dataclasses.asdict(fitted)))
    again = ConformalSets(
        **{**read, "groups": tuple(read["groups"]), "thresholds": tuple(map(tuple, read["thresholds"]))}
    )
    assert again == fitted


def test_a_case_without_probabilities_gets_every_class():
    truth, probability, _ = draw(np.random.default_rng(1), 100)
    for method in ("lac", "aps"):
        found = fit_sets(truth, probability, method=method).sets([[math.nan] * 4, [0.97, 0.01, 0.01, 0.01]])
        assert found[0].all()
        assert not found[1].all()


def test_coverage_and_size_of_sets():
    sets = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]])
    found = {e.metric: e for e in set_coverage([0, 0, 1, 2], sets)}
    assert {m: e.value for m, e in found.items()} == {
        "set coverage": 0.5, "set size": 1.5, "sets of one class": 0.25, "empty sets": 0.25,
    }  # fmt: skip
    good = proportion([1, 0, 0, 1])
    assert (found["set coverage"].low, found["set coverage"].high) == (good.low, good.high)
    assert {e.undefined for e in set_coverage([], np.zeros((0, 3)))} == {"no cases"}


chances = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=3, max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), chances, st.integers(0, 3)), max_size=20), st.sampled_from(["lac", "aps"]))
def test_any_tuning_data_give_sets(rows, method):
    truth, patients = [row[0] for row in rows], [row[2] for row in rows]
    probability = np.array([row[1] for row in rows]).reshape(-1, 3)
    fitted = fit_sets(truth, probability, patients, method=method, by_class=True)
    assert not np.isnan(fitted.thresholds).any()
    for e in set_coverage(truth, fitted.sets(probability), patients, resamples=20):
        assert bool(e.undefined) == math.isnan(e.value)


def test_bad_arguments_are_refused():
    good = [[0.5, 0.5], [0.2, 0.8]]
    fitted = fit_sets([0, 1], good, groups=["a", "b"])
    for call in (
        lambda: fit_sets([0, 2], good),
        lambda: fit_sets([0], good),
        lambda: fit_sets([0, 1], [[0.5, math.nan], [0.2, 0.8]]),
        lambda: fit_sets([0, 1], good, level=1.0),
        lambda: fit_sets([0, 1], good, method="raps"),
        lambda: fitted.sets(good),
        lambda: fitted.sets(good, ["a", "c"]),
        lambda: fitted.sets([[0.1, 0.2, 0.7]], ["a"]),
        lambda: set_coverage([0, 1], [1, 1]),
    ):
        with pytest.raises(ArgumentError):
            call()


@pytest.mark.slow
def test_a_million_cases():
    rng = np.random.default_rng(0)
    truth, probability, _ = draw(rng, 1_000_000, classes=4)
    assert fit_sets(truth, probability, method="aps").sets(probability).shape == (1_000_000, 4)


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [150, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("patients", "images", "method", "by_class"),
    [(60, 1, "lac", False), (60, 1, "aps", False), (40, 4, "lac", False), (200, 1, "lac", True), (60, 3, "aps", False)],
)
def test_the_promise_is_kept(repeats, patients, images, method, by_class):
    """On average over tuning sets, an image of a new patient has the truth in its set with the level or a bit more."""
    held, size = [], []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        fitted = fit_sets(*draw(rng, patients, images), level=0.85, method=method, by_class=by_class)
        truth, probability, _ = draw(rng, 500)
        inside = fitted.sets(probability)[np.arange(500), truth]
        held.append([inside[truth == k].mean() for k in range(4)] if by_class else inside.mean())
        size.append(math.isinf(max(fitted.thresholds[0])))
    mean, slack = np.mean(held, axis=0), 0.012 if repeats > 1000 else 0.025
    assert (mean >= 0.85 - slack).all(), mean
    if not by_class:
        assert mean <= 0.85 + 1 / (patients + 1) + slack
