"""Whether a probability of 30 % comes true three times in ten."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.core.random import bits
from overread.stats.arrays import (
    Booleans,
    Floats,
    Integers,
    Patients,
    distinct,
    no_ranking,
    normal_quantile,
    not_finite,
    numbers,
    patient_codes,
    t_quantile,
    t_shrinkage,
    zero_one,
)
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import patient_freedom, proportion, wilson
from overread.stats.resample import CHUNK, Column, Statistic, Weights, per_patient

#: Probabilities are moved this far from 0 and 1 before their logit is taken.
EDGE = 1e-6
#: A patient who decides a coefficient alone leaves herself nothing of her score; so much is kept.
LEAST_LEFT = 0.1


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram with its null band; arrays have one entry per bin that is not empty.

    ``observed`` with ``low`` and ``high`` is the share of positives where ``predicted`` is the mean probability.
    ``null_low`` and ``null_high`` (same length) hold the observed share in all but 5 % of draws from a perfectly
    calibrated model; ``ece`` is Σ count/N · |observed − predicted|, and ``null_ece`` its draws under that model.
    """

    edges: Floats
    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    count: Integers
    null_low: Floats
    null_high: Floats
    ece: float
    null_ece: Floats


@checked
def not_probabilities(probability: Floats) -> str:
    """The reason why numbers cannot be judged as probabilities; empty if they can."""
    if reason := not_finite(probability, name="scores"):
        return reason
    outside = int(((probability < 0) | (probability > 1)).sum())
    return f"{outside} of {probability.size} scores are not probabilities" if outside else ""


def require_probabilities(chances: Floats) -> None:
    """Raise :class:`ArgumentError` unless every number lies in 0 … 1."""
    good = bool((np.isfinite(chances) & (chances >= 0) & (chances <= 1)).all())
    require(good, "probabilities must be finite and lie in 0 … 1")


def logit(probability: Floats) -> Floats:
    """The logit of each probability, moved :data:`EDGE` away from 0 and 1 first."""
    inside = np.clip(probability, EDGE, 1 - EDGE)
    return np.log(inside / (1 - inside))


def bins_of(probability: Floats, bins: int) -> Integers:
    """(N,) the bin of equal width of each probability; exactly 1 belongs to the last."""
    return np.clip((probability * bins).astype(np.int64), 0, bins - 1)


