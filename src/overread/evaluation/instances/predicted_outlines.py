"""The waist for masks: a table of images, and a folder of label images that its rows refer to. Torch-free.

``case, patient, split, source``, subgroup columns, then ``predicted`` and ``truth``: the path of a label image beside the
table (0 the background, a number for each object; 8 or 16-bit PNG, 32-bit TIFF), blank where there is none; optional
``pixel_size``, microns a pixel. Classes and scores of objects stand beside it in ``<name>.objects.csv``: ``case``, ``side``
(``predicted``, which a blank means too, or ``truth``), ``object`` (its number in the label image), ``class`` and ``score``.
Where one of our models made the table, ``<name>.model.json`` says so, as beside :mod:`overread.predictions`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.sources.tables import as_text
from overread.core.display import Overview, Shown, panel_of
from overread.core.errors import ImageError, InputError, checked, nearest, require
from overread.core.files import EqualByDigest, sha256_file, unguarded, write_csv, write_json
from overread.core.identifiers import identifiers as written
from overread.core.identifiers import rewritten
from overread.core.phrases import count
from overread.images.image import Limits, read_bytes
from overread.images.outlines.label_image import numbers
from overread.images.outlines.outlines import Outlines, consecutive, outlines_of
from overread.images.outlines.raster import components_of
from overread.predictions import PredictedBy, made_by, with_people

__all__ = ["PredictedOutlines", "are_outlines", "read_labels"]

FIRST = ("case", "patient", "split", "source")
#: The two columns of paths.
SIDES = ("predicted", "truth")
PIXEL_SIZE = "pixel_size"
OBJECTS = ("case", "side", "object", "class", "score")
#: The highest number that a label image of 32 bits can hold.
HIGHEST = 2**32 - 1
#: Label images are as large as the images that they were drawn on, also slides.
LIMITS = Limits(pixels=1_000_000_000, memory=2**34)
#: A label image that holds one of these alone is one mask, as mask editors save it: its components are the objects.
MASK_VALUES = (255, 65_535)


@dataclass(frozen=True, eq=False)
class PredictedOutlines(EqualByDigest, Shown):
    """One row an image. ``table`` has the columns of the module's docstring, ``folder`` is where its paths begin.

    ``objects``: classes and scores, in the columns :data:`OBJECTS`; empty where objects have none. ``notes`` say what was
    changed or guessed in reading. ``by``: what the model says of itself, if it is one of ours. Raises
    :class:`InputError` for missing columns, an image that stands twice, a path that leads out of the folder or to
    nothing, a pixel size that is no number above 0, and classes of images that are not there.
    """

    table: pd.DataFrame
    folder: str = field(compare=False)
    objects: pd.DataFrame = field(default_factory=lambda: _no_objects())
    notes: tuple[str, ...] = field(default=(), compare=False)
    by: PredictedBy | None = None
    identifiers: str = "ask"

    def __post_init__(self) -> None:
        for column in (*FIRST, *SIDES):
            if column not in self.table.columns:
                raise InputError(f"the table of outlines lacks the column {column!r}",
                                 given=", ".join(map(str, self.table.columns))[:200], todo=nearest(column, self.table.columns))  # fmt: skip
        table = self.table.reset_index(drop=True)
        changed: dict[str, Any] = {role: written(table[role]) for role in ("case", "patient")}
        notes = [rewritten(table[role], column, role) for role, column in changed.items()]
        twice = int(changed["case"].duplicated().sum())
        if twice:
            raise InputError("an image stands in the table twice", given=f"{count(twice, 'row')} too many")
        for side in SIDES:
            changed[side] = table[side].astype(object).where(table[side].notna(), "").astype(str).str.strip()
            for row, path in enumerate(changed[side]):
                if path:
                    _inside(self.folder, path, side, row)
        if PIXEL_SIZE in table:
            changed[PIXEL_SIZE] = _sizes(table[PIXEL_SIZE])
        object.__setattr__(self, "table", table.assign(**changed))
        object.__setattr__(self, "objects", _objects(self.objects, set(changed["case"])))
        object.__setattr__(self, "notes", (*self.notes, *(note for note in notes if note and note not in self.notes)))

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of objects, by the alphabet; empty where objects have none."""
        return tuple(sorted(set(self.objects["class"]) - {""}))

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether an image has both a prediction and a truth."""
        return ((self.table["predicted"] != "") & (self.table["truth"] != "")).to_numpy()

    @property
    def patients(self) -> NDArray[Any]:
        """The patient of each row."""
        return self.table["patient"].to_numpy()

    @property
    def pixel_sizes(self) -> NDArray[np.float64]:
        """(N,) microns a pixel, NaN where unknown."""
        if PIXEL_SIZE not in self.table:
            return np.full(len(self), np.nan)
        return self.table[PIXEL_SIZE].to_numpy(np.float64)

    @property
    def subgroups(self) -> tuple[str, ...]:
        """Columns that are neither roles nor paths."""
        return tuple(c for c in self.table.columns if c not in {*FIRST, *SIDES, PIXEL_SIZE})

    def labels(self, row: int) -> Outlines:
        """What was predicted in the image of a row. Raises :class:`ImageError` where there is none, or it cannot be read."""
        return self._read(row, "predicted")

    def truth(self, row: int) -> Outlines:
        """The true objects of the image of a row. Raises :class:`ImageError` where they are unknown or cannot be read."""
        return self._read(row, "truth")

    def pair(self, row: int) -> tuple[Outlines, Outlines]:
        """Truth and prediction of a row; raises :class:`ImageError` where they differ in size."""
        truth, predicted = self.truth(row), self.labels(row)
        if truth.size != predicted.size:
            (a, b), (c, d) = truth.size, predicted.size
            raise ImageError("the outlines and their truth are images of different sizes", given=f"row {row + 1} of the table: truth {b} × {a}, predicted {d} × {c}",
                             todo="write label images in the size of the image")  # fmt: skip
        return truth, predicted

    def _read(self, row: int, side: str) -> Outlines:
        require(0 <= row < len(self), "there is no such row", given=f"{row} of {len(self):,}")
        path, case = str(self.table[side].iloc[row]), str(self.table["case"].iloc[row])
        if not path:
            none = "no outlines were predicted" if side == "predicted" else "the true outlines are not known"
            raise ImageError(f"{none} for this image", given=f"row {row + 1} of the table")
        return read_labels(Path(self.folder) / path, self.classes_of(case, side))

    def classes_of(self, case: str, side: str) -> dict[int, str]:
        """The classes of the objects of an image by their numbers; empty where none has one."""
        return self._classes.get((case, side), {})

    @cached_property
    def _classes(self) -> dict[tuple[str, str], dict[int, str]]:
        held: dict[tuple[str, str], dict[int, str]] = {}
        rows = zip(*(self.objects[c].tolist() for c in ("case", "side", "object", "class")))
        for case, side, number, name in rows:
            held.setdefault((case, side), {})[number] = name
        return held

    @cached_property
    def digest(self) -> str:
        """Hash of the content, of the label images too: the same before and after a file."""
        content = hashlib.sha256()
        for table in (self.table.drop(columns=[*SIDES]), self.objects):
            content.update(table.to_csv(index=False, lineterminator="\n").encode("utf-8", "surrogatepass"))
        for side in SIDES:
            for path in self.table[side]:
                content.update(f"\n{sha256_file(Path(self.folder) / path) if path else ''}".encode())
        return content.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        return f"outlines in {count(len(self), 'image')} of {count(self.table['patient'].nunique(), 'patient')}"

    __repr__ = __str__

    def to_frame(self) -> pd.DataFrame:
        """A row an image, in the columns of the module's docstring."""
        return self.table.copy()

    def overview(self) -> Overview:
        """How many images are known, and the first rows without the patients."""
        shown = [c for c in self.table.columns if c != "patient" and not (self.table[c].astype(str) == "").all()]
        known = (
            f", {count(int((~self.known).sum()), 'image')} without truth or prediction" if not self.known.all() else ""
        )
        return Overview(f"{self}{known}", (panel_of(self.table[shown], "The first rows", most=5),), self.notes)

    def only(self, rows: NDArray[Any]) -> PredictedOutlines:
        """The rows at these positions, or where a boolean mask is true."""
        table = self.table[rows] if rows.dtype == bool else self.table.iloc[rows]
        kept = self.objects["case"].isin(set(table["case"]))
        return replace(self, table=table, objects=self.objects[kept].reset_index(drop=True))

    def save(self, path: str | Path) -> Path:
        """Write the table, the classes of objects and what the model says of itself; in another folder than its own, the
        label images are copied along."""
        path = Path(path)
        if path.parent.resolve() != Path(self.folder).resolve():
            for relative in sorted({p for side in SIDES for p in self.table[side] if p}):
                (path.parent / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(self.folder) / relative, path.parent / relative)
        if len(self.objects):
            write_csv(_beside(path), self.objects, float_format="%.9g")
        else:
            _beside(path).unlink(missing_ok=True)
        if self.by is not None:
            write_json(path.with_suffix(".model.json"), self.by)
        else:
            path.with_suffix(".model.json").unlink(missing_ok=True)
        return write_csv(path, self.table, float_format="%.9g")

    @classmethod
    def read(cls, path: str | Path, *, identifiers: str = "", only: tuple[str, str] | None = None) -> PredictedOutlines:
        """Read a table and what stands beside it; the label images are found from its folder.

        ``identifiers`` as in :meth:`.Predictions.read`; ``only``: a column and the text in it of the rows to take, where a
        table holds the outlines of several segmenters. Raises :class:`InputError` for a missing file and as the class.
        """
        path, by = Path(path), made_by(path)
        answer = identifiers or (by.identifiers if by else "") or "ask"
        table, unnamed = table_of(path, (*FIRST, *SIDES, *(only or ())[:1])), []
        if only is not None:
            table = table[table[only[0]] == only[1]].reset_index(drop=True)
        if "case" not in table:  # who the patients are is another column
            table = table.assign(case=[str(n) for n in range(1, len(table) + 1)])
            unnamed = ["case: no column names the images, so they are numbered"]
        table, notes = with_people(table, answer)
        held = table_of(_beside(path), OBJECTS[:4]) if _beside(path).exists() else _no_objects()
        return cls(table, str(path.parent), held, (*notes, *unnamed), by, answer)


