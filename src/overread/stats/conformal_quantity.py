"""Intervals around a predicted number that hold the truth as often as promised."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked, require
from overread.stats.arrays import numbers, patient_codes
from overread.stats.conformal import ConformalSets, fit_sets
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import proportion


@dataclass(frozen=True)
class ConformalIntervals:
    """Half-widths learned on tuning data: predicted ± ``half_widths`` of the case's group holds the truth.

    ``groups``: one nameless group where there are none. A half-width is infinite where the tuning data are too few.
    """

    level: float
    groups: tuple[str, ...]
    half_widths: tuple[float, ...]

    @checked
    def width(self, count: int, groups: ArrayLike | None = None) -> NDArray[np.float64]:
        """(N,) the half-width of each of ``count`` cases. Raises :class:`ArgumentError` for an unknown group."""
        if groups is None:
            require(
                self.groups == ("",), "the intervals were fitted by group", todo="give the group of each case"
            )
            return np.full(count, self.half_widths[0])
        given = [str(g) for g in np.asarray(groups).tolist()]
        unknown = sorted(set(given) - set(self.groups))
        require(not unknown, "groups without tuning data", given=", ".join(unknown[:5]))
        wide = dict(zip(self.groups, self.half_widths))
        return np.fromiter((wide[g] for g in given), np.float64, count)


@checked
def fit_intervals(
    truth: ArrayLike,
    predicted: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.9,
    groups: ArrayLike | None = None,
) -> ConformalIntervals:
    """Split-conformal intervals: predicted ± a quantile of |truth − predicted| (Lei et al. 2018, algorithm 2).

    Fit on tuning data: ``truth`` and ``predicted`` (N,) finite, in one unit, ``patients`` (N,) or None, ``groups``
    (N,) for a width per group. The width is the ⌈(K+1)·level⌉-th smallest residual of K patients; where patients
    repeat, all their images are used and each patient counts once, as in
    :func:`overread.stats.conformal.fit_sets`, which does the work: an interval is the set of one class whose
    strangeness is the residual. Holds for an image of a new patient. Raises :class:`ArgumentError` for numbers that
    are not finite.

    >>> fit_intervals([1, 2, 3, 4], [1.5, 2, 3.25, 3], level=0.6).half_widths
    (0.5,)
    """
    true = numbers(truth, name="truth")
    residual = np.abs(true - numbers(predicted, len(true), "predicted"))
    require(bool(np.isfinite(residual).all()), "truth and predicted must be finite")
    widest = float(residual.max(initial=0.0)) or 1.0
    closeness = (1 - residual / widest)[:, None]
    found: ConformalSets = fit_sets(
        np.zeros(len(true)), closeness, patients, level=level, method="lac", groups=groups
    )
    return ConformalIntervals(level, found.groups, tuple(row[0] * widest for row in found.thresholds))


@checked
def interval_coverage(
    truth: ArrayLike,
    predicted: ArrayLike,
    half_width: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
) -> list[Estimate]:
    """How often predicted ± ``half_width`` (N,) holds the truth, and how wide that is on average.

    ``truth`` and ``predicted`` (N,), ``patients`` (N,) or None. A prediction that is not finite holds nothing. The
    width was fixed on tuning data: it has no interval. Undefined without cases.

    >>> [e.value for e in interval_coverage([1, 2], [1.5, 4], [1, 1])]
    [0.5, 2.0]
    """
    true = numbers(truth, name="truth")
    said = numbers(predicted, len(true), "predicted")
    half = numbers(half_width, len(true), "half_width")
    codes = patient_codes(patients, len(true))
    with np.errstate(invalid="ignore"):
        inside = np.abs(true - said) <= half * (1 + 1e-12)
    held = proportion(inside, codes, level=level, metric="interval coverage", of=of)
    if not len(true) or not np.isfinite(half).all():
        why = (
            "no cases"
            if not len(true)
            else "too few tuning patients for this level: the intervals have no ends"
        )
        return [held, undefined("interval width", why, of=of, images=held.images, patients=held.patients)]
    how = "mean of the widths fixed on tuning data"
    wide = Estimate(
        "interval width",
        float(2 * half.mean()),
        math.nan,
        math.nan,
        level,
        how,
        held.images,
        held.patients,
        of,
    )
    return [held, wide]