@checked
def reliability(
    truth: ArrayLike,
    probability: ArrayLike,
    patients: Patients = None,
    *,
    bins: int = 10,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Reliability:
    """Observed against predicted probability in bins of equal width, with the band of a calibrated model.

    ``truth`` (N,) 0/1, ``probability`` (N,) in 0 … 1 (a value of exactly 0 or 1 belongs to the outer bin), ``patients``
    (N,) or None. The band is simulated: labels are drawn from the probabilities, those of a patient as alike as the
    labels are found to be beyond their probabilities (:func:`likeness`).
    Raises :class:`ArgumentError` for probabilities out of range or no cases.

    >>> reliability([0, 1, 1], [0.2, 0.8, 1.0]).count.tolist()
    [1, 1, 1]
    """
    positive, chance = zero_one(truth), numbers(probability, np.size(truth), "probability")
    reason = not_probabilities(chance)
    require(not reason, "a reliability diagram needs probabilities", given=reason)
    require(bins >= 1, "bins must be at least 1", given=bins)
    codes = patient_codes(patients, len(chance))
    used, which, count = np.unique(bins_of(chance, bins), return_inverse=True, return_counts=True)
    rows = [np.flatnonzero(which == k) for k in range(len(used))]
    shares = [proportion(positive[r], codes[r], level=level) for r in rows]
    predicted = np.bincount(which, chance) / count
    many = resamples or int(min(1000, max(200, 20_000_000 // len(chance))))
    null = _null(positive, chance, which, count, codes, many, seed)
    tails = (1 - level) / 2, (1 + level) / 2
    low, high = np.quantile(null, tails, axis=0, method="inverted_cdf")
    observed, least, most = (np.array([getattr(s, end) for s in shares]) for end in ("value", "low", "high"))
    ece, null_ece = (np.abs(share - predicted) @ count / len(chance) for share in (observed, null))
    edges = np.linspace(0, 1, bins + 1)
    return Reliability(edges, predicted, observed, least, most, count, low, high, float(ece), null_ece)


def _null(
    truth: Booleans, chance: Floats, which: Integers, count: Integers, codes: Integers, resamples: int, seed: int
) -> Floats:
    """(resamples, bins) share of positives per bin when labels are drawn from the probabilities.

    Each image takes its patient's random number with the root of the likeness as its chance, so that two do with the
    likeness.
    """
    order = np.argsort(which, kind="stable")
    starts = np.concatenate(([0], np.cumsum(count)[:-1]))
    limit, mine, patients = chance[order] * 2.0**32, codes[order], int(codes.max()) + 1
    copied = math.sqrt(likeness(truth, chance, codes)) * 2.0**32
    generator = np.random.Philox(key=bits(seed, 0, np.arange(2), "calibrated"))
    at_once, shares = max(1, CHUNK // len(chance)), []
    for start in range(0, resamples, at_once):
        many = min(at_once, resamples - start)
        drawn = np.take(_words(generator, many, len(chance)), order, axis=1)
        if copied:
            own = _words(generator, many, patients)
            drawn = np.where(_words(generator, many, len(chance)) < copied, np.take(own, mine, axis=1), drawn)
        shares.append(np.add.reduceat(drawn < limit, starts, axis=1, dtype=np.int32) / count)
    return np.concatenate(shares)


def _words(generator: np.random.Philox, rows: int, columns: int) -> NDArray[np.uint32]:
    words = (columns + 1) // 2  # two of 32 bits from each of 64
    return generator.random_raw(rows * words).view(np.uint32).reshape(rows, 2 * words)[:, :columns]


@checked
def likeness(truth: Booleans, chance: Floats, codes: Integers) -> float:
    """How alike the labels of a patient's images are beyond what their probabilities say: 0 independent, 1 one answer.

    The sum over pairs of images of a patient of the products of what label and probability differ by (less its mean),
    over what it is where the two share a random number, min(p, q) − p·q; 0 where no patient repeats.
    """
    apart = truth - chance - (truth - chance).mean()

    def of_pairs(values: Floats) -> float:
        sums = np.bincount(codes, values)
        return float(sums @ sums - values @ values)

    order = np.lexsort((chance, codes))
    size = np.bincount(codes)
    after = np.cumsum(size)[codes[order]] - np.arange(len(codes)) - 1  # images of the patient with a larger one
    most = 2 * float(chance[order] @ after) - of_pairs(chance)
    return min(1.0, max(0.0, of_pairs(apart) / most)) if most > 1e-9 * len(codes) else 0.0


@checked
def null_estimate(diagram: Reliability, level: float, of: str, images: int, patients: int) -> Estimate:
    """The mean and range of the ECE that a perfectly calibrated model shows by chance."""
    low, high = np.quantile(diagram.null_ece, ((1 - level) / 2, (1 + level) / 2))
    how = f"mean and range of {len(diagram.null_ece):,} draws of labels from the probabilities, by patient"
    value = float(diagram.null_ece.mean())
    return Estimate("ece if calibrated", value, float(low), float(high), level, how, images, patients, of)


@checked
def ece_statistic(
    truth: Booleans, chance: Floats, codes: Integers, patients: int, *, bins: int = 10, of: str = "", note: str = ""
) -> Statistic:
    """The expected calibration error in bins of equal width, for the bootstrap; biased upwards in small samples."""
    which, error = bins_of(chance, bins), chance - truth
    inside = (np.where(which == k, error, 0.0) for k in np.unique(which))
    cells = per_patient(codes, patients, np.ones(len(truth)), *inside)
    how = f"{bins} bins of equal width, biased upwards: compare with the null band"
    how, count = f"{note}; {how}" if note else how, distinct(codes)
    column = Column("ece", of, len(truth), count, "distance", effective=count, note=how)

    def compute(weights: Weights) -> Floats:
        many, *sums = (weights @ cells).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return (np.abs(sums).sum(axis=0) / many)[:, None]

    return Statistic((column,), compute)


@checked
def intercept_and_slope(
    truth: ArrayLike, probability: ArrayLike, patients: Patients = None, *, level: float = 0.95, of: str = ""
) -> tuple[Estimate, Estimate]:
    """Calibration in the large and the calibration slope (Cox 1958; Van Calster et al. 2019): 0 and 1 are perfect.

    ``truth`` (N,) 0/1, ``probability`` (N,) in 0 … 1, ``patients`` (N,) or None. The slope is that of a logistic
    regression on the logit of the probability, the intercept that with the slope held at 1; intervals from the sandwich
    variance by patient, each score over what the others leave it (Mancl & DeRouen 2001), and Student's t of twice the
    patients of the rarer class: with six events the plain sandwich covers 89 %. Probabilities are first moved 10⁻⁶ away
    from 0 and 1. Undefined for one class, constant probabilities (slope), or classes that the probability tells apart
    completely.

    >>> [e.metric for e in intercept_and_slope([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8])]
    ['calibration intercept', 'calibration slope']
    """
    positive, chance = zero_one(truth), numbers(probability, np.size(truth), "probability")
    codes, wide = patient_codes(patients, len(chance)), normal_quantile(level)
    reason, count, large, slope = not_probabilities(chance), distinct(codes), None, None
    if not (reason := reason or no_ranking(positive, chance)):
        x, one = logit(chance), np.ones((len(chance), 1))
        wide = t_quantile(level, 2 * min(distinct(codes[positive]), distinct(codes[~positive])))
        spread = float(np.ptp(x)) > 1e-9
        large = _fit(positive, one, x, codes)
        slope = _fit(positive, np.column_stack([one, x]), np.zeros(len(x)), codes) if spread else None
        reason = "the scores tell the classes apart completely" if spread else "the scores are all equal"

    def estimate(metric: str, fit: tuple[float, float] | None) -> Estimate:
        if fit is None:
            return undefined(metric, reason, of=of, images=len(chance), patients=count)
        value, error = fit
        how = (
            "logistic, sandwich variance by patient, Student's t" if count > 1 else "logistic; no interval: one patient"
        )
        return Estimate(metric, value, value - wide * error, value + wide * error, level, how, len(chance), count, of)

    return estimate("calibration intercept", large), estimate("calibration slope", slope)


@checked
def observed_to_expected(
    truth: ArrayLike, probability: ArrayLike, patients: Patients = None, *, level: float = 0.95, of: str = ""
) -> Estimate:
    """How many cases have the disease over how many the probabilities promise: 1 is ideal, above 1 risks are
    understated.

    ``truth`` (N,) 0/1, ``probability`` (N,) in 0 … 1, ``patients`` (N,) or None. Interval: Wilson's of the observed
    share, with as many independent images as the variance of the ratio implies (linearised, by patient, Student's t),
    over the mean probability; so it has a width where nobody or everybody has the disease. A model that knows who is
    ill is told apart from one that knows the prevalence alone (Debray et al. 2017 take the latter's variance).
    Undefined without cases, for scores that are not probabilities, and where nothing is promised.

    >>> print(observed_to_expected([0, 0, 1, 1] * 25, [0.2, 0.4, 0.4, 0.8] * 25))
    1.111 (0.946–1.276)
    """
    positive, chance = zero_one(truth), numbers(probability, np.size(truth), "probability")
    codes = patient_codes(patients, len(chance))
    count, z = distinct(codes), normal_quantile(level)
    reason = not_probabilities(chance) or ("" if chance.sum() > 0 else "the probabilities promise nobody")
    if reason:
        return undefined("o/e ratio", reason, of=of, images=len(chance), patients=count)
    share, promised = float(positive.mean()), float(chance.mean())
    moved = np.bincount(codes, positive - share / promised * chance)
    variance = float(moved @ moved) / len(chance) ** 2
    many: float = count
    if count > 1 and 0 < share < 1 and variance > 0:
        freedom = patient_freedom(codes)
        many = max(1.0, share * (1 - share) / (variance * count / (count - 1)) * t_shrinkage(level, freedom))
    low, high = wilson(share, many, z)
    how = "Wilson, linearised ratio" + (", by patient" if count < len(chance) else "")
    return Estimate("o/e ratio", share / promised, low / promised, high / promised, level, how, len(chance), count, of)


def _fit(truth: Booleans, columns: Floats, offset: Floats, codes: Integers) -> tuple[float, float] | None:
    """The last coefficient of a logistic regression and its clustered error; None if it diverges."""
    found = logistic(truth, columns, offset, codes, left_out=True)
    return None if found is None else (float(found[0][-1]), float(np.sqrt(np.maximum(found[1][-1, -1], 0.0))))


@checked
def logistic(
    truth: Booleans, columns: Floats, offset: Floats, codes: Integers, *, left_out: bool = False
) -> tuple[Floats, Floats] | None:
    """Newton's method for a logistic regression: coefficients (K,) and their sandwich variance by patient (K, K).

    ``columns`` (N, K), ``offset`` (N,) on the logit scale, ``codes`` (N,) of the patients. ``left_out``: each patient's
    score over what the others leave it (Mancl & DeRouen 2001), for few events. NaN variance for one patient; None if it
    diverges.
    """
    weight = np.zeros(columns.shape[1])
    for _ in range(50):
        expected = 1 / (1 + np.exp(-np.clip(columns @ weight + offset, -500, 500)))
        hessian = columns.T @ (columns * (expected * (1 - expected))[:, None])
        gradient = columns.T @ (truth - expected)
        if not np.isfinite(hessian).all() or np.linalg.cond(hessian) > 1e12:
            return None
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 5 / max(float(np.abs(step).max()), 1e-300))  # far from the optimum, no leaps
        weight += step
        if np.abs(step).max() < 1e-9:
            spread = expected * (1 - expected) if left_out else np.zeros(len(truth))
            return weight, _sandwich(columns, truth - expected, spread, hessian, codes)
        if np.abs(weight).max() > 100:
            return None
    return None


def _sandwich(columns: Floats, residual: Floats, spread: Floats, hessian: Floats, codes: Integers) -> Floats:
    """The covariance of the coefficients (K, K); ``spread`` (N,) of the labels that have a leverage, 0 where none is told."""
    patients, most = distinct(codes), int(codes.max()) + 1
    if patients < 2:
        return np.full(hessian.shape, math.nan)
    bread = np.linalg.inv(hessian)
    leverage = np.bincount(codes, spread * np.einsum("nk,kl,nl->n", columns, bread, columns), most)
    score = per_patient(codes, most, *(columns * residual[:, None]).T) / np.maximum(1 - leverage, LEAST_LEFT)[:, None]
    shrink = patients / (patients - 1)
    return bread @ (score.T @ score) @ bread * (1 / shrink if spread.any() else shrink)


# -- what a Brier score is made of: reliability, resolution and uncertainty ---------------------------------------


#: Reliability − resolution + uncertainty is the Brier score: :func:`decomposition_statistic`,
#: :func:`brier_uncertainty`.
PARTS = ("brier reliability", "brier resolution", "brier uncertainty")


@checked
def brier_uncertainty(
    truth: ArrayLike, patients: Patients = None, *, level: float = 0.95, of: str = "", note: str = ""
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
    how = f"{note}; {share.method}" if note else share.method
    return replace(share, value=share.value * (1 - share.value), low=min(ends), high=high, method=how, count=None)


@checked
def decomposition_statistic(
    truth: Booleans, chance: Floats, codes: Integers, patients: int, *, bins: int = 10, of: str = "", note: str = ""
) -> Statistic:
    """Reliability and resolution, two of the three parts of the Brier score, for the bootstrap.

    In ``bins`` of equal width (Murphy 1973): reliability is the mean squared distance of predicted and observed share
    (0 is perfect), resolution how far the bins lie from the prevalence (the more, the better). What varies within a bin
    is added to the resolution, as Stephenson, Coelho & Jolliffe 2008 do; so a resolution can be negative. Both are
    biased upwards where a bin holds few cases: below some 200 to a bin their intervals hold the truth less often than
    they say. From two sums per patient and bin, and three per patient.
    """
    which, error = bins_of(chance, bins), chance - truth
    inside = which == np.unique(which)[:, None]  # (K, N)
    cells = per_patient(codes, patients, np.ones(len(truth)), truth, error**2, *inside, *(inside * error))

    def compute(weights: Weights) -> Floats:
        sums = weights @ cells
        n, ill, squared = sums[:, :3].T
        many, errors = np.split(sums[:, 3:], 2, axis=1)  # (B, K)
        far = np.divide(errors**2, many, out=np.zeros_like(many), where=many > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            apart, unsure = far.sum(axis=1) / n, ill / n * (1 - ill / n)
            return np.column_stack([apart, apart + unsure - squared / n])

    how, count = f"{bins} bins of equal width; biased upwards where a bin holds few cases", distinct(codes)
    about = Column(PARTS[0], of, len(codes), count, "distance", effective=count, reason="no cases")
    about = replace(about, note=f"{note}; {how}" if note else how)
    return Statistic((about, replace(about, metric=PARTS[1], scale="plain")), compute)
