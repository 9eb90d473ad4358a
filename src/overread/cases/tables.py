"""Tables from files: CSV, TSV and Parquet, every cell as text, so that nothing is guessed twice."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import pandas as pd

from overread.errors import InputError, checked, nearest

#: Columns a table may have; more is an attack or a transposed table.
MAX_COLUMNS = 10_000
_HEAD = 8 << 20  # bytes in which the header must end


@checked
def read_table(path: Path) -> pd.DataFrame:
    """The table in a CSV, TSV or Parquet file: text cells, blank where nothing stands.

    Raises :class:`InputError` for a missing, damaged, ragged or empty table and for a column name that stands twice.
    """
    table = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_text(path)
    if table.empty:
        raise InputError(
            "the table holds no rows", given=str(path), todo="check that the file was exported completely"
        )
    return table.apply(lambda column: column.str.strip())


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow

    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError("the Parquet file cannot be read", given=f"{path}: {_line(error)}") from error
    table.columns = pd.Index([str(c) for c in table.columns])
    return pd.DataFrame({name: _text(table[name]) for name in table.columns})


def _text(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "").astype(str)


def _read_text(path: Path) -> pd.DataFrame:
    names, separator = _header(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig",
                               index_col=False, header=0, names=names)  # fmt: skip
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise InputError("the table cannot be read", given=f"{path}: {_line(error)}",
                         todo="every row needs as many cells as the header; quote cells that hold the separator") from error  # fmt: skip


def _header(path: Path) -> tuple[list[str], str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            head = handle.read(_HEAD)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise missing(path) from error
    except UnicodeDecodeError as error:
        raise InputError(
            "the table is not UTF-8 text", given=str(path), todo="save it as CSV with UTF-8 encoding"
        ) from error
    except OSError as error:
        raise InputError("the table cannot be read", given=f"{path}: {error.strerror}") from error
    if not head.strip():
        raise InputError(
            "the table is empty", given=str(path), todo="check that the file was exported completely"
        )
    return _names(head, path)


def _names(head: str, path: Path) -> tuple[list[str], str]:
    first = head.split("\n", 1)[0]
    separator = max(",\t;|", key=first.count)  # the first of equals: a comma
    try:
        names = [name.strip() for name in next(csv.reader(io.StringIO(head), delimiter=separator))]
    except csv.Error as error:
        raise InputError("the header of the table cannot be read", given=f"{path}: {error}") from error
    twice = sorted({name for name in names if names.count(name) > 1}) if len(names) <= MAX_COLUMNS else []
    if len(names) > MAX_COLUMNS:
        raise InputError(
            "the table has too many columns",
            given=f"{len(names):,} columns",
            todo=f"at most {MAX_COLUMNS:,} are read",
        )
    if twice:
        raise InputError(
            f"the column {twice[0]!r} stands twice in the header", given=str(path), todo="rename one of them"
        )
    return names, separator


def missing(path: Path) -> InputError:
    """The error for a path that is not there, with the nearest name beside it."""
    try:
        beside = [p.name for p in path.parent.iterdir()][:500]
    except OSError:
        beside = []
    hint = nearest(path.name, beside) if beside else ""
    todo = hint if hint.startswith("did") else "check the path"
    return InputError("the file does not exist", given=str(path), todo=todo)


def _line(error: Exception | Warning) -> str:
    return " ".join(str(error).split())[:200]
