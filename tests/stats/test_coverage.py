"""Simulated coverage: a nominal 95 % interval holds the truth between 92.5 and 97.5 % of the time.

Populations have a known truth: normal scores of two groups d apart have AUC Φ(d/√2); metrics without a closed form
take theirs from 400,000 patients. Seeds are fixed, so a test passes or fails for good; there are enough repeats to tell
92.5 % from 95 % (standard error below .5 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from sklearn import metrics

from overread.stats.calibration.reliability import intercept_and_slope
from overread.stats.classification import classes_statistic, threshold_statistic
from overread.stats.discrimination.roc import areas_statistic, auc
from overread.stats.estimate import Estimate
from overread.stats.proportions import proportion
from overread.stats.resample import bootstrap

RANGE = (0.925, 0.975)


def coverage(draw: Callable[[np.random.Generator], list[Estimate]], truths: list[float], repeats: int) -> np.ndarray:
    """The share of repeats in which each interval held its truth."""
    held = np.zeros(len(truths))
    for seed in range(repeats):
        found = draw(np.random.default_rng(seed))
        held += [e.low <= truth <= e.high for e, truth in zip(found, truths)]
    return held / repeats


def assert_covers(shares: np.ndarray, low: float = RANGE[0], high: float = RANGE[1]) -> None:
    assert (low <= shares).all(), shares
    assert (shares <= high).all(), shares


def cohort(rng, patients, prevalence, distance, images=1, share=0.0):
    """Truth, score, patient: a patient's scores correlate by ``share``, her images are ill or well together."""
    truth = np.repeat(rng.random(patients) < prevalence, images)
    own = np.repeat(rng.normal(size=patients), images)
    score = distance * truth + math.sqrt(share) * own + math.sqrt(1 - share) * rng.normal(size=patients * images)
    return truth, score, np.repeat(np.arange(patients), images)


def distance_of(area: float) -> float:
    return math.sqrt(2) * NormalDist().inv_cdf(area)


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(
    ("area", "positives", "negatives"), [(0.97, 20, 80), (0.8, 20, 80), (0.9, 50, 50), (0.99, 50, 150)]
)
def test_auc_of_independent_patients(area, positives, negatives):
    """20 positive and 80 negative at AUC .97: the Wald interval covers 83 % only."""
    truth = np.arange(positives + negatives) < positives

    def draw(rng):
        return [auc(truth, distance_of(area) * truth + rng.normal(size=len(truth)))]

    assert_covers(coverage(draw, [area], 6000))


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(("patients", "images", "share"), [(200, 4, 0.5), (100, 3, 0.8)])
def test_auc_of_patients_with_several_images(patients, images, share):
    """200 patients with 4 images at correlation .5: without the patient, coverage is 79 %."""
    unclustered = []

    def draw(rng):
        truth, score, patient = cohort(rng, patients, 0.4, distance_of(0.8), images, share)
        plain = auc(truth, score)
        unclustered.append(plain.low <= 0.8 <= plain.high)
        return [auc(truth, score, patient)]

    assert_covers(coverage(draw, [0.8], 4000))
    assert np.mean(unclustered) < 0.85


@pytest.mark.slow
def test_auc_where_a_patient_has_both_answers():
    def draw(rng):
        own = np.repeat(rng.normal(size=80), 4)
        truth = rng.random(320) < 0.4
        score = distance_of(0.8) * truth + math.sqrt(0.5) * own + math.sqrt(0.5) * rng.normal(size=320)
        return [auc(truth, score, np.repeat(np.arange(80), 4))]

    # positives and negatives of one patient are alike: over pairs of any patients the AUC is a little below .8
    area = _large_mixed_auc()
    assert_covers(coverage(draw, [area], 4000))


