"""Which rows belong to which subgroup."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import InputError, checked, nearest
from overread.predictions import Predictions

#: Fewer patients than this are counted, not judged.
FEWEST = 10
#: A numeric column with more values than this is cut into bands.
MOST_VALUES = 6
#: A column with more groups than this is a name or a measurement, not a subgroup.
MOST_GROUPS = 50
UNKNOWN = "unknown"


@checked
def bands(values: pd.Series) -> pd.Series:
    """The group of each value, as text; blanks are ``unknown``.

    Text and numbers with few values stay as they are. Ages are cut at 18 (if anybody is younger), 40 and 60;
    other numbers into four or five bands at round numbers between their least and greatest, never at
    quantiles, so that the bands of two data sets of one range are the same.

    >>> bands(pd.Series([25, 41, 59, 60, 72, 33, 38, None], name="age")).tolist()
    ['<40', '40–59', '40–59', '≥60', '≥60', '<40', '<40', 'unknown']
    """
    codes, kinds = pd.factorize(values, use_na_sentinel=False)  # what is said of a value holds for all its like
    named = _bands(pd.Series(kinds, name=values.name)).to_numpy()
    return pd.Series(named[codes] if len(named) else named, index=values.index, name=values.name)


def _bands(values: pd.Series) -> pd.Series:
    blank = values.isna() | (values.astype(str).str.strip() == "")
    number = pd.to_numeric(values.where(~blank), errors="coerce")
    numeric = bool((number.notna() | blank).all()) and number.nunique() > MOST_VALUES
    if not numeric:
        text = (
            number.map(lambda x: f"{x:g}") if bool((number.notna() | blank).all()) else values.astype(str).str.strip()
        )
        return text.where(~blank, UNKNOWN)
    cuts = _cuts(str(values.name), number[np.isfinite(number)])
    whole = bool((number.dropna() % 1 == 0).all()) or _is_age(values.name)
    names = np.array([*_names(cuts, whole), UNKNOWN])
    place = np.where(number.notna(), np.searchsorted(cuts, number.fillna(0), side="right"), len(cuts) + 1)
    return pd.Series(names[place], index=values.index, name=values.name)


def _cuts(name: str, known: pd.Series) -> list[float]:
    low, high = float(known.min()), float(known.max())
    if _is_age(name) and low >= 0 and high <= 120:
        cuts = [18.0, 40.0, 60.0] if low < 18 else [40.0, 60.0]
    else:
        step = _round((high - low) / 4)
        first = math.floor(low / step) + 1
        cuts = [k * step for k in range(first, first + 6)]
    return [cut for cut in cuts if low < cut <= high]


def _is_age(name: object) -> bool:
    return "age" in str(name).lower().replace("_", " ").split()  # in completed years: 59.5 is 59


def _round(step: float) -> float:
    """The nearest of 1, 2, 5, 10 … times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(step))
    return min((1, 2, 5, 10), key=lambda k: abs(math.log(step / (k * unit)))) * unit


def _names(cuts: list[float], whole: bool) -> list[str]:
    if not cuts:
        return ["all"]
    whole = whole and all(cut == int(cut) for cut in cuts)
    inner = [f"{a:g}–{b - 1:g}" if whole and b - a > 1 else f"{a:g} to <{b:g}" for a, b in pairwise(cuts)]
    return [f"<{cuts[0]:g}", *inner, f"≥{cuts[-1]:g}"]


@checked
def subgroups(test: Predictions, by: Sequence[str]) -> Iterator[tuple[dict[str, str], NDArray[np.bool_]]]:
    """``{column: group}`` and the rows (N,) of every group of every column, in order of their names.

    Raises :class:`InputError` for a column that is not there, or has more than 50 groups.
    """
    for column in by:
        if column not in test.table.columns:
            raise InputError(
                f"there is no column {column!r} to report by", todo=nearest(column, ("source", *test.subgroups))
            )
        group = bands(test.table[column])
        names = sorted(group.unique(), key=by_size)
        if len(names) > MOST_GROUPS:
            raise InputError(
                f"the column {column!r} has too many groups to report by",
                given=f"{len(names):,} groups",
                todo="choose a column with fewer, or bin it first",
            )
        for name in names:
            yield {column: name}, (group == name).to_numpy()


@checked
def by_size(name: str) -> tuple[bool, float, str]:
    """A key to sort the names of groups by: bands and numbers by size, words by the alphabet, ``unknown`` at the end.

    >>> sorted(["40–59", "unknown", "≥60", "<40"], key=by_size)
    ['<40', '40–59', '≥60', 'unknown']
    """
    digits = "".join(c if c.isdigit() or c in ".-" else " " for c in name.replace("–", " ")).split()
    try:
        size = float(digits[0]) if digits else math.inf
    except ValueError:
        size = math.inf
    return name == UNKNOWN, (size - 0.5 if name.startswith("<") else size), name


# -- who the patients of each part are: the table that every reporting standard asks for --------------------------


@checked
def characteristics(cases: Cases, parts: Split, by: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Images and patients of each part in every group of the columns ``by``, of the source and of the label.

    A list of ``{"column", "group", "parts": {part: {"images", "patients"}}}``. A patient counts in each group that one
    of the images is in, so groups may add up to more than all. Columns with one group, with more than fifty, or that
    are not there, are left out.

    >>> table = pd.DataFrame({"sex": ["f", "f", "m"], "patient": ["a", "a", "b"], "part": ["train", "train", "test"]})
    >>> [(row["group"], row["parts"]) for row in counted(table, "sex")]  # doctest: +NORMALIZE_WHITESPACE
    [('f', {'train': {'images': 2, 'patients': 1}, 'test': {'images': 0, 'patients': 0}}),
     ('m', {'train': {'images': 0, 'patients': 0}, 'test': {'images': 1, 'patients': 1}})]
    """
    of = parts.table.drop_duplicates("case").set_index("case")["part"]
    table = cases.table.assign(part=cases.table["case"].map(of)).dropna(subset=["part"])
    wanted = [c for c in dict.fromkeys(("label", "source", *by)) if c in table.columns]
    return [row for column in wanted for row in counted(table, column)]


def counted(table: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """The rows of one column; none where it tells nothing."""
    group = bands(table[column])
    names = [name for name in group.unique() if name != ""]
    if not 1 < len(names) <= MOST_GROUPS:
        return []
    parts = [part for part in ("train", "tuning", "test") if (table["part"] == part).any()]
    return [
        {
            "column": column,
            "group": name,
            "parts": {part: _numbers(table[(group == name) & (table["part"] == part)]) for part in parts},
        }
        for name in sorted(map(str, names), key=by_size)
    ]


def _numbers(rows: pd.DataFrame) -> dict[str, int]:
    return {"images": len(rows), "patients": int(rows["patient"].nunique())}
