"""The ways to divide groups: at random, for one source, a source left out, by time, or as the data's makers did.

Each takes a :class:`Work` and gives the part of each image, 0 train, 1 tuning, 2 test, −1 none, and a sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from overread.cases.audit.duplicates import Groups
from overread.cases.audit.findings import Audit
from overread.cases.cases import PARTS, Cases
from overread.cases.grades import Grades, consensus
from overread.cases.query import matching
from overread.core.errors import InputError, UnsoundError, checked, nearest, require
from overread.core.random import by_name, uniform

#: Share of the groups of a chosen source that tuning and test together may take.
_MOST_OF_SOURCE = 0.45


@dataclass(frozen=True, eq=False)
class Work:
    """What every way of splitting needs; ``warnings`` and ``left_out`` collect what must be said."""

    cases: Cases
    groups: Groups
    test: float
    tuning: float
    seed: int
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Which strata each group has, (G, K)."""
        has = strata(self.cases)
        found = np.zeros((len(self.groups.names), has.shape[1]), bool)
        image, column = np.nonzero(has)
        found[self.groups.of[image], column] = True
        return found

    @property
    def source(self) -> NDArray[np.int64]:
        """The first source of each group in the alphabet, as a number."""
        codes = pd.factorize(self.cases.table["source"], sort=True)[0]
        found = np.full(len(self.groups.names), len(codes))
        np.minimum.at(found, self.groups.of, codes)
        return found

    def any(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which groups have at least one of these rows."""
        return np.bincount(self.groups.of[rows], minlength=len(self.groups.names)) > 0

    def deal(self, some: NDArray[np.bool_], shares: tuple[float, float, float]) -> NDArray[np.int64]:
        """Parts of ``some`` groups; those too large for tuning or test train."""
        part = np.zeros(len(some), np.int64)
        small = some & (self.groups.sizes <= max(1.0, 0.5 * shares[2] * self.groups.sizes[some].sum()))
        part[small] = deal(self.labels[small], shares, self.groups.names[small], seed=self.seed,
                           source=self.source[small], size=self.groups.sizes[small])  # fmt: skip
        if shares[2] and (some & ~small).any():
            self.warnings.append(
                f"{int((some & ~small).sum())} groups of images too large for the test set are in train"
            )
        return part


def strata(cases: Cases) -> NDArray[np.bool_]:
    """(N, K): classes, findings that are present, or fifths of a quantity."""
    return cases.target.task.presence(cases.labels)


def usable(cases: Cases, audit: Audit | None) -> tuple[Cases, dict[str, int]]:
    """Cases with a label that the audit has not set aside, sorted by case, and why the others are not there."""
    reasons = dict(audit.excluded) if audit else {}
    names = cases.table["case"]
    for name in names[~cases.labelled]:
        reasons.setdefault(name, "no label")
    here = set(names)
    left_out = Counter(reason.split(":", 1)[0] for case, reason in reasons.items() if case in here)
    kept = cases.drop(reasons)
    order = np.lexsort((kept.table["image"], kept.table["case"]))
    return kept.take(order), dict(left_out)


def refuse_unsound(work: Work) -> None:
    if not len(work.cases):
        raise UnsoundError("no case with a label and a readable image is left", todo="see the audit for the reasons")
    labels = work.cases.labels
    values = labels if work.cases.target.task.exclusive else labels[~np.isnan(labels)]
    if np.unique(values).size < 2:
        raise UnsoundError(
            "all cases have the same label, so there is nothing to learn",
            given=f"{len(work.cases):,} images",
            todo="add cases of another class",
        )
    if len(work.groups.names) < 3:
        what = (
            "all images belong to one patient"
            if work.cases.patients == 1
            else "there are fewer than three independent patients"
        )
        raise UnsoundError(f"{what}, so no sound test is possible", given=f"{work.cases.patients} patients, {len(work.groups.names)} independent groups",
                           todo="check the patient column, or add patients")  # fmt: skip


def at_random(work: Work) -> tuple[NDArray[np.int64], str]:
    everyone = np.ones(len(work.groups.names), bool)
    part = work.deal(everyone, (1 - work.test - work.tuning, work.tuning, work.test))
    return part[work.groups.of], "at random by patient, stratified by label and source"


def deployed(work: Work, query: str) -> tuple[NDArray[np.int64], str]:
    rows = matching(work.cases.table, query)
    if not rows.any():
        raise UnsoundError("no case fulfils the query of deploy_to", given=query, todo=_words(work.cases.table, query))
    target = work.any(rows) & ~work.any(~rows)  # groups that lie in it wholly
    few = int(target.sum())
    if few < 3:
        raise UnsoundError(
            "fewer than three patients fulfil the query of deploy_to",
            given=f"{few} in {query!r}",
            todo="choose a larger source",
        )
    wanted = (work.test + work.tuning) * len(target) / few
    scale = min(1.0, _MOST_OF_SOURCE / wanted) * len(target) / few
    if wanted > _MOST_OF_SOURCE:
        work.warnings.append(
            f"tuning and test are smaller than asked, so that more patients of {query} train than are tested"
        )
    _warn_absent(work, rows, query)
    shares = (1 - scale * (work.test + work.tuning), scale * work.tuning, scale * work.test)
    return work.deal(target, shares)[
        work.groups.of
    ], f"tuning and test only from {query}, by patient, stratified by label"


def _words(table: pd.DataFrame, query: str) -> str:
    sources = sorted(set(table["source"]) - {""})
    return f"sources are {', '.join(sources[:10])}" if sources and "source" in query else "check the words in the query"


def _warn_absent(work: Work, rows: NDArray[np.bool_], where: str) -> None:
    """Classes that cannot be judged where the model will be used."""
    present = np.atleast_1d(strata(work.cases)[rows].any(axis=0))
    absent = (
        [n for n, there in zip(work.cases.target.names, present) if not there]
        if not work.cases.target.task.continuous
        else []
    )
    if absent:
        work.warnings.append(f"no case of {', '.join(absent)} in {where}: the test cannot say how well these are told")


def leaving_out(work: Work, source: str) -> tuple[NDArray[np.int64], str]:
    sources = sorted(set(work.cases.table["source"]))
    if source not in sources:
        raise InputError("there is no such source to leave out", given=repr(source), todo=nearest(source, sources))
    rows = (work.cases.table["source"] == source).to_numpy()
    outside, others = work.any(rows), ~work.any(rows)
    if others.sum() < 2:
        raise UnsoundError("no other source is left to train on", given=source, todo="leave out another source")
    tuning = work.tuning / (1 - work.test)
    part = work.deal(others, (1 - tuning, 0.0, tuning))[work.groups.of]
    part[part == 2] = 1
    part[rows] = 2
    part[outside[work.groups.of] & ~rows] = -1  # the same patients elsewhere
    _warn_absent(work, rows, source)
    return part, f"source {source} is the test; tuning at random from the others by patient"


def latest_last(work: Work) -> tuple[NDArray[np.int64], str]:
    when = _times(work.cases.table["time"])
    latest = np.full(len(work.groups.names), -np.inf)
    np.maximum.at(latest, work.groups.of, when)
    order = np.lexsort((by_name(work.seed, work.groups.names, "split/time"), latest))
    count = len(order)
    tests = max(1, round(work.test * count))
    tunes = max(1, round(work.tuning * count)) if work.tuning else 0
    part = np.zeros(count, np.int64)
    part[order[count - tests - tunes : count - tests]] = 1
    part[order[count - tests :]] = 2
    return part[work.groups.of], "by time: the patients seen last are the test, those before them tuning"


def _times(values: pd.Series) -> NDArray[np.float64]:
    number = pd.to_numeric(values, errors="coerce")
    if number.isna().any():
        dates = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
        number = dates.astype("int64").astype(float).where(dates.notna())
    if number.isna().any():
        raise InputError("a split by time needs a time for every case", given=f"{int(number.isna().sum()):,} cells are blank or no date",
                         todo="name the column with --time; write dates as 2024-05-31 or numbers")  # fmt: skip
    return number.to_numpy(np.float64)


def is_given(cases: Cases) -> bool:
    return len(set(cases.table["split"]) & set(PARTS)) > 1


def as_given(work: Work) -> tuple[NDArray[np.int64], str]:
    """The parts as given; what is missing of tuning and test is cut from train."""
    words = work.cases.table["split"]
    part = np.array(words.map({p: i for i, p in enumerate(PARTS)}).fillna(-1), np.int64)
    if (part < 0).any():
        work.left_out["in no part of the given split"] = int(words[part < 0].size)
    method = "as given with the data"
    if not (part == 2).any():
        part[part == 1] = 2
        method += "; its tuning part is taken as the test"
    if not (part == 1).any() and work.tuning:
        free = work.any(part == 0) & ~work.any(part == 2)
        cut = work.deal(free, (1 - work.tuning, 0.0, work.tuning))
        part[(cut[work.groups.of] == 2) & (part == 0)] = 1
        method += "; tuning is cut from train by patient"
    return part, method


# -- dealing groups to parts: stratified, repeatable, the same for any order of the rows --------------------------


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


def folds_of(patients: NDArray, truth: NDArray[np.float64], *, k: int, seed: int) -> NDArray[np.int64]:
    """The fold (N,) of each image: patients whole, stratified by ``truth`` (N, K) of 1, 0 or NaN."""
    names, code = np.unique(patients.astype(str), return_inverse=True)
    labels = np.zeros((len(names), truth.shape[1]), bool)
    image, column = np.nonzero(truth == 1)
    labels[code[image], column] = True
    return deal(labels, [1 / k] * k, names, seed=seed, size=np.bincount(code), at_least_one=False)[code]


# -- less of a training set: patients who are drawn so that each larger part holds the smaller, and fewer graders ---


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


@checked
def fewer_grades(grades: Grades, many: int, *, seed: int = 0, repeat: int = 0) -> Grades:
    """The answers of ``many`` readers of each case, drawn at random from those who answered it.

    The draws of one ``repeat`` are nested: two readers are the one and another. Cases with fewer answers keep all.
    """
    require(many >= 1, "at least one grade per image is needed", given=many)
    table = grades.table[grades.table["label"] != ""]
    names = [f"{c}\n{r}" for c, r in zip(table["case"], table["reader"], strict=True)]
    drawn = table.assign(_chance=by_name(seed, names, f"grades/{repeat}")).sort_values(["case", "_chance"])
    kept = drawn[drawn.groupby("case").cumcount() < many]
    return replace(grades, table=kept.drop(columns="_chance").reset_index(drop=True))


@checked
def graded(cases: Cases, grades: Grades) -> tuple[Cases, int]:
    """Cases with the majority of their ``grades`` as label, and how many of them had a tie.

    A tie goes to the reader who was drawn first: none is left out, so that the number of images does not depend on
    how many graded them. Raises :class:`InputError` for a target without classes, an answer that is none of them, or
    cases without any grade.
    """
    if not cases.target.task.exclusive:
        raise InputError("grades can teach one label with classes", given=f"a target of kind {cases.target.kind}")
    found = consensus(grades, classes=cases.target.names)
    first = grades.table.drop_duplicates("case").set_index("case")["label"]
    label = found["label"].where(found["label"] != "", found["case"].map(first))
    known = dict(zip(found["case"], label, strict=True))
    new = cases.table["case"].map(known)
    missing = int(new.isna().sum())
    if missing:
        raise InputError("some training cases have no grade", given=f"{missing:,} of {len(cases):,} images",
                         todo="give at least one grade for each, under the names of the study's table")  # fmt: skip
    ties = int(found["tied"][found["case"].isin(set(cases.table["case"]))].sum())
    return replace(cases, table=cases.table.assign(label=new)), ties
