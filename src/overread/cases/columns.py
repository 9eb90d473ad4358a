"""Which column means what: found by name, guessed by the names the field uses, refused with the nearest one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from overread.errors import InputError, checked, nearest

#: Names that tables in the field use for a role, best first; compared without case, blanks and punctuation.
GUESSES: dict[str, tuple[str, ...]] = {
    "image": ("image", "file", "filename", "imagefile", "imagepath", "filepath", "path", "img", "imgpath", "dicom",
              "imagename", "imageid", "imgid"),
    "case": ("case", "caseid", "imageid", "imgid", "exam", "examid", "accession"),
    "patient": ("patient", "patientid", "pid", "subject", "subjectid", "participant", "participantid", "person",
                "personid", "mrn", "lesionid", "lesion"),
    "label": ("label", "diagnosis", "dx", "class", "target", "category", "grade", "y"),
    "source": ("source", "site", "hospital", "center", "centre", "institution", "scanner", "microscope", "device",
               "manufacturer", "dataset"),
    "view": ("view", "viewposition", "projection", "magnification"),
    "time": ("time", "date", "studydate", "acquisitiondate", "timepoint"),
    "split": ("split", "partition", "subset"),
}  # fmt: skip

#: What makers of data call the parts.
PART_NAMES = {
    "train": "train", "training": "train", "tr": "train", "tuning": "tuning", "tune": "tuning", "val": "tuning",
    "valid": "tuning", "validation": "tuning", "dev": "tuning", "development": "tuning", "test": "test",
    "testing": "test", "tst": "test", "holdout": "test",
}  # fmt: skip

#: What means "not known" in a label or an identifier. "none" and "unknown" are words that classes may have.
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "<na>"})


def folded(name: str) -> str:
    """A column name without case, blanks and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@checked
def find(columns: Sequence[str], name: str, flag: str) -> str:
    """The column called ``name``; :class:`InputError` names the nearest one and the ``flag`` that was used."""
    if name in columns:
        return name
    shown = ", ".join(columns[:30]) + (" …" if len(columns) > 30 else "")
    raise InputError(
        f"there is no column {name!r} for --{flag}", given=f"columns {shown}", todo=nearest(name, columns)
    )


@checked
def guess(role: str, columns: Iterable[str]) -> str | None:
    """The column whose name says that it is ``role``, or None."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(folded(column), column)
    return next((by_name[word] for word in GUESSES[role] if word in by_name), None)


@checked
def known(values: pd.Series) -> pd.Series:
    """Text with every way of writing "not known" made blank."""
    return values.mask(values.str.lower().isin(MISSING), "")


def parts(values: pd.Series) -> pd.Series:
    """The words for parts that are understood as train, tuning or test, others as they stand."""
    return values.str.lower().map(PART_NAMES).fillna(values)


def is_split(values: pd.Series) -> bool:
    """Whether a column holds words for parts and nothing else, two of them at least."""
    words = set(values.str.lower().unique()) - MISSING
    return len(words) > 1 and words <= set(PART_NAMES)


class Roles:
    """Finds the column of each role once, and keeps the notes about what was guessed."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table, self.columns = table, [str(c) for c in table.columns]
        self.notes: list[str] = []
        self.taken: dict[str, str] = {}  # column -> role

    def take(
        self, role: str, name: str | None, fits: Callable[[pd.Series], bool] | None = None
    ) -> str | None:
        """The column for ``role``: ``name`` if it is given, else a guess that ``fits``; None if there is none."""
        if name is not None:
            column: str | None = find(self.columns, name, role)
        else:
            column = guess(role, (c for c in self.columns if c not in self.taken))
            if column is not None and fits is not None and not fits(self.table[column]):
                column = None
            if column is not None and column != role:
                self.notes.append(f"{role}: guessed column {column!r}; override with --{role}")
        if column is not None:
            self.taken.setdefault(column, role)
        return column
