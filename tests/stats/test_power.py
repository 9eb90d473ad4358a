"""Sample sizes against published formulas and tables, and by simulating the study that they promise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import samplesize_confint_proportion

from overread.core.errors import ArgumentError
from overread.stats.discrimination.delong import auc_difference
from overread.stats.discrimination.roc import auc
from overread.stats.hypotheses import non_inferiority
from overread.stats.power import (
    _VARIANCES,
    Design,
    patients_for_auc,
    patients_for_auc_difference,
    patients_for_paired_proportions,
    patients_for_proportion,
)
from overread.stats.proportions import paired_proportions, proportion, wilson


def test_widths_are_reached_by_this_many_and_not_by_one_fewer():
    size = patients_for_proportion(0.9, 0.1, of="all")
    width = lambda n: np.diff(wilson(0.9, n, 1.959964))[0]
    assert width(size.patients) <= 0.1 < width(size.patients - 1)
    assert size.patients == pytest.approx(samplesize_confint_proportion(0.9, 0.05), rel=0.05)


def test_prevalence_and_design_effect_multiply():
    plain = patients_for_proportion(0.9, 0.1, of="all").patients
    rare = patients_for_proportion(0.9, 0.1, Design(prevalence=0.1))
    assert rare.patients == pytest.approx(10 * plain, abs=10)
    assert rare.positives == math.ceil(rare.patients * 0.1)
    assert rare.positives + rare.negatives <= rare.patients + 1
    several = patients_for_proportion(0.9, 0.1, Design(images=4, correlation=0.5), of="all")
    assert several.patients == pytest.approx(plain * 2.5 / 4, abs=1)
    assert several.images == 4 * several.patients
    assert "design effect 2.5" in several.method
    specific = patients_for_proportion(0.9, 0.1, Design(prevalence=0.1), of="negatives").patients
    assert specific == pytest.approx(plain / 0.9, abs=2)


def test_hanley_and_mcneil_is_their_formula():
    """Hanley & McNeil 1982, Radiology 143:29, equation 1, by hand: area .9, 80 of each."""
    q1, q2 = 0.9 / 1.1, 2 * 0.81 / 1.9
    error = math.sqrt((0.09 + 79 * (q1 - 0.81) + 79 * (q2 - 0.81)) / 6400)
    half = 1.959964 * error / 0.09
    low, high = (1 / (1 + math.exp(-(math.log(9) + s * half))) for s in (-1, 1))
    assert patients_for_auc(0.9, high - low + 1e-9).positives == 80


def test_variances_are_those_of_their_formulas():
    """Obuchowski 1994, Academic Radiology 1:S22, equation 4; of normal scores by their bivariate distribution."""
    a = math.sqrt(2) * stats.norm.ppf(0.8)
    rating = 0.0099 * math.exp(-a * a / 2) * ((5 * a * a + 8) + (a * a + 8) / (150 / 50)) / 50
    assert _VARIANCES["obuchowski"](0.8, 50, 150) == pytest.approx(rating)
    z = stats.norm.ppf(0.8)
    both = stats.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]]).cdf([z, z])
    normal = (0.16 + (49 + 149) * (both - 0.64)) / 50 / 150
    assert _VARIANCES["normal"](0.8, 50, 150) == pytest.approx(normal, rel=1e-5)
    sizes = [patients_for_auc(0.85, 0.1, variance=v).patients for v in ("normal", "hanley", "obuchowski")]
    assert sizes == sorted(sizes)


def test_mcnemar_is_that_of_connor():
    """Connor 1987, Biometrics 43:207, equation 3.2, by hand."""
    psi, delta = 0.2, 0.1
    z = stats.norm.ppf([0.975, 0.8])
    n = ((z[0] * math.sqrt(psi) + z[1] * math.sqrt(psi - delta**2)) / delta) ** 2
    assert patients_for_paired_proportions(0.9, 0.8, discordant=0.2, of="all").patients == math.ceil(n)


def test_a_larger_margin_power_or_likeness_moves_the_size_the_right_way():
    base = patients_for_auc_difference(0.85, 0.85, margin=0.05).patients
    assert patients_for_auc_difference(0.85, 0.85, margin=0.1).patients < base
    assert patients_for_auc_difference(0.85, 0.85, margin=0.05, power=0.9).patients > base
    assert patients_for_auc_difference(0.85, 0.85, margin=0.05, alike=0.8).patients < base
    assert patients_for_auc_difference(0.8, 0.9).patients == patients_for_auc_difference(0.9, 0.8).patients


shares = st.floats(0.02, 0.98)


@settings(max_examples=100, deadline=None)
@given(shares, shares, st.floats(0.02, 0.5), shares)
def test_any_plan_has_a_size_or_is_refused(first, second, small, prevalence):
    design = Design(prevalence)
    assert patients_for_proportion(first, small, design).patients >= 4
    assert patients_for_auc(first, small, design).patients >= 4
    for plan in (patients_for_auc_difference, patients_for_paired_proportions):
        if first - second + small > 1e-3:
            assert plan(first, second, design, margin=small).patients >= 4
        elif first - second + small <= 0:
            with pytest.raises(ArgumentError):
                plan(first, second, design, margin=small)


def test_bad_arguments_are_refused():
    for call in (
        lambda: Design(0.0),
        lambda: Design(images=0.5),
        lambda: Design(correlation=2),
        lambda: patients_for_proportion(1.0, 0.1),
        lambda: patients_for_proportion(0.9, 0.0),
        lambda: patients_for_proportion(0.9, 0.1, Design(1.0), of="negatives"),
        lambda: patients_for_proportion(0.9, 0.1, of="everyone"),
        lambda: patients_for_auc(0.9, 1e-9),
        lambda: patients_for_auc(0.9, 0.1, Design(1.0)),
        lambda: patients_for_auc(0.9, 0.1, variance="delong"),
        lambda: patients_for_auc_difference(0.9, 0.9),
        lambda: patients_for_auc_difference(0.9, 0.8, power=0.01),
        lambda: patients_for_paired_proportions(0.9, 0.8, discordant=0.01),
    ):
        with pytest.raises(ArgumentError):
            call()


SLOW = pytest.mark.slow


@pytest.mark.parametrize("repeats", [100, pytest.param(1000, marks=SLOW)])
@pytest.mark.parametrize("images", [1, 3])
def test_studies_of_this_size_have_intervals_of_this_width(repeats, images):
    size = patients_for_proportion(0.85, 0.12, Design(0.3, images, 0.5))
    area = patients_for_auc(0.85, 0.12, Design(0.3, images, 0.5), variance="normal")
    apart, widths = math.sqrt(2) * stats.norm.ppf(0.85), []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        own, copied = (
            np.repeat(rng.random(size.positives), images),
            np.repeat(rng.random(size.positives) < 0.5, images),
        )
        good = np.where(copied, own, rng.random(len(own))) < 0.85
        share = proportion(good, np.repeat(np.arange(size.positives), images))
        truth = np.repeat(np.arange(area.patients) < area.positives, images)
        common = np.repeat(rng.normal(size=area.patients), images)
        score = apart * truth + math.sqrt(0.5) * common + math.sqrt(0.5) * rng.normal(size=len(truth))
        found = auc(truth, score, np.repeat(np.arange(area.patients), images))
        widths.append([share.high - share.low, found.high - found.low])
    np.testing.assert_allclose(np.mean(widths, axis=0), 0.12, rtol=0.12)


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [150, pytest.param(2000, marks=SLOW)])
@pytest.mark.parametrize(("new", "margin"), [(0.85, 0.07), (0.92, 0.0)])
def test_studies_of_this_size_have_this_power_for_areas(repeats, new, margin):
    size = patients_for_auc_difference(new, 0.85, Design(0.4), margin=margin, alike=0.5, variance="normal")
    truth, shown = np.arange(size.patients) < size.positives, 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=len(truth))
        scores = [
            math.sqrt(2) * stats.norm.ppf(a) * truth
            + math.sqrt(0.52) * common
            + math.sqrt(0.48) * rng.normal(size=len(truth))
            for a in (new, 0.85)
        ]
        d = auc_difference(truth, *scores).difference
        shown += non_inferiority(d, margin).shown if margin else d.low > 0
    slack = 0.06 if repeats > 1000 else 0.12
    assert 0.8 - slack <= shown / repeats <= 0.8 + slack, shown / repeats


@pytest.mark.simulation
@pytest.mark.parametrize("repeats", [150, pytest.param(2000, marks=SLOW)])
@pytest.mark.parametrize(("new", "margin", "discordant"), [(0.9, 0.0, 0.2), (0.85, 0.08, 0.15)])
def test_studies_of_this_size_have_this_power_for_paired_shares(repeats, new, margin, discordant):
    old = 0.8 if not margin else 0.85
    size = patients_for_paired_proportions(new, old, margin=margin, discordant=discordant, of="all")
    b, c = (discordant + new - old) / 2, (discordant - new + old) / 2
    shown = 0
    for seed in range(repeats):
        cell = np.random.default_rng(seed).choice(4, size.patients, p=[new - b, b, c, 1 - new - c])
        d = paired_proportions(np.isin(cell, [0, 1]), np.isin(cell, [0, 2])).difference
        shown += non_inferiority(d, margin).shown if margin else d.low > 0
    slack = 0.04 if repeats > 1000 else 0.1
    assert 0.8 - slack <= shown / repeats <= 0.8 + slack, shown / repeats
