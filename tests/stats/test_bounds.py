"""Intervals near the best value that a metric can take: in range, with a width, no narrower for worse data, and true.

Where one case of many is wrong a third of the resamples are perfect, and a perfect one lies infinitely far on a
transformed scale. Here every metric is held against how few errors say: Poisson's limits and statsmodels.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa

from overread.stats.agreement.pairs import cohen_kappa, intraclass_correlation, percent_agreement, specific_agreement
from overread.stats.agreement.panel import fleiss_kappa, krippendorff_alpha
from overread.stats.calibration.reliability import decomposition_statistic, ece_statistic
from overread.stats.discrimination.delong import auc_difference, bootstrap_difference
from overread.stats.discrimination.roc import areas_statistic, auc
from overread.stats.regression import errors_statistic, kappa_statistic, mcc_statistic, mean_over_images
from overread.stats.resample import bootstrapped

SLOW = pytest.mark.slow


def grades(cases, wrong, classes=2):
    """Truth, and an answer that is off by one class in the first ``wrong`` cases."""
    truth = np.arange(cases) * classes // cases
    answer = truth.copy()
    answer[:wrong] = 1
    return truth, answer


def panel(cases, wrong, readers=3):
    truth, answer = grades(cases, wrong)
    return np.column_stack([answer, *[truth] * (readers - 1)])


def off(cases, wrong):
    """A quantity and its prediction, exact but for ``wrong`` cases."""
    truth = np.linspace(0, 10, cases)
    return truth, truth + 7.0 * (np.arange(cases) < wrong)


def errors(cases, wrong):
    truth, predicted = off(cases, wrong)
    return bootstrapped(errors_statistic(truth, predicted, np.arange(cases), cases), np.arange(cases))


def of_grades(statistic, cases, wrong, classes=2):
    truth, answer = grades(cases, wrong, classes)
    kind = float if statistic is kappa_statistic else np.int64
    codes = np.arange(cases)
    return bootstrapped(statistic(truth.astype(kind), answer.astype(kind), codes, cases), codes)[0]


NEAR_ONE = {
    "mcc": lambda n, k: of_grades(mcc_statistic, n, k),
    "mcc of three classes": lambda n, k: of_grades(mcc_statistic, n, k, 3),
    "quadratic kappa of a model": lambda n, k: of_grades(kappa_statistic, n, k, 4),
    "kappa": lambda n, k: cohen_kappa(*grades(n, k)),
    "linear kappa": lambda n, k: cohen_kappa(*grades(n, k, 4), weights="linear"),
    "quadratic kappa": lambda n, k: cohen_kappa(*grades(n, k, 4), weights="quadratic"),
    "fleiss": lambda n, k: fleiss_kappa(panel(n, k)),
    "nominal alpha": lambda n, k: krippendorff_alpha(panel(n, k)),
    "ordinal alpha": lambda n, k: krippendorff_alpha(panel(n, k), scale="ordinal"),
    "interval alpha": lambda n, k: krippendorff_alpha(panel(n, k), scale="interval"),
    "agreement of three": lambda n, k: percent_agreement(panel(n, k)),
    "specific agreement": lambda n, k: specific_agreement(panel(n, k))[1],
    "r2": lambda n, k: errors(n, k)[3],
    "pearson": lambda n, k: errors(n, k)[4],
    "dice": lambda n, k: mean_over_images("dice", 1 - 0.6 * (np.arange(n) < k)),
}


@pytest.mark.parametrize("metric", NEAR_ONE)
@pytest.mark.parametrize("cases", [40, 200])
def test_few_errors_leave_an_interval_of_their_size(metric, cases):
    """What is missing to 1 may be some six times larger with one error, five with two, but not of another order."""
    for wrong in (1, 2, 5):
        found = NEAR_ONE[metric](cases, wrong)
        missing = 1 - found.value
        assert found.low < found.value < found.high <= 1, found
        most = 25 if metric == "quadratic kappa" else 10  # one step apart: the next may be further
        assert 1.5 * missing < 1 - found.low < most * missing, found
        assert 1 - found.high < missing / 1.5, found


@pytest.mark.parametrize("metric", NEAR_ONE)
def test_worse_answers_never_have_the_higher_interval(metric):
    found = [NEAR_ONE[metric](100, wrong) for wrong in range(8)]
    known = [e for e in found if not math.isnan(e.low)]
    assert len(known) >= 7
    ends = np.array([(e.low, e.value, e.high) for e in known[1:]])  # none wrong: how large an error is, nobody knows
    assert (np.diff(ends, axis=0)[:, metric == "quadratic kappa" :] < 0).all(), ends
    assert known[0].low < 1
    if metric in ("kappa", "fleiss", "nominal alpha", "agreement of three"):  # an error is of one size
        assert known[1].low < known[0].low
        assert known[1].high - known[1].low > known[0].high - known[0].low


@pytest.mark.parametrize(("cases", "wrong"), [(50, 1), (100, 1), (100, 3), (400, 4), (1000, 1)])
def test_kappa_lies_where_statsmodels_has_it(cases, wrong):
    truth, answer = grades(cases, wrong)
    table = np.histogram2d(truth, answer, 2)[0]
    expected = cohens_kappa(table)
    found = cohen_kappa(truth, answer)
    assert found.value == pytest.approx(expected.kappa)
    half = expected.kappa - expected.kappa_low
    assert 0.8 * half < found.value - found.low < 3.2 * half
    assert found.high < 1 < expected.kappa_upp + half


def test_few_large_errors_are_as_uncertain_as_their_number():
    """One error of a hundred: Poisson's exact limits of its expectation are .025 and 5.6 times it."""
    mae, rmse = errors(200, 1)[:2]
    low, high = stats.chi2.ppf(0.025, 2) / 2, stats.chi2.ppf(0.975, 4) / 2
    for found in (mae, rmse):
        assert found.value * low < found.low < found.value / 3
        assert found.value * 2 < found.high < found.value * high * 1.2
    assert math.isnan(errors(200, 0)[0].low)
    assert "no interval" in errors(200, 0)[0].method


