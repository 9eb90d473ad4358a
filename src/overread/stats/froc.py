"""Finding lesions: the free-response ROC curve, its sensitivity at a few false positives per image, its area.

Lesions are numbered 0 … L−1 and images 0 … N−1. A mark is a point with a score: it hits a lesion or is a false
positive. Several marks on one lesion count once, with the highest score; a lesion without a mark is missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.arrays import Booleans, Floats, Integers, Patients, distinct, numbers, patient_codes
from overread.stats.discrimination.delong import bootstrap_difference
from overread.stats.discrimination.roc import Ranking, rank
from overread.stats.estimate import Difference, Estimate, undefined, without
from overread.stats.resample import Column, Statistic, Weights, bootstrap

#: False positives per image at which CAMELYON16 (Ehteshami Bejnordi et al. 2017) reads the sensitivity.
CAMELYON16 = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
#: … and those of LUNA16 (Setio et al. 2017).
LUNA16 = (0.125, *CAMELYON16)


@dataclass(frozen=True, eq=False)
class _Search:
    """Marks that count, and what they are looked for in: one mark per lesion at most."""

    lesion_image: Integers  # (L,)
    best: Floats  # (L,) the highest score on each lesion, −∞ where it has no mark
    false_image: Integers  # (F,)
    false_score: Floats  # (F,)
    codes: Integers  # (N,) the patient of each image
    reason: str  # why nothing can be computed; else empty

    @property
    def patients(self) -> int:
        return int(self.codes.max()) + 1

    def undefined(self, metric: str, reason: str) -> Estimate:
        return undefined(metric, reason, images=len(self.codes), patients=distinct(self.codes))


def _search(
    lesion_image: ArrayLike, mark_image: ArrayLike, score: ArrayLike, hit: ArrayLike, images: int, patients: Patients
) -> _Search:
    require(images >= 0, "images must not be negative", given=images)
    where = _indices(lesion_image, images, "lesion_image")
    place = _indices(mark_image, images, "mark_image")
    scores = numbers(score, len(place))
    lesion = _indices(hit, len(where), "hit", lowest=-1)
    require(len(lesion) == len(place), "hit and mark_image must be equally long", given=len(lesion))
    on = lesion >= 0
    require(bool((where[lesion[on]] == place[on]).all()), "a mark hits a lesion of another image", todo="see hit")
    bad = int((~np.isfinite(scores)).sum())
    best = np.full(len(where), -math.inf)
    np.maximum.at(best, lesion[on], np.where(np.isnan(scores[on]), -math.inf, scores[on]))
    reason = "no images" if not images else f"{bad} of {len(scores)} scores are not finite" if bad else ""
    reason = reason or ("" if len(where) else "0 lesions")
    return _Search(where, best, place[~on], scores[~on], patient_codes(patients, images), reason)


def _indices(values: ArrayLike, limit: int, name: str, lowest: int = 0) -> Integers:
    given = numbers(values, name=name)
    whole = np.isfinite(given) & (given >= lowest) & (given < limit) & (given == np.floor(given))
    require(bool(whole.all()), f"{name} must hold whole numbers in {lowest} … {limit - 1}")
    return given.astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Steps:
    """Marks from the highest score to the lowest: what the curve climbs."""

    ranking: Ranking  # of K marks, whose truth is a hit
    patient: Integers  # (K,) of each mark, sorted
    cells: Floats  # (P, 2) images and lesions of each patient

    @classmethod
    def of(cls, found: _Search) -> _Steps:
        marked = np.isfinite(found.best)
        score = np.concatenate((found.best[marked], found.false_score))
        where = np.concatenate((found.lesion_image[marked], found.false_image))
        ranking = rank(np.arange(len(score)) < int(marked.sum()), score)
        lesions = np.bincount(found.codes[found.lesion_image], minlength=found.patients)
        cells = np.column_stack((np.bincount(found.codes, minlength=found.patients), lesions))
        return cls(ranking, found.codes[where[ranking.order]], cells.astype(np.float64))

    def __call__(self, weights: Weights) -> tuple[Floats, Floats]:
        """(B, P) weights → (B, G) false positives per image, and sensitivity; NaN without a lesion."""
        every, true = self.ranking.flagged(np.take(weights, self.patient, axis=1))
        images, lesions = (weights @ self.cells).T[:, :, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (every - true) / images, true / lesions


@checked
def froc_curve(
    lesion_image: ArrayLike, mark_image: ArrayLike, score: ArrayLike, hit: ArrayLike, images: int
) -> tuple[Floats, Floats, Floats]:
    """False positives per image, sensitivity and threshold of every step, from (0, 0) at threshold ∞.

    ``lesion_image`` (L,) the image 0 … N−1 of each lesion; ``mark_image`` (K,), ``score`` (K,) and ``hit``
    (K,), the lesion 0 … L−1 that a mark lies on, or −1; ``images`` is N, with those that have neither. A mark
    counts when its score is at least the threshold, so the lowest score is a threshold too. Empty arrays
    where undefined (no lesions, no images, a score that is not finite).

    >>> [x.tolist() for x in froc_curve([0, 1], [0, 1, 1], [0.9, 0.4, 0.5], [0, 1, -1], 2)]
    [[0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 0.5, 1.0], [inf, 0.9, 0.5, 0.4]]
    """
    found = _search(lesion_image, mark_image, score, hit, images, None)
    if found.reason:
        return np.empty(0), np.empty(0), np.empty(0)
    steps = _Steps.of(found)
    false, true = steps(np.ones((1, images), np.uint16))
    threshold = steps.ranking.score[steps.ranking.last]
    return np.append(0.0, false[0]), np.append(0.0, true[0]), np.append(math.inf, threshold)


@checked
def froc(
    lesion_image: ArrayLike,
    mark_image: ArrayLike,
    score: ArrayLike,
    hit: ArrayLike,
    images: int,
    patients: Patients = None,
    *,
    rates: Sequence[float] = CAMELYON16,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """The mean sensitivity over ``rates`` of false positives per image, then the sensitivity at each.

    Arguments as in :func:`froc_curve`; ``patients`` (N,) of the images, or None. At a rate the curve is read
    at its highest, and between two steps (where a hit and a false positive have one score) on the line that
    joins them, as in LUNA16 (Setio et al. 2017); beyond its end it stays level. Interval: patient bootstrap.
    Undefined without lesions or images or for a score that is not finite.

    >>> round(froc([0, 1], [0, 1, 1], [0.9, 0.4, 0.5], [0, 1, -1], 2)[0].value, 4)
    0.9167
    """
    names = _names(rates)
    found = _search(lesion_image, mark_image, score, hit, images, patients)
    if found.reason:
        return [found.undefined(name, found.reason) for name in names]
    statistic, many = _sensitivities(found, names, rates)
    return bootstrap([statistic], found.patients, images=many, level=level, resamples=resamples, seed=seed)


@checked
def froc_difference(
    lesion_image: ArrayLike,
    first: tuple[ArrayLike, ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike, ArrayLike],
    images: int,
    patients: Patients = None,
    *,
    rates: Sequence[float] = CAMELYON16,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> list[Difference]:
    """What the sensitivities of :func:`froc` of two readers of the same images differ by, ``first`` − ``second``.

    Each reader: ``mark_image``, ``score``, ``hit`` as in :func:`froc_curve`. The same resamples of the patients are drawn for
    both, so that what makes a patient hard for both cancels (paired bootstrap; for whole curves as Bandos, Rockette, Song &
    Gur 2009 resample). Undefined where one of the two is.

    >>> marks = [0, 1, 2], [0.9, 0.8, 0.7], [0, 1, -1]
    >>> froc_difference([0, 1], marks, marks, 3, resamples=50)[0].difference.value
    0.0
    """
    names = _names(rates)
    sides = [_search(lesion_image, *marks, images, patients) for marks in (first, second)]
    if any(found.reason for found in sides):
        a, b = ([found.undefined(name, found.reason or "the other is undefined") for name in names] for found in sides)
        return [without(*pair, pair[0] if pair[0].undefined else pair[1]) for pair in zip(a, b, strict=True)]
    made = [_sensitivities(found, names, rates) for found in sides]
    return bootstrap_difference(made[0][0], made[1][0], sides[0].patients, images=max(many for _, many in made),
                                level=level, resamples=resamples, seed=seed)  # fmt: skip


def _names(rates: Sequence[float]) -> list[str]:
    require(len(rates) > 0, "there must be at least one rate")
    require(all(rate > 0 and math.isfinite(rate) for rate in rates), "rates must be positive", given=rates)
    return ["froc sensitivity", *(f"sensitivity at {rate:g} false positives per image" for rate in rates)]


def _sensitivities(found: _Search, names: Sequence[str], rates: Sequence[float]) -> tuple[Statistic, int]:
    """The mean sensitivity and that at each rate, and how large the sample is for the bootstrap."""
    ill, images = distinct(found.codes[found.lesion_image]), len(found.codes)
    columns = tuple(Column(n, "", images, distinct(found.codes), effective=ill, reason="0 lesions") for n in names)
    steps, at = _Steps.of(found), np.asarray(rates, np.float64)

    def compute(weights: Weights) -> Floats:
        false, true = steps(weights)
        lesions = weights @ steps.cells[:, 1]
        heights = np.column_stack([height_at(false, true, np.full(len(true), rate)) for rate in at])
        heights[lesions == 0] = math.nan
        return np.column_stack((heights.mean(axis=1), heights))

    return Statistic(columns, compute), max(images, len(steps.patient))


@checked
def height_at(across: Floats, up: Floats, at: Floats) -> Floats:
    """(B,) the height at ``at`` (B,) of curves through (0, 0) and the steps ``across``, ``up`` (B, G).

    Both rise with G. Where the curve is upright its top is taken; past its end it stays level.
    """
    if not across.shape[1]:
        return np.zeros(len(at))
    rows = np.arange(len(at))
    passed = (across <= at[:, None] + 1e-9).sum(axis=1)  # steps at or before ``at``; rounding is no distance
    before, after = np.maximum(passed - 1, 0), np.minimum(passed, across.shape[1] - 1)
    left = np.where(passed > 0, across[rows, before], 0.0)
    base = np.where(passed > 0, up[rows, before], 0.0)
    run, rise = across[rows, after] - left, up[rows, after] - base
    part = np.divide(at - left, run, out=np.zeros(len(at)), where=run > 1e-9)
    return base + np.clip(part, 0, 1) * rise


@checked
def afroc_area(
    lesion_image: ArrayLike,
    mark_image: ArrayLike,
    score: ArrayLike,
    hit: ArrayLike,
    images: int,
    patients: Patients = None,
    *,
    weighted: bool = True,
    all_images: bool = False,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The chance that a lesion outscores the worst false positive of an image without lesions.

    Arguments as in :func:`froc_curve`; ``patients`` (N,) of the images, or None. Ties count one half, as do a
    missed lesion and an image without a false positive. The figure of merit of JAFROC (Chakraborty & Berbaum
    2004); ``weighted``: each image with lesions counts the same, however many it has (Chakraborty & Zhai
    2016); ``all_images``: false positives on images with lesions count too (JAFROC1). Interval: patient
    bootstrap. Undefined without lesions, without images to be clear, or for a score that is not finite.

    >>> afroc_area([0], [0, 1], [0.9, 0.4], [0, -1], 3).value
    1.0
    """
    name = "weighted afroc area" if weighted else "afroc area"
    found = _search(lesion_image, mark_image, score, hit, images, patients)
    held = np.bincount(found.lesion_image, minlength=images)
    clear = np.arange(images) if all_images else np.flatnonzero(held == 0)
    if reason := found.reason or ("" if len(clear) else "0 images without lesions"):
        return found.undefined(name, reason)
    worst = np.full(images, -math.inf)
    np.maximum.at(worst, found.false_image, found.false_score)
    share = 1 / held[found.lesion_image] if weighted else np.ones(len(found.best))
    who = found.codes[found.lesion_image], found.codes[clear]
    compute = _Area.of(found.best, share, who[0], worst[clear], who[1])
    few = min(distinct(who[0]), distinct(who[1]))
    neither = "0 lesions or 0 images without"
    column = Column(name, "", images, distinct(found.codes), effective=few, reason=neither)
    one, many = Statistic((column,), compute), max(images, len(found.best) + len(clear))
    return bootstrap([one], found.patients, images=many, level=level, resamples=resamples, seed=seed)[0]


