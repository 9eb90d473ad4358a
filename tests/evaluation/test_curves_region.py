"""The joint confidence region of an operating point: it holds the point, stays in the square, covers."""

import math

import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.evaluation.curves import point_region
from overread.stats.proportions import wilson


def answers(patients, per, sensitivity, specificity, seed, *, correlation=0.0, both=False, ill=0.4):
    """Truth, calls and patients: the calls of a patient's images hang together, as do those of its two classes."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), per)
    truth = np.arange(len(who)) % per < per / 2 if both else (rng.permutation(patients) < ill * patients)[who]
    z = math.sqrt(correlation) * rng.normal(size=patients)[who] + math.sqrt(1 - correlation) * rng.normal(size=len(who))
    from scipy.stats import norm

    right = z < norm.ppf(np.where(truth, sensitivity, specificity))
    return truth, right == truth, who


def holds(region, fpr, tpr) -> bool:
    """Whether a point lies in the polygon, by counting crossings."""
    x, y = np.asarray(region.fpr), np.asarray(region.tpr)
    crosses = (y[:-1] > tpr) != (y[1:] > tpr)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = x[:-1] + (tpr - y[:-1]) / (y[1:] - y[:-1]) * (x[1:] - x[:-1])
    return bool((crosses & (fpr < at)).sum() % 2)


def covered(draws, patients, per, sensitivity, specificity, level=0.95, **more):
    inside = known = 0
    for seed in range(draws):
        region = point_region(*answers(patients, per, sensitivity, specificity, seed, **more), level=level)
        if not region.undefined:
            known += 1
            inside += holds(region, 1 - specificity, sensitivity)
    return inside / known


def test_it_is_a_closed_polygon_around_the_point_within_the_square():
    truth, flagged, who = answers(80, 1, 0.8, 0.7, 0)
    region = point_region(truth, flagged, who)
    fpr, tpr = np.array(region.fpr), np.array(region.tpr)
    assert (fpr[0], tpr[0]) == pytest.approx((fpr[-1], tpr[-1]))
    assert holds(region, flagged[~truth].mean(), flagged[truth].mean())
    assert min(fpr.min(), tpr.min()) >= 0
    assert max(fpr.max(), tpr.max()) <= 1
    root = math.sqrt(
        -2 * math.log(0.05)
    )  # the outermost are Wilson's limits at the root of χ² with 2 degrees of freedom
    assert (tpr.min(), tpr.max()) == pytest.approx(
        wilson(float(flagged[truth].mean()), int(truth.sum()), root), abs=1e-3
    )
    assert (fpr.min(), fpr.max()) == pytest.approx(
        wilson(float(flagged[~truth].mean()), int((~truth).sum()), root), abs=1e-3
    )


def test_a_perfect_point_has_a_region_with_width():
    truth = np.arange(40) < 20
    region = point_region(truth, truth, np.arange(40))
    assert max(region.tpr) == 1
    assert min(region.fpr) == 0
    assert min(region.tpr) < 0.85


def test_patients_with_both_answers_tilt_it():
    truth, flagged, who = answers(200, 4, 0.75, 0.75, 1, correlation=0.8, both=True)
    region = point_region(truth, flagged, who)
    fpr, tpr = np.array(region.fpr), np.array(region.tpr)
    assert np.corrcoef(fpr, tpr)[0, 1] < -0.2  # who is easy is right in both: specificity rises with sensitivity
    assert "by patient" in region.method


def test_what_cannot_be_drawn_says_why():
    none = np.zeros(6, bool)
    assert point_region(none, none, np.arange(6)).undefined == "0 positives"
    assert point_region(~none, none, np.arange(6)).undefined == "0 negatives"
    assert "4 patients" in point_region(np.arange(8) % 2 == 0, np.zeros(8, bool), np.arange(8) // 4).undefined
    with pytest.raises(ArgumentError, match="level"):
        point_region(~none, none, np.arange(6), level=95.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patients", "per", "rates", "more"),
    [
        (60, 1, (0.85, 0.75), {}),
        (100, 1, (0.95, 0.9), {}),
        (60, 4, (0.85, 0.75), {"correlation": 0.5}),
        (200, 4, (0.9, 0.8), {"correlation": 0.5}),
        (60, 4, (0.85, 0.75), {"correlation": 0.5, "both": True}),
    ],
)
def test_coverage(patients, per, rates, more):
    assert 0.925 <= covered(3000, patients, per, *rates, **more) <= 0.975
