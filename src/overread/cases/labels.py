"""What is to be learned, from the columns of a table: one label, several findings, or a quantity."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from overread.cases.cases import Kind, Target
from overread.cases.columns import MISSING, known
from overread.errors import InputError, checked, nearest

_NEGATIVE = ("normal", "benign", "negative", "healthy", "control", "absent", "no", "none", "false", "0", "n")
_YES = {"1", "1.0", "yes", "y", "true", "t", "positive", "present"}
_NO = {"0", "0.0", "no", "n", "false", "f", "negative", "absent"}
_UNSURE = {"-1", "-1.0", "unknown", "uncertain"}  # −1 is CheXpert's "uncertain" (Irvin et al. 2019)
_MOST = 200


def one_label(
    values: pd.Series, positive: Sequence[str], kind: Kind | None, name: str, order: Sequence[str] = ()
) -> tuple[pd.DataFrame, Target, list[str]]:
    """The ``label`` column, its target, and notes; classes stand in ``order`` or the natural one, never the rows'."""
    label = whole(known(values))
    place = {name: i for i, name in enumerate(order)}
    names = sorted(set(label) - {""}, key=lambda name: (place.get(name, len(place)), natural(name)))
    if not names:
        raise InputError(f"the column {name!r} holds no label at all", given=f"{len(label):,} blank cells",
                         todo="choose another column with --label")  # fmt: skip
    _refuse_numbers(label, names, name)
    found: Kind = "binary" if len(names) == 2 and kind != "classes" else "classes"
    if kind == "binary" and found != "binary":
        raise InputError(f"a binary label needs two classes, the column {name!r} has {len(names)}",
                         given=", ".join(names[:20]), todo="leave --kind out")  # fmt: skip
    chosen, notes = _positive(names, tuple(positive), found)
    return pd.DataFrame({"label": label}), Target(found, tuple(names), chosen), notes


@checked
def whole(values: pd.Series) -> pd.Series:
    """``1.0`` as ``1`` where every label is a whole number: a blank turned the column into floats elsewhere."""
    filled = values[values != ""]
    return (
        values.str.replace(r"\.0+$", "", regex=True) if filled.str.fullmatch(r"-?\d+\.0+").all() else values
    )


@checked
def natural(name: str) -> tuple[tuple[int, float, str], ...]:
    """A key to sort by that reads the numbers in a name: 2 before 10."""
    pieces = re.findall(r"\d+(?:\.\d+)?|\D+", name)
    return tuple((0, float(p), "") if p[0].isdecimal() else (1, 0.0, p.lower()) for p in pieces) + (
        (2, 0.0, name),
    )


def _refuse_numbers(label: pd.Series, names: list[str], column: str) -> None:
    if len(names) <= 20 or (len(names) <= _MOST and len(names) < len(label) / 5):
        return
    number = pd.to_numeric(pd.Series(names), errors="coerce").notna().all()
    todo = (
        f"if it is a quantity, use --value {column}"
        if number
        else "choose the column of the diagnosis with --label"
    )
    raise InputError(
        f"the column {column!r} has {len(names):,} different labels in {len(label):,} rows",
        given=", ".join(names[:5]) + " …",
        todo=todo,
    )


def _positive(names: list[str], positive: tuple[str, ...], kind: Kind) -> tuple[tuple[str, ...], list[str]]:
    for name in positive:
        if name not in names:
            raise InputError(
                f"the positive class {name!r} is not among the classes",
                given=", ".join(names),
                todo=nearest(name, names),
            )
    if positive and len(set(positive)) >= len(names):
        raise InputError(
            "every class is called positive",
            given=", ".join(positive),
            todo="leave at least one class out of --positive",
        )
    if positive or kind != "binary":
        return positive, []
    healthy = [name for name in names if re.split(r"[\s,;_-]+", name.lower())[0] in _NEGATIVE]
    chosen = next(name for name in reversed(names) if [name] != healthy)
    return (chosen,), [f"positive class: guessed {chosen!r}; override with --positive"]


def several_findings(
    table: pd.DataFrame, columns: Sequence[str], positive: Sequence[str]
) -> tuple[pd.DataFrame, Target, list[str]]:
    """A ``label:<finding>`` column of 1, 0 or NaN for each finding; blank and −1 are unknown."""
    notes = []
    found = {}
    for name in columns:
        short = name.removeprefix("label:")
        values, unsure = _yes_no(table[name], name)
        found[f"label:{short}"] = values
        if unsure:
            notes.append(f"{short}: {unsure:,} uncertain marks (−1 or 'unknown') are taken as unknown")
    names = tuple(c.removeprefix("label:") for c in found)
    _positive(list(names) + [""], tuple(positive), "findings")
    return pd.DataFrame(found), Target("findings", names, tuple(positive)), notes


def _yes_no(values: pd.Series, name: str) -> tuple[pd.Series, int]:
    text = values.str.lower()
    strange = sorted(set(text) - _YES - _NO - _UNSURE - MISSING)
    if strange:
        raise InputError(f"the finding {name!r} must be 1, 0 or blank", given=", ".join(map(repr, strange[:5])),
                         todo="use --label for a column of class names")  # fmt: skip
    number = text.isin(_YES).astype(float).where(text.isin(_YES | _NO))
    return number, int(text.isin(_UNSURE).sum())


def quantity(values: pd.Series, name: str) -> tuple[pd.DataFrame, Target, list[str]]:
    """The ``value`` column as numbers, NaN where blank."""
    text = known(values)
    number = pd.to_numeric(text.mask(text == ""), errors="coerce")
    strange = text[~np.isfinite(number) & (text != "")]
    if len(strange):
        raise InputError(f"the quantity {name!r} must be a number or blank", given=repr(strange.iloc[0]),
                         todo="use --label for a column of class names")  # fmt: skip
    if number.notna().sum() == 0:
        raise InputError(
            f"the column {name!r} holds no number at all",
            given=f"{len(text):,} blank cells",
            todo="choose another with --value",
        )
    return pd.DataFrame({"value": number.astype(float)}), Target("quantity", (name,)), []