@dataclass(frozen=True, eq=False)
class _Area:
    """A Mann–Whitney statistic of lesions that count ``share``, under weights of the patients."""

    patient: Integers  # (K,) sorted from the lowest score
    share: Floats  # (K,) 0 for an image
    image: Booleans  # (K,)
    first: Integers  # (G,) the first of each group of ties

    @classmethod
    def of(
        cls, lesion: Floats, share: Floats, lesion_patient: Integers, worst: Floats, image_patient: Integers
    ) -> _Area:
        score = np.concatenate((lesion, worst))
        order = np.argsort(score, kind="stable")
        new = score[order][1:] != score[order][:-1]  # a difference would make NaN of −∞ and −∞
        shares = np.concatenate((share, np.zeros(len(worst))))[order]
        codes = np.concatenate((lesion_patient, image_patient))[order]
        return cls(codes, shares, order >= len(lesion), np.flatnonzero(np.append(True, new)))

    def __call__(self, weights: Weights) -> Floats:
        drawn = np.take(weights, self.patient, axis=1)
        clear = np.add.reduceat(drawn * self.image, self.first, axis=1, dtype=np.float64)  # (B, G)
        found = np.add.reduceat(drawn * self.share, self.first, axis=1)
        below = np.cumsum(clear, axis=1) - clear / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            pairs = found.sum(axis=1) * clear.sum(axis=1)
            return (np.einsum("bg,bg->b", found, below) / pairs)[:, None]
