"""Who is who: one written form for identifiers of patients and cases, and which two forms might be one.

Tables write one patient as ``7``, ``7.0`` and `` 7`` after a join in a spreadsheet. What differs in how a number is
written, in blanks around it or in the encoding is the same identifier (:func:`identifiers`). What differs in capitals,
leading zeros or separators (``P007``, ``p-7``) may be one person or two (:func:`alike`): that is asked, and the setting
``identifiers`` answers it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from overread.core.errors import InputError, UnsoundError, checked, one_of
from overread.core.files import hashed

#: What two forms are that differ in capitals, leading zeros or separators: nobody knows, two, or one.
ANSWERS = ("ask", "as-written", "same")
#: What means "not known" in a label or an identifier. "none" and "unknown" are words that classes may have.
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "<na>"})
#: Above this not every whole number is a float, so that two identifiers may have become one.
_EXACT = 2**53
_SEPARATE = "as-written"
_HOW = "--identifiers same if they are one, --identifiers as-written if they are two"


@checked
def identifiers(values: pd.Series | pd.Index) -> pd.Series:
    """Each identifier in its one written form, blank where it is missing; the index is kept.

    Blanks and invisible characters around it go, whole numbers lose a decimal point (``7.0``, ``7.00`` and ``7e+00``
    are ``7``), digits of any script are 0 to 9, and equal texts have equal code points (Unicode NFC). Raises
    :class:`InputError` for numbers of which a program has cut digits (``1.23457E+15``): two patients may have become
    one.

    >>> identifiers(pd.Series([" 7", "7.0", "07", "nan", "P007"])).tolist()
    ['7', '7', '07', '', 'P007']
    """
    text = _text(pd.Series(values))
    return text if _plain(text) else _by_value(text, _written)


@checked
def alike(values: pd.Series | pd.Index) -> pd.Series:
    """Identifiers without what might be chance: capitals, separators, and leading zeros of a number that ends a word.

    >>> alike(pd.Series(["P007", "p-7", "007", "1-23", "12-3"])).tolist()
    ['p7', 'p7', '7', '1 23', '12 3']
    """
    codes, known = pd.factorize(identifiers(values))
    loose = np.array(_loose(list(known)), dtype=object)
    return pd.Series(loose[codes] if len(loose) else "", pd.Series(values).index, dtype=object)


@checked
def trimmed(values: pd.Series) -> pd.Series:
    """Text without blanks and invisible characters around it, in Unicode NFC; blank where nothing stands."""
    return _by_value(values, _trim)


@checked
def distinct(values: pd.Series, what: str, answer: str = "ask") -> pd.Series:
    """Identifiers in one form each: :func:`identifiers`, or :func:`alike` where the ``answer`` is ``same``.

    Raises :class:`UnsoundError` where nobody has said whether two forms are one ``what`` (``patient``) or two. It says
    how many, and of which shape, never an identifier.
    """
    one_of(answer, ANSWERS, "identifiers")
    written = identifiers(values)
    if answer == _SEPARATE:
        return written
    codes, names = pd.factorize(written)
    known, loose = pd.Series(names, dtype=object), pd.Series(_loose(list(names)), dtype=object)
    if answer == "same":
        return pd.Series(loose.to_numpy()[codes], written.index, dtype=object)
    several = loose.duplicated(keep=False) & (loose != "")
    if several.any():
        first = known[loose == loose[several].iloc[0]].iloc[:2]
        raise UnsoundError(
            f"one {what} may be written in two ways: {int(loose[several].nunique()):,} of {len(known):,} differ from another only in capitals, leading zeros or separators",
            given=f"of the shape {' and '.join(map(shape, first))}", todo=f"say {_HOW}",
        )  # fmt: skip
    return written


@checked
def rewritten(before: pd.Series, after: pd.Series, what: str) -> str:
    """What :func:`distinct` changed, as a sentence; blank if nothing.

    >>> rewritten(pd.Series(["7", "7.0"]), pd.Series(["7", "7"]), "patient")
    'patient: 1 of 2 cells is read in another form than it was written in, the first of the shape 9 in place of 9.9'
    """
    text = _text(before)
    changed = ((text != after) & (after != "")).to_numpy()
    if not changed.any():
        return ""
    many, (old, new) = int(changed.sum()), (shape(column[changed].iloc[0]) for column in (text, after))
    return (f"{what}: {many:,} of {len(text):,} cells {'is' if many == 1 else 'are'} read in another form than "
            f"{'it was' if many == 1 else 'they were'} written in, the first of the shape {new} in place of {old}")  # fmt: skip


@checked
def shape(name: str) -> str:
    """How an identifier is written, without saying whose it is: every digit as 9, every letter as a or A.

    >>> shape("P-0007")
    'A-9999'
    """
    shown = "".join("9" if c.isdigit() else ("A" if c.isupper() else "a") if c.isalpha() else c for c in name[:24])
    return repr(shown) if shown != shown.strip() or not shown.isprintable() else shown


# -- identifiers as salted hashes, for what must not hold them ----------------------------------------------------


@checked
def marks(names: Iterable[Any], salt: str) -> tuple[str, ...]:
    """Salted hashes of identifiers, sorted: one of each, and one behind ``~`` of what it is :func:`alike`."""
    known = pd.Series(pd.unique(identifiers(pd.Series(list(names), dtype=object))), dtype=object)
    known = known[known != ""]
    exact, loose = hashed(known.tolist(), salt), hashed([f"~{name}" for name in alike(known).unique()], salt)
    return (*sorted(exact), *sorted(f"~{code}" for code in loose))


@checked
def counted(held: Iterable[str]) -> int:
    """How many identifiers the hashes of :func:`marks` stand for."""
    return sum(not code.startswith("~") for code in held)


@checked
def among(names: Iterable[Any], held: Iterable[str], salt: str, answer: str = "ask") -> pd.Series:
    """(N,) ``same`` where an identifier is among those of ``held`` (see :func:`marks`), ``alike`` where only a form
    that may be the same is (never if the ``answer`` is ``as-written``), else blank."""
    written = identifiers(pd.Series(list(names), dtype=object))
    known, every = pd.Series(pd.unique(written), dtype=object), set(held)
    if not every:
        return pd.Series("", written.index, dtype=object)
    exact = [code in every for code in hashed(known.tolist(), salt)]
    loose = [f"~{code}" in every for code in hashed([f"~{name}" for name in alike(known)], salt)]
    told = np.where(exact, "same", np.where(np.array(loose, bool) & (answer != _SEPARATE), "alike", ""))
    told = np.where(known == "", "", told)
    return written.map(dict(zip(known, told.tolist(), strict=True)))


@checked
def in_doubt(many: int, what: str) -> str:
    """What to do about ``many`` of a ``what`` that are only alike, for the end of an error."""
    return f"{many:,} {what} differ from these only in capitals, leading zeros or separators: say {_HOW}"


# -- text by text -------------------------------------------------------------------------------------------------


def _by_value(values: pd.Series | pd.Index, change: Callable[[str], str]) -> pd.Series:
    """``change`` of every different text, once each."""
    text = _text(pd.Series(values))
    codes, known = pd.factorize(text)
    made = np.array([change(name) for name in known], dtype=object)
    return pd.Series(made[codes] if len(made) else text.to_numpy(), text.index, dtype=object, name=text.name)


#: Any letter that :func:`_written` might change.
_UNUSUAL = re.compile(r"[^!-*\-/-~\n]")
_MISSING_LINE = re.compile(f"^(?:{'|'.join(map(re.escape, sorted(MISSING - {''})))})$", re.MULTILINE | re.IGNORECASE)


def _plain(text: pd.Series) -> bool:
    """Whether all identifiers stand in their one form already: most do, and to look at each takes seconds."""
    names = text.tolist()
    joined = "\n".join(names)
    several_lines = joined.count("\n") >= max(len(names), 1)
    return not several_lines and not _UNUSUAL.search(joined) and not _MISSING_LINE.search(joined)


def _text(values: pd.Series) -> pd.Series:
    """Cells as text; whole numbers without a decimal point, blank where nothing stands."""
    known = values.astype(object)
    blank = known.isna()
    filled = known.where(~blank, "") if blank.any() else known
    return pd.Series(list(map(str, filled.tolist())), values.index, dtype=object, name=values.name)


def _trim(text: str) -> str:
    if text.isascii():
        return text.strip("\0\t\n\v\f\r \x1c\x1d\x1e\x1f")
    text = unicodedata.normalize("NFC", text)
    while text and _invisible(text[0]):
        text = text[1:]
    while text and _invisible(text[-1]):
        text = text[:-1]
    return text


def _invisible(letter: str) -> bool:
    return letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf")


_WHOLE = re.compile(r"([+-]?\d+)(?:\.0*|,0)")
_NUMBERS = re.compile("[.,+]")
_POWER = re.compile(r"([+-]?\d)(?:\.(\d*))?[eE]\+(\d{1,3})")


def _written(text: str) -> str:
    text = _trim(text)
    if not text.isascii():
        text = "".join(str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in text)
    if text.lower() in MISSING:
        return ""
    if not _NUMBERS.search(text):
        return text
    if match := _WHOLE.fullmatch(text):
        return _uncut(match[1], text)
    if match := _POWER.fullmatch(text):
        first, rest, power = match[1], match[2] or "", int(match[3])
        if set(rest[power:]) <= {"0"}:  # 7.5e+00 is no whole number
            return _uncut(first + rest[:power] if len(rest) >= power else "", text)
    return text


def _uncut(digits: str, text: str) -> str:
    """``digits``, unless a program may have cut some."""
    if not digits or abs(int(digits)) >= _EXACT:
        raise InputError("identifiers were kept as numbers, and digits of them are lost: different patients may look the same",
                         given=shape(text), todo="export the column as text, and give that table")  # fmt: skip
    return digits


# -- all texts together, as lines of one: a million take a second ---------------------------------------------------

#: Leading zeros of a number that ends a word.
_ZEROS = re.compile(r"(?<!\d)0+(?=\d+(?![^\W_]))")
_SEPARATORS = re.compile(r"(?:(?!\n)[\W_])+")
#: A separator between letters and digits.
_BOUNDARY = re.compile(r"(?<=[^\W\d_]) (?=\d)|(?<=\d) (?=[^\W\d_])")
_SCIENTIFIC = re.compile(r"^(\d+)e(\d{1,2})$", re.MULTILINE)


def _loose(names: list[str]) -> list[str]:
    """Each text as :func:`alike` says; one without letters and digits as it stands."""
    if not names:
        return []
    lines = unicodedata.normalize("NFKC", "\n".join(name.replace("\n", " ") for name in names)).casefold()
    lines = _SCIENTIFIC.sub(lambda match: str(int(match[1]) * 10 ** int(match[2])), lines)
    lines = _BOUNDARY.sub("", _SEPARATORS.sub(" ", _ZEROS.sub("", lines)))
    return [line.strip() or name for line, name in zip(lines.split("\n"), names, strict=True)]
