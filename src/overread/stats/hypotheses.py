"""Claims about a difference: not worse by more than a margin, the same within a margin, better by a margin.

The margin is written down before the test set is opened; here it only meets the interval. Every claim holds at α just
where the interval of confidence 1 − 2·α lies on the right side of the margin, so interval and p value cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, one_of, require
from overread.stats.arrays import Floats, normal_quantile, numbers
from overread.stats.estimate import (
    Difference,
    Estimate,
    chi_square_tail,
    error_towards,
    independent_difference,
    p_said,
    ratio,
    upper_tail,
)


@dataclass(frozen=True)
class Claim:
    """What was claimed about a difference, by which margin, and whether the data show it.

    ``bound`` is the value that the difference must pass, ``statistic`` its distance from there in standard errors,
    ``p`` one-sided; ``shown`` is p < ``alpha``. Undefined claims are not shown, and ``undefined`` says why.
    """

    claim: str
    difference: Estimate
    margin: float
    better: str
    bound: tuple[float, ...]
    statistic: float
    p: float
    alpha: float
    shown: bool
    undefined: str = ""

    def __post_init__(self) -> None:
        if self.p in (0, 1) and math.isnan(self.statistic):  # from a file: JSON has no infinity
            object.__setattr__(self, "statistic", math.inf if self.p == 0 else -math.inf)

    def __str__(self) -> str:
        verdict = f"undefined ({self.undefined})" if self.undefined else "shown" if self.shown else "not shown"
        return (
            f"{self.claim}, margin {self.margin:g} ({self.better} is better): {verdict}, {p_said(self.p)}, "
            f"{self.difference.metric} {self.difference}"
        )


@checked
def non_inferiority(
    difference: Estimate, margin: float, *, better: str = "higher", alpha: float = 0.025, freedom: int = 0
) -> Claim:
    """Whether the new is not worse than the old by ``margin`` or more: ``difference`` is new − old.

    ``margin`` > 0 in the units of the difference; ``better``: "higher" for AUC, sensitivity, specificity, "lower"
    for errors. One-sided test at ``alpha`` of the difference against −margin (+margin where lower is better):
    their distance over the standard error on that side of the interval, normal, or Student's t with ``freedom``
    degrees of freedom if the interval was made with them (Blackwelder 1982; CONSORT extension, Piaggio et al.
    2012). Undefined without a difference or its interval. Raises :class:`ArgumentError` for a margin ≤ 0.

    >>> print(non_inferiority(Estimate("auc difference", -0.01, -0.04, 0.02), 0.05))
    non-inferiority, margin 0.05 (higher is better): shown, p = 0.004, auc difference -0.010 (-0.040 to 0.020)
    """
    require(margin > 0, "margin must be positive", given=margin)
    sign = _sign(better)
    return _claim("non-inferiority", difference, margin, better, ((-sign * margin, sign),), alpha, freedom)


@checked
def superiority(
    difference: Estimate, margin: float = 0.0, *, better: str = "higher", alpha: float = 0.025, freedom: int = 0
) -> Claim:
    """Whether the new is better than the old by more than ``margin`` ≥ 0.

    Arguments as :func:`non_inferiority`; the test is one-sided.

    >>> superiority(Estimate("auc difference", 0.03, 0.01, 0.05)).shown
    True
    """
    require(margin >= 0, "margin must not be negative", given=margin)
    sign = _sign(better)
    return _claim("superiority", difference, margin, better, ((sign * margin, sign),), alpha, freedom)


@checked
def equivalence(
    difference: Estimate, margin: float, *, better: str = "higher", alpha: float = 0.025, freedom: int = 0
) -> Claim:
    """Whether new and old differ by less than ``margin`` either way: two one-sided tests (Schuirmann 1987).

    Arguments as :func:`non_inferiority`. ``p`` is the greater of the two, ``statistic`` the smaller; many
    protocols set ``alpha=0.05``.

    >>> equivalence(Estimate("auc difference", -0.01, -0.04, 0.02), 0.05).shown
    True
    """
    require(margin > 0, "margin must be positive", given=margin)
    _sign(better)
    return _claim("equivalence", difference, margin, better, ((-margin, 1), (margin, -1)), alpha, freedom)


def _sign(better: str) -> int:
    return 1 if one_of(better, ("higher", "lower"), "better") == "higher" else -1


def _claim(
    claim: str,
    difference: Estimate,
    margin: float,
    better: str,
    bounds: tuple[tuple[float, int], ...],
    alpha: float,
    freedom: int,
) -> Claim:
    """``bounds``: each a value, and +1 if the difference must lie above it or −1 if below."""
    require(math.isfinite(margin), "margin must be finite", given=margin)
    require(0 < alpha < 0.5, "alpha must lie between 0 and .5", given=alpha)
    values = tuple(bound for bound, _ in bounds)
    if reason := difference.undefined or ("" if math.isfinite(difference.high - difference.low) else "no interval"):
        return Claim(claim, difference, margin, better, values, math.nan, math.nan, alpha, False, reason)
    statistic = min(
        side * ratio(difference.value - bound, error_towards(difference, bound, freedom=freedom))
        for bound, side in bounds
    )
    p = upper_tail(statistic, freedom)
    return Claim(claim, difference, margin, better, values, statistic, p, alpha, p < alpha)


# -- many comparisons: Holm's correction, gaps between subgroups, and whether subgroups differ at all -------------


@checked
def holm(p: ArrayLike) -> Floats:
    """P values after Holm's step-down correction (Holm 1979); NaN stays NaN and does not count as a test.

    ``p`` (K,) in 0 … 1 or NaN. Raises :class:`ArgumentError` for a p value out of range.

    >>> holm([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    given = numbers(p, name="p")
    known = np.flatnonzero(~np.isnan(given))
    raw = given[known]
    require(bool(((raw >= 0) & (raw <= 1)).all()), "p values must lie between 0 and 1")
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw))))
    adjusted = given.copy()
    adjusted[known[order]] = np.minimum(stepped, 1.0)
    return adjusted


