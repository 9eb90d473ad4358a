"""Private by construction: what a table says about who the patients are is left behind on the way in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from overread.cases.cases import ROLES, Cases
from overread.cases.pseudonyms import codes
from overread.core.errors import checked, one_of
from overread.core.files import sha256

#: What becomes of names: codes in their place, or kept where they identify nobody.
NAMES = ("hash", "keep")
#: Columns of a table of DICOM files that say who or which.
IDENTIFIERS = ("patient", "case", "series", "instance", "accession")
#: Words in the name of a column behind which people, or texts about them, stand.
NAMING = frozenset({"name", "birth", "dob", "mrn", "address", "street", "postcode", "postal", "zip", "phone", "email", "ssn",
                    "insurance", "accession", "uid", "id", "person", "path", "file", "comment", "comments", "report", "history",
                    "physician", "doctor", "operator", "notes"})  # fmt: skip
_ENDINGS = ("name", "birthdate", "dateofbirth", "patient", "patientnumber", "patientid", "filepath")
_DATE = re.compile(r"\d{4}[-/.]?\d{2}[-/.]?\d{2}.*|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}.*")
_FEW = 20  # values that a column of groups may have, whatever the number of rows


@checked
def salt_of(table: pd.DataFrame) -> str:
    """The salt of a study: a hash of its images, cases and patients in any order. Other tables, other codes."""
    who = ["image", "case", "patient"]
    body = table[who].sort_values(who).to_csv(index=False, lineterminator="\n")
    return sha256(b"codes of a study\n" + body.encode("utf-8", "surrogatepass"))[:32]


@checked
def identifying(table: pd.DataFrame, patients: int) -> list[str]:
    """The columns of ``table`` that may say who a patient is: by their name, or by what stands in them.

    Content counts where text differs on most rows (names, free text), where nearly all is dates, and where whole
    numbers of five digits or more are told apart nearly as well as the ``patients``.
    """
    return [str(column) for column in table.columns if _named(str(column)) or _telling(table[column], patients)]


def _named(column: str) -> bool:
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", column)]
    return not NAMING.isdisjoint(words) or re.sub(r"[^a-z]", "", column.lower()).endswith(_ENDINGS)


def _telling(values: pd.Series, patients: int) -> bool:
    if pd.api.types.is_numeric_dtype(values):
        filled = values.dropna()
        whole = bool(len(filled)) and bool((filled % 1 == 0).all()) and float(filled.abs().median()) >= 10_000
        return whole and filled.nunique() >= 0.9 * patients
    filled = values[values != ""].astype(str)
    if not len(filled):
        return False
    different = filled.nunique()
    sample = filled.iloc[:: max(1, len(filled) // 1000)]
    return different > max(_FEW, len(filled) // 10) or bool(sample.str.fullmatch(_DATE).mean() > 0.9)


@checked
def hide(cases: Cases, *, names: str = "hash", salt: str = "", keep: Sequence[str] = ()) -> Cases:
    """``cases`` with codes for cases and patients, and without columns that may identify, but for those to ``keep``.

    ``salt``: that of the study where there is one already. With ``names="keep"`` nothing changes. Raises
    :class:`ArgumentError` for another word.
    """
    if one_of(names, NAMES, "names") == "keep" or cases.salt:
        return cases
    salt = salt or salt_of(cases.table)
    table = cases.table.assign(case=codes(cases.table["case"], salt), patient=codes(cases.table["patient"], salt))
    extra = table.drop(columns=[c for c in (*ROLES, *cases.target.columns, *keep) if c in table])
    left = [c for c in extra if c in IDENTIFIERS or c in identifying(extra[[c]], cases.patients)]
    return replace(cases, table=table.drop(columns=left), salt=salt, notes=(*cases.notes, *_said(left)))


def _said(left: list[str]) -> list[str]:
    shown = ", ".join(left[:12]) + (f" and {len(left) - 12} more" if len(left) > 12 else "")
    return [f"names: cases and patients are codes (--names keep: as they stand){f'; left out, as they may identify: {shown}' if left else ''}"]  # fmt: skip


@checked
def unnamed(table: pd.DataFrame, names: str = "hash") -> pd.DataFrame:
    """A table of images to look at: identifiers as codes, no paths, no column that may identify.

    With ``names="keep"`` as it stands. Raises :class:`ArgumentError` for another word.
    """
    if one_of(names, NAMES, "names") == "keep":
        return table
    salt, known = salt_of(table), [name for name in IDENTIFIERS if name in table]
    coded = table.assign(**{name: codes(table[name].astype(str), salt) for name in known}).drop(columns="image")
    rest = coded.drop(columns=[*known, *(c for c in ("source", "view") if c in coded)])
    return coded.drop(columns=identifying(rest, int(table["patient"].nunique())))
