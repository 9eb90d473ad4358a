"""Predictive values at another prevalence against Bayes' rule, the delta method by hand, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overread.core.errors import ArgumentError
from overread.stats.classification import at_prevalence
from overread.stats.resample import draws


def table(hits, ill, false, well):
    return [1] * ill + [0] * well, [1] * hits + [0] * (ill - hits) + [1] * false + [0] * (well - false)


def test_values_are_bayes_and_intervals_the_delta_method():
    """Mercaldo, Lau & Zhou 2007, equations 4 and 5, as they are written."""
    ppv, npv = at_prevalence(*table(240, 418, 87, 375), 0.03)
    se, sp, pi = 240 / 418, 288 / 375, 0.03
    assert ppv.value == pytest.approx(se * pi / (se * pi + (1 - sp) * (1 - pi)))
    assert npv.value == pytest.approx(sp * (1 - pi) / (sp * (1 - pi) + (1 - se) * pi))
    logit = lambda p: math.log(p / (1 - p))
    for found, variance in (
        (ppv, (1 - se) / se / 418 + sp / (1 - sp) / 375),
        (npv, se / (1 - se) / 418 + (1 - sp) / sp / 375),
    ):
        half = 1.959964 * math.sqrt(variance)
        assert logit(found.low) == pytest.approx(logit(found.value) - half, rel=1e-6)
        assert logit(found.high) == pytest.approx(logit(found.value) + half, rel=1e-6)


def test_at_the_prevalence_of_the_cases_they_are_the_plain_values():
    truth, flagged = table(40, 50, 15, 150)
    ppv, npv = at_prevalence(truth, flagged, 0.25)
    assert ppv.value == pytest.approx(40 / 55)
    assert npv.value == pytest.approx(135 / 145)


def test_widths_are_those_of_a_patient_bootstrap():
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.random(150) < 0.4, 4)
    own = np.repeat(rng.random(150), 4)
    flagged = np.where(np.repeat(rng.random(150) < 0.6, 4), own, rng.random(600)) < np.where(truth, 0.85, 0.2)
    patients = np.repeat(np.arange(150), 4)
    w = np.concatenate(list(draws(150, 2000)))[:, patients].astype(float)
    se, fp = ((w * (flagged & c)).sum(1) / (w * c).sum(1) for c in (truth, ~truth))
    known = np.std([np.log(se / fp), np.log((1 - fp) / (1 - se))], axis=1)
    logit = lambda p: math.log(p / (1 - p))
    for found, error in zip(at_prevalence(truth, flagged, 0.1, patients), known):
        assert (logit(found.high) - logit(found.low)) / 2 / 1.976 == pytest.approx(error, rel=0.1)
        assert "by patient" in found.method


def test_a_perfect_table_has_a_width_and_empty_calls_a_reason():
    ppv, npv = at_prevalence(*table(20, 20, 0, 30), 0.1)
    assert ppv.value == npv.value == 1
    assert ppv.low < 0.9
    assert npv.low < 1
    none, all_of_them = at_prevalence([1, 1, 0, 0], [0, 0, 0, 0], 0.1)
    assert none.undefined == "none called positive"
    assert all_of_them.value == pytest.approx(0.9)
    assert at_prevalence([1, 1], [1, 0], 0.1)[0].undefined == "0 negatives"
    assert at_prevalence([], [], 0.1)[1].undefined == "no cases"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), max_size=40), st.floats(1e-6, 1 - 1e-6))
def test_any_table_has_a_value_or_a_reason(rows, prevalence):
    truth, flagged, patients = ([row[k] for row in rows] for k in range(3))
    for found in at_prevalence(truth, flagged, prevalence, patients):
        assert bool(found.undefined) == math.isnan(found.value)
        if not found.undefined:
            assert -1e-9 <= found.low <= found.value + 1e-9
            assert found.value <= found.high + 1e-9 <= 1 + 2e-9
            assert found.low < found.high


def test_bad_arguments_are_refused():
    for call in (
        lambda: at_prevalence([0, 1], [0, 1], 0.0),
        lambda: at_prevalence([0, 1], [0], 0.1),
        lambda: at_prevalence([0, 1], [0, 0.5], 0.1),
    ):
        with pytest.raises(ArgumentError):
            call()


SETTINGS = [
    (50, 50, 0.9, 0.8, 0.1, 1),
    (20, 80, 0.9, 0.9, 0.05, 1),
    (50, 50, 0.97, 0.95, 0.1, 1),
    (20, 20, 0.8, 0.7, 0.3, 1),
    (80, 120, 0.85, 0.9, 0.1, 4),
    (30, 30, 0.85, 0.8, 0.1, 3),
]


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("repeats", "case"),
    [(300, SETTINGS[2]), (300, SETTINGS[5]), *(pytest.param(4000, s, marks=pytest.mark.slow) for s in SETTINGS)],
)
def test_coverage(repeats, case):
    ill, well, se, sp, pi, images = case
    known = se * pi / (se * pi + (1 - sp) * (1 - pi)), sp * (1 - pi) / (sp * (1 - pi) + (1 - se) * pi)
    truth = np.repeat(np.arange(ill + well) < ill, images)
    patients, held = np.repeat(np.arange(ill + well), images), np.zeros(2)
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        own, copied = (np.repeat(rng.random(ill + well), images), np.repeat(rng.random(ill + well) < 0.5, images))
        flagged = np.where(copied, own, rng.random(len(truth))) < np.where(truth, se, 1 - sp)
        held += [e.low <= v <= e.high for e, v in zip(at_prevalence(truth, flagged, pi, patients), known)]
    slack = 0.0 if repeats > 2000 else 0.02
    assert (held / repeats >= 0.925 - slack).all(), held / repeats
    assert (held / repeats <= 0.975 + slack).all(), held / repeats
