"""Several readers' answers to the same cases: read from a table, made one label each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.privacy import codes, patient_codes
from overread.cases.sources.labels import natural, refuse_variants, renamed
from overread.cases.sources.tables import find, guess, known, read_table
from overread.core.display import Overview, Shown, panel_of
from overread.core.errors import InputError, checked, nearest, one_of
from overread.core.identifiers import identifiers
from overread.stats.agreement.consensus import LatentClasses, dawid_skene, majority, median_label

#: Ways to make one label of several.
RULES = ("majority", "median", "dawid-skene")
#: More readers than this are something else in the wrong column.
MOST_READERS = 10_000
#: Two classes whose chances differ by less are tied.
_ALIKE = 1e-6


@dataclass(frozen=True, eq=False)
class Grades(Shown):
    """What readers answered.

    ``table``: a row for each answer, with the columns ``case``, ``reader``, ``modality`` (blank where there is none),
    ``label`` (text, blank for no answer) or ``score`` (a number, NaN for no answer), or both, and ``patient`` where the
    table has it. A reader stands once with a case in a modality. ``kind``: ``label`` or ``score``, what was asked.
    Readers' names are personal data: see :func:`coded`.
    """

    table: pd.DataFrame
    kind: str

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        return f"{len(self.readers):,} readers of {len(self.cases):,} cases"

    __repr__ = __str__

    def to_frame(self) -> pd.DataFrame:
        """A row an answer, as :attr:`table`."""
        return self.table.copy()

    def overview(self) -> Overview:
        """Readers, cases and answers of each modality; readers' names are personal data, and not shown."""
        answers = self.table.groupby("modality", sort=False).agg(readers=("reader", "nunique"), cases=("case", "nunique"), answers=("case", "size"))  # fmt: skip
        return Overview(str(self), (panel_of(answers.reset_index(), "By modality"),))

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Readers in natural order: ``reader 2`` before ``reader 10``."""
        return tuple(sorted(self.table["reader"].unique(), key=natural))

    @cached_property
    def cases(self) -> tuple[str, ...]:
        """Cases in the order of the table."""
        return tuple(self.table["case"].unique())

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Modalities in natural order; one blank where there is none."""
        return tuple(sorted(self.table["modality"].unique(), key=natural))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Classes that were answered, in natural order; none where readers gave scores only."""
        if "label" not in self.table:
            return ()
        return tuple(sorted(set(self.table["label"].unique()) - {""}, key=natural))

    def patients(self, cases: Sequence[str]) -> NDArray[Any] | None:
        """The patient of each case (N,), or None where the table names none; a case without one is its own."""
        if "patient" not in self.table:
            return None
        filled = self.table[self.table["patient"] != ""]
        known = dict(zip(filled["case"], filled["patient"], strict=True))
        return np.array([known.get(case, f"case {case}") for case in cases], dtype=object)

    def ratings(self, cases: Sequence[str], classes: Sequence[str], modality: str = "") -> NDArray[np.float64]:
        """Class numbers (N, R), places in ``classes`` (all that were answered if empty), NaN for no answer.

        Columns as :attr:`readers`. ``modality`` blank: the only one. Raises :class:`InputError` for an answer
        that is none of ``classes``, an unknown modality, or where there are scores only.
        """
        if "label" not in self.table:
            raise InputError("the readers gave scores, not labels", todo="give a table with a column of labels")
        classes = list(classes) or list(self.classes)
        strange = [name for name in self.classes if name not in classes]
        if strange:
            raise InputError("a reader's answer is none of the classes", given=f"{strange[0]!r}, {len(strange)} in all",
                             todo=nearest(strange[0], classes))  # fmt: skip
        numbers = self.table["label"].map({name: float(i) for i, name in enumerate(classes)})
        return self._matrix(cases, np.asarray(numbers, np.float64), modality)

    def scores(self, cases: Sequence[str], modality: str = "") -> NDArray[np.float64]:
        """Scores (N, R), NaN for no answer; columns and ``modality`` as :meth:`ratings`."""
        if "score" not in self.table:
            raise InputError("the readers gave labels, not scores", todo="give a table with a column of scores")
        return self._matrix(cases, self.table["score"].to_numpy(np.float64), modality)

    def _matrix(self, cases: Sequence[str], values: NDArray[np.float64], modality: str) -> NDArray[np.float64]:
        which, wanted = pd.factorize(np.asarray(cases, dtype=object))
        rows = pd.Index(wanted).get_indexer(pd.Index(self.table["case"]))
        columns = pd.Index(self.readers).get_indexer(pd.Index(self.table["reader"]))
        keep = (rows >= 0) & (self.table["modality"] == self._modality(modality)).to_numpy()
        found = np.full((len(wanted), len(self.readers)), np.nan)
        found[rows[keep], columns[keep]] = values[keep]
        return found[which]

    def _modality(self, name: str) -> str:
        if name == "" and len(self.modalities) == 1:
            return self.modalities[0]
        if self.modalities == ("",):
            what = f"there is no modality {name!r}: the answers tell none apart"
            raise InputError(what, todo="leave the modality out")
        if name not in self.modalities:
            raise InputError("say which modality" if not name else f"there is no modality {name!r}",
                             given=", ".join(self.modalities[:20]), todo=nearest(name, self.modalities))  # fmt: skip
        return name


@checked
def read_grades(
    path: str | os.PathLike[str], *, case: str = "case", reader: str = "reader", label: str = "label", score: str = "score",
    modality: str = "modality", readers: Sequence[str] = (), kind: Literal["", "label", "score"] = "",
    repeats: Literal["refuse", "last"] = "refuse", rename: Mapping[str, str] = MappingProxyType({}),
) -> Grades:  # fmt: skip
    """Readers' answers from CSV, TSV or Parquet: a row for each answer, or a row for each case.

    Long: the columns ``case``, ``reader`` and ``label`` or ``score`` (and ``modality``). Wide, where there is no column
    ``reader`` or ``readers`` names columns: a column for each of ``readers``, or each column besides case, patient and
    modality. Blank cells are no answer. Labels are text, also where they are numbers. ``kind`` says whether labels or
    scores were asked where the table has both, and what wide columns hold (scores only where it says so, or where all
    are numbers and one is not whole). ``repeats``: what becomes of a reader who answered a case twice.

    Raises :class:`InputError` for a missing or damaged table, an unknown column (naming the nearest), a repeated answer
    (with the number of them), a case of two patients, or scores that are not finite numbers.
    """
    table = read_table(Path(path))
    named = roles(table, case, modality)
    long = None if readers else reader_column(table, reader)
    if long is None:
        made, found = melted(table, named, list(readers), kind)
    else:
        made, found = stacked(table, {**named, "reader": long}, {"label": label, "score": score}, kind)
    return grades_of(made, found, repeats=repeats, rename=rename)


@checked
def grades_of(
    table: pd.DataFrame, kind: str, *, repeats: Literal["refuse", "last", "same"] = "refuse",
    rename: Mapping[str, str] = MappingProxyType({}),
) -> Grades:  # fmt: skip
    """Grades from a long table of text; ``repeats="same"`` takes an answer that is given twice alike as one.

    ``rename``: labels by the names that they are to have.

    Raises :class:`InputError` as :func:`read_grades`.
    """
    one_of(kind, ("label", "score"), "kind")
    made = table.assign(
        **{name: table[name].astype(str) for name in ("reader", "modality")}, case=identifiers(table["case"])
    )
    if "label" in made:
        made["label"] = renamed(identifiers(made["label"]), rename, one_of_several=True)[0]
        refuse_variants(made["label"], rename)
    if "patient" in made:
        made["patient"] = identifiers(made["patient"])
    if "score" in made:
        made["score"] = numbers(made["score"])
    unnamed = int(((made["case"] == "") | (made["reader"] == "")).sum())
    if unnamed:
        raise InputError("an answer names no case or no reader", given=f"{unnamed:,} rows", todo="complete the table")
    refuse_two_patients(made)
    made = once(made, kind, repeats).reset_index(drop=True)
    count = int(made["reader"].nunique())
    if count > MOST_READERS:
        raise InputError("there are too many readers", given=f"{count:,}", todo="choose another column with reader=…")
    return Grades(made, kind)


@checked
def reader_numbers(questions: Iterable[Grades]) -> dict[str, str]:
    """``reader 1``, ``reader 2`` … for each name, in the order in which these first appear; a reader of several questions
    has one number in all of them."""
    names = dict.fromkeys(name for grades in questions for name in grades.table["reader"].unique())
    return {name: f"reader {i + 1}" for i, name in enumerate(names)}


@checked
def nameless(grades: Grades, numbers: Mapping[str, str] | None = None) -> Grades:
    """With ``reader 1``, ``reader 2`` … in place of the readers' names; ``numbers``: of all questions, as
    :func:`reader_numbers` gives them, where these answers are to one of several."""
    place = reader_numbers([grades]) if numbers is None else dict(numbers)
    return replace(grades, table=grades.table.assign(reader=grades.table["reader"].map(place)))


@checked
def coded(grades: Grades, salt: str, answer: str, numbers: Mapping[str, str] | None = None) -> Grades:
    """With codes for cases and patients, and readers as in :func:`nameless`. ``answer`` as in :func:`.patient_codes`."""
    table = nameless(grades, numbers).table
    made = table.assign(case=codes(table["case"], salt))
    if "patient" in made:
        made["patient"] = patient_codes(table["patient"], salt, answer)
    return replace(grades, table=made)


@checked
def consensus(
    grades: Grades, *, rule: str = "majority", classes: Sequence[str] = (), modality: str = ""
) -> pd.DataFrame:
    """One label for each case: the columns ``case``, ``label``, ``share``, ``answers`` and ``tied``.

    ``rule``: ``majority``; ``median``, for ``classes`` in order of severity (natural order if not given); or
    ``dawid-skene`` (see :func:`latent_classes`), which adds the ``chance`` of the label. ``label`` is blank where
    readers are tied or none answered; ``share`` is that of the answers that gave the label, NaN without one; ``tied``
    tells which. Raises :class:`InputError` for scores, unknown classes, or fewer than three readers for
    ``dawid-skene``.
    """
    one_of(rule, RULES, "consensus")
    if rule == "median" and not classes and not in_order(grades.classes):
        raise InputError("a median needs classes in order, and these are names without numbers",
                         given=", ".join(grades.classes[:10]), todo="choose majority, or number the classes")  # fmt: skip
    names, cases = list(classes) or list(grades.classes), list(grades.cases)
    ratings = grades.ratings(cases, names, modality)
    if not names:
        raise InputError("no reader gave any answer", given=str(grades), todo="fill in the column of answers")
    if rule == "dawid-skene":
        return _by_chance(latent_classes(grades, classes=names, modality=modality), ratings, cases, names)
    made = (majority if rule == "majority" else median_label)(ratings, classes=len(names))
    label = [names[i] if i >= 0 else "" for i in made.label]
    return pd.DataFrame({"case": cases, "label": label, "share": made.share, "answers": made.answers, "tied": made.tied})  # fmt: skip


@checked
def in_order(classes: Sequence[str]) -> bool:
    """Whether classes have an order: two at most, or each a number with the same words (``grade 1``, ``grade 2``).

    >>> in_order(["0", "1", "2"]), in_order(["benign", "malignant", "unclear"])
    (True, False)
    """
    words = {re.sub(r"\d+(\.\d+)?", "#", name) for name in classes}
    return len(classes) < 3 or (len(words) == 1 and "#" in words.pop())


@checked
def latent_classes(grades: Grades, *, classes: Sequence[str] = (), modality: str = "") -> LatentClasses:
    """Dawid & Skene's model of the answers: each case's chances, prevalence, and each reader's confusion.

    Cases in the order of ``grades.cases``, readers in that of ``grades.readers``. Raises :class:`InputError` for fewer
    than three readers, who cannot tell whose error it was.
    """
    if len(grades.readers) < 3:
        raise InputError("Dawid and Skene's model needs three readers: two cannot tell whose error it was",
                         given=str(grades), todo="choose consensus majority or median")  # fmt: skip
    names = list(classes) or list(grades.classes)
    return dawid_skene(grades.ratings(list(grades.cases), names, modality), classes=len(names))


def _by_chance(model: LatentClasses, ratings: NDArray[np.float64], cases: list[str], names: list[str]) -> pd.DataFrame:
    answers = (~np.isnan(ratings)).sum(axis=1)
    best = np.sort(model.posterior, axis=1)[:, ::-1]
    tied = (answers > 0) & (best[:, 0] - best[:, 1] < _ALIKE) if len(names) > 1 else np.zeros(len(cases), bool)
    label = np.where(tied, -1, model.label)
    agreed = (ratings == label[:, None]).sum(axis=1)
    none = label < 0
    share = np.where(none, np.nan, agreed / np.maximum(answers, 1))
    chance = np.where(none, np.nan, best[:, 0])
    text = [names[i] if i >= 0 else "" for i in label]
    return pd.DataFrame({"case": cases, "label": text, "share": share, "answers": answers, "tied": tied, "chance": chance})  # fmt: skip


# -- the tables that readers' answers come in: a row for each answer, or a column for each reader -----------------


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
    columns = list(table.columns)
    return find(columns, name, "reader") if name != "reader" or name in columns else guess("reader", columns)


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
    who = [find(columns, name, "graders") for name in readers] or [c for c in columns if c not in named.values()]
    if not who:
        raise InputError("no column holds a reader's answers", given=f"columns {', '.join(columns[:30])}",
                         todo="give the columns case, reader and label, or a column for each reader")  # fmt: skip
    if not readers and (said := [name for name in who if name.startswith("p:")]):  # nobody is called so
        raise InputError("this is a table of a model's predictions, not of readers' answers", given=f"columns {', '.join(said[:6])}",
                         todo="give the readers' table first and the predictions after it; predictions alone: overread evaluate")  # fmt: skip
    keys = [name for name in (named["case"], named["modality"]) if name]
    twice = 0 if readers else int(table.duplicated(keys).sum())  # where columns were only taken to be readers
    if twice:
        raise InputError("there is no column of readers, and cases stand in several rows", given=f"{twice:,} rows too many; columns "
                         f"{', '.join([*keys, *who][:20])}", todo="name the column of readers 'reader'")  # fmt: skip
    kind = kind or ("score" if _fractions(table[who]) else "label")
    return wide(table.rename(columns={old: new for new, old in named.items() if old}), who, kind), kind


def wide(table: pd.DataFrame, readers: Sequence[str], kind: str = "label") -> pd.DataFrame:
    """A long table of the columns of ``readers`` in a table with a row for each ``case``."""
    roles = {name: table.get(name, "") for name in ("case", "modality")}
    roles |= {"patient": table["patient"]} if "patient" in table else {}
    parts = [pd.DataFrame({**roles, "reader": name, kind: table[name]}, index=table.index) for name in readers]
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
