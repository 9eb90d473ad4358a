"""The variance of readers and of the cases they share: what every multi-reader analysis is made of.

Obuchowski & Rockette 1995: figures of merit in a table of readers × modalities, whose errors are correlated
because the cases are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import ArgumentError, checked, require
from overread.stats.arrays import TINY, distinct, normal_quantile, patient_codes, zero_one
from overread.stats.estimate import Estimate, undefined
from overread.stats.placements import Cohort, covariance, placements, shares
from overread.stats.proportions import proportion
from overread.stats.roc import auc

Merit = Literal["auc", "sensitivity", "specificity"]
Sampled = Literal["random", "fixed"]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Mean squares of the table of readers × modalities, and what the errors of its entries share on average.

    ``same_reader``, ``same_modality`` and ``neither`` are Cov1, Cov2 and Cov3 of Obuchowski & Rockette 1995.
    """

    modality: float
    reader: float
    interaction: float
    variance: float
    same_reader: float
    same_modality: float
    neither: float


@dataclass(frozen=True, eq=False)
class Readings:
    """Every reading of every case (N, K), and how the study samples readers and cases."""

    truth: NDArray[np.bool_]
    scores: Matrix
    codes: NDArray[np.int64]
    merit: Merit
    readers: Sampled
    cases: Sampled
    level: float

    @property
    def how(self) -> str:
        """The beginning of each estimate's method."""
        return f"Obuchowski–Rockette, readers {self.readers}, cases {self.cases}"

    @property
    def counts(self) -> tuple[int, int]:
        """Images and patients."""
        return len(self.truth), distinct(self.codes)

    @property
    def sizes(self) -> tuple[int, int]:
        """Patients with a positive, with a negative."""
        return distinct(self.codes[self.truth]), distinct(self.codes[~self.truth])

    def why_undefined(self, readers: int) -> str:
        """The reason why there is no merit, or no population of readers; empty if there are both."""
        if not self.truth.size:
            return "no cases"
        if bad := int((~np.isfinite(self.scores)).sum()):
            return f"{bad} of {self.scores.size} scores are not finite"
        if not self.truth.any() and self.merit != "specificity":
            return "0 positives"
        if self.truth.all() and self.merit != "sensitivity":
            return "0 negatives"
        return "one reader cannot stand for others" if readers < 2 and self.readers == "random" else ""

    def undefined(self, why: str, of: str = "", *, metric: str = "") -> Estimate:
        """An estimate of this study without a value."""
        images, patients = self.counts
        return undefined(metric or self.merit, why, of=of, images=images, patients=patients)

    def alone(self, column: int, of: str = "") -> Estimate:
        """One reader's merit, with the interval of that reader alone."""
        score, wanted = self.scores[:, column], self.merit == "sensitivity"
        if self.merit == "auc":
            return auc(self.truth, score, self.codes, level=self.level, of=of)
        rows = self.truth == wanted
        return proportion(score[rows] == wanted, self.codes[rows], level=self.level, metric=self.merit, of=of)


def readings(
    truth: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike | None,
    dimensions: int,
    *,
    merit: Merit = "auc",
    readers: Sampled = "random",
    cases: Sampled = "random",
    level: float = 0.95,
) -> Readings:
    """The arrays of a study, checked; ``scores`` of so many ``dimensions``, flattened to (N, K)."""
    positive, table = zero_one(truth), number_table(scores, "scores")
    require(
        table.ndim == dimensions and len(table) == len(positive) and 0 not in table.shape[1:],
        f"scores must have {dimensions} dimensions and one row per case",
        given=f"{table.shape}, {len(positive)} cases",
    )
    require("random" in (readers, cases), "readers or cases must be random")
    normal_quantile(level)
    flat = table.reshape(len(positive), math.prod(table.shape[1:]))
    binary = (flat == 0) | (flat == 1) | ~np.isfinite(flat)
    require(merit == "auc" or bool(binary.all()), f"{merit} needs calls of 0 or 1", todo="apply a threshold")
    return Readings(positive, flat, patient_codes(patients, len(positive)), merit, readers, cases, level)