@checked
def are_outlines(path: str | Path) -> bool:
    """Whether a table is one of outlines: its column ``predicted`` names files, not numbers. No table is none."""
    try:
        head = table_of(Path(path), SIDES, rows=50)
    except InputError:
        return False
    if "predicted" not in head or "value" in head:
        return False
    named = head["predicted"].astype(str).str.strip()
    return "truth" in head or bool(pd.to_numeric(named[named != ""], errors="coerce").isna().any())


@checked
def read_labels(path: str | Path, classes: Mapping[int, str] | None = None) -> Outlines:
    """The objects of a label image, one for each number in it, whatever its pieces; ``classes`` by those numbers.

    An image of 0 and 255 (or 65535) alone is one mask, whose connected components are the objects, which is noted.
    Raises :class:`ImageError` for what is damaged or holds no labels.
    """
    data = read_bytes(path, limits=LIMITS)
    try:
        values, notes = numbers(data, LIMITS)
    except ImageError as error:
        raise ImageError(f"a label image cannot be read: {error.what}", given=error.given, todo=error.todo) from error
    values = values.astype(np.uint8) if values.dtype == bool else values
    found = np.unique(values[values > 0]) if values.size and int(values.max()) in MASK_VALUES else ()
    if len(found) == 1:
        one = components_of(values > 0, notes)
        return outlines_of(one.labels, notes=one.notes)
    drawn = outlines_of(values)
    named = drawn.classes
    if classes:  # only numbers that are present: the highest may be any that a file can hold
        named = tuple(classes.get(int(number), "") for number in consecutive(values)[1])
    return Outlines(drawn.labels, named, notes)  # that numbers have gaps is nothing to tell


