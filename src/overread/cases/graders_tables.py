"""The tables that readers' answers come in: a row for each answer, or a column for each reader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from overread.cases.columns import find, folded, guess, known
from overread.errors import InputError, nearest

#: What tables call the one who answered; compared without case, blanks and punctuation.
_READERS = ("reader", "readerid", "rater", "raterid", "grader", "graderid", "annotator", "observer", "expert",
            "radiologist", "pathologist")  # fmt: skip


def roles(table: pd.DataFrame, case: str, modality: str) -> dict[str, str | None]:
    """The columns of case, patient and modality; None where there is none."""
    columns = [str(column) for column in table.columns]
    named: dict[str, str | None] = {"case": _column(columns, case), "modality": None}
    if modality != "modality" or modality in columns:
        named["modality"] = find(columns, modality, "modality")
    named["patient"] = guess("patient", [c for c in columns if c != named["case"]])
    return named


def _column(columns: list[str], name: str) -> str:
    """The column of cases; where only the usual name is asked for, also one that tables use for cases or images."""
    usual = name == "case" and name not in columns
    found = guess("case", columns) or guess("image", columns) if usual else None
    return found or find(columns, name, "case")


def reader_column(table: pd.DataFrame, name: str) -> str | None:
    """The column of readers of a long table; None for a wide one."""
    columns = [str(column) for column in table.columns]
    if name != "reader" or name in columns:
        return find(columns, name, "reader")
    by_name = {folded(column): column for column in columns}
    return next((by_name[word] for word in _READERS if word in by_name), None)


def stacked(
    table: pd.DataFrame, named: dict[str, str | None], answers: dict[str, str], kind: str
) -> tuple[pd.DataFrame, str]:
    """A table with a row for each answer, its columns by their roles; and its kind."""
    columns = [str(column) for column in table.columns]
    there = {role: name for role, name in answers.items() if name in columns}
    for role, name in answers.items():
        if role == kind or name != role:  # asked for by name
            find(columns, name, role)
    if not there:
        raise InputError("no column says what the readers answered", given=f"columns {', '.join(columns[:30])}",
                         todo=f"name it label or score; {nearest('label', columns)}")  # fmt: skip
    made = pd.DataFrame({role: table[name] for role, name in {**named, **there}.items() if name})
    return (made if "modality" in made else made.assign(modality="")), kind or next(iter(there))


def melted(
    table: pd.DataFrame, named: dict[str, str | None], readers: list[str], kind: str
) -> tuple[pd.DataFrame, str]:
    """The same from a table with a column for each reader."""
    columns = [str(column) for column in table.columns]
    who = [find(columns, name, "graders") for name in readers] or [c for c in columns if c not in named.values()]  # fmt: skip
    if not who:
        raise InputError("no column holds a reader's answers", given=f"columns {', '.join(columns[:30])}",
                         todo="give the columns case, reader and label, or a column for each reader")  # fmt: skip
    _refuse_repeats(table, named, who, readers)
    kind = kind or ("score" if _fractions(table[who]) else "label")
    return wide(table.rename(columns={old: new for new, old in named.items() if old}), who, kind), kind


def _refuse_repeats(
    table: pd.DataFrame, named: dict[str, str | None], who: list[str], asked: list[str]
) -> None:
    """Raise :class:`InputError` for cases in several rows, where columns were only taken to be readers."""
    keys = [name for name in (named["case"], named["modality"]) if name]
    twice = 0 if asked else int(table.duplicated(keys).sum())
    if twice:
        raise InputError("there is no column of readers, and cases stand in several rows", given=f"{twice:,} rows too many; columns "
                         f"{', '.join([*keys, *who][:20])}", todo="name the column of readers 'reader'")  # fmt: skip


def wide(table: pd.DataFrame, readers: Sequence[str], kind: str = "label") -> pd.DataFrame:
    """A long table of the columns of ``readers`` in a table with a row for each ``case``."""
    roles = {name: table.get(name, "") for name in ("case", "modality")}
    roles |= {"patient": table["patient"]} if "patient" in table else {}
    parts = [pd.DataFrame({**roles, "reader": name, kind: table[name]}, index=table.index) for name in readers]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _fractions(table: pd.DataFrame) -> bool:
    """Whether all filled cells are numbers, and one is not whole."""
    text = known(pd.Series(table.to_numpy(object).ravel()).drop_duplicates())
    number = pd.to_numeric(text[text != ""], errors="coerce")
    return bool(number.notna().all()) and bool((number % 1 != 0).any())


def numbers(values: pd.Series) -> pd.Series:
    """Scores as numbers, NaN where blank; :class:`InputError` for anything else."""
    text = known(values.astype(str))
    number = pd.to_numeric(text.mask(text == ""), errors="coerce").astype(float)
    wrong = (text != "") & ~np.isfinite(number)
    if wrong.any():
        raise InputError("a score is not a finite number", given=f"{int(wrong.sum()):,} of {len(text):,} cells",
                         todo="leave the cell blank where a reader gave no answer; labels go to a column label")  # fmt: skip
    return number


def refuse_two_patients(table: pd.DataFrame) -> None:
    """Raise :class:`InputError` for a case that stands under two patients."""
    if "patient" not in table:
        return
    pairs = table.loc[table["patient"] != "", ["case", "patient"]].drop_duplicates()
    torn = int(pairs["case"].duplicated().sum())
    if torn:
        raise InputError("a case belongs to two patients", given=f"{torn:,} cases", todo="correct the table")


def once(table: pd.DataFrame, kind: str, repeats: str) -> pd.DataFrame:
    """Each reader once with a case in a modality; an answer goes before none."""
    who = ["case", "reader", "modality"]
    if not table.duplicated(who).any():
        return table
    answered = table["label"] != "" if kind == "label" else table["score"].notna()
    given = table[answered]
    if repeats == "same":
        given = given.drop_duplicates([*who, kind])
    twice = int(given.duplicated(who).sum())
    if twice and repeats != "last":
        raise InputError("a reader answered a case more than once", given=f"{twice:,} answers too many",
                         todo="keep one answer each, or tell readings apart with a column modality")  # fmt: skip
    kept = given.drop_duplicates(who, keep="last")
    return pd.concat([kept, table[~answered]]).drop_duplicates(who).sort_index()
