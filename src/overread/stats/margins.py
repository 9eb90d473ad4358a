"""Claims about a difference: not worse by more than a margin, the same within a margin, better by a margin.

The margin is written down before the test set is opened; here it only meets the interval. Every claim holds at α just
where the interval of confidence 1 − 2·α lies on the right side of the margin, so interval and p value cannot disagree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from overread.errors import checked, one_of, require
from overread.stats.difference import error_towards, ratio, upper_tail
from overread.stats.estimate import Estimate

BETTER = ("higher", "lower")


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

    def __str__(self) -> str:
        verdict = (
            f"undefined ({self.undefined})" if self.undefined else "shown" if self.shown else "not shown"
        )
        return (
            f"{self.claim}, margin {self.margin:g} ({self.better} is better): {verdict}, p = {self.p:.3g}, "
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
    non-inferiority, margin 0.05 (higher is better): shown, p = 0.00448, auc difference -0.010 (-0.040 to 0.020)
    """
    require(margin > 0, "margin must be positive", given=margin)
    sign = _sign(better)
    return _claim("non-inferiority", difference, margin, better, ((-sign * margin, sign),), alpha, freedom)


@checked
def superiority(
    difference: Estimate,
    margin: float = 0.0,
    *,
    better: str = "higher",
    alpha: float = 0.025,
    freedom: int = 0,
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
    return 1 if one_of(better, BETTER, "better") == "higher" else -1


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
    why = difference.undefined or ("" if math.isfinite(difference.high - difference.low) else "no interval")
    if why:
        return Claim(claim, difference, margin, better, values, math.nan, math.nan, alpha, False, why)
    statistic = min(
        side * ratio(difference.value - bound, error_towards(difference, bound, freedom=freedom))
        for bound, side in bounds
    )
    p = upper_tail(statistic, freedom)
    return Claim(claim, difference, margin, better, values, statistic, p, alpha, p < alpha)
