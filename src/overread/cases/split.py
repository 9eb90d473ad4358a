"""Who trains, who tunes, who is tested: by patient, duplicates kept together, the same for any order of rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.audit import Audit
from overread.cases.audit.fingerprints import Groups, group
from overread.cases.cases import PARTS, Cases, times
from overread.cases.query import matching
from overread.cases.sources.tables import find
from overread.cases.stratify import stratify
from overread.core.display import Overview, Panel, Shown
from overread.core.errors import InputError, UnsoundError, checked, nearest, require
from overread.core.files import FORMAT, EqualByDigest, read_json, sha256, unguarded, write_csv, write_json
from overread.core.phrases import count as counted
from overread.core.random import by_name

#: What of the proof a person looks at first.
PROVED = ("patients shared", "duplicate groups shared", "checked")


@dataclass(frozen=True, eq=False)
class Split(EqualByDigest, Shown):
    """The part of every case. ``table``: ``case``, ``patient``, ``part``, sorted by case; ``proof`` as in the file."""

    table: pd.DataFrame
    method: str
    seed: int
    proof: dict[str, Any] = field(default_factory=dict)

    def rows(self, cases: Cases, part: str) -> NDArray[np.int64]:
        """Positions in ``cases.table`` of the images of a part (``train``, ``tuning`` or ``test``)."""
        require(part in PARTS, "there is no such part", given=repr(part), todo=nearest(part, PARTS))
        return np.flatnonzero(cases.table["case"].isin(self.table["case"][self.table["part"] == part]))

    def counts(self) -> dict[str, dict[str, int]]:
        """Cases and patients of each part."""
        by_part = self.table.groupby("part")
        found = pd.DataFrame({"cases": by_part.size(), "patients": by_part["patient"].nunique()})
        return {p: {c: int(found[c].get(p, 0)) for c in ("cases", "patients")} for p in PARTS}

    def to_frame(self) -> pd.DataFrame:
        """A row a case: ``case``, ``patient``, ``part``."""
        return self.table.copy()

    def overview(self) -> Overview:
        """Cases and patients of each part, its classes, and the proof that nobody is in two."""
        counts, parts = self.counts(), self.proof.get("parts", {})
        rows = tuple((p, counts[p]["cases"], counts[p]["patients"]) for p in PARTS)
        names = list(dict.fromkeys(name for p in PARTS for name in parts.get(p, {}).get("classes", {})))
        classes = tuple((name, *(parts.get(p, {}).get("classes", {}).get(name, 0) for p in PARTS)) for name in names)
        proof = tuple((name, self.proof[name]) for name in PROVED if name in self.proof)
        panels = (Panel(("part", "cases", "patients"), rows), Panel(("class", *PARTS), classes, "Patients by class"),
                  Panel(("proof", "found"), proof, "Nobody is in two parts"))  # fmt: skip
        left = tuple(f"left out: {n:,} ({why})" for why, n in self.proof.get("left out", {}).items())
        return Overview(f"Split {self.method}", panels, (*self.proof.get("warnings", ()), *left))

    @property
    def digest(self) -> str:
        """Hash of who is where."""
        return digest(self.table)

    def __str__(self) -> str:
        counts = "; ".join(
            f"{p} {counted(c['cases'], 'case')} of {counted(c['patients'], 'patient')}"
            for p, c in self.counts().items()
        )
        return f"{counts} ({self.method})"

    __repr__ = __str__

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write ``path`` (CSV) and beside it ``<name>.proof.json``."""
        path = Path(path)
        write_csv(path, self.table)
        write_json(_proof_path(path), {"format": FORMAT, "method": self.method, "seed": self.seed, "proof": self.proof})
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Split:
        """Read a split; one that was edited after its proof was written is refused.

        Raises :class:`InputError` for missing files, wrong columns or parts, a case that stands twice.
        """
        path = Path(path)
        about = read_json(_proof_path(path))
        try:
            table = unguarded(pd.read_csv(path, dtype=str, keep_default_na=False))
        except (OSError, ValueError) as error:
            raise InputError("the split cannot be read", given=f"{path}: {error}") from error
        method, seed = str(about.get("method", "")), int(about.get("seed", 0))
        found = cls(_check(table, path), method, seed, about.get("proof", {}))
        if found.proof.get("digest") != found.digest:
            todo = "make the split again, or read the edited table with a split column"
            raise InputError("the split does not match its proof", given=path.name, todo=todo)
        return found


