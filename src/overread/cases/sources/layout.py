"""How a table and its images are laid out, where that is not told by the files themselves.

Nothing heavy is imported: the options of the command line are made from this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from overread.core.errors import ArgumentError, checked, require
from overread.core.settings import require_allowed, setting


@dataclass(frozen=True)
class Layout:
    """How the table and its images are laid out: all of it found out, or asked for, if not given."""

    # fmt: off
    images_in: str = setting("", "folder with the images; the table's own and those beside it if not given", option="--images", path=True)
    patient_from: str = setting("", "pattern that finds the patient in the images' paths, such as 'person(\\d+)'")
    label_from: str = setting("", "pattern that finds the class in the images' paths, such as '_(negative|positive)'")
    one_hot: tuple[str, ...] = setting((), "columns of 1 and 0 that are the classes, exactly one of them 1 in each row, separated by commas")
    list_separator: str = setting("", "what parts several findings in one cell of --label, such as '|'; none: each cell is one class")
    repeated: str = setting("refuse", "an image on several rows with different labels: refuse; findings: all of them are present", choices=("refuse", "findings"))
    blank: str = setting("unknown", "what a blank cell of a finding means: unknown or negative", choices=("unknown", "negative"))
    split_from: tuple[str, ...] = setting((), "text files that list the images of a part each, such as train_list.txt,test_list.txt", path=True)
    add_table: tuple[str, ...] = setting((), "a further table of the same columns, and the part of its rows, such as valid.csv=test (the first table is then for training); may be repeated", repeated=True, path=True)
    masks: str = setting("set-aside", "masks that lie among the images: set-aside or keep", choices=("set-aside", "keep"))
    sheet: str = setting("", "sheet of an Excel workbook; the first, and said, if not given")
    encoding: str = setting("", "encoding of a text table, such as cp1250; found out, and said, if not given")
    rename_label: tuple[str, ...] = setting((), "old=new: a label that is written otherwise than its class; may be repeated; blank after = for unknown", repeated=True)
    identifiers: str = setting("ask", "patients whose identifiers differ only in capitals, leading zeros or separators: same, or as-written (two); a table with such is asked about", choices=("ask", "same", "as-written"))
    # fmt: on

    def __post_init__(self) -> None:
        require_allowed(self)
        _ = self.renamed
        for name in ("patient_from", "label_from"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise ArgumentError(f"{name} is no pattern: {error}", given=repr(getattr(self, name)),
                                    todo="write a regular expression, such as 'person(\\d+)'") from error  # fmt: skip
        require(not (self.one_hot and self.list_separator), "labels come from one place",
                given="one_hot and list_separator", todo="give one of them")  # fmt: skip

    @property
    def renamed(self) -> dict[str, str]:
        """Labels by the names that they are to have: see :func:`pairs_of`."""
        return pairs_of(self.rename_label)


@checked
def file_and_part(text: str) -> tuple[str, str]:
    """The file and the part of ``file=part``; the part blank where none is given.

    >>> file_and_part("valid.csv=test"), file_and_part("a=b/more.csv")
    (('valid.csv', 'test'), ('a=b/more.csv', ''))
    """
    file, equals, part = text.rpartition("=")
    return (file, part) if equals and re.fullmatch(r"\w+", part) else (text, "")


@checked
def pairs_of(renamed: Sequence[str]) -> dict[str, str]:
    """Labels by the names that they are to have, from ``old=new``. Raises :class:`ArgumentError` for another form.

    >>> pairs_of(["Malignant=malignant", "unclear="])
    {'Malignant': 'malignant', 'unclear': ''}
    """
    found: dict[str, str] = {}
    for pair in renamed:
        old, equals, new = (part.strip() for part in pair.partition("="))
        require(bool(old and equals) and found.get(old, new) == new, "a label is renamed by old=new, once", given=pair,
                todo="write --rename-label Malignant=malignant")  # fmt: skip
        found[old] = new
    return found