@checked
def table_of(path: Path, text: Sequence[str], rows: int | None = None) -> pd.DataFrame:
    """A CSV of outlines, the columns ``text`` as text; the first ``rows``. Raises :class:`InputError` for none."""
    try:
        head = pd.read_csv(path, nrows=0).columns
        held = pd.read_csv(path, dtype={c: str for c in text if c in head}, keep_default_na=False, nrows=rows,
                           na_values={c: [""] for c in head if c in (PIXEL_SIZE, "score")})  # fmt: skip
    except FileNotFoundError as error:
        raise InputError("the outlines do not exist", given=Path(path).name, todo="check the path") from error
    except (OSError, ValueError) as error:
        raise InputError("the outlines cannot be read", given=f"{Path(path).name}: {error}"[:300]) from error
    return unguarded(held.assign(**{c: as_text(held[c]) for c in text if c in held}))


def _inside(folder: str, path: str, side: str, row: int) -> None:
    """Refuse a path that leads out of the folder, also by a link, or to no file."""
    given = f"row {row + 1}, column {side}"
    home = Path(folder).resolve()
    try:
        place = (home / path).resolve()
        outside, there = not place.is_relative_to(home) or Path(path).is_absolute(), place.is_file()
    except (OSError, ValueError, RuntimeError):
        outside, there = True, False
    if outside:
        raise InputError("a path of a label image leads out of the table's folder", given=given, todo="give paths beside the table")  # fmt: skip
    if not there:
        raise InputError("a label image is missing", given=given, todo="give paths as they are seen from the table's folder")  # fmt: skip


