"""A small language for choosing rows: ``source == 'rosendahl' and age >= 40``. Nothing is ever evaluated as Python.

query  = every { "or" every }          every = term { "and" term }
term   = "not" term | "(" query ")" | column op value | column ["not"] "in" "(" value { "," value } ")"
op     = == | = | != | < | <= | > | >=
column = a word, or anything between backticks;   value = a number, a word, or a text in quotes

What a query gives depends on the :class:`Logic` that it is read in: true or false of each row, or also unknown where a
cell is blank, or a chance. In the last two a column may stand alone as a term: what it holds is 1, 0 or blank, or a chance.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import ROLES
from overread.core.errors import InputError, checked, nearest

_TOKEN = re.compile(
    r"""\s*(?:(?P<op>==|!=|<=|>=|=|<|>|\(|\)|,)|(?P<text>'[^']*'|"[^"]*")|`(?P<column>[^`]+)`|(?P<word>[^\s'"`()<>=!,]+))"""
)
_OPS: dict[str, Callable] = {"==": operator.eq, "=": operator.eq, "!=": operator.ne, "<": operator.lt,
                             "<=": operator.le, ">": operator.gt, ">=": operator.ge}  # fmt: skip
_LONGEST = 2_000

Mask = NDArray[np.bool_]
T = TypeVar("T")


@runtime_checkable
class Logic(Protocol[T]):
    """What comparisons and their connections are worth, a value for all rows of a table."""

    def either(self, first: T, second: T, /) -> T:
        """``first or second``."""
        ...

    def both(self, first: T, second: T, /) -> T:
        """``first and second``."""
        ...

    def no(self, value: T, /) -> T:
        """``not value``."""
        ...

    def compare(self, column: pd.Series, op: str, value: str, /) -> T:
        """``column op value``."""
        ...

    def alone(self, column: pd.Series, /) -> T | None:
        """A column without a comparison; None where that says nothing."""
        ...


class TwoValued:
    """True or false; a blank cell is a text like another, and no number fulfils a comparison that it lacks."""

    def either(self, first: Mask, second: Mask) -> Mask:
        return first | second

    def both(self, first: Mask, second: Mask) -> Mask:
        return first & second

    def no(self, value: Mask) -> Mask:
        return ~value

    def compare(self, column: pd.Series, op: str, value: str) -> Mask:
        return _compare(column, op, value)

    def alone(self, column: pd.Series) -> None:
        return None


@checked
def read_query(table: pd.DataFrame, query: str, logic: Logic[T]) -> T:
    """What a query gives of a table in a logic. Raises :class:`InputError` as :func:`matching`."""
    return _Reader(table, query, logic).read()


@checked
def matching(table: pd.DataFrame, query: str) -> NDArray[np.bool_]:
    """Which rows of ``table`` (N,) fulfil the query. Numbers compare as numbers where the column holds numbers.

    Raises :class:`InputError` for a query that cannot be read or a column that is not there (naming the nearest).

    >>> matching(pd.DataFrame({"site": ["a", "b"], "age": [30, 50]}), "site == 'b' and age > 40").tolist()
    [False, True]
    """
    return read_query(table, query, TwoValued())


@checked
def columns_of(query: str) -> list[str]:
    """The words of a query that may be columns, each once; empty for an empty one. Nothing is said of whether they are
    there.

    >>> columns_of("site == 'b' and (age > 40 or `given name` in ('x'))")
    ['site', 'and', 'age', 'or', 'given name', 'in']
    """
    found = [match["column"] or match["word"] for match in _TOKEN.finditer(query) if match["column"] or match["word"]]
    return [name for name in dict.fromkeys(found) if not name[0].isdigit()]