def number_table(values: ArrayLike, name: str) -> Matrix:
    """``values`` as float64 of any shape; NaN and infinity are let through."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be numbers", given=type(values).__name__) from error


@checked
def merit_covariance(
    truth: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None, *, merit: Merit = "auc"
) -> tuple[Matrix, Matrix]:
    """Figures of merit (K,) of K columns of scores, and their covariance (K, K) over patients.

    ``truth`` (N,) 0/1, ``scores`` (N, K) finite (calls 0/1 where ``merit`` is sensitivity or specificity),
    ``patients`` (N,) or None. AUC: DeLong, DeLong & Clarke-Pearson 1988, one sort per column; where patients
    repeat Obuchowski 1997; shares: the ratio estimator. Zero for a class with one patient.
    Raises :class:`ArgumentError` for a class without cases or a score that is not finite.

    >>> merit_covariance([0, 0, 1, 1], [[0.1, 1], [0.4, 2], [0.35, 3], [0.8, 4]])[0].tolist()
    [0.75, 1.0]
    """
    given = readings(truth, scores, patients, 2, merit=merit)
    why = given.why_undefined(2)
    require(not why, "there is no figure of merit", given=why)
    return merits(given)


def merits(given: Readings) -> tuple[Matrix, Matrix]:
    """Values (K,) and covariance (K, K) of readings whose merit is defined."""
    if given.merit == "auc":
        cohort = Cohort.of(given.truth, given.codes)
        placed = np.stack([placements(given.truth, score) for score in given.scores.T])  # (K, N)
        return placed[:, given.truth].mean(axis=1), covariance(cohort, shares(cohort, placed))
    wanted = given.merit == "sensitivity"
    rows = given.truth == wanted
    right, codes = given.scores[rows] == wanted, given.codes[rows]
    values, patients = right.mean(axis=0), distinct(codes)
    if patients < 2:
        return values, np.zeros((len(values), len(values)))
    sums = np.array([np.bincount(codes, column) for column in (right - values).T])  # (K, P)
    return values, patients / (patients - 1) * sums @ sums.T / len(codes) ** 2


@checked
def variance_components(values: ArrayLike, errors: ArrayLike) -> Components:
    """Mean squares of a table of merits, and mean covariances of its errors.

    ``values`` (R, M) one row per reader, ``errors`` (R·M, R·M) their covariance in the order of
    ``values.ravel()``. What one reader or one modality cannot show is 0. Obuchowski & Rockette 1995.

    >>> round(variance_components([[0.8, 0.9], [0.6, 0.7]], np.eye(4)).reader, 3)
    0.04
    """
    table, shared = number_table(values, "values"), number_table(errors, "errors")
    require(table.ndim == 2 and table.size > 0, "values must be readers × modalities", given=table.shape)
    require(shared.shape == (table.size,) * 2, "errors must have a row per value", given=shared.shape)
    shared = shared.reshape(*table.shape, *table.shape)
    down, across, middle = table.mean(axis=0), table.mean(axis=1), table.mean()
    rest = table - down - across[:, None] + middle
    few_readers, few_modalities = len(table) - 1, len(down) - 1
    own, reader, modality = (float(np.einsum(k, shared)) for k in ("rmrm->", "rmrn->", "rmsm->"))
    both = few_readers * few_modalities
    return Components(
        modality=_over(len(table) * ((down - middle) ** 2).sum(), few_modalities),
        reader=_over(len(down) * ((across - middle) ** 2).sum(), few_readers),
        interaction=_over((rest**2).sum(), both),
        variance=own / table.size,
        same_reader=_over(reader - own, table.size * few_modalities),
        same_modality=_over(modality - own, table.size * few_readers),
        neither=_over(shared.sum() - reader - modality + own, table.size * both),
    )


def _over(total: float, count: int) -> float:
    return float(total) / count if count else 0.0


def error_term(
    given: Readings, readers: int, spread: float, freedom: int, own: float, shared: float
) -> tuple[float, float]:
    """The variance of a mean over readers times their number, and its degrees of freedom (Hillis 2007).

    ``spread`` is a mean square with ``freedom``; ``own`` is the error variance of one reader, ``shared`` the
    covariance of two, constrained not to be negative. Without a random reader the freedom is ∞.
    """
    shared = max(shared, 0.0)
    if given.readers == "fixed":
        return own + (readers - 1) * shared, math.inf
    if given.cases == "fixed":
        return spread, float(freedom)
    term = spread + readers * shared
    return term, freedom * (term / spread) ** 2 if spread > TINY else math.inf


def quantile(level: float, freedom: float) -> float:
    """Student's t of a two-sided interval for any ``freedom``, also broken or ∞."""
    if not math.isfinite(freedom):
        return normal_quantile(level)
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + level / 2))


def two_sided(statistic: float, freedom: float) -> float:
    """The chance of as much or more in either direction, for any ``freedom``."""
    from scipy.special import ndtr, stdtr

    tail = stdtr(freedom, -abs(statistic)) if math.isfinite(freedom) else ndtr(-abs(statistic))
    return float(2 * tail)
