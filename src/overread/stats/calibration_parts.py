"""What a Brier score is made of: reliability, resolution and uncertainty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked, require
from overread.stats.arrays import distinct, numbers, patient_codes, zero_one
from overread.stats.calibration import bins_of, why_uncalibrated
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import proportion
from overread.stats.resample import Column, Statistic, Weights, bootstrapped, per_patient

#: What :func:`brier_decomposition` gives, in its order.
PARTS = ("brier reliability", "brier resolution", "brier uncertainty")


@checked
def brier_decomposition(
    truth: ArrayLike,
    probability: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    bins: int = 10,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """The three parts of the Brier score, which is reliability − resolution + uncertainty, exactly.

    ``truth`` (N,) 0/1, ``probability`` (N,) in 0 … 1, ``patients`` (N,) or None. In ``bins`` of equal width
    (Murphy 1973): reliability is the mean squared distance of predicted and observed share (0 is perfect),
    resolution how far the bins lie from the prevalence (the more, the better), uncertainty
    prevalence · (1 − prevalence). What varies within a bin is added to the resolution, as Stephenson, Coelho
    & Jolliffe 2008 do; so a resolution can be negative. Reliability and resolution are biased upwards where a
    bin holds few cases: below some 200 to a bin their intervals hold the truth less often than they say.
    Patient bootstrap; the uncertainty takes the interval of the prevalence. Undefined for scores that are not
    probabilities.

    >>> [round(e.value, 3) for e in brier_decomposition([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.8])]
    [0.075, 0.25, 0.25]
    """
    require(bins >= 1, "bins must be at least 1", given=bins)
    positive, chance = zero_one(truth), numbers(probability, np.size(truth), "probability")
    codes = patient_codes(patients, len(chance))
    if why := why_uncalibrated(positive, chance):
        return [undefined(m, why, of=of, images=len(chance), patients=distinct(codes)) for m in PARTS]
    statistic = decomposition_statistic(positive, chance, codes, int(codes.max()) + 1, bins=bins, of=of)
    parts = bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)
    return [*parts, brier_uncertainty(positive, codes, level=level, of=of)]


@checked
def brier_uncertainty(
    truth: ArrayLike, patients: ArrayLike | None = None, *, level: float = 0.95, of: str = "", note: str = ""
) -> Estimate:
    """The Brier score of the prevalence itself, prevalence · (1 − prevalence): Wilson's interval, transformed.

    ``truth`` (N,) 0/1, ``patients`` (N,) or None: clustered where patients repeat. Undefined without cases.

    >>> print(brier_uncertainty([0, 0, 0, 1]))
    0.188 (0.044–0.250)
    """
    share = proportion(zero_one(truth), patients, level=level, metric=PARTS[2], of=of)
    if share.undefined:
        return share
    ends = [p * (1 - p) for p in (share.low, share.high)]
    high = 0.25 if share.low <= 0.5 <= share.high else max(ends)
    how = "; ".join(filter(None, (note, share.method)))
    return replace(share, value=share.value * (1 - share.value), low=min(ends), high=high, method=how)


@checked
def decomposition_statistic(
    truth: NDArray[np.bool_],
    chance: NDArray[np.float64],
    codes: NDArray[np.int64],
    patients: int,
    *,
    bins: int = 10,
    of: str = "",
    note: str = "",
) -> Statistic:
    """Reliability and resolution, for the bootstrap: from two sums per patient and bin, and three per patient."""
    which, error = bins_of(chance, bins), chance - truth
    inside = which == np.unique(which)[:, None]  # (K, N)
    cells = per_patient(codes, patients, np.ones(len(truth)), truth, error**2, *inside, *(inside * error))

    def compute(weights: Weights) -> NDArray[np.float64]:
        sums = weights @ cells
        n, ill, squared = sums[:, :3].T
        many, errors = np.split(sums[:, 3:], 2, axis=1)  # (B, K)
        far = np.divide(errors**2, many, out=np.zeros_like(many), where=many > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            apart, unsure = far.sum(axis=1) / n, ill / n * (1 - ill / n)
            return np.column_stack([apart, apart + unsure - squared / n])

    return Statistic(_columns(of, codes, f"{bins} bins of equal width", note), compute)


def _columns(of: str, codes: NDArray[np.int64], how: str, note: str) -> tuple[Column, ...]:
    people = distinct(codes)
    how = "; ".join(filter(None, (note, how, "biased upwards where a bin holds few cases")))
    about = Column(PARTS[0], of, len(codes), people, "positive", effective=people, why="no cases", note=how)
    return about, replace(about, metric=PARTS[1], scale="plain")
