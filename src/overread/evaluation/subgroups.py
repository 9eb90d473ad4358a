"""Which rows belong to which subgroup."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.errors import InputError, checked, nearest
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
    codes, kinds = pd.factorize(
        values, use_na_sentinel=False
    )  # what is said of a value holds for all its like
    named = _bands(pd.Series(kinds, name=values.name)).to_numpy()
    return pd.Series(named[codes] if len(named) else named, index=values.index, name=values.name)


def _bands(values: pd.Series) -> pd.Series:
    blank = values.isna() | (values.astype(str).str.strip() == "")
    number = pd.to_numeric(values.where(~blank), errors="coerce")
    numeric = bool((number.notna() | blank).all()) and number.nunique() > MOST_VALUES
    if not numeric:
        text = (
            number.map(lambda x: f"{x:g}")
            if bool((number.notna() | blank).all())
            else values.astype(str).str.strip()
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
                f"there is no column {column!r} to report by",
                todo=nearest(column, ("source", *test.subgroups)),
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
