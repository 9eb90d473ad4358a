"""A sheet of an Excel workbook (.xlsx, .xlsm) as text cells, as they are shown: ISO/IEC 29500, read by openpyxl."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overread.core.errors import ImageError, InputError, checked, nearest
from overread.images.formats.archives import is_archive, members
from overread.images.image import broken_as

#: The first bytes of an old workbook (.xls): [MS-CFB] 2.2.
OLD = bytes.fromhex("d0cf11e0a1b11ae1")
_RESULT = re.compile(rb"<f[ >/]")


@checked
def is_workbook(path: Path) -> bool:
    """Whether a file is a workbook by content, whatever its ending."""
    if not is_archive(path):
        return False
    try:
        return any(name.startswith("xl/") for name in members(path))
    except ImageError:
        return path.suffix.lower() in (".xlsx", ".xlsm")


@checked
def read_sheet(path: Path, sheet: str = "") -> tuple[list[list[str]], list[str]]:
    """The rows of a sheet as text, and notes; without ``sheet`` the first that is shown.

    Whole numbers have no point, dates are ISO 8601, and a number keeps the zeros that its format puts before it. Raises
    :class:`InputError` for a damaged workbook, an unknown sheet and formulas whose results were not saved.
    """
    import openpyxl

    try:
        members(path)  # refuses bombs before a byte is inflated
        with broken_as("it is damaged"), open(path, "rb") as handle:  # by content: openpyxl asks a path for its ending
            book = openpyxl.load_workbook(handle, read_only=True, data_only=True, keep_links=False)
            chosen, notes = _chosen(book, sheet)
            rows = [[_text(cell) for cell in row] for row in _rows(book[chosen])]
            lost = _without_result(path, chosen)
    except ImageError as error:
        todo = "save the sheet as CSV (UTF-8)"
        raise InputError("the workbook cannot be read", given=f"{path}: {error.what}", todo=todo) from error
    if lost:
        raise InputError(f"{lost:,} cells of the sheet {chosen!r} are formulas without a saved result", given=str(path),
                         todo="open the workbook in a spreadsheet program, save it, and read it again")  # fmt: skip
    while rows and not any(rows[0]):
        rows.pop(0)
    return rows, notes


def _rows(sheet: Any) -> Iterator[Any]:
    sheet.reset_dimensions()  # some programs write too small ones
    yield from sheet.iter_rows()


def _chosen(book: Any, sheet: str) -> tuple[str, list[str]]:
    names = [each.title for each in book.worksheets]
    shown = [each.title for each in book.worksheets if each.sheet_state == "visible"] or names
    if not names:
        raise InputError("the workbook has no sheet of cells", todo="save the table as CSV (UTF-8)")
    if sheet and sheet not in names:
        raise InputError(f"the workbook has no sheet {sheet!r}", given=", ".join(names), todo=nearest(sheet, names))
    others = [name for name in names if name != shown[0]]
    notes = [f"table: the first sheet, {shown[0]!r}, of {len(names)} is read; another with --sheet"] if others else []
    return (sheet, []) if sheet else (shown[0], notes)


def _text(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and re.fullmatch("0+", cell.number_format or ""):
        return f"{value:0{len(cell.number_format)}d}"
    return str(value).strip()


def _without_result(path: Path, sheet: str) -> int:
    """How many formulas of the sheet have no result beside them."""
    import openpyxl

    with zipfile.ZipFile(path) as archive:
        sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
        if not any(_RESULT.search(archive.read(name)) for name in sheets):
            return 0
    with open(path, "rb") as one, open(path, "rb") as other:
        asked, got = (openpyxl.load_workbook(handle, read_only=True, data_only=done, keep_links=False)
                      for handle, done in ((one, False), (other, True)))  # fmt: skip
        pairs = zip(_rows(asked[sheet]), _rows(got[sheet]), strict=False)
        return sum(a.data_type == "f" and b.value is None for both in pairs for a, b in zip(*both, strict=False))