@dataclass(frozen=True)
class Gap:
    """The difference of a subgroup from its reference, and its p value after Holm's correction."""

    gap: Difference
    adjusted: float


@checked
def gaps(subgroups: Sequence[Estimate], reference: Estimate | None = None) -> list[Gap]:
    """Each subgroup minus the reference, with p values corrected for their number.

    ``subgroups``: one metric in groups of different patients; ``reference``: another such group, by default
    the first of ``subgroups``, which is then not compared. Intervals of :func:`independent_difference`, on the
    scale that those of the subgroups were made on; they are not corrected. A group that is undefined is told as
    such and does not count as a test.

    >>> wilson = lambda x, lo, hi: Estimate("sensitivity", x, lo, hi)
    >>> [str(g.gap) for g in gaps([wilson(0.8, 0.692, 0.877), wilson(0.6, 0.490, 0.700)])]
    ['-0.200 (-0.334 to -0.053), p = 0.008']
    """
    require(len(subgroups) + (reference is not None) >= 2, "a gap needs two groups", given=len(subgroups))
    base = subgroups[0] if reference is None else reference
    others = subgroups[1:] if reference is None else subgroups
    found = [independent_difference(group, base, metric=f"{group.metric} gap") for group in others]
    return [Gap(gap, float(p)) for gap, p in zip(found, holm([gap.p for gap in found]))]


@dataclass(frozen=True)
class Heterogeneity:
    """Cochran's Q with its degrees of freedom and p value, of ``groups`` groups; NaN where undefined."""

    statistic: float
    freedom: int
    p: float
    groups: int
    undefined: str = ""


@checked
def heterogeneity(subgroups: Sequence[Estimate], *, scale: str = "share") -> Heterogeneity:
    """Whether a metric is the same in groups of different patients: Cochran's Q (Cochran 1954).

    Errors are read from the intervals on a scale on which they are stable: the arcsine of the root for a
    ``share`` (AUC, sensitivity …; finite at 0 and 1, where the error is that of the one side there is), the
    logarithm for a ``positive`` number, or ``plain``. Groups that are undefined or have no interval are left
    out. Undefined for fewer than two groups.

    >>> wilson = lambda x, lo, hi: Estimate("sensitivity", x, lo, hi)
    >>> found = heterogeneity([wilson(0.8, 0.692, 0.877), wilson(0.6, 0.490, 0.700)])
    >>> found.freedom, round(found.p, 3)
    (1, 0.006)
    """
    to = _TO[one_of(scale, tuple(_TO), "scale")]
    known = [e for e in subgroups if not e.undefined and math.isfinite(e.high - e.low)]
    if len(known) < 2:
        few = f"{len(known)} of {len(subgroups)} groups have an interval"
        return Heterogeneity(math.nan, 0, math.nan, len(known), few)
    centre, low, high = (to(np.array([getattr(e, x) for e in known])) for x in ("value", "low", "high"))
    z = np.array([normal_quantile(e.level) for e in known])
    at_end = (centre == low) | (centre == high)
    error = np.where(at_end, np.maximum(centre - low, high - centre), (high - low) / 2) / z
    if not (error > 0).all() or not np.isfinite(error).all():
        return Heterogeneity(math.nan, 0, math.nan, len(known), "a group has an interval without width")
    weight = error**-2
    statistic = float(weight @ (centre - weight @ centre / weight.sum()) ** 2)
    freedom = len(known) - 1
    return Heterogeneity(statistic, freedom, chi_square_tail(statistic, freedom), len(known))


_TO = {
    "share": lambda x: np.arcsin(np.sqrt(np.clip(x, 0.0, 1.0))),
    "positive": lambda x: np.log(np.maximum(x, 1e-12)),
    "plain": lambda x: x,
}
