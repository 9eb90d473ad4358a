"""The waist: a table of predictions, the only thing that judges see. Torch-free.

``case, patient, split, source``, subgroup columns, then for one label ``label`` and a ``p:<class>`` column per class;
for several findings ``label:<finding>`` (blank = unknown) and ``p:<finding>``; for a quantity ``value`` and
``predicted``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import InputError, nearest
from overread.core.files import EqualByDigest, fingerprint, unguarded, write_csv
from overread.core.phrases import count
from overread.tasks.target import Target

_FIRST = ("case", "patient", "split", "source")


@dataclass(frozen=True, eq=False)
class Predictions(EqualByDigest):
    """One row a case. ``table`` has the columns of the module's docstring; ``target`` says how to read them."""

    table: pd.DataFrame
    target: Target

    def __post_init__(self) -> None:
        for column in (*_FIRST, *self.target.columns, *self.outputs):
            if column not in self.table.columns:
                raise InputError(f"the predictions lack the column {column!r}",
                                 given=", ".join(map(str, self.table.columns)), todo=nearest(column, self.table.columns))  # fmt: skip
        for column in (*self.outputs, *(() if "label" in self.target.columns else self.target.columns)):
            _require_numbers(self.table[column])
        twice = self.table["case"].duplicated()
        if twice.any():
            raise InputError("a case has more than one prediction", given=f"{count(int(twice.sum()), 'row')} too many")
        object.__setattr__(self, "table", self.table.reset_index(drop=True))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that hold what the model says."""
        return self.target.task.prediction_columns

    @property
    def scores(self) -> NDArray[np.float64]:
        """(N, classes or findings or 1)."""
        return self.table.loc[:, list(self.outputs)].to_numpy(np.float64)

    @property
    def truth(self) -> NDArray[Any]:
        """As :attr:`Cases.labels`: class index (−1 unknown), or 1/0/NaN per finding, or a number."""
        return self.target.task.read_labels(self.table)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether the truth is known; of findings, any of them."""
        return self.target.task.known(self.truth)

    @property
    def patients(self) -> NDArray[Any]:
        """The patient of each row."""
        return self.table["patient"].to_numpy()

    @property
    def subgroups(self) -> tuple[str, ...]:
        """Columns that are neither roles nor labels nor outputs."""
        known = {*_FIRST, *self.target.columns, *self.outputs}
        return tuple(c for c in self.table.columns if c not in known)

    @property
    def digest(self) -> str:
        """Hash of the content, the same before and after a file."""
        content = hashlib.sha256(fingerprint(self.target).encode())
        for name in self.table.columns:
            content.update(f"\n{name}\n".encode("utf-8", "surrogatepass"))
            content.update(_bytes(self.table[name]))
        return content.hexdigest()[:16]

    @property
    def codes(self) -> NDArray[np.int64]:
        """(N,) the number of each row's patient, in the order in which patients first appear."""
        return pd.factorize(self.table["patient"], use_na_sentinel=False)[0].astype(np.int64)

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        return f"predictions for {count(len(self), 'case')} of {count(self.table['patient'].nunique(), 'patient')}"

    __repr__ = __str__

    def take(self, rows: NDArray[Any]) -> Predictions:
        """The rows at these positions, or where a boolean mask is true."""
        return replace(self, table=self.table[rows] if rows.dtype == bool else self.table.iloc[rows])

    def with_scores(self, scores: NDArray[np.float64]) -> Predictions:
        """The same cases with what another model says of them: (N, outputs), or (N, 1) of the positive of two classes."""
        names, task = list(self.outputs), self.target.task
        if task.binary and scores.shape[1] == 1:
            scores = np.column_stack(
                [scores if name in self.target.positive else 1 - scores for name in self.target.names]
            )
        return replace(self, table=self.table.assign(**dict(zip(names, scores.T, strict=True))))

    def save(self, path: str | Path) -> Path:
        """Write as CSV with 9 significant digits, which a float32 survives."""
        return write_csv(path, self.table, float_format="%.9g")

    @classmethod
    def read(cls, path: str | Path, positive: tuple[str, ...] = ()) -> Predictions:
        """Read a CSV; the kind of target follows from its columns (see the module's docstring).

        ``positive``: classes that count as disease; the second class of a binary label where it is not given.
        Raises :class:`InputError` for a missing file, missing columns, or a case that stands twice.
        """
        try:
            head = pd.read_csv(path, nrows=0).columns
            text = {c: str for c in (*_FIRST, "label") if c in head}
            table = pd.read_csv(path, dtype=text, keep_default_na=False,
                                na_values={c: [""] for c in head if c.startswith(("p:", "label:")) or c in ("value", "predicted")})  # fmt: skip
        except FileNotFoundError as error:
            raise InputError("the predictions do not exist", given=str(path), todo="check the path") from error
        except (OSError, ValueError) as error:
            raise InputError("the predictions cannot be read", given=f"{path}: {error}") from error
        table = _with_defaults(_with_both_classes(unguarded(table) if _has_apostrophes(table) else table))
        return cls(table, _target_of(list(map(str, table.columns)), positive, str(path)))


