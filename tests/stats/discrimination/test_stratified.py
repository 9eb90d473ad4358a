"""The AUC within strata against a count of pairs, against DeLong where there is one stratum, and by its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from overread.core.errors import ArgumentError
from overread.stats.discrimination.roc import auc
from overread.stats.discrimination.stratified import UNKNOWN, mean_stratified_auc, strata_of, stratified_auc


def drawn(seed, sizes=((8, 60), (15, 40), (30, 30)), apart=1.2, shift=5.0):
    """Truth, score and stratum: strata far apart, ``apart`` standard deviations between the classes of each."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(m + n) < m for m, n in sizes])
    strata = np.concatenate([np.full(m + n, k) for k, (m, n) in enumerate(sizes)])
    return truth, rng.normal(size=len(truth)) + apart * truth + shift * strata, strata


def test_it_counts_the_pairs_of_a_stratum() -> None:
    truth, score, strata = drawn(0)
    score = np.round(score, 1)  # ties
    pairs = [(a > b) + (a == b) / 2 for k in range(3) for a in score[truth & (strata == k)] for b in score[~truth & (strata == k)]]  # fmt: skip
    found = stratified_auc(truth, score, strata)
    assert found.value == pytest.approx(np.mean(pairs))
    assert "3 of 3 strata" in found.method


def test_a_shift_of_a_whole_stratum_changes_nothing() -> None:
    truth, score, strata = drawn(1)
    moved = score + 100 * (strata == 1)
    assert stratified_auc(truth, moved, strata) == stratified_auc(truth, score, strata)
    assert auc(truth, moved).value != pytest.approx(auc(truth, score).value)


@pytest.mark.parametrize("repeat", [1, 3])
def test_one_stratum_is_the_auc(repeat) -> None:
    truth, score, _ = drawn(2, shift=0)
    who = np.arange(len(truth)) // repeat
    one, plain = stratified_auc(truth, score, np.zeros(len(truth), int), who), auc(truth, score, who)
    near = 1e-12 if repeat == 1 else 2e-3  # the correction of the part across classes differs
    assert [one.value, one.low, one.high] == pytest.approx([plain.value, plain.low, plain.high], abs=near)


def test_strata_that_are_separate_patients_add_their_variances() -> None:
    truth, score, strata = drawn(3)
    weights = np.array([8 * 60, 15 * 40, 30 * 30], float)
    weights /= weights.sum()
    logit = lambda x: np.log(x / (1 - x))
    error = lambda e: (logit(e.high) - logit(e.low)) / (2 * norm.ppf(0.975)) * e.value * (1 - e.value)
    each = [auc(truth[strata == k], score[strata == k]) for k in range(3)]
    wanted = np.sqrt(sum(w**2 * error(e) ** 2 for w, e in zip(weights, each)))
    assert error(stratified_auc(truth, score, strata)) == pytest.approx(wanted, rel=1e-6)


def test_a_patient_who_stands_in_two_strata_is_one() -> None:
    """Each case twice, under two strata: half of the information that independent cases would bring."""
    truth, score, _ = drawn(4, shift=0)
    twice, strata = np.tile(truth, 2), np.repeat([0, 1], len(truth))
    who = np.tile(np.arange(len(truth)), 2)
    apart = stratified_auc(twice, np.tile(score, 2), strata)
    once, same = auc(truth, score), stratified_auc(twice, np.tile(score, 2), strata, who)
    assert same.high - same.low > 1.3 * (apart.high - apart.low)
    assert [same.low, same.high] == pytest.approx([once.low, once.high], abs=0.01)


def test_what_is_undefined_says_why() -> None:
    assert stratified_auc([0, 1], [0.1, 0.9], [0, 1]).undefined == "none of the strata has both classes"
    assert stratified_auc([0, 1], [0.1, 0.9], [UNKNOWN, UNKNOWN], called="sources").undefined.startswith("none of the sources")  # fmt: skip
    assert stratified_auc([1, 1], [0.1, 0.9], [0, 0]).undefined
    assert stratified_auc([0, 1], [0.1, np.nan], [0, 0]).undefined
    assert stratified_auc([], [], []).undefined == "no cases"
    with pytest.raises(ArgumentError, match="one stratum a case"):
        stratified_auc([0, 1], [0.1, 0.9], [0])


def test_cases_of_no_stratum_or_of_one_without_both_classes_are_left_out() -> None:
    truth, score, strata = drawn(5)
    more = np.r_[truth, True, True], np.r_[score, -99, -99], np.r_[strata, UNKNOWN, 7]
    found, plain = stratified_auc(*more), stratified_auc(truth, score, strata)
    assert (found.value, found.images) == (plain.value, len(truth))
    assert "3 of 4 strata" in found.method


@pytest.mark.parametrize("sizes", [((1, 30),), ((1, 1), (1, 1)), ((5, 5), (5, 5))])
def test_the_interval_never_has_no_width(sizes) -> None:
    truth, _, strata = drawn(6, sizes)
    for score in (truth.astype(float), np.zeros(len(truth))):
        found = stratified_auc(truth, score, strata)
        assert found.low < found.high
        assert found.low <= found.value <= found.high


def test_the_mean_over_questions_knows_that_they_are_asked_of_the_same_patients() -> None:
    truth, score, strata = drawn(7)
    who = np.arange(len(truth))
    one = stratified_auc(truth, score, strata)
    same = mean_stratified_auc([truth, ~truth], [score, -score], [strata, strata], [who, who])
    assert [same.value, same.low, same.high] == pytest.approx([one.value, one.low, one.high])
    other = drawn(8)[1]
    both = mean_stratified_auc([truth, truth], [score, other], [strata, strata], [who, who])
    assert both.value == pytest.approx((one.value + stratified_auc(truth, other, strata).value) / 2)
    assert both.high - both.low < one.high - one.low
    nothing = mean_stratified_auc([truth], [score], [np.arange(len(truth))], [who])
    assert "none of the strata" in nothing.undefined


def test_names_become_numbers_of_strata() -> None:
    assert strata_of(np.array(["B", "", "A", "B"], object)).tolist() == [1, UNKNOWN, 0, 1]
    assert strata_of(np.array(["", ""], object)).tolist() == [UNKNOWN, UNKNOWN]


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.0, 1.2, 2.3])
@pytest.mark.parametrize("sizes", [((8, 60), (15, 40), (30, 30)), ((2, 4),) * 20, ((1, 200), (10, 20))])
def test_its_interval_covers(sizes, apart) -> None:
    truth_of = norm.cdf(apart / np.sqrt(2))
    found = [stratified_auc(*drawn(seed, sizes, apart)) for seed in range(1000)]
    assert np.mean([e.low <= truth_of <= e.high for e in found]) >= 0.925