def _proof_path(path: Path) -> Path:
    return path.with_suffix(".proof.json")


def _check(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    for column in ("case", "patient", "part"):
        find(list(table.columns), column, "split")
    strange = ", ".join(sorted(set(table["part"]) - set(PARTS)))
    if strange or table["case"].duplicated().any():
        given = f"{path.name}: {strange or 'repeated cases'}"
        raise InputError("a split needs one row a case, each in train, tuning or test", given=given)
    return table[["case", "patient", "part"]]


@checked
def split(
    cases: Cases, *, test: float = 0.2, tuning: float = 0.1, by: str = "patient", deploy_to: str | None = None,
    leave_out: str | None = None, by_time: bool = False, seed: int = 0, audit: Audit | None = None, keep_given: bool = True,
) -> Split:  # fmt: skip
    """Divide cases into train, tuning and test so that no patient, and no duplicate that ``audit`` knows, is in two.

    ``test``, ``tuning``: shares of the patients. ``by``: a column whose values, beside patients, must not be divided (a
    family, a site). Stratified by label and source. ``deploy_to``: a query (see :mod:`overread.cases.query`); tuning
    and test come from the patients that fulfil it, and more of these train than both together. ``leave_out``: a source
    that becomes the test. ``by_time``: the latest are tested. ``keep_given``: a split column of the data is kept. Cases
    without a label or set aside by the audit are in no part. Raises :class:`UnsoundError` where no sound split exists.
    """
    fits = 0 < test < 1 and 0 <= tuning < 1 and test + tuning < 1
    require(fits, "test and tuning are shares whose sum is below 1", given=(test, tuning))
    chosen = {"deploy_to": deploy_to, "leave_out": leave_out, "by_time": by_time or None}
    asked = [name for name, value in chosen.items() if value is not None]
    require(len(asked) <= 1, "choose one of deploy_to, leave_out and by_time", given=asked)
    find(list(cases.table.columns), by, "by")
    used, left_out = _usable(cases, audit)
    division = Division(used, group(used.table, by, audit.pairs if audit else ()), test, tuning, seed)
    _refuse_unsound(division)
    given = keep_given and not asked and len(set(used.table["split"]) & set(PARTS)) > 1
    part, method = _divide(division, given, deploy_to, leave_out, by_time)
    kept = part >= 0
    table = used.table.loc[kept, ["case", "patient"]].assign(part=np.array(PARTS, object)[part[kept]])
    table = table.drop_duplicates("case").sort_values("case", ignore_index=True)
    if not given and (part < 0).any():
        left_out |= {"another source of a tested patient": int((part < 0).sum())}
    return _finish(Split(table, method, seed), cases, audit, left_out | division.left_out, division.warnings, given)


@checked
def require_rule(cases: Cases, *, deploy_to: str | None = None, leave_out: str | None = None) -> None:
    """Raise as :func:`split` does for a query that no case fulfils or that cannot be asked, and a source that is not there: before an
    audit has read every image."""
    if deploy_to is not None:
        _fulfilling(cases, deploy_to)
    if leave_out is not None:
        _of_source(cases, leave_out)


def _fulfilling(cases: Cases, query: str) -> NDArray[np.bool_]:
    rows = matching(cases.table, query)
    if not rows.any():
        sources = sorted(set(cases.table["source"]) - {""})[:10]
        named = sources and "source" in query
        todo = f"sources are {', '.join(sources)}" if named else "check the words in the query"
        raise UnsoundError("no case fulfils the query of deploy_to", given=query, todo=todo)
    return rows


def _of_source(cases: Cases, source: str) -> NDArray[np.bool_]:
    sources = sorted(set(cases.table["source"]))
    if source not in sources:
        raise InputError("there is no such source to leave out", given=repr(source), todo=nearest(source, sources))
    return (cases.table["source"] == source).to_numpy()


def _divide(
    division: Division, given: bool, deploy_to: str | None, leave_out: str | None, by_time: bool
) -> tuple[NDArray[np.int64], str]:
    if given:
        return _as_given(division)
    if deploy_to is not None:
        return _for_use_in(division, deploy_to)
    if leave_out is not None:
        return _source_as_test(division, leave_out)
    return _latest_as_test(division) if by_time else _at_random(division)


def _finish(
    made: Split, cases: Cases, audit: Audit | None, left_out: dict[str, int], warnings: list[str], given: bool
) -> Split:
    """The split with its proof; one without training or test cases is refused."""
    empty = " and ".join(p for p in ("train", "test") if not (made.table["part"] == p).any())
    if empty:
        todo = "add patients, or choose other shares"
        raise UnsoundError(f"the split leaves nothing for {empty}", given=made.method, todo=todo)
    return replace(made, proof=prove(made.table, cases, audit, left_out, warnings, given))


# -- the strategies: from a division to the part of each image (0 train, 1 tuning, 2 test, −1 none), and a sentence --


#: Share of the groups of a chosen source that tuning and test together may take.
_MOST_OF_SOURCE = 0.45


@dataclass(frozen=True, eq=False)
class Division:
    """What every strategy needs; ``warnings`` and ``left_out`` collect what must be said."""

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
        has = self.cases.target.task.presence(self.cases.labels)
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

    def divide(self, some: NDArray[np.bool_], shares: tuple[float, float, float]) -> NDArray[np.int64]:
        """Parts of ``some`` groups; those too large for tuning or test train."""
        part = np.zeros(len(some), np.int64)
        small = some & (self.groups.sizes <= max(1.0, 0.5 * shares[2] * self.groups.sizes[some].sum()))
        part[small] = stratify(self.labels[small], shares, self.groups.names[small], seed=self.seed,
                           source=self.source[small], size=self.groups.sizes[small])  # fmt: skip
        large = int((some & ~small).sum())
        if shares[2] and large:
            self.warnings.append(f"{large} groups of images too large for the test set are in train")
        return part


def _usable(cases: Cases, audit: Audit | None) -> tuple[Cases, dict[str, int]]:
    """Cases with a label that the audit has not set aside, sorted by case, and why the others are not there."""
    reasons = dict(audit.excluded) if audit else {}
    names = cases.table["case"]
    for name in names[~cases.labelled]:
        reasons.setdefault(name, "no mask" if cases.target.task.dense else "no label")
    here = set(names)
    left_out = Counter(reason.split(":", 1)[0] for case, reason in reasons.items() if case in here)
    kept = cases.drop(reasons)
    order = np.lexsort((kept.table["image"], kept.table["case"]))
    return kept.take(order), dict(left_out)


def _refuse_unsound(division: Division) -> None:
    if not len(division.cases):
        raise UnsoundError("no case with a label and a readable image is left", todo="see the audit for the reasons")
    if division.cases.target.task.distinct(division.cases.labels) < 2:
        what, given = "all cases have the same label, so there is nothing to learn", f"{len(division.cases):,} images"
        raise UnsoundError(what, given=given, todo="add cases of another class")
    if len(division.groups.names) < 3:
        alone = division.cases.patients == 1
        what = "all images belong to one patient" if alone else "there are fewer than three independent patients"
        raise UnsoundError(f"{what}, so no sound test is possible", given=f"{counted(division.cases.patients, 'patient')}, {len(division.groups.names)} independent groups",
                           todo="check the patient column, or add patients")  # fmt: skip


def _at_random(division: Division) -> tuple[NDArray[np.int64], str]:
    everyone = np.ones(len(division.groups.names), bool)
    part = division.divide(everyone, (1 - division.test - division.tuning, division.tuning, division.test))
    return part[division.groups.of], "at random by patient, stratified by label and source"


def _for_use_in(division: Division, query: str) -> tuple[NDArray[np.int64], str]:
    rows = _fulfilling(division.cases, query)
    target = division.any(rows) & ~division.any(~rows)  # groups that lie in it wholly
    few = int(target.sum())
    if few < 3:
        what = "fewer than three patients fulfil the query of deploy_to"
        raise UnsoundError(what, given=f"{few} in {query!r}", todo="choose a larger source")
    wanted = (division.test + division.tuning) * len(target) / few
    scale = min(1.0, _MOST_OF_SOURCE / wanted) * len(target) / few
    if wanted > _MOST_OF_SOURCE:
        smaller = "tuning and test are smaller than asked, so that more patients"
        division.warnings.append(f"{smaller} of {query} train than are tested")
    _warn_absent(division, rows, query)
    shares = (1 - scale * (division.test + division.tuning), scale * division.tuning, scale * division.test)
    part = division.divide(target, shares)[division.groups.of]
    return part, f"tuning and test only from {query}, by patient, stratified by label"


def _warn_absent(division: Division, rows: NDArray[np.bool_], where: str) -> None:
    """Classes that cannot be judged where the model will be used."""
    target = division.cases.target
    present = np.atleast_1d(target.task.presence(division.cases.labels)[rows].any(axis=0))
    absent = ", ".join(name for name, there in zip(target.names, present) if not there)
    if absent and not target.task.continuous:
        division.warnings.append(f"no case of {absent} in {where}: the test cannot say how well these are told")


def _source_as_test(division: Division, source: str) -> tuple[NDArray[np.int64], str]:
    rows = _of_source(division.cases, source)
    outside, others = division.any(rows), ~division.any(rows)
    if others.sum() < 2:
        raise UnsoundError("no other source is left to train on", given=source, todo="leave out another source")
    tuning = division.tuning / (1 - division.test)
    part = division.divide(others, (1 - tuning, 0.0, tuning))[division.groups.of]
    part[part == 2] = 1
    part[rows] = 2
    part[outside[division.groups.of] & ~rows] = -1  # the same patients elsewhere
    _warn_absent(division, rows, source)
    return part, f"source {source} is the test; tuning at random from the others by patient"


def _latest_as_test(division: Division) -> tuple[NDArray[np.int64], str]:
    when = _times(division.cases.table["time"])
    latest = np.full(len(division.groups.names), -np.inf)
    np.maximum.at(latest, division.groups.of, when)
    order = np.lexsort((by_name(division.seed, division.groups.names, "split/time"), latest))
    count = len(order)
    tests = max(1, round(division.test * count))
    tunes = max(1, round(division.tuning * count)) if division.tuning else 0
    part = np.zeros(count, np.int64)
    part[order[count - tests - tunes : count - tests]] = 1
    part[order[count - tests :]] = 2
    return part[division.groups.of], "by time: the patients seen last are the test, those before them tuning"


def _times(values: pd.Series) -> NDArray[np.float64]:
    when = times(values)
    if blank := int(np.isnan(when).sum()):
        raise InputError("a split by time needs a time for every case", given=f"{blank:,} cells are blank or no date",
                         todo="name the column with --time; write dates as 2024-05-31 or numbers")  # fmt: skip
    return when


def _as_given(division: Division) -> tuple[NDArray[np.int64], str]:
    """The parts as given; what is missing of tuning and test is cut from train."""
    words = division.cases.table["split"]
    part = np.array(words.map({p: i for i, p in enumerate(PARTS)}).fillna(-1), np.int64)
    if (part < 0).any():
        division.left_out["in no part of the given split"] = int(words[part < 0].size)
    method = "as given with the data"
    if not (part == 2).any():
        part[part == 1] = 2
        method += "; its tuning part is taken as the test"
    if not (part == 1).any() and division.tuning:
        free = division.any(part == 0) & ~division.any(part == 2)
        cut = division.divide(free, (1 - division.tuning, 0.0, division.tuning))
        part[(cut[division.groups.of] == 2) & (part == 0)] = 1
        method += "; tuning is cut from train by patient"
    return part, method


# -- cleaning a given split ------------------------------------------------------------------------------------


@checked
def leaked(cases: Cases, split: Split, audit: Audit | None = None) -> frozenset[str]:
    """Cases to drop from train and tuning so that no patient and no duplicate stands in two parts.

    The test stays whole; what it shares goes from tuning and train, what tuning shares goes from train.
    """
    table = split.table.merge(cases.table[["case"]].drop_duplicates(), on="case")
    groups = group(table, "patient", audit.pairs if audit else ())
    rank = table["part"].map({p: i for i, p in enumerate(PARTS)}).to_numpy(np.int64)
    highest = np.zeros(len(groups.names), np.int64)
    np.maximum.at(highest, groups.of, rank)
    return frozenset(table["case"][rank < highest[groups.of]])


@checked
def without(
    cases: Cases, split: Split, drop: Collection[str], audit: Audit | None = None,
    reason: str = "also in a later part of the given split",
) -> Split:  # fmt: skip
    """The split without these cases, for a ``reason`` that its proof tells, and the proof made anew."""
    table = split.table[~split.table["case"].isin(list(drop))].reset_index(drop=True)
    gone = len(split.table) - len(table)
    left_out = dict(split.proof.get("left out", {}))
    if gone:
        left_out[reason] = gone
    kept = [w for w in split.proof.get("warnings", []) if not w.startswith("no patient with ")]
    return _finish(replace(split, table=table), cases, audit, left_out, kept, bool(split.proof.get("given")))


@checked
def folds(
    cases: Cases, *, k: int = 5, seed: int = 0, audit: Audit | None = None, rows: NDArray[Any] | None = None,
    pairs: Iterable[tuple[str, str, str]] = (),
) -> NDArray[np.int64]:  # fmt: skip
    """The fold 0 … k−1 of each image (N,), −1 for images outside ``rows``, without a label, or set aside.

    By patient, duplicates kept together, stratified by label and source; the same for any order of the rows. Duplicates
    are those that the ``audit`` found and ``pairs`` of (case, case, "exact" or "near").
    Raises :class:`UnsoundError` for fewer independent patients than folds.
    """
    require(k >= 2, "there must be at least two folds", given=k)
    chosen = np.zeros(len(cases), bool)
    chosen[np.arange(len(cases)) if rows is None else rows] = True
    aside = {case for case, _ in audit.excluded} if audit else set()
    chosen &= cases.labelled & ~cases.table["case"].isin(aside).to_numpy()
    some = cases.take(chosen)
    groups = group(some.table, "patient", (*(audit.pairs if audit else ()), *pairs))
    division = Division(some, groups, 0.0, 0.0, seed)
    if len(groups.names) < k:
        what = f"{k} folds need at least {k} independent patients"
        raise UnsoundError(what, given=len(groups.names), todo="use fewer folds")
    kept = {"source": division.source, "size": groups.sizes}
    part = stratify(division.labels, [1 / k] * k, groups.names, seed=seed, at_least_one=False, **kept)
    found = np.full(len(cases), -1, np.int64)
    found[chosen] = part[groups.of]
    return found


# -- the proof beside a split: counted from the finished table alone, so that a fault in the dealing would show ---


def digest(table: pd.DataFrame) -> str:
    """Hash of who is where."""
    return sha256(table.to_csv(index=False, lineterminator="\n").encode())[:16]


@checked
def prove(
    table: pd.DataFrame, cases: Cases, audit: Audit | None, left_out: dict[str, int], warnings: list[str], given: bool
) -> dict[str, Any]:
    """``proof`` of a split with this table (``case``, ``patient``, ``part``), as in ``split.proof.json``."""
    where = table.set_index("case")["part"]
    part = cases.table["case"].map(where)
    inside = part.notna().to_numpy()
    groups = group(cases.table[inside].reset_index(drop=True), "patient", audit.pairs if audit else ())
    torn = int((part[inside].reset_index(drop=True).groupby(groups.of).nunique() > 1).sum())
    parts = {p: _counted(cases.take((part == p).to_numpy())) for p in PARTS}
    notes = [*warnings, *_thin(parts)]
    known = len(audit.pairs) if audit else 0
    looked_up = f"{known:,} {'pair' if known == 1 else 'pairs'} of duplicates looked up"
    looked_up = looked_up if audit else "duplicates not checked (no audit)"
    if groups.loosened:
        chains = "near-duplicate links form long chains of alike images and were not kept together"
        notes.append(f"{groups.loosened:,} {chains}")
    return {
        "patients shared": int((table.groupby("patient")["part"].nunique() > 1).sum()),
        "duplicate groups shared": torn, "groups": len(groups.names), "largest group": int(groups.sizes.max(initial=0)),
        "checked": f"patients compared between all parts; {looked_up}", "parts": parts, "left out": left_out,
        "warnings": notes, "given": given, "digest": digest(table),
    }  # fmt: skip


def _counted(cases: Cases) -> dict[str, Any]:
    table, names = cases.table, cases.target.names
    found: dict[str, Any] = {"images": len(cases), "cases": int(table["case"].nunique()), "patients": cases.patients}
    if not cases.target.task.continuous:
        strata = cases.target.task.presence(cases.labels)
        found["classes"] = {n: int(table["patient"][strata[:, i]].nunique()) for i, n in enumerate(names)}
        found["class images"] = {n: int(strata[:, i].sum()) for i, n in enumerate(names)}
    sources = table["source"][table["source"] != ""].value_counts()
    return found | {"sources": {str(k): int(sources[k]) for k in sorted(sources.index)}}


def _thin(parts: dict[str, Any]) -> list[str]:
    """Classes that a part lacks, as sentences; parts without anybody are left out."""
    used = {p: counts.get("classes", {}) for p, counts in parts.items() if counts["images"]}
    return [f"no patient with {name} in {p}" for p, classes in used.items() for name, n in classes.items() if not n]
