"""How many patients a study needs, before it begins, and how a metric grows with the size of the training set.

Sizes are expectations: where cases come as they come, the number with the disease varies around prevalence × patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, one_of, require
from overread.stats.arrays import Floats, logit_interval, normal_quantile, numbers
from overread.stats.proportions import wilson

#: No study is larger.
MOST = 10**9


@dataclass(frozen=True)
class Design:
    """What a study's patients are like.

    ``prevalence``: the share of patients with the disease; ``images`` of each patient on average, and the
    ``correlation`` of what is measured between images of one patient. 1 image: the correlation does not matter.
    """

    prevalence: float = 0.5
    images: float = 1.0
    correlation: float = 0.5

    def __post_init__(self) -> None:
        require(0 < self.prevalence <= 1, "prevalence must lie in 0 … 1", given=self.prevalence)
        require(self.images >= 1, "images must be at least 1", given=self.images)
        require(0 <= self.correlation <= 1, "correlation must lie in 0 … 1", given=self.correlation)

    @property
    def effect(self) -> float:
        """The design effect: so many images of such patients tell as much as one image of a patient each (Kish 1965)."""
        return 1 + (self.images - 1) * self.correlation

    def effective(self, patients: int) -> float:
        """Independent images that tell as much as all of the patients'."""
        return patients * self.images / self.effect


@dataclass(frozen=True)
class SampleSize:
    """The patients needed, how many of them with and without the disease, and their images, all rounded up."""

    patients: int
    positives: int
    negatives: int
    images: int
    method: str


@checked
def patients_for_proportion(
    share: float, width: float, design: Design | None = None, *, of: str = "positives", level: float = 0.95
) -> SampleSize:
    """Patients for a Wilson interval no wider than ``width`` around an expected ``share``.

    ``of``: whose share it is: "positives" (sensitivity), "negatives" (specificity) or "all" (accuracy).
    Wilson 1927, with the design effect where patients have several images. Raises :class:`ArgumentError` for a
    width out of 0 … 1 or one that no study reaches.

    >>> patients_for_proportion(0.9, 0.1, Design(prevalence=0.2)).patients
    705
    """
    _inside(share=share, width=width)
    among = _share_of(one_of(of, ("positives", "negatives", "all"), "of"), design := design or Design())
    z = normal_quantile(level)

    def enough(patients: int) -> bool:
        low, high = wilson(share, max(design.effective(patients) * among, 1e-9), z)
        return high - low <= width

    return _sized(enough, design, f"Wilson interval of width {width:g} at {share:g} of {of}")


@checked
def patients_for_auc(
    area: float, width: float, design: Design | None = None, *, variance: str = "hanley", level: float = 0.95
) -> SampleSize:
    """Patients for an interval of the AUC no wider than ``width`` around an expected ``area``, on the logit scale.

    ``variance``: "hanley" (exponential scores; Hanley & McNeil 1982), "normal" (normal scores of equal
    spread, exactly), or "obuchowski" (Obuchowski 1994: from rating scales, the most cautious). Raises
    :class:`ArgumentError` for a width or area out of 0 … 1.

    >>> patients_for_auc(0.85, 0.1, Design(prevalence=0.2)).patients
    489
    """
    _inside(area=area, width=width)
    design, z = design or Design(), normal_quantile(level)
    of = _VARIANCES[one_of(variance, tuple(_VARIANCES), "variance")]

    def enough(patients: int) -> bool:
        low, high = logit_interval(area, math.sqrt(_auc_variance(of, area, design, patients)), z)
        return high - low <= width

    return _sized(enough, design, f"interval of width {width:g} at AUC {area:g}, {variance} variance")


@checked
def patients_for_auc_difference(
    new: float,
    old: float,
    design: Design | None = None,
    *,
    margin: float = 0.0,
    alike: float = 0.5,
    power: float = 0.8,
    alpha: float = 0.025,
    variance: str = "hanley",
) -> SampleSize:
    """Patients to show that AUC ``new`` differs from ``old``, or, with ``margin`` > 0, is not inferior.

    Both models read the same cases and their AUCs correlate by ``alike`` (0 for different cases in each arm of
    this size); one-sided ``alpha``. new − old + margin must lie z(1−α) + z(power) standard errors above 0
    (Obuchowski 1994; Hanley & McNeil 1983). Raises :class:`ArgumentError` where there is nothing to show.

    >>> patients_for_auc_difference(0.85, 0.85, Design(prevalence=0.3), margin=0.05).patients
    689
    """
    _inside(new=new, old=old)
    effect, quantile = _effect(new, old, margin), _power_quantile(power, alpha)
    require(0 <= alike < 1, "alike must lie in 0 ≤ alike < 1", given=alike)
    design, of = design or Design(), _VARIANCES[one_of(variance, tuple(_VARIANCES), "variance")]

    def enough(patients: int) -> bool:
        first, second = (_auc_variance(of, area, design, patients) for area in (new, old))
        return effect >= quantile * math.sqrt(first + second - 2 * alike * math.sqrt(first * second))

    return _sized(enough, design, f"power {power:g} for AUC {new:g} against {old:g}, margin {margin:g}, {variance}")


