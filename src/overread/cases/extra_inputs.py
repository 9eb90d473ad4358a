"""Numbers that a network is shown beside the pixels of an image: columns of the table, such as the speed of a cell.

A missing number is NaN until the network masks it. Mean and standard deviation are those of the training rows, and stand
in the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import ROLES, Cases, typed
from overread.core.errors import InputError, checked, nearest, require
from overread.core.files import sha256
from overread.core.phrases import count

#: A column whose standard deviation is a smaller part of its largest magnitude cannot be told apart in 32 bits.
_FINEST = 1e-5


@dataclass(frozen=True)
class ExtraInput:
    """A column that a network sees beside the pixels, by the ``mean`` and the standard deviation of its training rows."""

    column: str
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        require(bool(np.isfinite(self.mean) and np.isfinite(self.std) and self.std > 0),
                "an extra input needs a mean and a standard deviation above 0", given=f"{self.column}: {self.mean}, {self.std}")  # fmt: skip


@checked
def extra_values(cases: Cases, columns: Sequence[str]) -> NDArray[np.float32]:
    """The numbers (N, columns) of the images, NaN where a cell is blank.

    Raises :class:`InputError` for a column that the table lacks, that holds what is no finite number, or that says who or
    what a case is.
    """
    return np.stack([_numbers(cases, column) for column in columns], axis=1).astype(np.float32).reshape(len(cases), len(columns))  # fmt: skip


@checked
def fit_extra_inputs(cases: Cases, columns: Sequence[str]) -> tuple[ExtraInput, ...]:
    """The columns with their mean and standard deviation over these cases, which are those of training.

    Raises :class:`InputError` as :func:`extra_values` does, and for a column that is blank or the same in all rows.
    """
    made = []
    for column in columns:
        known = _numbers(cases, column)
        known = known[~np.isnan(known)]
        std = float(known.std()) if len(known) else 0.0
        if std <= _FINEST * np.abs(known).max(initial=0.0):
            what = (
                "is blank in all training rows"
                if not len(known)
                else f"hardly differs between training rows: {known.mean():g} ± {std:g}"
            )
            raise InputError(f"the extra input {column!r} tells images apart in nothing", given=what,
                             todo="leave it out of --inputs, or take a mean off it in the table")  # fmt: skip
        made.append(ExtraInput(column, float(known.mean()), std))
    return tuple(made)


@checked
def extra_missing(cases: Cases, columns: Sequence[str]) -> str:
    """How many images lack each column's number, in words; nothing where none does."""
    if not columns:
        return ""
    each = np.isnan(extra_values(cases, columns)).sum(axis=0)
    return ", ".join(
        f"{column} {many:,} of {count(len(cases), 'image')}" for column, many in zip(columns, each, strict=True) if many
    )


@checked
def taught_with(cases: Cases, columns: Sequence[str]) -> str:
    """Hash of what a model is taught from, as :attr:`Cases.taught`, with the columns that it sees beside the pixels."""
    if not columns:
        return cases.taught
    return sha256(cases.taught.encode() + extra_values(cases, columns).tobytes())[:16]


def _numbers(cases: Cases, column: str) -> NDArray[np.float64]:
    roles = (*ROLES, *cases.target.columns)
    if column in roles:
        raise InputError("an extra input must not say who or what a case is", given=f"the column {column!r}",
                         todo="give a copy of it another name in the table, if it is known whenever the model will be asked and tells no answer")  # fmt: skip
    if column not in cases.table:
        others = [str(name) for name in cases.table if name not in roles]
        raise InputError(f"the model is shown the column {column!r} beside the pixels, and the table has none of this name",
                         given=", ".join(others[:12]) or "images alone",
                         todo=f"{nearest(column, others)}, or give a table that has it, blank where it is not known")  # fmt: skip
    held = cases.table[column]
    number = pd.to_numeric(typed(held.astype(str).str.strip()) if held.dtype == object else held, errors="coerce")
    blank = held.isna() | (held.astype(str).str.strip().isin(("", "nan", "NaN")))
    wrong = (number.isna() & ~blank) | np.isinf(number.astype(float))
    if wrong.any():
        raise InputError(f"the extra input {column!r} is no number", given=f"{held[wrong].iloc[0]!r}, {count(int(wrong.sum()), 'image')}",
                         todo="write numbers, and leave the cell blank where none is known")  # fmt: skip
    return number.to_numpy(np.float64)