def _sizes(column: pd.Series) -> pd.Series:
    size = pd.to_numeric(column, errors="coerce")
    blank = column.isna() | (column.astype(str).str.strip() == "")
    wrong = int((~blank & ~(np.isfinite(size) & (size > 0))).sum())
    if wrong:
        raise InputError("a pixel size is a number of microns above 0", given=count(wrong, "row"), todo="leave it blank where it is not known")  # fmt: skip
    return size.astype(np.float64)


def _no_objects() -> pd.DataFrame:
    return pd.DataFrame({c: pd.Series(dtype=np.int64 if c == "object" else np.float64 if c == "score" else object) for c in OBJECTS})  # fmt: skip


def _objects(given: pd.DataFrame, cases: set[str]) -> pd.DataFrame:
    """The classes of objects in their one form."""
    for column in ("case", "object", "class"):
        if column not in given:
            raise InputError(f"the table of objects lacks the column {column!r}", given=", ".join(map(str, given.columns))[:200],
                             todo=f"give {', '.join(OBJECTS)}")  # fmt: skip
    side = given["side"].astype(object).replace("", "predicted") if "side" in given else "predicted"
    number = pd.to_numeric(given["object"], errors="coerce")
    made = pd.DataFrame({"case": written(given["case"]), "side": side, "object": number, "class": given["class"].astype(object),
                         "score": pd.to_numeric(given["score"], errors="coerce") if "score" in given else np.nan})  # fmt: skip
    whole = np.isfinite(number) & (number >= 1) & (number <= HIGHEST) & (number == number.round())
    bad = ~whole | ~made["side"].isin(SIDES)
    if bad.any():
        raise InputError("a row of the table of objects names no object", given=count(int(bad.sum()), "row"),
                         todo=f"give the number of the object in its label image, 1 to {HIGHEST:,}, and predicted or truth as its side")  # fmt: skip
    strange = ~made["case"].isin(cases)
    if strange.any():
        raise InputError("the table of objects names images that are not in the table of outlines", given=count(int(strange.sum()), "row"))  # fmt: skip
    if made.duplicated(["case", "side", "object"]).any():
        raise InputError("an object stands in the table of objects twice", given=count(int(made.duplicated(["case", "side", "object"]).sum()), "row"))  # fmt: skip
    return made.astype({"object": np.int64, "score": np.float64}).reset_index(drop=True)


def _beside(path: Path) -> Path:
    return path.with_suffix(".objects.csv")