def _large_mixed_auc() -> float:
    rng = np.random.default_rng(1)
    own, truth = np.repeat(rng.normal(size=100_000), 4), rng.random(400_000) < 0.4
    score = distance_of(0.8) * truth + math.sqrt(0.5) * own + math.sqrt(0.5) * rng.normal(size=400_000)
    return auc(truth, score).value


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.6, 0.8, 0.9, 0.95])
def test_proportion_of_independent_patients(share):
    """Wilson's coverage jumps with n: averaged over sizes from 60 to 140 it is nominal."""

    def draw(rng):
        return [proportion(rng.random(rng.integers(60, 140)) < share)]

    assert_covers(coverage(draw, [share], 8000))


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "images"), [(200, 4), (40, 4), (25, 3)])
@pytest.mark.parametrize("share", [0.7, 0.9, 0.95])
def test_proportion_of_patients_with_several_images(patients, images, share):
    """Images of a patient agree with correlation one half: each copies her own answer half of the time."""

    def draw(rng):
        own = np.repeat(rng.random(patients) < share, images)
        copied = np.repeat(rng.random(patients) < 0.5, images)
        good = np.where(copied, own, rng.random(patients * images) < share)
        return [proportion(good, np.repeat(np.arange(patients), images))]

    # 25 patients of whom two or three have a failure: the interval has few values, and errs on the wide side
    high = 0.985 if patients == 25 else RANGE[1]
    assert_covers(coverage(draw, [share], 6000), high=high)


@pytest.mark.simulation
@pytest.mark.slow
@pytest.mark.parametrize(
    ("patients", "prevalence", "distance", "images", "share"),
    [(100, 0.2, 2.66, 1, 0.0), (200, 0.3, 1.0, 1, 0.0), (200, 0.1, 1.5, 1, 0.0), (200, 0.3, 1.0, 4, 0.5)],
)
def test_bootstrapped_metrics_at_a_frozen_threshold(patients, prevalence, distance, images, share):
    truth, score, _ = cohort(np.random.default_rng(99), 400_000, prevalence, distance)
    cut = distance / 2
    known = [
        metrics.average_precision_score(truth, score),
        metrics.f1_score(truth, score > cut),
        metrics.balanced_accuracy_score(truth, score > cut),
    ]

    def draw(rng):
        truth, score, patient = cohort(rng, patients, prevalence, distance, images, share)
        statistics = [
            areas_statistic([truth], [score], [patient], ("",), macro=False),
            threshold_statistic(truth, score > cut, patient, patients),
        ]
        return bootstrap(statistics, patients, resamples=300)

    assert_covers(coverage(draw, known, 4000), RANGE[0], RANGE[1])


@pytest.mark.simulation
@pytest.mark.slow
def test_means_over_several_classes():
    def population(rng, patients):
        truth = rng.choice(4, patients, p=[0.5, 0.25, 0.15, 0.1])
        return truth, rng.normal(size=(patients, 4)) + 1.3 * np.eye(4)[truth]

    truth, score = population(np.random.default_rng(99), 200_000)
    known = [
        np.mean([metrics.roc_auc_score(truth == k, score[:, k]) for k in range(4)]),
        metrics.balanced_accuracy_score(truth, score.argmax(axis=1)),
        metrics.f1_score(truth, score.argmax(axis=1), average="macro"),
    ]

    def draw(rng):
        truth, score = population(rng, 250)
        each = [truth == k for k in range(4)]
        own = np.arange(250)
        columns = list(np.ascontiguousarray(score.T))
        statistics = [
            areas_statistic(each, columns, [own] * 4, ("",) * 4, macro=True, each=False),
            classes_statistic(truth, score.argmax(axis=1), 4, own, 250),
        ]
        return bootstrap(statistics, 250, resamples=300)

    assert_covers(coverage(draw, known, 4000), RANGE[0], RANGE[1])


@pytest.mark.simulation
@pytest.mark.slow
def test_calibration_slope_and_intercept():
    def draw(rng):
        logit = rng.normal(-0.5, 1.2, 300)
        truth = rng.random(300) < 1 / (1 + np.exp(-0.7 * logit))
        return [intercept_and_slope(truth, 1 / (1 + np.exp(-logit)))[1]]

    assert_covers(coverage(draw, [0.7], 5000))
