"""The ways to divide groups: at random, for one source, a source left out, by time, or as the data's makers did.

Each takes a :class:`Work` and gives the part of each image, 0 train, 1 tuning, 2 test, −1 none, and a sentence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import PARTS, Cases
from overread.cases.deal import deal
from overread.cases.findings import Audit
from overread.cases.groups import Groups
from overread.cases.query import matching
from overread.chance import by_name
from overread.errors import InputError, UnsoundError, nearest

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
    labels = cases.labels
    if cases.target.kind == "findings":
        return labels == 1
    codes = cases.strata if cases.target.kind == "quantity" else labels
    return codes[:, None] == np.arange(codes.max(initial=0) + 1)[None, :]


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
        raise UnsoundError(
            "no case with a label and a readable image is left", todo="see the audit for the reasons"
        )
    labels = work.cases.labels
    values = labels[~np.isnan(labels)] if labels.dtype.kind == "f" else labels
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
        raise UnsoundError(
            "no case fulfils the query of deploy_to", given=query, todo=_words(work.cases.table, query)
        )
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
    return (
        f"sources are {', '.join(sources[:10])}"
        if sources and "source" in query
        else "check the words in the query"
    )


def _warn_absent(work: Work, rows: NDArray[np.bool_], where: str) -> None:
    """Classes that cannot be judged where the model will be used."""
    present = np.atleast_1d(strata(work.cases)[rows].any(axis=0))
    absent = (
        [n for n, there in zip(work.cases.target.names, present) if not there]
        if work.cases.target.kind != "quantity"
        else []
    )
    if absent:
        work.warnings.append(
            f"no case of {', '.join(absent)} in {where}: the test cannot say how well these are told"
        )


def leaving_out(work: Work, source: str) -> tuple[NDArray[np.int64], str]:
    sources = sorted(set(work.cases.table["source"]))
    if source not in sources:
        raise InputError(
            "there is no such source to leave out", given=repr(source), todo=nearest(source, sources)
        )
    rows = (work.cases.table["source"] == source).to_numpy()
    outside, others = work.any(rows), ~work.any(rows)
    if others.sum() < 2:
        raise UnsoundError(
            "no other source is left to train on", given=source, todo="leave out another source"
        )
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
