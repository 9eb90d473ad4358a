"""Decision curves against their definition, a patient bootstrap, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.core.errors import ArgumentError
from overread.stats.decision import decision_curve, decision_difference
from overread.stats.proportions import tango, wilson
from overread.stats.resample import draws

AT = np.array([0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8])


def draw(n, seed=0, digits=2):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    risks = [1 / (1 + np.exp(-(rng.normal(size=n) + 1.5 * truth - 1.5))) for _ in range(2)]
    return truth, *(np.round(r, digits) for r in risks)


def elsewhere(truth, risk, prevalence):
    """The risk of a case with this score where the disease is as common: by Bayes, odds times the ratio of the prior odds."""
    if prevalence is None:
        return risk
    factor = prevalence / (1 - prevalence) / (truth.mean() / (1 - truth.mean()))
    with np.errstate(divide="ignore"):
        return 1 / (1 + (1 / risk - 1) / factor)


def slow(truth, risk, at, prevalence=None):
    """Vickers & Elkin 2006 as it is written, one threshold at a time."""
    found, risk = [], elsewhere(truth, risk, prevalence)
    for t in at:
        treated, odds = risk >= t, t / (1 - t)
        if prevalence is None:
            found.append((treated & truth).mean() - (treated & ~truth).mean() * odds)
        else:
            found.append(prevalence * treated[truth].mean() - (1 - prevalence) * treated[~truth].mean() * odds)
    return np.array(found)


@pytest.mark.parametrize("prevalence", [None, 0.05])
@pytest.mark.parametrize("digits", [1, 2, 9])
def test_values_are_those_of_the_definition(prevalence, digits):
    truth, risk, other = draw(300, digits=digits)
    one = decision_curve(truth, risk, thresholds=AT, prevalence=prevalence)
    np.testing.assert_allclose(one.net_benefit, slow(truth, risk, AT, prevalence), atol=1e-13)
    np.testing.assert_allclose(one.treat_all, slow(truth, np.ones(300), AT, prevalence), atol=1e-13)
    two = decision_difference(truth, risk, other, np.arange(300) // 2, thresholds=AT, prevalence=prevalence)
    apart = slow(truth, risk, AT, prevalence) - slow(truth, other, AT, prevalence)
    np.testing.assert_allclose(two.net_benefit, apart, atol=1e-13)


def test_a_calibrated_model_is_used_as_one_where_the_disease_is_rare():
    """Half of the cases ill here, 2 % there: net benefit is that of a population of 2 % whose risks hold there."""
    rng = np.random.default_rng(5)

    def cases(share, many):
        truth = rng.random(many) < share
        score = rng.normal(size=many) + 2 * truth
        prior = np.log(share / (1 - share))
        return truth, 1 / (1 + np.exp(-(2 * score - 2 + prior)))  # its posterior: calibrated by construction

    at = np.array([0.01, 0.02, 0.05, 0.2])
    here = decision_curve(*cases(0.5, 200_000), thresholds=at, prevalence=0.02)
    there = decision_curve(*cases(0.02, 400_000), thresholds=at)
    np.testing.assert_allclose(here.net_benefit, there.net_benefit, atol=4e-4)
    assert (here.net_benefit >= np.maximum(here.treat_all, 0) - 3e-4).all(), (
        "a calibrated model is never worse than neither"
    )
    assert "risks moved from a prevalence of 0.5 to 0.02" in here.method


def test_the_prevalence_of_the_cases_themselves_changes_nothing():
    truth, risk, _ = draw(400, digits=9)
    kept = decision_curve(truth, risk, thresholds=AT, prevalence=float(truth.mean())).net_benefit
    np.testing.assert_allclose(kept, decision_curve(truth, risk, thresholds=AT).net_benefit, atol=1e-12)


def test_treating_all_by_hand():
    """141 of 1,000 ill, threshold 10 %: 0.141 − 0.859 · 0.1/0.9 = 0.0456."""
    curve = decision_curve(np.arange(1000) < 141, np.full(1000, 0.5), thresholds=[0.1])
    assert curve.treat_all[0] == curve.net_benefit[0] == pytest.approx(0.0456, abs=5e-5)


def test_the_rule_treats_at_the_threshold_itself():
    curve = decision_curve([1, 0, 0, 1], [0.25, 0.25, 0.0, 0.1], thresholds=[0.25, 0])
    assert curve.threshold.tolist() == [0, 0.25]
    assert curve.net_benefit.tolist() == [0.5, pytest.approx(0.25 - 0.25 / 3)]
    assert "risk ≥ threshold 0.25" in curve.at(0.25).method


def test_where_only_one_share_counts_the_interval_is_wilsons_and_tangos():
    """Every case ill, and a threshold so low that a false positive would weigh nothing."""
    _, risk, other = draw(200)
    always, at = np.ones(200, bool), 1e-12
    first, second = risk > 0.3, other > 0.3
    curve = decision_curve(always, first * risk, thresholds=[at])
    assert (curve.low[0], curve.high[0]) == pytest.approx(wilson(first.mean(), 200, 1.959964), abs=1e-6)
    ends = tango((first & ~second).sum(), (second & ~first).sum(), 200, 1.959964)
    two = decision_difference(always, first * risk, second * other, thresholds=[at])
    assert (two.low[0], two.high[0]) == pytest.approx(tuple(ends), abs=1e-6)


def resampled(statistic, patients):
    return np.std([statistic(w) for w in np.concatenate(list(draws(patients, 1000)))], axis=0)


@pytest.mark.parametrize("prevalence", [None, 0.1])
@pytest.mark.parametrize("images", [1, 4])
def test_widths_are_those_of_a_patient_bootstrap(images, prevalence):
    rng = np.random.default_rng(3)
    own = np.repeat(rng.normal(size=400), images)
    truth = np.repeat(rng.random(400) < 0.4, images)
    a, b = (1 / (1 + np.exp(-(own + rng.normal(size=len(own)) + truth - 1))) for _ in range(2))
    patients, at = np.repeat(np.arange(400), images), np.array([0.05, 0.15] if prevalence else [0.2, 0.4])

    a_there, b_there = elsewhere(truth, a, prevalence), elsewhere(truth, b, prevalence)

    def value(risk, w):
        shares = [[(w[patients] * (risk >= t) * c).sum() for t in at] / (w[patients] * d).sum()
                  for c, d in ((truth, truth if prevalence else 1), (~truth, ~truth if prevalence else 1))]  # fmt: skip
        gain, cost = (prevalence, 1 - prevalence) if prevalence else (1, 1)
        return gain * shares[0] - cost * shares[1] * at / (1 - at)

    for curve, statistic in (
        (decision_curve(truth, a, patients, thresholds=at, prevalence=prevalence), lambda w: value(a_there, w)),
        (decision_difference(truth, a, b, patients, thresholds=at, prevalence=prevalence),
         lambda w: value(a_there, w) - value(b_there, w)),
    ):  # fmt: skip
        half = (curve.high - curve.low) / 2 / 1.96
        np.testing.assert_allclose(half, resampled(statistic, 400), rtol=0.12)


def test_one_model_twice_differs_by_zero_within_a_stated_interval():
    truth, risk, _ = draw(100)
    same = decision_difference(truth, risk, risk, thresholds=AT)
    assert (same.net_benefit == 0).all()
    assert (same.low[1:] < 0).all()
    assert (same.high > 0).all()


def test_nobody_treated_is_zero_with_a_width():
    curve = decision_curve([0, 1] * 20, [0.1] * 40, thresholds=[0.5]).at(0.5)
    assert curve.low < curve.value == 0 < curve.high


@pytest.mark.parametrize(
    ("truth", "risk", "why"),
    [
        ([], [], "no cases"),
        ([0, 1], [0.5, math.nan], "1 of 2 scores are not finite"),
        ([0, 1], [0.5, 1.5], "1 of 2 scores are not probabilities"),
    ],
)
def test_undefined_says_why(truth, risk, why):
    curve = decision_curve(truth, risk, thresholds=[0.1, 0.2])
    assert curve.undefined == why == curve.at(0.1).undefined
    assert np.isnan(curve.net_benefit).all()
    assert decision_difference(truth, [0.5] * len(truth), risk, thresholds=[0.1]).undefined == why


def test_one_class_is_defined_unless_the_prevalence_is_given():
    assert decision_curve([1, 1], [0.2, 0.7], thresholds=[0.5]).net_benefit[0] == 0.5
    assert decision_curve([1, 1], [0.2, 0.7], prevalence=0.1).undefined == "0 negatives"


rows_of = st.lists(
    st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=25
)


@settings(max_examples=100, deadline=None)
@given(rows_of, st.sampled_from([None, 0.01, 0.5]))
def test_any_probabilities_have_values_within_their_limits(rows, prevalence):
    truth, risk, other, patients = (np.array([row[k] for row in rows]) for k in range(4))
    for curve in (
        decision_curve(truth, risk / 4, patients, thresholds=AT, prevalence=prevalence),
        decision_difference(truth, risk / 4, other / 4, patients, thresholds=AT, prevalence=prevalence),
    ):
        assert bool(curve.undefined) == np.isnan(curve.net_benefit).all() == np.isnan(curve.low).any()
        if not curve.undefined:
            assert (curve.low <= curve.net_benefit + 1e-12).all()
            assert (curve.net_benefit <= curve.high + 1e-12).all()


@pytest.mark.slow
def test_a_million_cases():
    truth, risk, other = draw(1_000_000, digits=9)
    assert decision_difference(truth, risk, other, np.arange(1_000_000) // 3).patients == 333_334


def test_bad_arguments_are_refused():
    for bad in (
        {"thresholds": [1.0]},
        {"thresholds": []},
        {"thresholds": [math.nan]},
        {"prevalence": 1.0},
        {"level": 2.0},
    ):
        with pytest.raises(ArgumentError):
            decision_curve([0, 1], [0.1, 0.2], **bad)
    with pytest.raises(ArgumentError):
        decision_curve([0, 1], [0.1, 0.2]).at(0.123)


def population(rng, patients, images, ill=None):
    truth = np.repeat(rng.random(patients) < 0.2 if ill is None else np.arange(patients) < ill, images)
    own = np.repeat(rng.normal(size=patients), images)
    a, b = (
        1 / (1 + np.exp(1.8 - 1.6 * truth - math.sqrt(0.5) * own - math.sqrt(0.5) * rng.normal(size=len(own))))
        for _ in range(2)
    )
    return truth, a, b, np.repeat(np.arange(patients), images)


@pytest.mark.simulation
@pytest.mark.parametrize("prevalence", [None, 0.1])
@pytest.mark.parametrize("repeats", [250, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("patients", "images"), [(100, 1), (300, 1), (200, 4)])
def test_coverage(patients, images, prevalence, repeats):
    """Where hardly anyone is treated, or treated otherwise, the interval is wide rather than narrow."""
    at = np.array([0.1, 0.2, 0.4])
    truth, risk, _, _ = population(np.random.default_rng(99), 400_000, 1, 200_000 if prevalence else None)
    known = slow(truth, risk, at, prevalence)
    held = np.zeros((2, 3))
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        truth, a, b, codes = population(rng, patients, images, patients // 2 if prevalence else None)
        one = decision_curve(truth, a, codes, thresholds=at, prevalence=prevalence)
        two = decision_difference(truth, a, b, codes, thresholds=at, prevalence=prevalence)
        held += [(one.low <= known) & (known <= one.high), (two.low <= 0) & (two.high >= 0)]
    slack = 0.0 if repeats > 2000 else 0.02
    assert (held / repeats >= 0.925 - slack).all(), held / repeats
    assert (held[0] / repeats <= 0.975 + slack).all(), held / repeats
