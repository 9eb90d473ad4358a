"""Who trains, who tunes, who is tested: by patient, duplicates kept together, the same for any order of rows."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases import strategies
from overread.cases.audit.duplicates import group
from overread.cases.audit.findings import Audit
from overread.cases.cases import PARTS, Cases
from overread.cases.sources.tables import find
from overread.cases.strategies import deal
from overread.core.errors import InputError, UnsoundError, checked, nearest, require
from overread.core.files import FORMAT, read_json, sha256, unguarded, write_csv, write_json


@dataclass(frozen=True, eq=False)
class Split:
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

    @property
    def digest(self) -> str:
        """Hash of who is where."""
        return digest(self.table)

    def __str__(self) -> str:
        counts = "; ".join(f"{p} {c['cases']:,} cases of {c['patients']:,} patients" for p, c in self.counts().items())
        return f"{counts} ({self.method})"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Split) and self.digest == other.digest

    def __hash__(self) -> int:
        return int(self.digest, 16)

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
        found = cls(
            _check(table, path), str(about.get("method", "")), int(about.get("seed", 0)), about.get("proof", {})
        )
        if found.proof.get("digest") != found.digest:
            raise InputError(
                "the split does not match its proof",
                given=path.name,
                todo="make the split again, or read the edited table with a split column",
            )
        return found


def _proof_path(path: Path) -> Path:
    return path.with_suffix(".proof.json")


def _check(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    for column in ("case", "patient", "part"):
        find(list(table.columns), column, "split")
    strange = set(table["part"]) - set(PARTS)
    if strange or table["case"].duplicated().any():
        raise InputError(
            "a split needs one row a case, each in train, tuning or test",
            given=f"{path.name}: {', '.join(sorted(strange)) or 'repeated cases'}",
        )
    return table[["case", "patient", "part"]]


# -- making one --------------------------------------------------------------------------------------------------


@checked
def split(
    cases: Cases, *, test: float = 0.2, tuning: float = 0.1, by: str = "patient", deploy_to: str | None = None,
    leave_out: str | None = None, by_time: bool = False, seed: int = 0, audit: Audit | None = None, keep_given: bool = True,
) -> Split:  # fmt: skip
    """Divide cases into train, tuning and test so that no patient, and no duplicate that ``audit`` knows, is in two.

    ``test``, ``tuning``: shares of the patients. ``by``: a column whose values, beside patients, must not be divided
    (a family, a site). Stratified by label and source. ``deploy_to``: a query (see :mod:`overread.cases.query`); tuning
    and test come from the patients that fulfil it, and more of these train than both together. ``leave_out``: a source that becomes the test. ``by_time``:
    the latest are tested. ``keep_given``: a split column of the data is kept. Cases without a label or set aside by
    the audit are in no part. Raises :class:`UnsoundError` where no sound split exists.
    """
    require(
        0 < test < 1 and 0 <= tuning < 1 and test + tuning < 1,
        "test and tuning are shares whose sum is below 1",
        given=(test, tuning),
    )
    asked = [
        name
        for name, on in (("deploy_to", deploy_to), ("leave_out", leave_out), ("by_time", by_time))
        if on not in (None, False)
    ]
    require(len(asked) <= 1, "choose one of deploy_to, leave_out and by_time", given=asked)
    find(list(cases.table.columns), by, "by")
    used, left_out = strategies.usable(cases, audit)
    work = strategies.Work(used, group(used.table, by, audit.pairs if audit else ()), test, tuning, seed)
    strategies.refuse_unsound(work)
    given = keep_given and not asked and strategies.is_given(used)
    part, method = _divide(work, given, deploy_to, leave_out, by_time)
    table = _table(used, part)
    if not given and (part < 0).any():
        left_out |= {"another source of a tested patient": int((part < 0).sum())}
    return _finish(Split(table, method, seed), cases, audit, left_out | work.left_out, work.warnings, given)


def _divide(
    work: strategies.Work, given: bool, deploy_to: str | None, leave_out: str | None, by_time: bool
) -> tuple[NDArray[np.int64], str]:
    if given:
        return strategies.as_given(work)
    if deploy_to is not None:
        return strategies.deployed(work, deploy_to)
    if leave_out is not None:
        return strategies.leaving_out(work, leave_out)
    return strategies.latest_last(work) if by_time else strategies.at_random(work)


def _table(used: Cases, part: NDArray[np.int64]) -> pd.DataFrame:
    kept = part >= 0
    table = used.table.loc[kept, ["case", "patient"]].assign(part=np.array(PARTS, object)[part[kept]])
    return table.drop_duplicates("case").sort_values("case", ignore_index=True)


def _finish(
    made: Split, cases: Cases, audit: Audit | None, left_out: dict[str, int], warnings: list[str], given: bool
) -> Split:
    """The split with its proof; one without training or test cases is refused."""
    empty = [p for p in ("train", "test") if not (made.table["part"] == p).any()]
    if empty:
        raise UnsoundError(
            f"the split leaves nothing for {' and '.join(empty)}",
            given=made.method,
            todo="add patients, or choose other shares",
        )
    return replace(made, proof=prove(made.table, cases, audit, left_out, warnings, given))


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
def without(cases: Cases, split: Split, drop: Collection[str], audit: Audit | None = None) -> Split:
    """The split without these cases, and its proof made anew."""
    table = split.table[~split.table["case"].isin(list(drop))].reset_index(drop=True)
    gone = len(split.table) - len(table)
    left_out = dict(split.proof.get("left out", {}))
    if gone:
        left_out["also in a later part of the given split"] = gone
    kept = [w for w in split.proof.get("warnings", []) if not w.startswith("no patient with ")]
    return _finish(replace(split, table=table), cases, audit, left_out, kept, bool(split.proof.get("given")))


# -- folds -------------------------------------------------------------------------------------------------------


@checked
def folds(
    cases: Cases, *, k: int = 5, seed: int = 0, audit: Audit | None = None, rows: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """The fold 0 … k−1 of each image (N,), −1 for images outside ``rows``, without a label, or set aside.

    By patient, duplicates kept together, stratified by label and source; the same for any order of the rows.
    Raises :class:`UnsoundError` for fewer independent patients than folds.
    """
    require(k >= 2, "there must be at least two folds", given=k)
    chosen = np.zeros(len(cases), bool)
    chosen[np.arange(len(cases)) if rows is None else rows] = True
    aside = {case for case, _ in audit.excluded} if audit else set()
    chosen &= cases.labelled & ~cases.table["case"].isin(aside).to_numpy()
    some = cases.take(chosen)
    work = strategies.Work(some, group(some.table, "patient", audit.pairs if audit else ()), 0.0, 0.0, seed)
    if len(work.groups.names) < k:
        raise UnsoundError(
            f"{k} folds need at least {k} independent patients", given=len(work.groups.names), todo="use fewer folds"
        )
    part = deal(
        work.labels,
        [1 / k] * k,
        work.groups.names,
        seed=seed,
        source=work.source,
        size=work.groups.sizes,
        at_least_one=False,
    )
    found = np.full(len(cases), -1, np.int64)
    found[chosen] = part[work.groups.of]
    return found


# -- the proof beside a split: counted from the finished table alone, so that a fault in the dealing would show ---


def digest(table: pd.DataFrame) -> str:
    """Hash of who is where."""
    return sha256(table.to_csv(index=False, lineterminator="\n").encode())[:16]


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
    if groups.loosened:
        notes.append(
            f"{groups.loosened:,} near-duplicate links form long chains of alike images and were not kept together"
        )
    return {
        "patients shared": int((table.groupby("patient")["part"].nunique() > 1).sum()),
        "duplicate groups shared": torn, "groups": len(groups.names), "largest group": int(groups.sizes.max(initial=0)),
        "checked": f"patients compared between all parts; {_looked_up(audit)}", "parts": parts, "left out": left_out,
        "warnings": notes, "given": given, "digest": digest(table),
    }  # fmt: skip


def _looked_up(audit: Audit | None) -> str:
    if audit is None:
        return "duplicates not checked (no audit)"
    return f"{len(audit.pairs):,} {'pair' if len(audit.pairs) == 1 else 'pairs'} of duplicates looked up"


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
    used = {p: counts for p, counts in parts.items() if counts["images"]}
    return [
        f"no patient with {name} in {p}"
        for p, counts in used.items()
        for name, n in counts.get("classes", {}).items()
        if not n
    ]
