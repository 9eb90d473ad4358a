"""Targets that follow from other columns by a rule: ``referable = grade >= 2 or oedema == 1``.

A rule is read by :mod:`overread.cases.query`; nothing is evaluated as Python. Of labels it is read in Kleene's
three-valued logic ("Introduction to Metamathematics", 1952, section 64): unknown or true is true, unknown and false is
false, what is left is unknown. Of probabilities of several outputs it gives a score in one of :data:`WAYS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import typed
from overread.cases.query import columns_of, matching, read_query
from overread.core.errors import InputError, checked, nearest, one_of
from overread.core.identifiers import MISSING

Floats = NDArray[np.float64]
#: How the probability of a derived target follows from those that its rule names.
WAYS = ("max", "noisy-or")
_MARKS = {"1", "0", "-1", "1.0", "0.0", "-1.0", *MISSING}
_UNSURE = ("-1", "-1.0")


@dataclass(frozen=True)
class Rule:
    """A derived target: its name, and the query that says when it is present."""

    name: str
    query: str

    def __str__(self) -> str:
        return f"{self.name} = {self.query}"

    @classmethod
    def read(cls, text: str) -> Rule:
        """The rule of ``name = query``. Raises :class:`InputError` for another form.

        >>> Rule.read("referable = grade >= 2 or oedema == 1").name
        'referable'
        """
        name, equals, query = text.partition("=")
        name, query = name.strip(), query.strip()
        if not (name and equals and query) or query.startswith("=") or name[-1] in "!<>":
            raise InputError("a derived target has the form name = rule", given=repr(text[:100]),
                             todo='write --derive "referable = grade >= 2 or oedema == 1"')  # fmt: skip
        return cls(name, query)


@checked
def rules_of(texts: Sequence[str]) -> tuple[Rule, ...]:
    """The rules of several texts; :class:`InputError` where two have one name."""
    rules = tuple(map(Rule.read, texts))
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise InputError("two rules derive one target", given=repr(twice), todo="give each its own name")
    return rules


@checked
def columns_used(rules: Sequence[Rule], columns: Sequence[str]) -> list[str]:
    """Those of ``columns`` that rules name, in the order in which they do."""
    there = set(columns)
    return list(dict.fromkeys(name for rule in rules for name in columns_of(rule.query) if name in there))


@checked
def derived(table: pd.DataFrame, rules: Sequence[Rule], blank: str = "unknown") -> tuple[pd.DataFrame, list[str]]:
    """A column of 1, 0 or NaN for each rule, and notes with the counts; a later rule may name an earlier one.

    ``table``: cells as text or numbers; a blank cell is unknown, and so is −1 in a column of 1, 0 and −1 (CheXpert's
    "uncertain"). ``blank="negative"``: a blank cell of a column of 1 and 0 is 0. Raises :class:`InputError` for a rule
    that cannot be read, an unknown column, or ``<`` and ``>`` of a column of words.

    >>> derived(pd.DataFrame({"grade": ["0", "3", ""]}), [Rule("worse", "grade >= 2")])[0]["worse"].tolist()
    [0.0, 1.0, nan]
    """
    held, notes = table.copy(), []
    for column in columns_used(rules, [str(name) for name in table.columns]):
        held[column], more = _readable(table[column], column, blank)
        notes += more
    made: dict[str, Floats] = {}
    for rule in rules:
        made[rule.name] = read_query(held, rule.query, Kleene())
        held[rule.name] = made[rule.name]
        counts = ", ".join(f"{int(many):,} {word}" for word, many in _tally(made[rule.name]).items())
        notes.append(f"derived {rule.name} ({rule.query}): {counts}")
    return pd.DataFrame(made, index=table.index), notes


def _tally(values: Floats) -> dict[str, int]:
    return {"present": (values == 1).sum(), "absent": (values == 0).sum(), "unknown": np.isnan(values).sum()}


def _readable(values: pd.Series, name: str, blank: str) -> tuple[pd.Series, list[str]]:
    """A column as rules read it: numbers where it holds numbers, NaN or blank where a cell is unknown."""
    if pd.api.types.is_numeric_dtype(values) and not set(values.dropna()) <= {1, 0, -1}:
        return values, []
    text = values.astype(object).where(values.notna(), "").map(_as_cell)
    text = text.mask(text.str.lower().isin(MISSING), "")
    if set(text) <= _MARKS | {""}:  # also where nothing is known of anybody
        unsure, empty = text.isin(_UNSURE), text == ""
        notes = [f"{name}: {int(unsure.sum()):,} cells of −1 are unknown to the rules"] if unsure.any() else []
        if blank == "negative" and empty.any():
            text = text.mask(empty, "0")
            notes.append(f"{name}: {int(empty.sum()):,} blank cells are taken for absent by the rules")
        return pd.to_numeric(text.mask(unsure | (text == ""))).astype(np.float64), notes
    return typed(text), []


def _as_cell(value: object) -> str:
    return str(int(value)) if isinstance(value, (bool, np.bool_)) else str(value).strip()


class Kleene:
    """True (1), false (0) or unknown (NaN)."""

    def either(self, first: Floats, second: Floats) -> Floats:
        true, unknown = (first == 1) | (second == 1), np.isnan(first) | np.isnan(second)
        return np.where(true, 1.0, np.where(unknown, np.nan, 0.0))

    def both(self, first: Floats, second: Floats) -> Floats:
        return self.no(self.either(self.no(first), self.no(second)))

    def no(self, value: Floats) -> Floats:
        return 1.0 - value

    def compare(self, column: pd.Series, op: str, value: str) -> Floats:
        number = pd.api.types.is_numeric_dtype(column)
        if op in ("<", "<=", ">", ">=") and not number:
            words = sorted(set(column.astype(str)) - {""})
            raise InputError(f"the column {column.name!r} holds words, which have no order", given=", ".join(words[:5]),
                             todo="name them with == or in, or number them")  # fmt: skip
        held = pd.DataFrame({"cell": column})
        told = matching(held, f"cell {op} {_quoted(value)}").astype(np.float64)
        unknown = column.isna() if number else column.fillna("").astype(str) == ""
        return np.where(unknown, np.nan, told)

    def alone(self, column: pd.Series) -> Floats:
        if pd.api.types.is_numeric_dtype(column) and set(column.dropna().unique()) <= {0.0, 1.0}:
            return column.to_numpy(np.float64)
        raise InputError(f"the column {column.name!r} is no yes or no that can stand alone in a rule", given=", ".join(map(str, column.unique()[:5])),
                         todo=f"compare it: {column.name} == VALUE")  # fmt: skip


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


# -- the same of probabilities -------------------------------------------------------------------------------------


class Chances:
    """The probability of a rule from those of what it names.

    ``max``: *or* is the larger, *and* the smaller (Zadeh 1965, "Fuzzy sets"): the answer of the more telling output;
    exact where one implies the other. ``noisy-or``: as if they were independent, 1 − Π(1 − p) and Π p (Pearl 1988,
    "Probabilistic reasoning in intelligent systems", section 4.3.2). *not* is 1 − p.
    """

    def __init__(self, how: str) -> None:
        self.independent = one_of(how, WAYS, "how") == "noisy-or"

    def either(self, first: Floats, second: Floats) -> Floats:
        return 1 - (1 - first) * (1 - second) if self.independent else np.maximum(first, second)

    def both(self, first: Floats, second: Floats) -> Floats:
        return first * second if self.independent else np.minimum(first, second)

    def no(self, value: Floats) -> Floats:
        return 1 - value

    def compare(self, column: pd.Series, op: str, value: str) -> Floats:
        sign = {
            ("==", "1"): True,
            ("=", "1"): True,
            ("!=", "0"): True,
            ("==", "0"): False,
            ("=", "0"): False,
            ("!=", "1"): False,
        }
        if (op, value) not in sign:
            raise InputError("a rule of probabilities names outputs as present or absent", given=f"{column.name} {op} {value}",
                             todo="write the name alone, or name == 1")  # fmt: skip
        chance = self.alone(column)
        return chance if sign[op, value] else self.no(chance)

    def alone(self, column: pd.Series) -> Floats:
        return column.to_numpy(np.float64)


@checked
def chance_of(rule: Rule, chances: Floats, names: Sequence[str], how: str = "max") -> Floats:
    """(N,) the probability of a rule from those (N, K) of ``names``; see :class:`Chances`.

    Raises :class:`InputError` for a name that is not among them.

    >>> rule = Rule.read("referable = moderate or oedema")
    >>> chance_of(rule, np.array([[0.5, 0.2]]), ["moderate", "oedema"], "noisy-or").round(2).tolist()
    [0.6]
    """
    for name in columns_of(rule.query):
        if name not in names and name.lower() not in ("and", "or", "not", "in"):
            raise InputError(
                f"there is no output {name!r} for the rule of {rule.name}",
                given=", ".join(names),
                todo=nearest(name, names),
            )
    return read_query(pd.DataFrame(chances, columns=list(names)), rule.query, Chances(how))
