"""Paired areas against DeLong's definition, other programs, and every awkward input."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics

from overread.core.errors import ArgumentError
from overread.stats.classification import classes_statistic, threshold_statistic
from overread.stats.discrimination.delong import auc_difference, bootstrap_difference, compare_aucs
from overread.stats.discrimination.roc import areas_statistic, auc


def draw(n, seed=0, models=2, digits=1):
    rng = np.random.default_rng(seed)
    truth, common = rng.random(n) < 0.3, rng.normal(size=n)
    return truth, [np.round(common + (1 - 0.2 * k) * truth + rng.normal(size=n), digits) for k in range(models)]


def slow_covariance(truth, scores, patients):
    """Obuchowski 1997 as it is written, pair by pair."""
    ill, well = np.flatnonzero(truth), np.flatnonzero(~truth)
    names, parts, areas = np.unique(patients), [], []
    for s in scores:
        kernel = (s[ill][:, None] > s[well]) + 0.5 * (s[ill][:, None] == s[well])
        area = kernel.mean()
        v10, v01 = kernel.mean(axis=1) - area, kernel.mean(axis=0) - area
        parts.append([
            [v10[patients[ill] == p].sum() for p in names],
            [v01[patients[well] == p].sum() for p in names],
        ])  # fmt: skip
        areas.append(area)
    u = np.array(parts)
    m, n, k = len(ill), len(well), len(names)
    a, b = len(set(patients[ill])), len(set(patients[well]))
    cov = np.empty((len(scores),) * 2)
    for i in range(len(scores)):
        for j in range(len(scores)):
            s10 = a / (a - 1) * sum(u[i, 0] * u[j, 0]) / m**2
            s01 = b / (b - 1) * sum(u[i, 1] * u[j, 1]) / n**2
            s11 = k / (k - 1) * (sum(u[i, 0] * u[j, 1]) + sum(u[i, 1] * u[j, 0])) / (m * n)
            cov[i, j] = s10 + s01 + s11
    return np.array(areas), cov


def slow_limits(a, b, error, tail):
    """The differences of areas with one mean logit whose logits lie ``tail``'s quantile of errors from those found."""

    def apart(gap):
        return special.expit(middle + gap / 2) - special.expit(middle - gap / 2)

    gap, middle = special.logit(a) - special.logit(b), (special.logit(a) + special.logit(b)) / 2
    slope = (a * (1 - a) + b * (1 - b)) / 2
    return [apart(gap + sign * tail.ppf(0.975) * error / slope) for sign in (-1, 1)]


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("digits", [0, 1, 9])
def test_covariance_and_test_are_those_of_the_definition(images, digits):
    truth, scores = draw(120, models=3, digits=digits)
    patients = np.arange(120) // images
    areas, cov = slow_covariance(truth, scores, patients)
    found = compare_aucs(truth, scores, patients)
    np.testing.assert_allclose([a.value for a in found.areas], areas, rtol=1e-10)
    np.testing.assert_allclose(found.covariance, cov, rtol=1e-10, atol=1e-15)
    contrast = np.array([[1, -1, 0], [1, 0, -1]])
    gap = contrast @ areas
    chi = gap @ np.linalg.inv(contrast @ cov @ contrast.T) @ gap
    assert (found.statistic, found.freedom) == (pytest.approx(chi, rel=1e-8), 2)
    assert found.p == pytest.approx(stats.chi2.sf(chi, 2), rel=1e-8)
    sizes = [np.unique(patients[rows], return_counts=True)[1] for rows in (truth, ~truth)]
    fewest = min(int(sum(n) ** 2 / sum(n**2) - 1) for n in sizes)  # Kish's numbers of patients, less one
    tail = stats.norm if images == 1 else stats.t(fewest)
    for pair, (i, j) in zip(found.differences, [(0, 1), (0, 2), (1, 2)]):
        error = math.sqrt(cov[i, i] + cov[j, j] - 2 * cov[i, j])
        assert pair.error == pytest.approx(error, rel=1e-10)
        assert pair.statistic == pytest.approx((areas[i] - areas[j]) / error, rel=1e-10)
        assert pair.p == pytest.approx(2 * tail.sf(abs(pair.statistic)), rel=1e-10)
        ends = (pair.difference.low, pair.difference.high)
        assert ends == pytest.approx(
            slow_limits(areas[i], areas[j], error, tail), rel=1e-9 if images == 1 else 1e-4
        )  # t by expansion


@pytest.mark.parametrize("images", [1, 2])
def test_each_area_is_that_of_auc_alone(images):
    truth, scores = draw(200)
    patients = np.arange(200) // images
    for area, score in zip(compare_aucs(truth, scores, patients).areas, scores):
        alone = auc(truth, score, patients)
        assert (area.value, area.low, area.high) == pytest.approx((alone.value, alone.low, alone.high), rel=1e-9)
        assert (area.method, area.images, area.patients) == (alone.method, alone.images, alone.patients)


def test_scores_that_rank_alike_differ_by_zero_not_by_an_error():
    truth, (score, other) = draw(80)
    found = auc_difference(truth, score, np.exp(score))
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert (found.error, found.statistic, found.p) == (0, 0, 1)
    assert "alike" in found.difference.method
    three = compare_aucs(truth, [score, other, 2 * score])
    assert three.freedom == 1
    assert three.statistic == pytest.approx(auc_difference(truth, score, other).statistic ** 2, rel=1e-6)
    same = compare_aucs(truth, [score, score])
    assert (same.statistic, same.freedom, same.p) == (0, 0, 1)