@checked
def patients_for_paired_proportions(
    new: float,
    old: float,
    design: Design | None = None,
    *,
    margin: float = 0.0,
    discordant: float | None = None,
    of: str = "positives",
    power: float = 0.8,
    alpha: float = 0.025,
) -> SampleSize:
    """Patients to show that a share ``new`` differs from ``old`` on the same cases, or is not inferior by ``margin``.

    ``discordant``: the share of cases on which the two disagree; without it that of independent errors, which
    is cautious. ``of`` as :func:`patients_for_proportion`; one-sided ``alpha``. McNemar's test (Connor 1987);
    with a margin Tango's score test, its null variance that of the restricted estimate (Nam
    1997). Raises :class:`ArgumentError` where there is nothing to show.

    >>> patients_for_paired_proportions(0.9, 0.8, discordant=0.2, of="all").patients
    155
    """
    _inside(new=new, old=old)
    effect, gap = _effect(new, old, margin), abs(new - old) if not margin else new - old
    apart = new * (1 - old) + old * (1 - new) if discordant is None else discordant
    most = min(new + old, 2 - new - old)
    require(abs(gap) <= apart <= most + 1e-12, "discordant does not fit the two shares", given=apart)
    among = _share_of(one_of(of, ("positives", "negatives", "all"), "of"), design := design or Design())
    null = _tango_variance((apart + gap) / 2, (apart - gap) / 2, -margin)
    _power_quantile(power, alpha)
    needed = _quantile(1 - alpha) * math.sqrt(null) + _quantile(power) * math.sqrt(max(0.0, apart - gap**2))

    def enough(patients: int) -> bool:
        return effect * math.sqrt(design.effective(patients) * among) >= needed

    return _sized(enough, design, f"power {power:g} for {new:g} against {old:g} of {of}, margin {margin:g}")


def _tango_variance(first_only: float, second_only: float, at: float) -> float:
    """Of one case's difference, were it ``at`` on average: Tango 1998."""
    linear = (2 - first_only + second_only) * at - first_only - second_only
    root = math.sqrt(max(0.0, linear**2 + 8 * second_only * at * (1 - at)))
    return max(0.0, (root - linear) / 2 + at * (1 - at))


def _inside(**shares: float) -> None:
    for name, value in shares.items():
        require(0 < value < 1, f"{name} must lie between 0 and 1", given=value)


def _share_of(of: str, design: Design) -> float:
    share = {"positives": design.prevalence, "negatives": 1 - design.prevalence, "all": 1.0}[of]
    require(share > 0, f"with prevalence {design.prevalence:g} there are no {of}")
    return share


def _effect(new: float, old: float, margin: float) -> float:
    require(0 <= margin < 1, "margin must lie in 0 ≤ margin < 1", given=margin)
    effect = new - old + margin if margin else abs(new - old)
    require(effect > 0, "there is nothing to show", given=(new, old, margin), todo="give a margin or another new")
    return effect


def _quantile(chance: float) -> float:
    return NormalDist().inv_cdf(chance)


def _power_quantile(power: float, alpha: float) -> float:
    require(0 < alpha < 0.5 <= power < 1, "alpha must lie below .5 and power above", given=(alpha, power))
    return _quantile(1 - alpha) + _quantile(power)


def _auc_variance(of: Callable[[float, float, float], float], area: float, design: Design, patients: int) -> float:
    require(design.prevalence < 1, "an AUC needs patients without the disease", given=design.prevalence)
    count = design.effective(patients)
    return of(area, count * design.prevalence, count * (1 - design.prevalence))


def _hanley(area: float, positives: float, negatives: float) -> float:
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    more = max(0.0, positives - 1) * (first - area**2) + max(0.0, negatives - 1) * (second - area**2)
    return (area * (1 - area) + more) / (positives * negatives)


def _obuchowski(area: float, positives: float, negatives: float) -> float:
    a = math.sqrt(2) * _quantile(area)
    spread = (5 * a * a + 8) + (a * a + 8) * positives / negatives
    return 0.0099 * math.exp(-a * a / 2) * spread / positives


def _normal(area: float, positives: float, negatives: float) -> float:
    """As :func:`_hanley`, with the chance that one normal score beats two others: Owen 1956."""
    from scipy.special import owens_t

    both = area - 2 * float(owens_t(_quantile(area), math.sqrt(1 / 3)))
    more = (max(0.0, positives - 1) + max(0.0, negatives - 1)) * (both - area**2)
    return (area * (1 - area) + more) / (positives * negatives)


_VARIANCES = {"hanley": _hanley, "normal": _normal, "obuchowski": _obuchowski}


