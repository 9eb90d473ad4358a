"""Metrics made of others keep what each part does not know: a part that happens to be perfect is not taken as known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

from overread.stats.classification import classes_statistic, confusion, threshold_statistic
from overread.stats.discrimination.delong import bootstrap_difference
from overread.stats.discrimination.roc import areas_statistic, auc
from overread.stats.estimate import Moved, moved_apart, square_and_add, summed
from overread.stats.proportions import proportion
from overread.stats.regression import mcc_statistic
from overread.stats.resample import bootstrapped


def called(hits, ill, alarms, well):
    """Truth and calls of so many positives, of whom some are hit, and negatives, of whom some are flagged."""
    truth = np.arange(ill + well) < ill
    flagged = np.concatenate((np.arange(ill) < hits, np.arange(well) < alarms))
    return truth, flagged


def judged(truth, flagged, codes=None):
    """F1, balanced accuracy and MCC."""
    codes = np.arange(len(truth)) if codes is None else codes
    patients = int(codes.max()) + 1
    mcc = mcc_statistic(truth.astype(np.int64), flagged.astype(np.int64), codes, patients)
    return [*bootstrapped(threshold_statistic(truth, flagged, codes, patients), codes), *bootstrapped(mcc, codes)]


def mcc_of(sensitivity, specificity, share):
    flagged = share * sensitivity + (1 - share) * (1 - specificity)
    return (sensitivity + specificity - 1) * math.sqrt(share * (1 - share) / (flagged * (1 - flagged)))


@pytest.mark.parametrize(
    ("hits", "ill", "alarms", "well"), [(10, 10, 50, 1000), (8, 8, 0, 150), (5, 5, 4, 5), (0, 6, 3, 90)]
)
def test_a_perfect_part_counts_with_its_own_interval(hits, ill, alarms, well):
    """Ten of ten hit: balanced accuracy .975 (.966–.982) stood beside sensitivity 1.000 (.722–1)."""
    found = judged(*called(hits, ill, alarms, well))
    assert found[1].value == pytest.approx((hits / ill + 1 - alarms / well) / 2)
    parts = [
        (share, *proportion_confint(round(share * n), n, method="wilson"))
        for share, n in ((hits / ill, ill), (1 - alarms / well, well))
    ]
    down = math.hypot(*(value - low for value, low, _ in parts)) / 2
    up = math.hypot(*(high - value for value, _, high in parts)) / 2
    assert found[1].low == pytest.approx(found[1].value - down, abs=1e-9)
    assert found[1].high == pytest.approx(found[1].value + up, abs=1e-9)
    assert found[2].low <= mcc_of(parts[0][1], parts[1][0], ill / (ill + well)) + 1e-9
    assert -1 <= found[2].low < found[2].high <= 1


@pytest.mark.parametrize(
    ("hits", "ill", "alarms", "well"), [(10, 10, 50, 1000), (30, 40, 10, 60), (12, 12, 0, 9), (0, 5, 4, 20)]
)
def test_f1_is_a_share_in_other_clothes(hits, ill, alarms, well):
    """Hand, Christen & Kirielle 2021: F1 = 2J / (1 + J), J the hits among all that are ill or flagged."""
    truth, flagged = called(hits, ill, alarms, well)
    found = judged(truth, flagged)[0]
    assert found.value == pytest.approx(metrics.f1_score(truth, flagged))
    low, high = proportion_confint(hits, ill + alarms, method="wilson")
    assert (found.low, found.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)), abs=1e-9)
    assert found.low < found.high


def test_several_classes_are_their_parts():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [60, 40, 3])
    predicted = np.where(rng.random(103) < 0.8, truth, rng.integers(0, 3, 103))
    predicted[truth == 2] = 2
    codes = np.arange(103)
    balanced, f1 = bootstrapped(classes_statistic(truth, predicted, 3, codes, 103), codes)[:2]
    parts = [proportion(predicted[truth == k] == k) for k in range(3)]
    assert balanced.low == pytest.approx(balanced.value - math.hypot(*(p.value - p.low for p in parts)) / 3)
    assert balanced.value - balanced.low > (1 - parts[2].low) / 3  # three of three right
    assert f1.low < f1.value < f1.high
    swapped = np.array([2, 0, 1])
    again = bootstrapped(classes_statistic(swapped[truth], swapped[predicted], 3, codes, 103), codes)
    assert [(e.low, e.high) for e in again[:2]] == [pytest.approx((e.low, e.high)) for e in (balanced, f1)]
    mcc = [
        bootstrapped(mcc_statistic(t, p, codes, 103), codes)[0]
        for t, p in ((truth, predicted), (swapped[truth], swapped[predicted]))
    ]
    assert mcc[0].value == pytest.approx(metrics.matthews_corrcoef(truth, predicted))
    assert (mcc[0].low, mcc[0].high) == pytest.approx((mcc[1].low, mcc[1].high), rel=1e-4)


def test_a_mean_of_areas_keeps_the_width_of_the_area_of_three_patients():
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], [100, 100, 3])
    score = rng.normal(size=(203, 3)) + 2 * np.eye(3)[truth]
    score[truth == 2, 2] = 9
    each = [truth == k for k in range(3)], list(np.ascontiguousarray(score.T)), [np.arange(203)] * 3
    found = bootstrapped(areas_statistic(*each, ("",) * 3, macro=True, each=False), np.arange(203))[0]
    parts = [auc(t, s) for t, s in zip(each[0], each[1])]
    assert found.value == pytest.approx(np.mean([p.value for p in parts]))
    assert found.value - found.low > (parts[2].value - parts[2].low) / 3
    assert found.low > np.mean([p.low for p in parts])
    one = bootstrapped(areas_statistic(*(x[:1] for x in each), ("",), macro=True, each=False), np.arange(203))[0]
    assert (one.low, one.high) == (parts[0].low, parts[0].high)


def test_two_models_of_whom_one_is_perfect_differ_by_what_either_part_allows():
    truth, flagged = called(10, 10, 50, 1000)
    other = flagged.copy()
    other[:2] = False
    codes = np.arange(1010)
    pair = [threshold_statistic(truth, calls, codes, 1010) for calls in (flagged, other)]
    gap = bootstrap_difference(*pair, 1010)[1].difference
    assert gap.value == pytest.approx(0.1)
    assert gap.low < 0 < gap.high
    alike = bootstrap_difference(pair[0], pair[0], 1010)
    assert (alike[0].difference.low, alike[0].difference.high, alike[0].p) == (0, 0, 1)
    assert alike[1].difference.low < 0 < alike[1].difference.high  # as of sensitivity: ten alike are ten
    assert alike[1].p == 1


@pytest.mark.parametrize("correlation", [-0.7, 0.0, 0.4, 1.0])
def test_two_intervals_with_equal_sides_are_those_of_zou_and_donner(correlation):
    first, second = (Moved(x, x - d, x + d, np.zeros(1)) for x, d in ((0.8, 0.1), (0.6, 0.04)))
    half = math.sqrt(0.1**2 + 0.04**2 - 2 * correlation * 0.1 * 0.04)
    assert square_and_add(first, second, correlation) == pytest.approx((0.2 - half, 0.2 + half))


def test_a_number_minus_itself_is_nothing_however_lopsided_its_interval():
    one = Moved(0.98, 0.9, 0.99, np.array([0.1, -0.1]))
    found = moved_apart(one, one)
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0))
    both = summed(1.96, [one, one])  # wholly alike, so the sides are added
    assert (both.low, both.high) == pytest.approx((1.8, 1.98))


@pytest.mark.parametrize("images", [1, 4])
def test_patients_and_not_images_make_the_width(images):
    truth, flagged = called(9, 10, 12, 90)
    codes = np.repeat(np.arange(100), images)
    found = judged(np.repeat(truth, images), np.repeat(flagged, images), codes)
    once = judged(truth, flagged)
    for e, alone in zip(found, once):
        assert e.value == pytest.approx(alone.value)
        assert 0.97 * (alone.high - alone.low) < e.high - e.low < 1.6 * (alone.high - alone.low)
        assert (e.images, e.patients) == (100 * images, 100)


def held(draw, truth, repeats):
    """The share of repeats whose interval holds ``truth``, of each estimate drawn."""
    count = np.zeros(len(truth))
    for seed in range(repeats):
        count += [e.low <= t <= e.high for e, t in zip(draw(np.random.default_rng(seed)), truth)]
    return count / repeats


@pytest.mark.slow
@pytest.mark.simulation
@pytest.mark.parametrize(
    ("ill", "well", "sensitivity", "specificity"),
    [(8, 150, 0.9, 0.9), (10, 1000, 0.95, 0.95), (20, 80, 0.9, 0.8), (50, 50, 0.98, 0.98), (5, 20, 0.8, 0.8)],
)
def test_composites_are_covered(ill, well, sensitivity, specificity):
    """Balanced accuracy by bootstrap held 71 % at 8 + 150 and .9."""
    truth, share = np.arange(ill + well) < ill, ill / (ill + well)

    def draw(rng):
        right = rng.random(ill + well) < np.where(truth, sensitivity, specificity)
        return judged(truth, np.where(right, truth, ~truth))

    hit = share * sensitivity
    known = [2 * hit / (hit + (1 - share) * (1 - specificity) + share), (sensitivity + specificity) / 2,
             mcc_of(sensitivity, specificity, share)]  # fmt: skip
    found = held(draw, known, 1500)
    least = np.array([0.925, 0.9 if ill == 10 else 0.925, 0.925])  # Wilson's interval of ten at .95 holds 91 % itself
    assert (found >= least).all(), found


@pytest.mark.slow
@pytest.mark.simulation
@pytest.mark.parametrize(("sizes", "distance"), [((100, 100, 3), 1.5), ((50, 50, 5, 5), 2.5)])
def test_means_over_classes_of_which_one_is_rare_are_covered(sizes, distance):
    """Macro AUC by bootstrap held 80 % with classes of 100, 100 and 3."""
    classes, codes = len(sizes), np.arange(sum(sizes))

    def scores(rng, truth):
        return rng.normal(size=(len(truth), classes)) + distance * np.eye(classes)[truth]

    truth, many = np.repeat(np.arange(classes), sizes), np.repeat(np.arange(classes), [n * 2000 for n in sizes])
    score = scores(np.random.default_rng(99), many)
    table = confusion(many, score.argmax(axis=1), classes)
    known = [
        np.mean([metrics.roc_auc_score(many == k, score[:, k]) for k in range(classes)]),
        (np.diag(table) / table.sum(axis=1)).mean(),
        (2 * np.diag(table) / (table.sum(axis=0) + table.sum(axis=1))).mean(),
        metrics.matthews_corrcoef(many, score.argmax(axis=1)),
    ]

    def draw(rng):
        score = scores(rng, truth)
        calls, columns = score.argmax(axis=1), list(np.ascontiguousarray(score.T))
        each = areas_statistic(
            [truth == k for k in range(classes)], columns, [codes] * classes, ("",) * classes, macro=True, each=False
        )
        of_calls = (
            classes_statistic(truth, calls, classes, codes, len(codes)),
            mcc_statistic(truth, calls, codes, len(codes)),
        )
        return [e for s in (each, *of_calls) for e in bootstrapped(s, codes)]

    found = held(draw, known, 800)
    assert (found >= 0.915).all(), found


@pytest.mark.slow
@pytest.mark.simulation
@pytest.mark.parametrize("mixed", [False, True])
def test_composites_by_patient_are_covered(mixed):
    """40 patients × 4 images whose answers agree by half; all ill or well, or each image for itself."""

    def draw(rng, patients=40):
        images = 4
        truth = rng.random(patients * images) < 0.3 if mixed else np.repeat(rng.random(patients) < 0.3, images)
        own = np.repeat(rng.random(patients), images)
        copied = np.repeat(rng.random(patients), images) < 0.5
        right = np.where(copied, own, rng.random(len(own))) < 0.9
        return judged(truth, np.where(right, truth, ~truth), np.repeat(np.arange(patients), images))

    known = [2 * 0.27 / (0.27 + 0.07 + 0.3), 0.9, mcc_of(0.9, 0.9, 0.3)]
    found = held(draw, known, 800)
    assert (found >= 0.915).all(), found


@pytest.mark.slow
@pytest.mark.simulation
@pytest.mark.parametrize(
    ("ill", "well", "shares"), [(8, 150, (0.9, 0.8)), (30, 100, (0.95, 0.85)), (50, 50, (0.98, 0.96))]
)
def test_paired_differences_of_composites_are_covered(ill, well, shares):
    truth, codes, part = np.arange(ill + well) < ill, np.arange(ill + well), ill / (ill + well)

    def f1(sensitivity):
        return 2 * part * sensitivity / (part * sensitivity + (1 - part) * 0.1 + part)

    def draw(rng):
        one, fresh = rng.random(ill + well), rng.random(ill + well)
        other = np.where(rng.random(ill + well) < 0.5, one, fresh)
        pair = []
        for chance, sensitivity in zip((one, other), shares):
            right = chance < np.where(truth, sensitivity, 0.9)
            pair.append(threshold_statistic(truth, np.where(right, truth, ~truth), codes, ill + well))
        return [d.difference for d in bootstrap_difference(*pair, ill + well)]

    found = held(draw, [f1(shares[0]) - f1(shares[1]), (shares[0] - shares[1]) / 2], 800)
    assert (found >= 0.915).all(), found
