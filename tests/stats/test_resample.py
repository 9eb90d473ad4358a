"""The weights matrix: what it draws, and that chunks, seeds and thread counts cannot change a result."""

import numpy as np
import pytest
from sklearn import metrics

from overread.core.errors import ArgumentError
from overread.stats import resample
from overread.stats.classification import threshold_statistic
from overread.stats.discrimination.roc import Areas, rank
from overread.stats.resample import Column, Statistic, bootstrap, draws, kinds, mean_statistic, replicate, resamples_for


def all_of(patients, resamples, seed=0, width=None):
    return np.concatenate(list(draws(patients, resamples, seed, width=width)))


def test_each_resample_draws_as_many_patients_as_there_are():
    weights = all_of(37, 500)
    assert weights.shape == (500, 37)
    assert (weights.sum(axis=1) == 37).all()


def test_counts_are_multinomial():
    weights = all_of(20, 20_000).astype(float)
    assert weights.mean(axis=0) == pytest.approx(np.ones(20), abs=0.04)
    assert weights.var() == pytest.approx(1 - 1 / 20, rel=0.02)
    assert np.corrcoef(weights[:-1, 0], weights[1:, 0])[0, 1] == pytest.approx(0, abs=0.03)
    covariance = np.cov(weights[:, 0], weights[:, 1])[0, 1]
    assert covariance == pytest.approx(-1 / 20, abs=0.03)


def test_chunks_do_not_matter_and_seeds_do(monkeypatch):
    whole = all_of(11, 100, seed=4)
    monkeypatch.setattr(resample, "CHUNK", 50)
    assert len(list(draws(11, 100, 4))) > 10
    np.testing.assert_array_equal(all_of(11, 100, seed=4), whole)
    np.testing.assert_array_equal(all_of(11, 100, seed=4, width=33), whole)
    assert (all_of(11, 100, seed=5) != whole).any()


def test_the_error_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).exponential(size=400)
    column = Column("mean", scale="plain")
    statistic = Statistic((column,), lambda w: (w @ values / w.sum(axis=1))[:, None])
    (found,) = bootstrap([statistic], 400, resamples=4000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), rel=0.01)


def test_patients_are_drawn_not_images():
    values, codes = np.repeat(np.random.default_rng(0).random(50), 8), np.repeat(np.arange(50), 8)
    together = bootstrap([mean_statistic("m", values, codes, 50)], 50, resamples=1000)[0]
    alone = bootstrap([mean_statistic("m", values, np.arange(400), 400)], 400, resamples=1000)[0]
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(np.sqrt(8), rel=0.1)
    assert (together.images, together.patients) == (400, 50)


def test_a_statistic_without_a_value_says_why():
    nothing = Statistic((Column("x", reason="no cases of melanoma"),), lambda w: np.full((len(w), 1), np.nan))
    assert bootstrap([nothing], 5)[0].undefined == "no cases of melanoma"


def test_mostly_undefined_resamples_give_no_interval():
    rare = Statistic((Column("x"),), lambda w: np.where(w[:, :1] == 1, 0.5, np.nan))
    found = bootstrap([rare], 100, resamples=500)[0]
    assert found.value == 0.5
    assert np.isnan(found.low)


def test_resamples_fall_with_size_and_bad_arguments_are_refused():
    assert [resamples_for(n) for n in (0, 1000, 10_000, 20_000, 10**6)] == [2000, 2000, 2000, 1000, 400]
    for call in (lambda: list(draws(0, 5)), lambda: bootstrap([], 0), lambda: bootstrap([], 5, level=1.0)):
        with pytest.raises(ArgumentError):
            call()


@pytest.mark.parametrize(
    ("images", "patients", "digits"), [(300, 300, 9), (300, 60, 1), (70_000, 70_000, 9), (50_000, 300, 2)]
)
def test_weighted_areas_are_those_of_scikit_learn_however_many_counts_share_a_word(images, patients, digits):
    rng = np.random.default_rng(0)
    truth, codes = rng.random(images) < 0.2, rng.integers(0, patients, images)
    score = np.round(rng.normal(size=images) + truth, digits)
    weights = np.stack([np.bincount(rng.integers(0, patients, patients), minlength=patients) for _ in range(5)])
    found = Areas.of(rank(truth, score), codes)(weights.astype(np.uint16))
    for values, mine in zip(found, weights):
        w = mine[codes]
        assert values[0] == pytest.approx(metrics.roc_auc_score(truth, score, sample_weight=w))
        known = metrics.average_precision_score(truth[w > 0], score[w > 0], sample_weight=w[w > 0])
        assert values[1] == pytest.approx(known)


def test_kinds_of_patients_spread_as_patients_do():
    rng = np.random.default_rng(0)
    truth, codes = rng.random(900) < 0.3, np.repeat(np.arange(300), 3)
    flagged = rng.random(900) < 0.2 + 0.5 * truth
    quick = threshold_statistic(truth, flagged, codes, 300)
    assert quick.sums is not None
    cells, share = kinds(quick.sums.cells)
    assert len(cells) < 60
    assert share.sum() == pytest.approx(1)
    slow = Statistic(quick.columns, quick.compute)
    a, b = (replicate([s], 300, resamples=4000)[0] for s in (quick, slow))
    assert a.mean(axis=0) == pytest.approx(b.mean(axis=0), abs=4 * b.std(axis=0).max() / 4000**0.5)
    assert a.std(axis=0) == pytest.approx(b.std(axis=0), rel=0.06)
    assert kinds(rng.random((400, 2))) is None


def test_a_number_at_its_best_has_a_bound_or_says_it_has_none():
    perfect = mean_statistic("brier", np.zeros(30), np.arange(30), 30, effective=30)
    found = bootstrap([perfect], 30)[0]
    assert (found.value, found.low) == (0, 0)
    assert 0 < found.high < 0.2
    none = bootstrap([mean_statistic("mae", np.zeros(30), np.arange(30), 30)], 30)[0]
    assert none.value == 0
    assert np.isnan(none.low)
    assert "no interval" in none.method


def test_one_draw_that_is_dealt_in_several_orders_is_as_good_as_several(monkeypatch):
    people = resample.MANY + 1
    weights = all_of(people, 400, seed=3).astype(float)
    assert (weights.sum(axis=1) == people).all()
    assert weights.var() == pytest.approx(1 - 1 / people, rel=0.01)
    values = np.random.default_rng(0).exponential(size=people)
    assert (weights @ values / people).std() == pytest.approx(values.std() / np.sqrt(people), rel=0.12)
    own, other = weights[0::4], weights[1::4]
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(own, other)]
    assert np.mean(alike) == pytest.approx(0, abs=4 / np.sqrt(people * len(alike)))
    sums = weights @ values
    assert np.corrcoef(sums[0::4], sums[1::4])[0, 1] == pytest.approx(0, abs=0.35)
    monkeypatch.setattr(resample, "CHUNK", 10)
    monkeypatch.setattr(resample, "TOGETHER", 3)
    np.testing.assert_array_equal(all_of(people, 400, seed=3), weights)
