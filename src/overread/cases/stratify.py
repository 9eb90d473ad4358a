"""Groups of patients divided by chance in proportion: parts and folds of a split, and ever smaller training sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from overread.cases.cases import Cases
from overread.core.errors import InputError, checked, require
from overread.core.random import by_name, uniform


def stratify(
    labels: NDArray[np.bool_], shares: Sequence[float], names: NDArray, *, seed: int, source: ArrayLike = 0,
    size: ArrayLike = 1, at_least_one: bool = True,
) -> NDArray[np.int64]:  # fmt: skip
    """The part (G,) of each group. ``labels`` (G, K): which classes a group has; ``shares``: of the parts, sum 1.

    ``names`` (G,) decide the order; ``source`` and ``size`` (G,) are kept in proportion too. With ``at_least_one``,
    every part gets a group of each class that has as many groups as there are parts; the first part is served first
    where there are fewer.
    """
    count = len(labels)
    random = by_name(seed, names, "split")
    stratum, combination = _strata(labels)
    source, size = np.broadcast_to(source, count), np.broadcast_to(size, count)
    order = np.lexsort((random, np.floor(np.log2(np.maximum(size, 1))), source, combination, stratum))
    part = np.zeros(count, np.int64)
    for k in np.unique(stratum):
        mine = order[stratum[order] == k]
        pattern = _pattern(_counts(len(mine), shares, at_least_one))
        turn = int(uniform(seed, 0, int(k), "split/turn") * len(mine))
        part[mine] = np.roll(pattern, turn)
    if at_least_one:
        _mend(part, labels, len(shares), size, random)
    return part


def _strata(labels: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rarest class of each group (0: none), and a number for its combination of classes."""
    rarity = np.argsort(-labels.sum(0), kind="stable")  # the commonest first, so that the rarest is written last
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


def patient_folds(patients: NDArray, truth: NDArray[np.float64], *, k: int, seed: int) -> NDArray[np.int64]:
    """The fold (N,) of each image: patients whole, stratified by ``truth`` (N, K) of 1, 0 or NaN."""
    names, code = np.unique(patients.astype(str), return_inverse=True)
    labels = np.zeros((len(names), truth.shape[1]), bool)
    image, column = np.nonzero(truth == 1)
    labels[code[image], column] = True
    return stratify(labels, [1 / k] * k, names, seed=seed, size=np.bincount(code), at_least_one=False)[code]


# -- less of a training set: patients drawn so that each larger part holds the smaller -----------------------


@checked
def nested_order(cases: Cases, *, seed: int = 0, repeat: int = 0) -> tuple[str, ...]:
    """All patients in an order of which every beginning is a stratified sample of them.

    First one patient of every class, so that no beginning lacks one; then the classes in proportion, patients within
    a class by random numbers that belong to their names. The same for any order of the rows; another ``repeat`` is
    another order. A patient with several classes belongs to the rarest. Cases without a label are left out.
    """
    table = pd.DataFrame({"patient": cases.table["patient"], "stratum": cases.strata})[cases.labelled]
    many = table.groupby("stratum")["patient"].nunique()
    table["many"] = table["stratum"].map(many)
    of = table.sort_values(["many", "stratum"]).drop_duplicates("patient").sort_values("patient")
    names, stratum = of["patient"].to_numpy(str), of["stratum"].to_numpy()
    chance = by_name(seed, names, f"nested/{repeat}")
    place = np.empty(len(names))
    for one in np.unique(stratum):
        mine = np.flatnonzero(stratum == one)
        mine = mine[np.argsort(chance[mine], kind="stable")]
        place[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
        place[mine[0]] = -1.0 + chance[mine[0]]
    return tuple(names[np.lexsort((chance, place))].tolist())


@checked
def beginning(cases: Cases, order: Sequence[str], *, share: float = 0.0, images: int = 0) -> Cases:
    """The images of the first patients of ``order``: a ``share`` of them, or as few as have ``images`` images.

    Raises :class:`InputError` for more images than there are.
    """
    require((share > 0) != (images > 0), "say a share of the patients or a number of images", given=(share, images))
    require(share <= 1, "a share is at most 1", given=share)
    per = cases.table["patient"].value_counts()
    total = np.cumsum([int(per.get(p, 0)) for p in order])
    if images > total[-1]:
        raise InputError("there are not so many images to train on", given=f"{images:,} of {total[-1]:,}",
                         todo="ask for fewer, or for shares such as 50%")  # fmt: skip
    many = int(np.searchsorted(total, images)) + 1 if images else max(1, round(share * len(order)))
    return cases.take(cases.table["patient"].isin(list(order)[:many]).to_numpy())
