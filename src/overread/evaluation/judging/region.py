"""The joint confidence region of an operating point: sensitivity and specificity together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import checked, require
from overread.evaluation.judging.gap_measures import moved_by, together
from overread.stats.arrays import distinct, zero_one
from overread.stats.decision_counts import wilson_limits
from overread.stats.proportions import effective_images

#: Corners of the polygon.
CORNERS = 96
#: Patients of either class, at least, where patients repeat.
LEAST = 4


@checked
def point_region(
    truth: NDArray[np.bool_], flagged: NDArray[np.bool_], codes: NDArray[np.int64], *, level: float = 0.95
) -> dict[str, Any]:
    """The pairs (1 − specificity, sensitivity) that the data do not refuse, as a closed polygon ``fpr``, ``tpr``.

    ``truth`` and ``flagged`` (N,), ``codes`` (N,) of the patients. The joint score region: both distances from the
    point, each over the standard error that it would have at the corner (Wilson 1927), lie in the χ² ellipse with two
    degrees of freedom, so that it stays in the unit square and has a width also at a sensitivity of 1. Where patients
    repeat: effective numbers from the ratio estimator's variance, the correlation of patients with both answers, and
    Hotelling's T² for few patients. ``{"undefined": why}`` for one class, or fewer than four patients of one.
    """
    require(0 < level < 1, "level must lie between 0 and 1", given=level)
    ill = zero_one(truth)
    people = distinct(codes[ill]), distinct(codes[~ill])
    clustered = distinct(codes) < len(ill)
    if not min(people):
        return {"undefined": "0 positives" if not people[0] else "0 negatives"}
    if clustered and min(people) < LEAST:
        return {"undefined": f"fewer than {LEAST} patients of a class"}
    sides = [_side(flagged[ill], codes[ill], clustered), _side(flagged[~ill], codes[~ill], clustered)]
    shared = (
        together(moved_by(flagged[ill], codes[ill]), moved_by(flagged[~ill], codes[~ill]))
        if clustered
        else 0.0
    )
    angle = np.linspace(0, 2 * math.pi, CORNERS + 1)
    radius = math.sqrt(_radius2(level, distinct(codes) if clustered else 0))
    up, right = np.cos(angle), shared * np.cos(angle) + math.sqrt(1 - shared**2) * np.sin(angle)
    (tpr, fpr) = (_corner(*side, radius * z) for side, z in zip(sides, (up, right)))
    how = "joint score region" + (
        ", by patient, Hotelling" if clustered else ", χ² with two degrees of freedom"
    )
    return {"fpr": fpr, "tpr": tpr, "level": level, "method": how}


def _side(called: NDArray[np.bool_], codes: NDArray[np.int64], clustered: bool) -> tuple[float, float]:
    """The share called positive, and of how many independent images."""
    share, people = float(called.mean()), distinct(codes)
    if not clustered or people == len(called):
        return share, float(len(called))
    return share, float(people) if share in (0.0, 1.0) else max(1.0, effective_images(called, codes))


def _radius2(level: float, patients: int) -> float:
    """The squared radius: χ² with 2 degrees of freedom; of few patients 2(k−1)/(k−2) times F with 2 and k−2."""
    tail = 1 - level
    if not patients:
        return -2 * math.log(tail)
    free = patients - 2
    return (patients - 1) * (tail ** (-2 / free) - 1)  # F's quantile in closed form, twice over


def _corner(share: float, count: float, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The true share from which ``share`` would lie z standard errors, below it where z < 0."""
    low, high = wilson_limits(np.full_like(z, share), np.full_like(z, count), np.abs(z))  # type: ignore[arg-type]  # a z for each corner
    return np.clip(np.where(z < 0, low, high), 0.0, 1.0)
