"""Weighted areas and shares against scikit-learn, loops, copied rows, and the population they are for."""

import math

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics

from overread.core.errors import ArgumentError
from overread.stats.discrimination.roc import auc
from overread.stats.proportions import proportion
from overread.stats.weighted import weighted_auc, weighted_proportion


def draw(count=120, images=1, seed=0, digits=1):
    rng = np.random.default_rng(seed)
    truth, who = rng.random(count) < 0.4, np.arange(count) // images
    score = np.round(truth + rng.normal(size=count) + rng.normal(size=count)[who], digits)
    return truth, score, rng.choice([0.5, 1.0, 7.0], count), who


@pytest.mark.parametrize("digits", [0, 1, 9])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_values_are_those_of_scikit_learn(digits, kind):
    truth, score, weight, who = draw(digits=digits)
    expected = metrics.roc_auc_score(truth, score.astype(kind), sample_weight=weight)
    assert weighted_auc(truth, score.astype(kind), weight, who).value == pytest.approx(expected, abs=1e-10)
    right = metrics.accuracy_score(truth, score > 0.5, sample_weight=weight)
    assert weighted_proportion(truth == (score > 0.5), weight).value == pytest.approx(right, abs=1e-10)


def test_whole_weights_are_copies():
    truth, score, weight, _ = draw()
    many = (2 * weight).astype(int)
    copied = auc(np.repeat(truth, many), np.repeat(score, many)).value
    assert weighted_auc(truth, score, weight).value == pytest.approx(copied, abs=1e-12)


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 3.0, 1e-200, 1e300])
def test_equal_weights_weigh_nothing(images, scale):
    truth, score, _, who = draw(images=images)
    one, plain = weighted_auc(truth, score, np.full(120, scale), who), auc(truth, score, who)
    assert (one.value, one.low, one.high) == pytest.approx((plain.value, plain.low, plain.high), abs=1e-12)
    one, plain = weighted_proportion(truth, np.full(120, scale), who), proportion(truth, who)
    assert (one.value, one.low, one.high) == pytest.approx((plain.value, plain.low, plain.high), abs=1e-12)


def kish(total):
    return sum(total) ** 2 / sum(t * t for t in total)


@pytest.mark.parametrize("images", [1, 3])
def test_the_interval_of_the_area_is_that_of_loops(images):
    truth, score, weight, who = draw(images=images)
    ill, well = np.flatnonzero(truth), np.flatnonzero(~truth)
    wins = {(i, j): float(score[i] > score[j]) + 0.5 * (score[i] == score[j]) for i in ill for j in well}
    heavy = weight[ill].sum(), weight[well].sum()
    area = sum(weight[i] * weight[j] * wins[i, j] for i, j in wins) / (heavy[0] * heavy[1])
    moved = np.zeros((2, who.max() + 1))
    for i in ill:
        beaten = sum(weight[j] * wins[i, j] for j in well) / heavy[1]
        moved[0, who[i]] += weight[i] * (beaten - area) / heavy[0]
    for j in well:
        above = sum(weight[i] * wins[i, j] for i in ill) / heavy[0]
        moved[1, who[j]] += weight[j] * (above - area) / heavy[1]
    variance = 0.0
    for rows, part in zip((truth, ~truth), moved):
        many = kish([weight[rows & (who == p)].sum() for p in set(who[rows])])
        variance += many / (many - 1) * sum(part**2)
    people = len(set(who))
    variance += 2 * people / (people - 1) * sum(moved[0] * moved[1])
    half = stats.norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
    found = weighted_auc(truth, score, weight, who)
    expected = area, *(special.expit(special.logit(area) + x) for x in (-half, half))
    assert (found.value, found.low, found.high) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("images", [1, 3])
def test_the_interval_of_the_share_is_that_of_loops(images):
    hit, _, weight, who = draw(images=images)
    share = sum(w for w, h in zip(weight, hit) if h) / sum(weight)
    own = [(weight[who == p] * (hit[who == p] - share)).sum() / weight.sum() for p in set(who)]
    many = kish([weight[who == p].sum() for p in set(who)])
    error = math.sqrt(many / (many - 1) * sum(x * x for x in own))
    half = stats.t.ppf(0.975, int(many - 1)) * error / (share * (1 - share))
    found = weighted_proportion(hit, weight, who)
    expected = share, *(special.expit(special.logit(share) + x) for x in (-half, half))
    assert (found.value, found.low, found.high) == pytest.approx(expected, abs=1e-4)  # t by expansion


