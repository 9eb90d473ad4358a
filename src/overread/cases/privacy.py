"""Private by construction: what a table says about who the patients are is left behind on the way in.

A code in place of a name tells patients apart without saying who they are. It is BLAKE2b (RFC 7693) of the name, 48
bits long. Its key is the salt of the study, which travels with the model so that a patient who was seen is known again,
and, where ``$OVERREAD_SECRET`` is set, that secret. Who holds the key can test a guess: codes are pseudonyms (GDPR Art.
4(5)), not anonymity.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

import pandas as pd

from overread.core.errors import InputError, checked, one_of
from overread.core.files import sha256
from overread.core.identifiers import alike

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
#: A secret of the house that is mixed into every code; the same one must be there to know a patient again.
SECRET = "OVERREAD_SECRET"


@checked
def codes(names: Iterable[str], salt: str) -> list[str]:
    """A code for each name: ``k`` and 12 hexadecimal digits; blank stays blank.

    Raises :class:`InputError` should two names share a code (1 in 50,000 for 100,000 names).

    >>> codes(["DOE^JANE", "", "DOE^JANE"], "salt")
    ['kf1d568fd77ca', '', 'kf1d568fd77ca']
    """
    secret = os.environ.get(SECRET, "")
    key = hashlib.blake2b(f"{salt}\n{secret}".encode(), digest_size=32).digest()
    made: dict[str, str] = {}
    found = []
    for name in names:
        if name not in made:
            made[name] = _code(name, key) if name else ""
        found.append(made[name])
    if len(set(made.values())) < len(made):
        raise InputError("two names have the same code", todo="set another salt in study.toml")
    return found


@checked
def patient_codes(names: Iterable[str], salt: str, answer: str) -> list[str]:
    """As :func:`codes`, the same for patients who are one but for how they are written.

    ``answer`` to whether these are one, as in :mod:`overread.core.identifiers`: if they are two (``as-written``), they
    have two codes; blank: names are taken as they stand, as in studies of before the question was asked.
    """
    text = pd.Series(list(names), dtype=object)
    return codes(text if answer in ("", "as-written") else alike(text), salt)


@checked
def are_codes(names: Iterable[str]) -> bool:
    """Whether all names are codes already, as :func:`codes` writes them."""
    return all(re.fullmatch(r"k[0-9a-f]{12}", name) for name in names)


def _code(name: str, key: bytes) -> str:
    """A letter first, so that no program takes a code for a number."""
    return "k" + hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=key, digest_size=6).hexdigest()


@checked
def salt_of(table: pd.DataFrame) -> str:
    """The salt of a study: a hash of its images, cases and patients in any order. Other tables, other codes."""
    who = ["image", "case", "patient"]
    body = table[who].sort_values(who).to_csv(index=False, lineterminator="\n")
    return sha256(b"codes of a study\n" + body.encode("utf-8", "surrogatepass"))[:32]


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
