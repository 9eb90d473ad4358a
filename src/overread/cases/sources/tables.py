"""Tables from files: CSV, TSV and Parquet, every cell as text, so that nothing is guessed twice."""

from __future__ import annotations

import csv
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from overread.core.errors import InputError, checked, nearest
from overread.images.address import file_of

#: Columns a table may have; more is an attack or a transposed table.
MAX_COLUMNS = 10_000
_HEAD = 8 << 20  # bytes in which the header must end


@checked
def read_table(path: Path) -> pd.DataFrame:
    """The table in a CSV, TSV or Parquet file: text cells, blank where nothing stands.

    Raises :class:`InputError` for a missing, damaged, ragged or empty table and for a column name that stands twice.
    """
    table = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_text(path)
    if table.empty:
        raise InputError("the table holds no rows", given=str(path), todo="check that the file was exported completely")
    return table.apply(lambda column: column.str.strip())


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow

    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError("the Parquet file cannot be read", given=f"{path}: {_line(error)}") from error
    return table.astype(object).where(table.notna(), "").astype(str).rename(columns=str)


def _read_text(path: Path) -> pd.DataFrame:
    names, separator = _header(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig",
                               index_col=False, header=0, names=names)  # fmt: skip
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise InputError("the table cannot be read", given=f"{path}: {_line(error)}",
                         todo="every row needs as many cells as the header; quote cells that hold the separator") from error  # fmt: skip


def _header(path: Path) -> tuple[list[str], str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            head = handle.read(_HEAD)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise missing(path) from error
    except UnicodeDecodeError as error:
        todo = "save it as CSV with UTF-8 encoding"
        raise InputError("the table is not UTF-8 text", given=str(path), todo=todo) from error
    except OSError as error:
        raise InputError("the table cannot be read", given=f"{path}: {error.strerror}") from error
    if not head.strip():
        raise InputError("the table is empty", given=str(path), todo="check that the file was exported completely")
    return _names(head, path)


def _names(head: str, path: Path) -> tuple[list[str], str]:
    first = head.split("\n", 1)[0]
    separator = max(",\t;|", key=first.count)  # the first of equals: a comma
    try:
        names = [name.strip() for name in next(csv.reader(io.StringIO(head), delimiter=separator))]
    except csv.Error as error:
        raise InputError("the header of the table cannot be read", given=f"{path}: {error}") from error
    if len(names) > MAX_COLUMNS:
        given, todo = f"{len(names):,} columns", f"at most {MAX_COLUMNS:,} are read"
        raise InputError("the table has too many columns", given=given, todo=todo)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        what = f"the column {min(twice)!r} stands twice in the header"
        raise InputError(what, given=str(path), todo="rename one of them")
    return names, separator


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
    "reader": ("reader", "readerid", "rater", "raterid", "grader", "graderid", "annotator", "observer", "expert",
               "radiologist", "pathologist"),
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
    raise InputError(f"there is no column {name!r} for --{flag}", given=f"columns {shown}", todo=nearest(name, columns))


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


# -- cases from a folder of class folders, with ``train``, ``val`` and ``test`` above them or a patient's folder below ---


#: Endings of files that are taken for images; the content decides later what they are.
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", ".bmp", ".jp2", ".j2k", ".webp", ".nii", ".nii.gz",
           ".nrrd", ".mha", ".mhd")  # fmt: skip
_TABLES = (".csv", ".tsv", ".parquet")