def test_awkward_input_has_a_value_or_a_reason():
    assert weighted_auc([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 1, 1]).value == 1
    assert weighted_auc([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 1, 1]).low > 0
    assert weighted_auc([0, 1, 1], [1, 2, 3], [0, 1, 2]).undefined == "0 negatives"
    assert weighted_auc([0, 1], [1, 2], [0, 0]).undefined == "every weight is 0"
    assert weighted_proportion([0, 1], [0, 0]).undefined == "every weight is 0"
    assert weighted_auc([], [], []).undefined
    assert "not finite" in weighted_auc([0, 1], [1, math.nan], [1, 2]).undefined
    assert weighted_auc([0, 1, 1], [2, math.nan, 1], [1, 0, 2]).value == 0  # who stands for nobody is not asked
    assert weighted_auc([0, 1, 0, 1], [5, 5, 5, 5], [1, 2, 3, 4]).value == 0.5
    one = weighted_proportion([1, 0, 1], [1, 2, 3], [7, 7, 7])
    assert 0 <= one.low < one.value < one.high <= 1
    all_right = weighted_proportion([1] * 20, np.arange(1, 21))
    assert (all_right.value, all_right.high) == (1, 1)
    assert all_right.low < 0.84  # Wilson's of 20


@pytest.mark.parametrize("weights", [[1, -1], [1, math.nan], [1, math.inf], [1], [[1, 1]], ["a", "b"]])
def test_bad_weights_are_refused(weights):
    with pytest.raises(ArgumentError):
        weighted_auc([0, 1], [1, 2], weights)
    with pytest.raises(ArgumentError):
        weighted_proportion([0, 1], weights)


@pytest.mark.slow
def test_a_million_cases():
    rng = np.random.default_rng(0)
    truth = rng.random(1_000_000) < 0.3
    assert weighted_auc(truth, truth + rng.normal(size=len(truth)), rng.random(len(truth)) + 0.1).high < 1


def enriched(rng, patients, images):
    """Half of the sample are ill, who are one in ten; of the well half have a mimic, as one in five has."""
    ill = rng.random(patients) < 0.5
    mimic = ~ill & (rng.random(patients) < 0.5)
    weight = np.where(ill, 0.1 / 0.5, np.where(mimic, 0.9 * 0.2 / 0.25, 0.9 * 0.8 / 0.25))
    own, who = rng.normal(size=patients), np.repeat(np.arange(patients), images)
    score = (1.8 * ill + 1.2 * mimic + 0.6 * own)[who] + 0.8 * rng.normal(size=len(who))
    return ill[who], score, weight[who], who


TRUE_AUC = 0.8 * stats.norm.cdf(1.8 / math.sqrt(2)) + 0.2 * stats.norm.cdf(0.6 / math.sqrt(2))
TRUE_ACCURACY = 0.1 * stats.norm.sf(-0.8) + 0.9 * (0.8 * stats.norm.cdf(1.0) + 0.2 * stats.norm.cdf(-0.2))


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [250, pytest.param(4000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("patients", "images"), [(60, 1), (200, 1), (100, 3)])
def test_coverage_in_an_enriched_sample(patients, images, repeats):
    """The unweighted area and accuracy are of another population: they hold the truth far less often."""
    held, plain = np.zeros(2), np.zeros(2)
    for seed in range(repeats):
        truth, score, weight, who = enriched(np.random.default_rng(seed), patients, images)
        right = truth == (score > 1)
        found = weighted_auc(truth, score, weight, who), weighted_proportion(right, weight, who)
        bare = auc(truth, score, who), proportion(right, who)
        held += [e.low <= t <= e.high for e, t in zip(found, (TRUE_AUC, TRUE_ACCURACY))]
        plain += [e.low <= t <= e.high for e, t in zip(bare, (TRUE_AUC, TRUE_ACCURACY))]
    slack = 0.0 if repeats > 2000 else 0.03
    assert (0.925 - slack <= held / repeats).all(), held / repeats
    assert (held / repeats <= 0.975 + slack).all(), held / repeats
    assert patients < 200 or (plain[0] < held[0]), plain / repeats