def test_a_value_that_one_patient_decides_has_no_interval():
    """R² of a constant truth but for one case: without it, it is a million times as far from 1."""
    rng = np.random.default_rng(0)
    truth = np.append(1e-4 * rng.normal(size=99), 1000.0)
    predicted = np.append(rng.normal(size=99), 999.0)
    found = bootstrapped(errors_statistic(truth, predicted, np.arange(100), 100), np.arange(100))[3]
    assert found.value > 0.99
    assert math.isnan(found.low)
    assert "single patients decide it" in found.method


@pytest.mark.parametrize("share", [0.4, 0.5, 0.52, 0.6])
def test_an_ece_of_one_bin_is_a_distance_of_two_shares(share):
    truth, chance = np.arange(100) < share * 100, np.full(100, 0.5)
    codes = np.arange(100)
    found = bootstrapped(ece_statistic(truth, chance, codes, 100), codes)[0]
    half = 1.96 * math.sqrt(share * (1 - share) / 100)
    assert found.value == pytest.approx(abs(share - 0.5))
    assert found.high == pytest.approx(found.value + half, rel=0.2)
    assert found.low == pytest.approx(max(0.0, found.value - half), abs=0.02)
    assert 0 <= found.low <= found.high < 0.25


def test_differences_of_perfect_and_nearly_perfect_answers_stay_in_range():
    truth, first = grades(200, 1)
    codes = np.arange(200)
    for wrong in (0, 1, 3):
        second = grades(200, wrong)[1]
        pair = [mcc_statistic(truth, answer, codes, 200) for answer in (first, second)]
        found = bootstrap_difference(*pair, 200)[0].difference
        assert -0.1 < found.low <= found.value <= found.high < 0.1


# -- areas under the ROC curve --------------------------------------------------------------------------------------


def swapped(ill, well, pairs):
    """Truth and score: all told apart, but for so many of the lowest positives, each below one negative."""
    middle = np.tile([True, False], pairs)
    truth = np.concatenate((np.zeros(well - pairs, bool), middle, np.ones(ill - pairs, bool)))
    return truth, np.arange(ill + well, dtype=float)


@pytest.mark.parametrize(("ill", "well"), [(45, 69), (10, 10), (20, 200), (300, 30)])
def test_moving_a_pair_never_narrows_the_interval(ill, well):
    """45 against 69: 1.000 (.964–1) where all are told apart was followed by 1.000 (.995–1) for one pair swapped."""
    found = [auc(*swapped(ill, well, pairs)) for pairs in range(5)]
    widths = [e.high - e.low for e in found]
    assert (np.diff([e.low for e in found[:4]]) < 0).all()
    assert (np.diff(widths[:4]) > 0).all(), widths
    assert widths[4] > 0.9 * widths[0]


