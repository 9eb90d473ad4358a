"""Tables from files: CSV, TSV, Parquet and Excel, every cell as text, so that nothing is guessed twice."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from overread.cases.sources.layout import Layout, file_and_part
from overread.cases.sources.workbook import OLD, is_workbook, read_sheet
from overread.core.errors import InputError, checked, nearest
from overread.core.identifiers import MISSING, identifiers
from overread.core.phrases import count
from overread.images.slides.files.handles import SLIDE_ENDINGS

#: Nothing is said of the layout: everything is found out.
PLAIN = Layout()
#: What is said where no patient is named.
NO_PATIENT = "patient: no column says who the patient is, so each image counts as a patient of its own"
#: Columns a table may have; more is an attack or a transposed table.
MAX_COLUMNS = 10_000
_HEAD = 8 << 20  # characters in which the header, and each cell, must end

#: Endings of files that are taken for images; the content decides later what they are.
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", ".bmp", ".jp2", ".j2k", ".webp", ".nii", ".nii.gz",
           ".nrrd", ".mha", ".mhd", *SLIDE_ENDINGS)  # fmt: skip


@checked
def read_table(path: Path, layout: Layout = PLAIN) -> pd.DataFrame:
    """The table in a CSV, TSV, Parquet or Excel file: text cells, blank where nothing stands.

    Raises :class:`InputError` for a missing, damaged, ragged or empty table, and for a column name that stands twice
    with different cells.
    """
    return open_table(path, layout)[0]


@checked
def open_table(path: Path, layout: Layout = PLAIN) -> tuple[pd.DataFrame, list[str]]:
    """As :func:`read_table`, with notes on what was found out: the encoding, the separator, the sheet, what was left out."""
    if path.suffix.lower() in (".parquet", ".pq"):
        notes: list[str] = []
        table = _read_parquet(path)
    elif is_workbook(path):
        rows, notes = read_sheet(path, layout.sheet)
        notes += [] if path.suffix.lower() in (".xlsx", ".xlsm") else ["table: it is an Excel workbook by its content"]
        table, more = _from_cells(rows[0] if rows else [], pd.DataFrame(rows[1:], dtype=object), path)
        notes += more
    else:
        if layout.sheet:
            raise InputError(
                "a sheet is asked for, but the file is no Excel workbook", given=str(path), todo="leave --sheet out"
            )
        table, notes = _read_text(path, layout.encoding)
    if table.empty:
        raise InputError("the table holds no rows", given=str(path), todo="check that the file was exported completely")
    return table.apply(lambda column: column.str.strip()), notes


@checked
def header_of(path: Path, layout: Layout = PLAIN) -> tuple[str, ...]:
    """The names in the first row of a table of text, of which its beginning alone is read; none where it is no such file."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD)
        if len(data) == _HEAD:
            data = data[: data.rfind(b"\n")]  # in the middle of no letter
        text, _ = _text_of(data, path, layout.encoding)
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text)))
    except (OSError, InputError, csv.Error):
        return ()
    return tuple(name.strip() for name in header if name.strip())


@checked
def open_tables(path: Path, layout: Layout = PLAIN) -> tuple[pd.DataFrame, list[str]]:
    """As :func:`open_table`, with the rows of the further tables of ``layout.add_table`` below, each with its part.

    Raises :class:`InputError` where the columns of two tables differ, or a part is none.
    """
    table, notes = open_table(path, layout)
    given = [file_and_part(text) for text in layout.add_table]
    if not given:
        return table, notes
    parted = any(part for _, part in given)
    if parted and "split" in table:
        raise InputError("the table brings a split, and so do the further tables", given="a column 'split'",
                         todo="leave the parts of --add-table out")  # fmt: skip
    several = [table.assign(split="train") if parted else table]
    for file, part in given:
        where = Path(file) if Path(file).is_absolute() or Path(file).exists() else path.parent / file
        if not where.exists():
            raise missing(where)
        if part and part.lower() not in PART_NAMES:
            raise InputError(
                "a further table is for no part",
                given=part,
                todo="write --add-table valid.csv=tuning, or =test, or =train",
            )
        more, found = open_table(where, layout)
        if apart := sorted(set(map(str, more)) ^ set(map(str, table))):
            raise InputError("two tables of a study have different columns", given=f"{where.name}: {', '.join(apart[:8])}",
                             todo="give tables with the same columns")  # fmt: skip
        several.append(more.assign(split=PART_NAMES[part.lower()] if part else "") if parted else more)
        notes += [
            *found,
            f"table: {len(more):,} rows of {where.name}{f' are for {PART_NAMES[part.lower()]}' if part else ''}; {len(table):,} of {path.name}",
        ]
    return pd.concat([each[several[0].columns] for each in several], ignore_index=True), notes