class _Reader(Generic[T]):
    """Reads one query from left to right."""

    def __init__(self, table: pd.DataFrame, query: str, logic: Logic[T]) -> None:
        if len(query) > _LONGEST:
            raise InputError("the query is too long", given=f"{len(query):,} characters", todo=f"at most {_LONGEST:,}")
        self.table, self.query, self.logic, self.at = table, query, logic, 0
        self.tokens = [*self._split(query.rstrip()), ("end", "")]

    def _split(self, query: str) -> Iterator[tuple[str, str]]:
        at = 0
        while at < len(query):
            match = _TOKEN.match(query, at)
            if match is None:
                raise self._wrong(f"{query[at:].strip()[:20]!r} is not understood")
            kind = str(match.lastgroup)
            yield kind, match[kind].strip("'\"") if kind == "text" else match[kind]
            at = match.end()

    def _wrong(self, what: str) -> InputError:
        todo = "write it like \"source == 'name'\""
        return InputError(f"the query cannot be read: {what}", given=repr(self.query[:200]), todo=todo)

    def _next(self, *kinds: str, wanted: str) -> str:
        """The next token, which must be of one of these kinds."""
        kind, text = self.tokens[self.at]
        if kind not in kinds:
            raise self._wrong(f"{wanted} is expected, not {text!r}" if text else "it ends too early")
        self.at += 1
        return text

    def _takes(self, kind: str, value: str) -> bool:
        found = self.tokens[self.at]
        taken = found[0] == kind and found[1].lower() == value
        self.at += taken
        return taken

    def _closes(self) -> None:
        if not self._takes("op", ")"):
            raise self._wrong("a ')' is missing")

    def read(self) -> T:
        found = self._either(0)
        kind, text = self.tokens[self.at]
        if kind != "end":
            raise self._wrong(f"{text!r} is unexpected")
        return found

    def _either(self, depth: int) -> T:
        found = self._every(depth)
        while self._takes("word", "or"):
            found = self.logic.either(found, self._every(depth))
        return found

    def _every(self, depth: int) -> T:
        found = self._term(depth)
        while self._takes("word", "and"):
            found = self.logic.both(found, self._term(depth))
        return found

    def _term(self, depth: int) -> T:
        if depth > 50:
            raise self._wrong("it is nested too deeply")
        if self._takes("word", "not"):
            return self.logic.no(self._term(depth + 1))
        if self._takes("op", "("):
            found = self._either(depth + 1)
            self._closes()
            return found
        return self._comparison(self._column())

    def _column(self) -> pd.Series:
        name = self._next("word", "column", wanted="a column")
        if name not in self.table.columns:
            todo = nearest(name, self.table.columns)
            if set(ROLES) <= set(self.table.columns):
                todo += f" A column that was read as one of {', '.join(ROLES)} goes by that name."
            raise InputError(f"there is no column {name!r} in the query", given=repr(self.query[:200]), todo=todo)
        return self.table[name]

    def _comparison(self, column: pd.Series) -> T:
        turned = self._takes("word", "not")
        if self._takes("word", "in"):
            found = self._among(column)
            return self.logic.no(found) if turned else found
        kind, op = self.tokens[self.at]
        if not turned and (kind == "end" or op in (")", ",") or op.lower() in ("and", "or")):
            alone = self.logic.alone(column)
            if alone is not None:
                return alone
        if turned or kind != "op" or op not in _OPS:
            raise self._wrong(f"one of {' '.join(_OPS)} is expected, not {op!r}")
        self.at += 1
        return self.logic.compare(column, op, self._value())

    def _among(self, column: pd.Series) -> T:
        if not self._takes("op", "("):
            raise self._wrong("'(' is expected after 'in'")
        found = self.logic.compare(column, "==", self._value())
        while self._takes("op", ","):
            found = self.logic.either(found, self.logic.compare(column, "==", self._value()))
        self._closes()
        return found

    def _value(self) -> str:
        return self._next("word", "text", wanted="a value")


def _compare(column: pd.Series, op: str, value: str) -> Mask:
    number = pd.to_numeric(pd.Series([value]), errors="coerce").iloc[0]
    if pd.api.types.is_numeric_dtype(column) and not np.isnan(number):
        return np.asarray(_OPS[op](column.to_numpy(np.float64), float(number)), bool)
    text = column.astype(object).where(column.notna(), "").astype(str).to_numpy(object)
    return np.asarray(_OPS[op](text, value), bool)