@pytest.mark.parametrize("images", [1, 3])
def test_one_case_moved_further_down_widens_the_interval(images):
    truth, score = swapped(20, 60, 0)
    patients = np.arange(80) // images
    widths = []
    for place in np.arange(59.5, 40, -1):
        moved = score.copy()
        moved[60] = place  # the lowest positive
        found = auc(truth, moved, patients)
        widths.append(found.high - found.low)
    assert (np.diff(widths) > -1e-9).all(), widths


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_a_difference_from_a_perfect_model_is_continuous(pairs):
    truth, score = swapped(45, 69, pairs)
    other = score + 30 * np.random.default_rng(0).normal(size=len(score))
    found = auc_difference(truth, score, other).difference
    perfect = auc_difference(truth, swapped(45, 69, 0)[1] + 0 * score, other).difference
    assert found.low == pytest.approx(perfect.low, abs=0.02)
    assert found.high == pytest.approx(perfect.high, abs=0.02)


def held(draw, truth, repeats):
    """The share of repeats whose interval holds ``truth``, of each estimate drawn."""
    count = np.zeros(len(truth))
    for seed in range(repeats):
        found = draw(np.random.default_rng(seed))
        count += [e.low <= t <= e.high for e, t in zip(found, truth)]
    return count / repeats


def scores(rng, truth, area, spread=1.0):
    """Normal scores of this AUC; those of the ill spread ``spread`` times as far."""
    size = math.sqrt(1 + spread**2)
    return np.where(
        truth, size * stats.norm.ppf(area) + spread * rng.normal(size=len(truth)), rng.normal(size=len(truth))
    )


@SLOW
@pytest.mark.simulation
@pytest.mark.parametrize("spread", [1.0, 2.0])
@pytest.mark.parametrize(("area", "ill", "well"), [(0.99, 20, 200), (0.99, 50, 150), (0.97, 20, 80), (0.998, 45, 69)])
def test_areas_near_one_are_covered(area, ill, well, spread):
    """By DeLong alone 90 % of 20 + 200 at .99; 79 where the ill spread twice as far."""
    truth = np.arange(ill + well) < ill
    share = held(lambda rng: [auc(truth, scores(rng, truth, area, spread))], [area], 3000)[0]
    assert 0.925 <= share <= 0.99, share


@SLOW
@pytest.mark.simulation
@pytest.mark.parametrize("alike", [0.0, 0.5, 0.8])
def test_a_difference_of_areas_near_one_is_covered(alike):
    truth = np.arange(55) < 15

    def draw(rng):
        common = rng.normal(size=55)
        pair = [
            math.sqrt(alike) * common
            + math.sqrt(1 - alike) * rng.normal(size=55)
            + math.sqrt(2) * stats.norm.ppf(a) * truth
            for a in (0.95, 0.98)
        ]
        return [auc_difference(truth, *pair).difference]

    share = held(draw, [-0.03], 3000)[0]
    assert 0.925 <= share <= 0.99, share


@SLOW
@pytest.mark.simulation
@pytest.mark.parametrize(("area", "alike"), [(0.8, 0.5), (0.97, 0.5), (0.97, 0.8), (0.99, 0.5)])
def test_areas_of_patients_with_both_answers_are_covered(area, alike):
    """30 patients with 1 to 20 images, of which any may be ill."""

    def draw(rng, patients=30):
        size = rng.integers(1, 21, patients)
        codes = np.repeat(np.arange(patients), size)
        truth = rng.random(len(codes)) < 0.4
        own, each = rng.normal(size=patients)[codes], rng.normal(size=len(codes))
        return (
            truth,
            math.sqrt(2) * stats.norm.ppf(area) * truth + math.sqrt(alike) * own + math.sqrt(1 - alike) * each,
            codes,
        )

    truth, score, _ = draw(np.random.default_rng(99), 60_000)
    share = held(lambda rng: [auc(*draw(rng))], [auc(truth, score).value], 2000)[0]
    assert 0.925 <= share <= 0.985, share


# -- the rest, in populations with few errors -----------------------------------------------------------------------


