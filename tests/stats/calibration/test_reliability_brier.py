"""The parts of the Brier score against their definition, and that they add up."""

import math

import numpy as np
import pytest
from array_metrics import brier, brier_decomposition

from overread.stats.calibration.reliability import PARTS, brier_uncertainty
from overread.stats.proportions import wilson


def draw(rng, n, images=1):
    """Too sure of itself: the calibration slope is .6. Images of a patient share half of what makes her ill."""
    logit = np.repeat(rng.normal(-0.5, 1.5, n), images)
    chance = 1 / (1 + np.exp(-(0.4 + 0.6 * logit)))
    luck = np.where(rng.random(n * images) < 0.5, np.repeat(rng.random(n), images), rng.random(n * images))
    return luck < chance, 1 / (1 + np.exp(-logit)), np.repeat(np.arange(n), images)


def slow(truth, chance, bins):
    """Stephenson et al. 2008 as it is written: five terms, bin by bin."""
    n, rel, res, within, both = len(truth), 0.0, 0.0, 0.0, 0.0
    for k in range(bins):
        rows = [i for i in range(n) if min(int(chance[i] * bins), bins - 1) == k]
        if rows:
            o, f = truth[rows].mean(), chance[rows].mean()
            rel += len(rows) / n * (f - o) ** 2
            res += len(rows) / n * (o - truth.mean()) ** 2
            within += sum((chance[i] - f) ** 2 for i in rows) / n
            both += 2 * sum((truth[i] - o) * (chance[i] - f) for i in rows) / n
    return rel, res - within + both, truth.mean() * (1 - truth.mean())


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_the_parts_are_those_of_the_definition_and_add_up(bins):
    truth, chance, patients = draw(np.random.default_rng(0), 150, 2)
    chance[:3] = (0.0, 1.0, 0.5)
    found = brier_decomposition(truth, chance, patients, bins=bins, resamples=50)
    assert tuple(e.metric for e in found) == PARTS
    rel, res, unc = (e.value for e in found)
    assert (rel, res, unc) == pytest.approx(slow(truth, chance, bins), abs=1e-12)
    assert rel - res + unc == pytest.approx(brier(truth, chance).value, abs=1e-12)
    assert all(e.low <= e.value <= e.high for e in found)


def test_distinct_forecasts_give_murphys_three_terms():
    """With one value per bin nothing varies within: the resolution is Murphy's own."""
    truth = np.array([0, 0, 1, 0, 1, 1, 1, 0], bool)
    chance = np.array([0.15, 0.15, 0.15, 0.55, 0.55, 0.95, 0.95, 0.95])
    shares = [(3, 1 / 3), (2, 1 / 2), (3, 2 / 3)]
    found = brier_decomposition(truth, chance, resamples=50)
    assert found[1].value == pytest.approx(sum(n / 8 * (o - 0.5) ** 2 for n, o in shares))


def test_perfection_has_a_width():
    perfect = brier_decomposition([0, 1] * 20, [0.0, 1.0] * 20)
    assert (perfect[0].value, perfect[0].low) == (0, 0)
    assert perfect[0].high == pytest.approx(wilson(0.0, 40, 1.959964)[1])
    assert all(math.isnan(e.low) for e in brier_decomposition([0, 1], [0.1, 0.3], ["a", "a"])[:2])


def test_uncertainty_takes_the_interval_of_the_prevalence():
    truth = np.arange(100) < 10
    low, high = wilson(0.1, 100, 1.959964)
    found = brier_uncertainty(truth)
    assert (found.low, found.high) == pytest.approx((low * (1 - low), high * (1 - high)))
    assert brier_uncertainty(~truth).low == pytest.approx(found.low)
    assert brier_uncertainty(truth[:21]).high == 0.25
    assert brier_uncertainty([]).undefined


@pytest.mark.simulation
@pytest.mark.parametrize(
    ("repeats", "patients", "images"),
    [(150, 3000, 1), *(pytest.param(2000, n, m, marks=pytest.mark.slow) for n, m in ((3000, 1), (3000, 3)))],
)
def test_coverage_where_bins_are_full(repeats, patients, images):
    truth, chance, _ = draw(np.random.default_rng(99), 2_000_000)
    known, held = slow_vectors(truth, chance), np.zeros(3)
    for seed in range(repeats):
        found = brier_decomposition(*draw(np.random.default_rng(seed), patients, images), resamples=150)
        held += [e.low <= truth <= e.high for e, truth in zip(found, known)]
    slack = 0.0 if repeats > 1000 else 0.04
    assert (held[:2] >= (0.925 - slack) * repeats).all(), held / repeats
    assert (held <= min(1.0, 0.975 + slack) * repeats).all(), held / repeats


def slow_vectors(truth, chance, bins=10):
    which = np.minimum((chance * bins).astype(int), bins - 1)
    n, o, f = (np.bincount(which, x) for x in (np.ones(len(truth)), truth, chance))
    rel, unc = float(((f - o) ** 2 / n).sum() / len(truth)), truth.mean() * (1 - truth.mean())
    return rel, rel + unc - np.mean((chance - truth) ** 2), unc