@checked
def open_frame(frame: pd.DataFrame, asked: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """As :func:`open_table`, of a DataFrame, which is not changed; its index is no column.

    ``asked``: columns that will be needed. Columns whose cells hold more than one value are left out, and that is said;
    of those that are asked for it is an error, as is an asked name that is the index's.
    """
    if frame.columns.nlevels > 1:
        raise InputError("the columns of the DataFrame have several levels", given=f"{frame.columns.nlevels} levels",
                         todo="join them: frame.columns = ['_'.join(names) for names in frame.columns]")  # fmt: skip
    if strange := [name for name in asked if name in frame.index.names and name not in frame.columns]:
        raise InputError(
            f"{strange[0]!r} is the index of the DataFrame and not a column", todo="give frame.reset_index()"
        )
    many = [place for place, name in enumerate(frame.columns) if _holds_many(frame.iloc[:, place])]
    if refused := [str(frame.columns[place]) for place in many if frame.columns[place] in asked]:
        raise InputError(f"the cells of the column {refused[0]!r} hold more than one value each", given="lists, arrays or tables",
                         todo="give one number or text a cell; images as paths to files")  # fmt: skip
    kept = [place for place in range(frame.shape[1]) if place not in many]
    cells = pd.DataFrame({i: as_text(frame.iloc[:, place]) for i, place in enumerate(kept)}, dtype=object)
    names = [str(frame.columns[place]) for place in kept]
    if len(names) > MAX_COLUMNS:
        raise InputError(
            "the table has too many columns", given=f"{len(names):,} columns", todo=f"at most {MAX_COLUMNS:,} are read"
        )
    if cells.empty:
        raise InputError("the DataFrame holds no rows", given=f"{len(frame):,} rows and {len(names):,} columns")
    table, notes = _from_cells(names, cells.reset_index(drop=True), Path("DataFrame"))
    if many:
        notes.append(
            f"table: {len(many):,} columns whose cells hold several values are left out, first {frame.columns[many[0]]}"
        )
    if named := [str(name) for name in frame.index.names if name is not None]:
        notes.append(f"table: the DataFrame's index ({', '.join(named)}) is not read; reset_index() makes it a column")
    return table.apply(lambda column: column.str.strip()), notes


def _holds_many(column: pd.Series) -> bool:
    return column.dtype.kind == "O" and any(pd.api.types.is_list_like(cell) for cell in column.dropna().head(20))


@checked
def as_text(column: pd.Series) -> pd.Series:
    """The cells as a file would hold them: blank where nothing stands, whole numbers without a point.

    >>> as_text(pd.Series([1.0, None, 3.0])).tolist(), as_text(pd.Series([0.5, 2.0])).tolist()
    (['1', '', '3'], ['0.5', '2.0'])
    """
    known = column.notna()
    if column.dtype.kind == "f" and (column[known] % 1 == 0).all():
        return column.where(known, 0).astype("int64").astype(str).where(known, "").astype(object)
    return column.astype(object).where(known, "").astype(str).astype(object)


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow

    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError("the Parquet file cannot be read", given=f"{path}: {_line(error)}") from error
    return table.astype(object).where(table.notna(), "").astype(str).rename(columns=str)


def _read_text(path: Path, encoding: str) -> tuple[pd.DataFrame, list[str]]:
    text, notes = _decoded(path, encoding)
    separator = _separator(text)
    if separator != "," and path.suffix.lower() not in (".tsv", ".tab"):
        name = "tab" if separator == "\t" else repr(separator)
        notes.append(f"table: its columns are separated by {name}")
    csv.field_size_limit(_HEAD)
    header, short, longest = _widths(text, separator, path)
    if len(header) > MAX_COLUMNS:
        given, todo = f"{len(header):,} columns", f"at most {MAX_COLUMNS:,} are read"
        raise InputError("the table has too many columns", given=given, todo=todo)
    if short:
        notes.append(f"table: {short:,} rows have fewer cells than the header; the rest is taken for blank")
    try:
        cells = pd.read_csv(io.StringIO(text, newline=""), sep=separator, dtype=str, keep_default_na=False, index_col=False,
                            header=None, names=range(longest), skip_blank_lines=False).iloc[1:]  # fmt: skip
    except ValueError as error:
        raise InputError("the table cannot be read", given=f"{path}: {_line(error)}",
                         todo="quote cells that hold the separator or a line end, and end each quote") from error  # fmt: skip
    table, more = _from_cells(header, cells.reset_index(drop=True), path)
    return table, notes + more


def _widths(text: str, separator: str, path: Path) -> tuple[list[str], int, int]:
    """The first row, how many rows below it have fewer cells, and the most cells of any: pandas does not tell them."""
    records = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = next(records)
        widths = Counter(map(len, records))
    except csv.Error as error:
        raise InputError("the table cannot be read", given=f"{path}: line {records.line_num:,}: {error}",
                         todo="quote cells that hold the separator or a line end, and end each quote") from error  # fmt: skip
    short = sum(count for width, count in widths.items() if 0 < width < len(header))
    return header, short, max([len(header), *widths])


#: What a byte-order mark says: Unicode 15, table 2-4.
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip


def _decoded(path: Path, encoding: str) -> tuple[str, list[str]]:
    """The text of a file, as :func:`_text_of` has it."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise missing(path) from error
    except OSError as error:
        raise InputError("the table cannot be read", given=f"{path}: {error.strerror}") from error
    return _text_of(data, path, encoding)


def _text_of(data: bytes, path: Path, encoding: str) -> tuple[str, list[str]]:
    """The text of bytes: by their mark, as UTF-8, or as Windows-1252 where what is not ASCII looks like that."""
    if data.startswith(OLD):
        raise InputError(
            "old Excel workbooks (.xls) are not read", given=str(path), todo="save it as .xlsx or as CSV (UTF-8)"
        )
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if not marked and b"\0" in data[:4000]:
        even, odd = data[:4000:2].count(0), data[1:4000:2].count(0)
        marked = "utf-16-le" if odd > 4 * even else "utf-16-be" if even > 4 * odd else ""
        if not marked and not encoding:
            raise InputError("the file is not a table of text", given=str(path), todo="give CSV, TSV, Parquet or .xlsx")
    try:
        text, notes = data.decode(encoding or marked or "utf-8"), []
        if "16" in marked and not encoding:
            notes = ["table: read as UTF-16"]
    except LookupError as error:
        raise InputError(
            f"there is no encoding {encoding!r}", todo="give one such as utf-8, cp1252, latin-1 or utf-16"
        ) from error
    except UnicodeDecodeError as error:
        if encoding or marked:
            raise InputError(f"the table is not {encoding or marked} text", given=f"{path}: byte {error.start:,}", todo="name another with --encoding") from error  # fmt: skip
        text, notes = _western(data, path)
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise InputError("the table is empty", given=str(path), todo="check that the file was exported completely")
    if text.lstrip()[0] in "{[<":
        raise InputError("the file is not a table", given=f"{path}: it begins with {text.lstrip()[0]!r}, as JSON, HTML or XML do",
                         todo="give CSV, TSV, Parquet or .xlsx")  # fmt: skip
    return re.sub(r"\Asep=(.)\r?\n", "", text), notes  # what Excel reads, and others take for a header


def _western(data: bytes, path: Path) -> tuple[str, list[str]]:
    """Windows-1252, where letters beyond ASCII stand one by one as in Western languages; others are asked about."""
    text = data.decode("cp1252", errors="replace")
    if re.search(r"[^\x00-\x7f]{3}|[a-z][\x80-\xa9\xab-\xb9\xbb-\xbf¤¥¦§¨©¬®¯³´¶¸¹¼½¾ƒˆ‡‰‹›•˜™][a-z]|\ufffd", text):
        raise InputError("the table is not UTF-8 text, and its encoding cannot be told", given=str(path),
                         todo="name it with --encoding (such as cp1250, cp1251, shift_jis, gb18030), or save it as CSV (UTF-8)")  # fmt: skip
    words = list(dict.fromkeys(re.findall(r"\w*[^\x00-\x7f]\w*", text)))[:3]
    return text, [
        f"table: not UTF-8, read as Windows-1252, with words such as {', '.join(words)}; another with --encoding"
    ]


def _separator(text: str) -> str:
    """What parts the columns: what gives the first records the same number of cells, and most of them."""
    head = text[:_HEAD] if len(text) > _HEAD else text

    def fits(separator: str) -> tuple[bool, int]:
        records = csv.reader(io.StringIO(head, newline=""), delimiter=separator)
        try:
            widths = [len(row) for row in itertools.islice(records, 20) if row]
        except csv.Error:
            return False, 0
        return len(set(widths)) == 1 and widths[0] > 1, widths[0] if widths else 0

    return max(",\t;|", key=fits)  # the first of equals: a comma


def _from_cells(header: list[str], cells: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table of these cells (missing where a row is short), without rows that are blank and columns without name and
    content, as the notes say."""
    names = [name.strip() for name in header]
    cells = cells.reindex(columns=range(max(len(names), cells.shape[1])))
    _refuse_titles(names, cells.head(20).fillna("").to_numpy().tolist(), path)
    cells = cells.fillna("")
    empty = cells[0].str.strip() == ""
    empty[empty] = (cells[empty].apply(lambda column: column.str.strip()) == "").all(axis=1)
    cells = cells[~empty]
    for extra in range(len(names), cells.shape[1]):
        if (long := cells[extra].str.strip() != "").any():
            raise InputError("the table cannot be read", given=f"{path}: {numbered(long)} ha{'ve' if long.sum() > 1 else 's'} more cells than the header, {len(names):,}",
                             todo="every row needs as many cells as the header; quote cells that hold the separator")  # fmt: skip
    blank = [i for i, name in enumerate(names) if not name and not cells[i].str.strip().any()]
    unnamed = [f"column {i + 1}" for i, name in enumerate(names) if not name and i not in blank]
    kept = {i: name or f"column {i + 1}" for i, name in enumerate(names) if i not in blank}
    notes = []
    if blank:
        notes.append(f"table: {len(blank)} column{'s' * (len(blank) > 1)} without name and content left out")
    if unnamed:
        notes.append(f"table: columns without a name are called {', '.join(unnamed[:5])}")
    table = cells[list(kept)].reset_index(drop=True).astype(object)
    return _once(table.set_axis(list(kept.values()), axis=1), path, notes)


def _once(table: pd.DataFrame, path: Path, notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Without columns that say the same under the same name; refused if they differ."""
    for name in [name for name, many in Counter(table.columns).items() if many > 1]:
        first, *others = table.loc[:, table.columns == name].to_numpy().T
        if differ := sum(int((first != other).sum()) for other in others):
            raise InputError(f"the column {name!r} stands twice in the header", given=f"{path}: {differ:,} cells differ",
                             todo="rename one of them")  # fmt: skip
        notes.append(f"table: the column {name!r} stands {len(others) + 1} times with the same cells; one is read")
    return table.loc[:, ~table.columns.duplicated()], notes


def _refuse_titles(names: list[str], rows: list[list[str]], path: Path) -> None:
    """A title above the names of the columns, or no names at all."""
    filled = [name for name in names if name]
    if len(filled) <= 1 < max((sum(map(bool, row)) for row in rows[:20]), default=0):
        raise InputError("the first row names no columns", given=f"{path}: {filled[0] if filled else 'blank'!r}",
                         todo="remove what stands above the row of names")  # fmt: skip
    shapes = [[re.sub(r"\d+", "0", cell) for cell in row] for row in (names, *rows[:1])]
    alike = len(shapes) == 2 and shapes[0] == shapes[1] and any(char.isdecimal() for char in "".join(names))
    paths = (
        (name for name, below in zip(names, *rows[:1], strict=False) if name.count("/") == below.count("/") > 1)
        if rows
        else ()
    )
    image = next((name for name in filled if name.lower().endswith(ENDINGS)), "") or next(iter(paths), "")
    if image or alike:
        raise InputError("the first row names no columns but is data", given=f"{path}: {image or filled[0]}",
                         todo="put a row of names, such as image,label,patient, above it, or give the folder of images")  # fmt: skip


def missing(path: Path) -> InputError:
    """The error for a path that is not there, with the nearest name beside it."""
    try:
        beside = [p.name for p in path.parent.iterdir()][:500]
    except OSError:
        beside = []
    hint = nearest(path.name, beside) if beside else ""
    todo = hint if hint.startswith("did") else "check the path"
    return InputError("the file does not exist", given=str(path), todo=todo)


def _line(error: Exception | Warning) -> str:
    return " ".join(str(error).split())[:200]


# -- which column means what: found by name, guessed by the names the field uses, refused with the nearest one ----


#: Names that tables in the field use for a role, best first; compared without case, blanks and punctuation.
GUESSES: dict[str, tuple[str, ...]] = {
    "image": ("image", "file", "filename", "imagefile", "imagepath", "filepath", "path", "img", "imgpath", "dicom",
              "imagename", "imageid", "imageindex", "imgid"),
    "case": ("case", "caseid", "imageid", "imgid", "exam", "examid", "accession"),
    "patient": ("patient", "patientid", "pid", "subject", "subjectid", "participant", "participantid", "person",
                "personid", "mrn", "lesionid", "lesion"),
    "label": ("label", "diagnosis", "diagnose", "diagnostic", "diagnostico", "dx", "class", "target", "category", "grade", "classname",
              "finding", "findings", "findinglabels", "labels", "pathology", "befund", "y"),
    "source": ("source", "site", "hospital", "center", "centre", "institution", "scanner", "microscope", "device",
               "manufacturer", "dataset"),
    "view": ("view", "viewposition", "projection", "magnification"),
    "time": ("time", "date", "studydate", "acquisitiondate", "timepoint"),
    "split": ("split", "partition", "subset"),
    "reader": ("reader", "readerid", "radid", "rater", "raterid", "grader", "graderid", "annotator", "observer", "expert",
               "radiologist", "pathologist"),
}  # fmt: skip

#: What makers of data call the parts.
PART_NAMES = {
    "train": "train", "training": "train", "tr": "train", "tuning": "tuning", "tune": "tuning", "val": "tuning",
    "valid": "tuning", "validation": "tuning", "dev": "tuning", "development": "tuning", "test": "test",
    "testing": "test", "tst": "test", "holdout": "test",
}  # fmt: skip


def folded(name: str) -> str:
    """A column name without case, blanks and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@checked
def find(columns: Sequence[str], name: str, flag: str = "") -> str:
    """The column called ``name``; :class:`InputError` names the nearest one and the ``flag``, where only one asks for it."""
    if name in columns:
        return name
    shown = ", ".join(columns[:30]) + (" …" if len(columns) > 30 else "")
    asked = f" for --{flag}" if flag else ""
    raise InputError(f"there is no column {name!r}{asked}", given=f"columns {shown}", todo=nearest(name, columns))


@checked
def here_or_beside(asked: str, here: Path, root: Path) -> Path | None:
    """The file or folder ``asked`` as seen from ``here`` or from the table's ``root``, absolute; None where it is in neither.

    Raises :class:`InputError` where it is one thing here and another there.
    """
    found = [path for path in (here / asked, root / asked) if path.exists()]
    if len(found) > 1 and not found[0].samefile(found[1]):
        raise InputError("a path can be seen from here and from the table, and means two things", given=asked, todo="write the whole path of the one that is meant")  # fmt: skip
    return Path(os.path.abspath(found[0])) if found else None


@checked
def passed_over(path: Path, table: pd.DataFrame, flag: str) -> tuple[str, ...]:
    """A note where a path is read and a column of ``table`` has its name, so that it may have been meant."""
    if path.name not in table.columns:
        return ()
    return (f"{flag}: {path.name} is read as a path, not as the column of that name (rename the column to choose it)",)  # fmt: skip


@checked
def guess(role: str, columns: Iterable[str]) -> str | None:
    """The column whose name says that it is ``role``, or None."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(folded(column), column)
    if "x" in by_name or by_name.get("y", "y").lower() != "y":
        by_name.pop("y", None)  # a coordinate
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


@checked
def given_parts(images: pd.Series, root: Path, files: Sequence[str]) -> tuple[pd.Series, list[str]]:
    """The part of each image from text files that list them, and notes; blank for an image that none lists."""
    part, lines = pd.Series("", index=images.index), 0
    names = images.str.replace(r"^.*/", "", regex=True)
    notes = []
    for file in files:
        path = Path(file) if Path(file).is_absolute() or Path(file).exists() else root / file
        words = [word for word in re.findall("[a-z]+", path.stem.lower()) if word in PART_NAMES]
        if not words:
            raise InputError(
                "the name of a list says no part", given=path.name, todo="call it after train, val or test"
            )
        try:
            listed = {line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()}
        except (OSError, UnicodeDecodeError) as error:
            raise (
                missing(path) if not path.exists() else InputError("the list cannot be read", given=str(path))
            ) from error
        hit = images.isin(listed) | names.isin(listed) | stems(images).isin(listed)
        if (both := hit & (part != "")).any():
            raise InputError("an image is in two lists", given=f"{int(both.sum()):,} images, first {numbered(both)}", todo="correct the lists of --split-from")  # fmt: skip
        which = "train" if "train" in words else PART_NAMES[words[0]]
        part, lines = part.mask(hit, which), lines + len(listed)
        notes.append(f"split: {path.name} lists {len(listed):,} images, {int(hit.sum()):,} of them here: {which}")
    if rest := int((part == "").sum()):
        notes.append(f"split: {rest:,} images are in no list")
    return part, notes


@checked
def stems(images: pd.Series) -> pd.Series:
    """File names without folder and ending where these are enough, else whole paths."""
    names = images.str.replace(r"^.*/", "", regex=True)
    stems = identifiers(names.str.replace(r"(\.nii\.gz|\.jp2|\.j2k|\.[A-Za-z]+)$", "", regex=True))
    return stems if stems.is_unique else images


@checked
def refuse_twice(made: pd.DataFrame) -> None:
    """Raise :class:`InputError` for a case on several rows of one view and time, or of two patients."""
    twice = made.duplicated(["case", "view", "time"], keep=False)
    if twice.any():
        raise InputError(
            "a case stands on more than one row", given=f"{count(int(twice.sum()), 'row')}, first {numbered(twice)}",
            todo="remove the repeated rows, choose another column with --case, or tell the images of one case apart with --view",
        )  # fmt: skip
    torn = made.groupby("case")["patient"].transform("nunique") > 1
    if torn.any():
        raise InputError("a case belongs to two patients", given=f"{count(made['case'][torn].nunique(), 'case')}, first {numbered(torn)}",
                         todo="correct the table, or choose another column with --case")  # fmt: skip


class Roles:
    """Finds the column of each role once, and keeps the notes about what was guessed."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table, self.columns = table, [str(c) for c in table.columns]
        self.notes: list[str] = []
        self.taken: dict[str, str] = {}  # column -> role

    def take(self, role: str, name: str | None, fits: Callable[[pd.Series], bool] | None = None) -> str | None:
        """The column for ``role``: ``name`` if it is given, else a guess that ``fits``; None if there is none."""
        free = (c for c in self.columns if c not in self.taken)
        column = find(self.columns, name, role) if name is not None else guess(role, free)
        if column is None or (name is None and fits is not None and not fits(self.table[column])):
            return None
        if name is None and column != role:
            self.notes.append(f"{role}: guessed column {column!r}; override with --{role}")
        self.taken.setdefault(column, role)
        return column


def numbered(mask: pd.Series) -> str:
    """The first rows of a mask, counted from 1 below the header: a row says which, and not who."""
    numbers = [f"{i + 1:,}" for i in mask.index[mask][:2]]
    return f"row{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}"