def _sized(enough: Callable[[int], bool], design: Design, method: str) -> SampleSize:
    """The smallest number of patients that is ``enough``, of whom each class has at least two."""
    least = math.ceil(2 / min(design.prevalence, 1 - design.prevalence or 1.0))
    require(enough(MOST), "no study is large enough", given=method)
    short, long = least - 1, MOST
    while long - short > 1:
        middle = (short + long) // 2
        short, long = (short, middle) if enough(middle) else (middle, long)
    positives = math.ceil(long * design.prevalence)
    negatives = math.ceil(long * (1 - design.prevalence) - 1e-9)
    how = method + (f", design effect {design.effect:.3g}" if design.images > 1 else "")
    return SampleSize(long, positives, negatives, math.ceil(long * design.images), how)


# -- how a metric grows with the training set: an inverse power law, value = a − b · size^(−c) --------------------


#: Fewer sizes than this do not fix three numbers and leave anything to judge them by.
FEWEST_SIZES = 4
#: Exponents that are looked at; outside, the law is a straight line or a step within any range of sizes.
EXPONENTS = (0.05, 3.0)
_COARSE, _FINE = 97, 33


@dataclass(frozen=True, eq=False)
class PowerLaws:
    """B laws: ``asymptote`` a, ``scale`` b and ``exponent`` c, each (B,), and the sum of squares ``loss`` (B,)."""

    asymptote: Floats
    scale: Floats
    exponent: Floats
    loss: Floats

    def at(self, sizes: ArrayLike) -> Floats:
        """The laws at ``sizes`` (K,): values (B, K)."""
        n = np.asarray(sizes, np.float64)
        return self.asymptote[:, None] - self.scale[:, None] * n[None, :] ** -self.exponent[:, None]


@checked
def power_laws(sizes: ArrayLike, values: ArrayLike, *, rising: bool = True, limit: float = math.inf) -> PowerLaws:
    """Least-squares fits of a − b · n^(−c) to B curves over the same sizes.

    ``sizes`` (S,) above 0, at least :data:`FEWEST_SIZES` different; ``values`` (B, S) or (S,) finite. b ≥ 0 where
    the metric is ``rising``, else b ≤ 0; a is at most ``limit`` (at least −``limit`` where it falls); c lies in
    :data:`EXPONENTS`. For a given c the law is linear in a and b, so c is searched on a grid, twice (variable
    projection: Golub & Pereyra 1973). The law is that of Cortes et al. 1993 ("Learning curves: asymptotic values
    and rate of convergence"), used for medical images by Figueroa et al. 2012.

    >>> laws = power_laws([25, 50, 100, 200], [0.9 - 0.8 * n**-0.5 for n in (25, 50, 100, 200)])
    >>> round(float(laws.asymptote[0]), 3), round(float(laws.exponent[0]), 2)
    (0.9, 0.5)
    """
    n = numbers(sizes, name="sizes")
    curves = np.atleast_2d(np.asarray(values, np.float64))
    require(bool((n > 0).all()), "sizes must be above 0", given=n.min(initial=0))
    require(len(np.unique(n)) >= FEWEST_SIZES, f"a power law needs {FEWEST_SIZES} sizes", given=len(np.unique(n)))
    require(curves.shape[1] == len(n), "there must be a value for every size", given=(curves.shape, len(n)))
    require(bool(np.isfinite(curves).all()), "the values must be finite")
    sign = 1.0 if rising else -1.0
    coarse = np.geomspace(*EXPONENTS, _COARSE)
    step = coarse[1] / coarse[0]
    best = coarse[_fits(n, sign * curves, coarse[None, :], limit)[2].argmin(axis=1)]
    fine = np.clip(best[:, None] * np.geomspace(1 / step, step, _FINE), *EXPONENTS)
    a, b, loss = _fits(n, sign * curves, fine, limit)
    rows, at = np.arange(len(curves)), loss.argmin(axis=1)
    scale = b[rows, at] * float(n.max()) ** fine[rows, at]
    return PowerLaws(sign * a[rows, at], sign * scale, fine[rows, at], loss[rows, at])


def _fits(n: Floats, y: Floats, c: Floats, limit: float) -> tuple[Floats, Floats, Floats]:
    """a, b (of n over its largest) and the loss, (B, C) each, for every curve (B, S) and exponent (1 or B, C)."""
    x = (n / n.max()) ** -c[:, :, None]  # (1 or B, C, S)
    mean_x, mean_y = x.mean(axis=2), y.mean(axis=1)[:, None]
    apart = x - mean_x[:, :, None]
    down = y[:, None, :] - mean_y[:, :, None]
    b = np.maximum(-(apart * down).sum(axis=2) / (apart**2).sum(axis=2), 0.0)
    a = mean_y + b * mean_x
    if math.isfinite(limit):  # at its limit, the line must pass through it
        room = limit - y[:, None, :]
        bound = np.maximum((x * room).sum(axis=2) / (x**2).sum(axis=2), 0.0)
        over = a > limit
        a, b = np.where(over, limit, a), np.where(over, bound, b)
    loss = ((y[:, None, :] - a[:, :, None] + b[:, :, None] * x) ** 2).sum(axis=2)
    return a, b, loss
