"""Names and identifiers that a file gives, to hold against them whatever else is kept of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from overread.deidentify.file import broken
from overread.deidentify.rules import MAX_DEPTH, tags
from overread.errors import checked

_IDENTIFIERS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate", "MedicalRecordLocator")


@checked
def names_in(dataset: Any) -> frozenset[str]:
    """Every word of three letters or digits and more in names of people and in identifiers, at any depth."""
    named = tags(_IDENTIFIERS)
    texts = (str(e.value) for e in _elements(dataset, 0) if e.VR == "PN" or e.tag in named)
    return frozenset(word for text in texts for word in re.findall(r"[^\W_]{3,}", text.casefold()))


def _elements(dataset: Any, depth: int) -> Iterator[Any]:
    for tag in sorted(dataset.keys()):
        try:
            element = dataset[tag]
        except broken():
            continue
        if element.VR == "SQ" and depth < MAX_DEPTH:
            for item in element.value:
                yield from _elements(item, depth + 1)
        else:
            yield element


@checked
def speaks(text: str, words: frozenset[str]) -> bool:
    """Whether ``text`` has one of ``words`` in it: as a word, or as a part if that has five letters or more.

    >>> speaks("DOE_THORAX", frozenset({"doe"})), speaks("THORAX", frozenset({"tho"}))
    (True, False)
    """
    folded = text.casefold()
    parts = set(re.findall(r"[^\W_]+", folded))
    return not words.isdisjoint(parts) or any(len(word) > 4 and word in folded for word in words)
