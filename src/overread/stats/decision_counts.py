"""True and false positives at many thresholds at once, with what patients share: the root of decision curves.

A difference of two models is told by how many of the rising thresholds each risk reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.errors import checked
from overread.stats.arrays import TINY, normal_quantile, t_quantile
from overread.stats.mcnemar import tango

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Flagged:
    """Shares of true and of false positives per threshold; of two models, the first's minus the second's.

    ``only`` (class, model, T): images that one model alone flags, class 0 being the positives; ``counts`` (2,)
    the denominators, ``share`` (2, T) = (only first − only second) / counts; ``effective`` (2, T) as many
    independent images as would be as uncertain; ``correlation`` (T,) of the two shares.
    """

    only: Floats
    counts: Floats
    share: Floats
    effective: Floats
    correlation: Floats

    def limits(self, z: float, *, paired: bool) -> tuple[Floats, Floats]:
        """(2, T) low and high: Wilson's, or Tango's of a difference."""
        if not paired:
            return wilson_limits(self.share, self.effective, z)
        scale = self.effective / self.counts[:, None]
        low, high = tango(self.only[:, 0] * scale, self.only[:, 1] * scale, self.effective, z)
        return low, high


@checked
def wilson_limits(share: Floats, count: Floats, z: float | NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Wilson's interval for arrays of one shape."""
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    return np.where(share <= 0, 0.0, centre - half), np.where(share >= 1, 1.0, centre + half)


@checked
def flagged_at(
    truth: NDArray[np.bool_],
    risks: list[Floats],
    at: Floats,
    codes: Counts | None,
    *,
    by_class: bool,
    level: float,
) -> Flagged:
    """``risks`` (N,) of one or two models, ``at`` (T,) rising; ``by_class``: shares of each class, not of all.

    ``codes`` (N,) of the patients, None where none repeats.
    """
    many, ill = len(truth), int(np.count_nonzero(truth))
    counts = np.array([ill, many - ill] if by_class else [many, many], np.float64)
    only = np.stack([_only([risk[rows] for risk in risks], at) for rows in (truth, ~truth)])
    share = (only[:, 0] - only[:, 1]) / counts[:, None]
    spread = only.sum(axis=1) / counts[:, None] - share**2  # of one image
    if codes is not None:
        reached = [np.searchsorted(at, risk, side="right") for risk in risks]
        effective, correlation = _by_patient(truth, reached, codes, counts, share, spread, only, level)
        return Flagged(only, counts, share, effective, correlation)
    effective = np.broadcast_to(counts[:, None], share.shape)
    if by_class:
        return Flagged(only, counts, share, effective, np.zeros(len(at)))
    return Flagged(only, counts, share, effective, _correlation(-share[0] * share[1], *spread))


def _only(risks: list[Floats], at: Floats) -> Floats:
    """(2, T) images that the first model flags alone, and the second."""
    if len(risks) == 1:  # to sort the risks is quicker than to look for each among the thresholds
        return np.stack([len(risks[0]) - np.searchsorted(np.sort(risks[0]), at), np.zeros(len(at))])
    first, second = (np.searchsorted(at, risk, side="right") for risk in risks)
    more, less, size = first > second, first < second, len(at)
    return np.stack(
        [
            _above(first[more], size) - _above(second[more], size),
            _above(second[less], size) - _above(first[less], size),
        ]
    )


def _above(reached: Counts, size: int, weights: Floats | None = None) -> Floats:
    """(T,): the number (the weight) of images that reach threshold 0, 1 … T−1."""
    return np.cumsum(np.bincount(reached, weights, size + 1)[::-1])[::-1][1:].astype(np.float64)


def _correlation(covariance: Floats, first: Floats, second: Floats) -> Floats:
    both = np.sqrt(np.maximum(first * second, 0.0))
    return np.clip(np.divide(covariance, both, out=np.zeros_like(both), where=both > TINY), -1, 1)


def _by_patient(
    truth: NDArray[np.bool_],
    reached: list[Counts],
    codes: Counts,
    counts: Floats,
    share: Floats,
    spread: Floats,
    only: Floats,
    level: float,
) -> tuple[Floats, Floats]:
    """Effective numbers (2, T) and correlation (T,) from the ratio estimator's variance.

    The design effect gives the correlation within patients, to which half a patient is added whose images all
    agree, as :func:`overread.stats.proportions.effective_images` does; Student's t for few patients.
    """
    by_class = counts[0] + counts[1] == len(truth)
    parts = (truth, ~truth) if by_class else (np.ones_like(truth),) * 2
    per = np.stack([np.bincount(codes, part).astype(np.float64) for part in parts])  # (2, P) denominators
    squares, product, crossed = _sums(truth, reached, codes, per, share.shape[1])
    known = np.maximum((per > 0).sum(axis=1), 2)[:, None]
    cover = per @ per.T
    kish = np.maximum(counts**2 / np.maximum(np.diag(cover), 1.0), 1 + TINY)[:, None]
    residual = squares - 2 * share * crossed[[0, 1], [0, 1]] + share**2 * np.diag(cover)[:, None]
    both = product - share[1] * crossed[0, 1] - share[0] * crossed[1, 0] + share[0] * share[1] * cover[0, 1]
    design = kish / (kish - 1) * residual / np.maximum(counts[:, None] * spread, TINY)
    others = (np.diag(cover) / counts - 1)[:, None]
    alike = np.where(spread > TINY, np.maximum(0.0, (design - 1) / np.maximum(others, TINY)), 0.0)
    carriers = only.sum(axis=1) / (counts[:, None] / known)  # at most as many patients as flagged images
    alike = (carriers * alike + 0.5 * np.maximum(1.0, alike)) / (carriers + 0.5)
    freedom = max(1, int(float(kish.min()) - 1 + 1e-9))
    shrink = (normal_quantile(level) / t_quantile(level, freedom)) ** 2
    effective = np.maximum(1.0, counts[:, None] / (1 + alike * others) * shrink)
    return effective, _correlation(both, *np.maximum(residual, 0.0))


def _sums(
    truth: NDArray[np.bool_], reached: list[Counts], codes: Counts, per: Floats, size: int
) -> tuple[Floats, Floats, Floats]:
    """Sums over patients of the squares (2, T) of their flagged positives and negatives, of the product (T,)
    of the two, and of their products with the denominators (2, 2, T); of two models, of their differences.

    As the threshold falls, each image adds to its patient's count once, so each sum grows by a step per image:
    one sort, then counting.
    """
    who, level, sign = (
        np.tile(codes, len(reached)),
        np.concatenate(reached),
        np.repeat((1.0, -1.0), len(truth)),
    )
    ill, sign = np.tile(truth, len(reached)), sign[: len(who)]
    order = np.lexsort((-level, who))
    who, level = who[order], level[order]
    step = np.stack([sign * ill, sign * ~ill])[:, order]  # (2, E)
    total = np.cumsum(step, axis=1) - step
    first = np.flatnonzero(np.append(True, who[1:] != who[:-1]))
    held = total - np.repeat(
        total[:, first], np.diff(np.append(first, len(who))), axis=1
    )  # before this image
    squares = np.stack([_above(level, size, 2 * h * s + s * s) for h, s in zip(held, step)])
    product = _above(level, size, held[0] * step[1] + held[1] * step[0])
    crossed = np.stack([[_above(level, size, s * patient[who]) for patient in per] for s in step])
    return squares, product, crossed
