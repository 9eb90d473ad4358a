"""Dealing groups to parts: stratified, repeatable, the same for any order of the rows.

Within a class the groups are sorted by their other labels, source and size, then by a random number that belongs to
their name; the parts are spread evenly along that line, so that every stretch of it (a source, say) is divided in the
wanted proportion to within one group. This is systematic sampling from a sorted frame (Madow & Madow 1944).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.chance import by_name, uniform


def deal(
    labels: NDArray[np.bool_], shares: Sequence[float], names: NDArray, *, seed: int, source: ArrayLike | None = None,
    size: ArrayLike | None = None, at_least_one: bool = True,
) -> NDArray[np.int64]:  # fmt: skip
    """The part (G,) of each group. ``labels`` (G, K): which classes a group has; ``shares``: of the parts, sum 1.

    ``names`` (G,) decide the order; ``source`` and ``size`` (G,) are kept in proportion too. With ``at_least_one``,
    every part gets a group of each class that has as many groups as there are parts; the first part is served first
    where there are fewer.
    """
    count = len(labels)
    random = by_name(seed, names, "split")
    stratum, combination = _strata(labels)
    source = np.zeros(count) if source is None else np.asarray(source)
    bucket = np.zeros(count) if size is None else np.floor(np.log2(np.maximum(np.asarray(size), 1)))
    order = np.lexsort((random, bucket, source, combination, stratum))
    part = np.zeros(count, np.int64)
    for k in np.unique(stratum):
        mine = order[stratum[order] == k]
        pattern = _pattern(_counts(len(mine), shares, at_least_one))
        turn = int(uniform(seed, 0, int(k), "split/turn") * len(mine))
        part[mine] = np.roll(pattern, turn)
    if at_least_one:
        _mend(part, labels, len(shares), np.zeros(count) if size is None else np.asarray(size), random)
    return part


def _strata(labels: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rarest class of each group (0: none), and a number for its combination of classes."""
    rarity = np.argsort(
        -labels.sum(0), kind="stable"
    )  # the commonest first, so that the rarest is written last
    stratum = np.zeros(len(labels), np.int64)
    for k in rarity:
        stratum[labels[:, k]] = k + 1
    combination = np.unique(np.packbits(labels, axis=1), axis=0, return_inverse=True)[1]
    return stratum, combination.reshape(-1)


def _counts(total: int, shares: Sequence[float], at_least_one: bool) -> NDArray[np.int64]:
    """How many of ``total`` each part gets: largest remainders, at least one each if asked and possible."""
    wanted = np.asarray(shares, np.float64) * total
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    for i in np.argsort(-(wanted - counts), kind="stable")[: total - counts.sum()]:
        counts[i] += 1
    asked = np.flatnonzero(np.asarray(shares) > 0)
    if at_least_one:
        for i in asked:
            if counts[i] == 0 and total >= len(asked):
                counts[counts.argmax()] -= 1
                counts[i] += 1
        if counts[0] == 0 and total and shares[0] > 0:  # too few for all: the first part is served first
            counts[counts.argmax()] -= 1
            counts[0] += 1
    return counts


def _pattern(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Parts in an order that spreads each evenly."""
    place = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in counts])
    return np.repeat(np.arange(len(counts)), counts)[np.argsort(place, kind="stable")]


def _mend(
    part: NDArray[np.int64], labels: NDArray[np.bool_], parts: int, size: NDArray, random: NDArray[np.float64]
) -> None:
    """Move groups from the first part to parts that lack a class, the smallest first, never the first part's last."""
    used = np.unique(part)
    for k in np.argsort(labels.sum(0), kind="stable"):
        for lacking in (p for p in used if p and not (labels[:, k] & (part == p)).any()):
            enough = labels[part == 0].sum(0) > 1
            spare = (part == 0) & labels[:, k] & (~labels | enough).all(1)
            if labels[:, k].sum() >= parts and spare.any():
                at = np.flatnonzero(spare)
                part[at[np.lexsort((random[at], size[at]))[0]]] = lacking


def folds_of(patients: NDArray, truth: NDArray[np.float64], *, k: int, seed: int) -> NDArray[np.int64]:
    """The fold (N,) of each image: patients whole, stratified by ``truth`` (N, K) of 1, 0 or NaN."""
    names, code = np.unique(patients.astype(str), return_inverse=True)
    labels = np.zeros((len(names), truth.shape[1]), bool)
    image, column = np.nonzero(truth == 1)
    labels[code[image], column] = True
    return deal(labels, [1 / k] * k, names, seed=seed, size=np.bincount(code), at_least_one=False)[code]