def test_two_perfect_models_that_rank_otherwise_have_a_width():
    truth = np.arange(20) < 10
    rng = np.random.default_rng(0)
    found = auc_difference(truth, truth + rng.random(20) / 2, truth + rng.random(20) / 2)
    assert found.difference.value == 0
    assert found.difference.low < -0.1 < 0.1 < found.difference.high
    assert "Newcombe" in found.difference.method
    far = auc_difference(truth, truth * 1.0, np.zeros(20))
    assert 0 < far.difference.low < far.difference.value == 0.5 < far.difference.high <= 1


scores_of = st.sampled_from([0.0, 0.5, 1.0, 2.0, math.nan, math.inf, -math.inf])
rows_of = st.lists(st.tuples(st.booleans(), scores_of, scores_of, st.integers(0, 3)), max_size=25)


@settings(max_examples=150, deadline=None)
@given(rows_of)
def test_any_input_has_a_value_or_a_reason(rows):
    truth, score, other, patients = ([row[k] for row in rows] for k in range(4))
    found = auc_difference(truth, score, other, patients)
    d = found.difference
    assert bool(d.undefined) == math.isnan(d.value)
    if not d.undefined:
        assert -1 <= d.low <= d.value <= d.high <= 1
        assert 0 <= found.p <= 1
        back = auc_difference(truth, other, score, patients).difference
        assert (back.value, back.low, back.high) == pytest.approx((-d.value, -d.high, -d.low), abs=1e-9)


@pytest.mark.slow
def test_a_million_cases():
    truth, (score, other) = draw(1_000_000, digits=6)
    assert auc_difference(truth, score, other).difference.images == 1_000_000


def test_bootstrap_differences_are_those_of_the_metrics_and_pair_the_resamples():
    truth, scores = draw(300)
    codes = np.arange(300) // 2
    a, b = (threshold_statistic(truth, s > 0.5, codes, 150) for s in scores)
    found = bootstrap_difference(a, b, 150, images=300, resamples=500)
    f1 = [metrics.f1_score(truth, s > 0.5) for s in scores]
    assert found[0].difference.value == pytest.approx(f1[0] - f1[1])
    assert [d.difference.metric for d in found] == ["f1 difference", "balanced accuracy difference"]
    d = found[0]
    unpaired = math.hypot(d.first.high - d.first.low, d.second.high - d.second.low)
    assert d.difference.high - d.difference.low < 0.95 * unpaired
    same = bootstrap_difference(a, a, 150, images=300, resamples=100)[0]
    assert (same.difference.value, same.difference.low, same.difference.high, same.p) == (0, 0, 0, 1)


def test_a_bootstrap_without_spread_takes_the_intervals_of_the_two():
    truth, codes = np.arange(20) < 10, np.arange(20)
    a, b = (threshold_statistic(truth, flags, codes, 20) for flags in (truth, ~truth))
    f1 = bootstrap_difference(a, b, 20, resamples=100)[0].difference
    assert 0.3 < f1.low < f1.value == 1 == f1.high
    alone = areas_statistic([truth], [truth * 1.0], [np.zeros(20, int)], ("",), macro=False)
    assert math.isnan(bootstrap_difference(alone, alone, 1)[0].difference.low)


def test_bad_arguments_are_refused():
    truth, (score, other) = draw(30)
    codes = np.arange(30)
    flags = threshold_statistic(truth, score > 0, codes, 30)
    several = classes_statistic(truth.astype(int), truth.astype(int), 2, codes, 30)
    for call in (
        lambda: compare_aucs(truth, [score]),
        lambda: auc_difference(truth, score, other[:-1]),
        lambda: auc_difference(truth, score, other, level=1.0),
        lambda: bootstrap_difference(flags, several, 30),
    ):
        with pytest.raises(ArgumentError):
            call()


SETTINGS = [
    (0.97, 0.95, 20, 80, 0.5, 1),
    (0.97, 0.97, 20, 80, 0.5, 1),
    (0.97, 0.97, 20, 80, 0.8, 1),
    (0.8, 0.75, 10, 10, 0.5, 1),
    (0.95, 0.9, 10, 10, 0.8, 1),
    (0.9, 0.8, 20, 80, 0.5, 1),
    (0.8, 0.75, 50, 50, 0.5, 1),
    (0.95, 0.7, 15, 30, 0.3, 1),
    (0.99, 0.98, 50, 150, 0.6, 1),
    (0.85, 0.8, 60, 90, 0.5, 4),
    (0.9, 0.85, 25, 35, 0.5, 3),
    (0.97, 0.95, 20, 80, 0.5, 3),
    (0.85, 0.8, 12, 12, 0.5, 2),
    (0.97, 0.95, 40, 120, 0.5, 3),
]


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("repeats", "case"),
    [(300, SETTINGS[2]), (300, SETTINGS[-2]), *(pytest.param(3000, s, marks=pytest.mark.slow) for s in SETTINGS)],
)
def test_coverage(repeats, case):
    first, second, ill, well, share, images = case
    truth = np.repeat(np.arange(ill + well) < ill, images)
    patients, held = np.repeat(np.arange(ill + well), images), 0
    apart = [math.sqrt(2) * stats.norm.ppf(area) for area in (first, second)]
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        common = np.repeat(rng.normal(size=ill + well), images)
        scores = [
            a * truth + math.sqrt(share) * common + math.sqrt(1 - share) * rng.normal(size=len(truth)) for a in apart
        ]
        d = auc_difference(truth, *scores, patients).difference
        held += d.low <= first - second <= d.high
    slack = 0.0 if repeats > 2000 else 0.015
    assert 0.925 - slack <= held / repeats <= 0.975 + slack, held / repeats