def read_folder(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """A row per image: ``image``, ``label``, ``split``, ``patient`` (blank unless every class has folders below).

    Raises :class:`InputError` where there are no class folders with images.
    """
    found = sorted(_images(folder, ""))
    if not found:
        raise InputError("there are no images in class folders here", given=str(folder), todo=_hint(folder))
    try:
        columns = class_folders(found)
    except InputError as error:
        raise InputError(error.what, given=str(folder), todo=_hint(folder)) from error
    patient = ["patient: the name of the folder within the class's folder"] if any(columns["patient"]) else []
    return pd.DataFrame({"image": found, **columns}), ["label: the name of the folder", *patient]


def class_folders(images: list[str]) -> dict[str, list[str]]:
    """What the folders above ``images`` say: ``label``, ``split``, and ``patient`` (blank unless all have one).

    Raises :class:`InputError` if an image does not lie in a class's folder.

    >>> class_folders(["train/mel/1.png", "test/nv/2.png"])["split"]
    ['train', 'test']
    """
    pieces = [PurePosixPath(name).parts for name in images]
    top = {piece[0].lower() for piece in pieces}
    above = int(top <= set(PART_NAMES) and all(len(piece) > 2 for piece in pieces))
    if not all(len(piece) > 1 + above for piece in pieces):
        raise InputError("images stand beside the class folders", given=f"{len(images):,} images",
                         todo="name a column of labels with --label, or give a table of labels with --labels-from")  # fmt: skip
    nested = all(len(piece) > 2 + above for piece in pieces)
    return {
        "label": [piece[above] for piece in pieces],
        "split": [PART_NAMES[piece[0].lower()] if above else "" for piece in pieces],
        "patient": [piece[1 + above] if nested else "" for piece in pieces],
    }


def _images(folder: Path, prefix: str, depth: int = 0) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError("the folder cannot be read", given=f"{folder}: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False) and depth < 8:  # a loop of links is not followed
            yield from _images(Path(entry.path), f"{prefix}{entry.name}/", depth + 1)
        elif entry.name.lower().endswith(ENDINGS) and entry.is_file():
            yield prefix + entry.name


def _hint(folder: Path) -> str:
    tables = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _TABLES)
    if tables:
        return f"read the table {tables[0]} that lies in it"
    return "give a table (CSV, TSV, Parquet), a MedMNIST .npz, or a folder with one folder per class"


# -- where the images of a table lie: as it says, or in a usual folder and with an ending that it leaves out ------


_FOLDERS = ("", "images/", "image/", "imgs/", "img/", "data/", "png/", "jpg/")


def locate(images: pd.Series, root: Path) -> tuple[pd.Series, list[str]]:
    """Paths as they stand if the files are there; else with a usual folder before and an ending behind."""
    images = images.str.replace("\\", "/", regex=False)
    _refuse_addresses(images)
    sample = images.iloc[:: max(1, len(images) // 20)].tolist()
    for folder, ending in [(f, e) for e in ("", *ENDINGS) for f in _FOLDERS]:
        if any(_exists(root, f"{folder}{name}{ending}") for name in sample if name):
            notes = [f"image: files are found as {folder}<name>{ending}"] if folder or ending else []
            return _count(images.where(images == "", folder + images + ending), root, notes)
    raise InputError("the images are not there", given=f"0 of {len(sample)} tried in {root}, among them that of row 1",
                     todo="choose the column of file names with --image; they are relative to the table")  # fmt: skip


def _refuse_addresses(images: pd.Series) -> None:
    remote = images.str.match(r"[A-Za-z][A-Za-z0-9+.-]+://")
    if remote.any():
        raise InputError("images are read from files, never from the network", given=numbered(remote),
                         todo="download them first and name the files")  # fmt: skip


def _exists(root: Path, image: str) -> bool:
    try:
        return os.path.isfile(root / file_of(image))
    except ValueError:  # a null byte in the name
        return False


def _count(images: pd.Series, root: Path, notes: list[str]) -> tuple[pd.Series, list[str]]:
    file = images.map(file_of)
    there = {name: _exists(root, name) for name in file.unique()}
    absent = images[~file.map(there)]
    if len(absent) * 2 > len(images):
        raise InputError(f"{len(absent):,} of {len(images):,} images are not there", given=f"first that of row {absent.index[0] + 1:,}, in {root}",
                         todo="complete the folder, or choose another column with --image")  # fmt: skip
    if len(absent):
        first = f"first that of row {absent.index[0] + 1:,}; the audit sets them aside"
        notes = [*notes, f"image: {len(absent):,} of {len(images):,} files are not there, {first}"]
    return images, notes


def numbered(mask: pd.Series) -> str:
    """The first rows of a mask, counted from 1 below the header: a row says which, and not who."""
    numbers = [f"{i + 1:,}" for i in mask.index[mask][:2]]
    return f"row{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}"
