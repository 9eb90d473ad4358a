"""Many comparisons: Holm's correction, gaps between subgroups, and whether subgroups differ at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked, one_of, require
from overread.stats.arrays import normal_quantile, numbers
from overread.stats.difference import Difference, chi_square_tail, independent_difference
from overread.stats.estimate import Estimate

SCALES = ("share", "positive", "plain")


@checked
def holm(p: ArrayLike) -> NDArray[np.float64]:
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
    ['-0.200 (-0.334 to -0.053), p = 0.00774']
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
    to = _TO[one_of(scale, SCALES, "scale")]
    known = [e for e in subgroups if not e.undefined and math.isfinite(e.high - e.low)]
    if len(known) < 2:
        why = f"{len(known)} of {len(subgroups)} groups have an interval"
        return Heterogeneity(math.nan, 0, math.nan, len(known), why)
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