@SLOW
@pytest.mark.simulation
@pytest.mark.parametrize(("cases", "wrong"), [(100, 0.02), (300, 0.01), (100, 0.05)])
def test_metrics_near_their_best_are_covered(cases, wrong):
    """Two classes alike in size; each answer is wrong by chance, and a quantity then off by 7."""
    codes, kappa = np.arange(cases), 1 - 2 * (1 - (1 - wrong) ** 2 - wrong**2)

    def draw(rng):
        truth = rng.random(cases) < 0.5
        bad = rng.random((3, cases)) < wrong
        readers = truth[:, None] ^ bad.T
        mcc = bootstrapped(
            mcc_statistic(truth.astype(np.int64), readers[:, 0].astype(np.int64), codes, cases), codes, resamples=400
        )
        number = rng.uniform(0, 10, cases)
        error = bootstrapped(errors_statistic(number, number + 7.0 * bad[0], codes, cases), codes, resamples=400)
        return [
            mcc[0], cohen_kappa(readers[:, 0], readers[:, 1]), fleiss_kappa(readers * 1.0, resamples=400),
            krippendorff_alpha(readers * 1.0, resamples=400), *error[:2],
        ]  # fmt: skip

    known = [1 - 2 * wrong, kappa, kappa, kappa, 7 * wrong, 7 * math.sqrt(wrong)]
    share = held(draw, known, 600)
    perfect = (1 - wrong) ** cases  # of a quantity that is never off there is no interval
    assert (share >= 0.925 - np.array([0, 0, 0, 0, perfect, perfect])).all(), share


@SLOW
@pytest.mark.simulation
@pytest.mark.parametrize("slope", [1.0, 0.85, 0.6])
@pytest.mark.parametrize("cases", [200, 1000])
def test_a_calibration_error_is_covered(slope, cases):
    """On the logarithm of the value: 0 % of a calibrated model, 10 to 93 of others."""

    def draw(rng, count):
        logit = rng.normal(-0.5, 1.2, count)
        return rng.random(count) < 1 / (1 + np.exp(-slope * logit)), 1 / (1 + np.exp(-logit))

    logit = np.random.default_rng(99).normal(-0.5, 1.2, 1_000_000)
    chance, real = (1 / (1 + np.exp(-s * logit)) for s in (1.0, slope))
    which = (chance * 10).astype(int)
    count, gap = np.bincount(which, minlength=10), np.bincount(which, chance - real, 10)
    known = [float(np.abs(gap).sum()) / 1e6, float((gap**2 / np.maximum(count, 1)).sum()) / 1e6]
    codes = np.arange(cases)

    def told(rng):
        truth, chance = draw(rng, cases)
        both = (make(truth, chance, codes, cases) for make in (ece_statistic, decomposition_statistic))
        return [bootstrapped(s, codes, resamples=400)[0] for s in both]

    share = held(told, known, 500)
    least = 0.88 if (slope, cases) == (1.0, 200) else 0.925
    assert (share >= least).all(), share


@SLOW
@pytest.mark.simulation
def test_average_precision_near_one_is_covered():
    truth = np.arange(120) < 20
    rng = np.random.default_rng(99)
    many = np.arange(600_000) < 100_000
    known = bootstrapped(areas_statistic([many], [scores(rng, many, 0.99)], [np.arange(600_000)], ("",), macro=False),
                         np.arange(600_000), resamples=10)[0].value  # fmt: skip
    codes = np.arange(120)

    def draw(rng):
        return bootstrapped(
            areas_statistic([truth], [scores(rng, truth, 0.99)], [codes], ("",), macro=False), codes, resamples=400
        )

    assert held(draw, [known], 500)[0] >= 0.925


@SLOW
@pytest.mark.simulation
def test_the_agreement_of_a_named_pair_is_covered():
    """With a shift between the two that is always the same; as of two readers of many the interval reaches down to 0."""

    def draw(rng):
        case = rng.normal(size=60)
        return [
            intraclass_correlation(
                np.column_stack((case, case + 0.6)) + 0.5 * rng.normal(size=(60, 2)), readers="fixed"
            )
        ]

    assert 0.925 <= held(draw, [1 / (1 + 0.25 + 0.18)], 1500)[0] <= 0.975


def test_a_named_pair_without_a_shift_is_as_sure_as_its_consistency():
    rng = np.random.default_rng(0)
    case = rng.normal(size=60)
    both = np.column_stack((case, case)) + 0.5 * rng.normal(size=(60, 2))
    pair, sample = (intraclass_correlation(both, readers=readers) for readers in ("fixed", "random"))
    consistent = intraclass_correlation(both, kind="consistency")
    assert pair.value == sample.value
    assert (pair.low, pair.high) == pytest.approx((consistent.low, consistent.high), abs=0.02)
    assert sample.low < pair.low
    assert "these readers" in pair.method