def _has_apostrophes(table: pd.DataFrame) -> bool:
    """Whether a text begins with one: most tables have none, and to look at each cell takes seconds."""
    texts = [pd.Series(table.columns, dtype=str), *(table[c] for c in table if table[c].dtype.kind == "O")]
    return any(bool(text.str.startswith("'").eq(True).any()) for text in texts)


def _bytes(column: pd.Series) -> bytes:
    """A column's content: numbers as float64 (one NaN for all), texts with their lengths, blanks as no text."""
    if column.dtype.kind in "iuf":
        values = column.to_numpy(np.float64)
        return np.where(np.isnan(values), np.nan, values).tobytes()
    blank = column.isna()
    texts = list(map(str, (column.astype(object).where(~blank, "") if blank.any() else column).tolist()))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return lengths.tobytes() + "".join(texts).encode("utf-8", "surrogatepass")


def _require_numbers(column: pd.Series) -> None:
    if column.dtype.kind in "iuf":
        return
    bad = column.notna() & pd.to_numeric(column, errors="coerce").isna()
    if bad.any():
        raise InputError(f"the column {str(column.name)!r} must hold numbers",
                         given=f"{count(int(bad.sum()), 'row')} that do not, the first {column[bad].iloc[0]!r}"[:200])  # fmt: skip


def _with_defaults(table: pd.DataFrame) -> pd.DataFrame:
    """Columns that a stranger's table may lack: each case its own patient, no split, no source."""
    if "case" not in table:
        return table
    for column, default in (("patient", table["case"]), ("split", ""), ("source", "")):
        if column not in table:
            table[column] = default
    blank = table["patient"].isna() | (table["patient"] == "")  # else all blanks were one patient
    table["patient"] = table["patient"].mask(blank, table["case"])
    return table


def _with_both_classes(table: pd.DataFrame) -> pd.DataFrame:
    """One ``p:`` column beside a label of two kinds says enough: the other class has the rest of the probability."""
    given = [c for c in table.columns if c.startswith("p:")]
    if len(given) != 1 or "label" not in table:
        return table
    name = given[0][2:]
    others = sorted(set(table["label"].dropna()) - {name, ""})
    if len(others) > 1:
        raise InputError("one p: column needs a label with two values", given=", ".join((name, *others))[:200],
                         todo="add a p: column for every class")  # fmt: skip
    _require_numbers(table[given[0]])
    table.insert(list(table.columns).index(given[0]), f"p:{(others or ['not ' + name])[0]}", 1 - table[given[0]])
    return table


def _target_of(columns: list[str], positive: tuple[str, ...], where: str) -> Target:
    names = tuple(c[2:] for c in columns if c.startswith("p:"))
    if "predicted" in columns:
        return Target("quantity", ("value",))
    if not names:
        raise InputError("the table holds no predictions", given=f"{where}: {', '.join(columns)}",
                         todo="name the columns p:<class>, p:<finding> or predicted")  # fmt: skip
    if any(c.startswith("label:") for c in columns):
        return Target("findings", names)
    if len(names) == 2:
        return Target("binary", names, positive or (names[1],))
    return Target("classes", names, positive)
