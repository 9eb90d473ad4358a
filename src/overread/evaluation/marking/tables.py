"""Marks and lesions from tables: which mark hit which lesion, and how many images there were."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.columns import find, guess, known
from overread.cases.labels import natural
from overread.cases.tables import read_table
from overread.errors import InputError, checked, require
from overread.record import sha256
from overread.stats.arrays import patient_codes

_AXES = ("x", "y", "z")


@dataclass(frozen=True, eq=False)
class Marks:
    """Marks and lesions on N images, ready to be counted.

    ``lesion_image`` (L,), ``patients`` (N,) numbers; ``marks``: a row for each mark, with the columns ``reader``,
    ``image`` (0 … N−1), ``score`` and ``hit`` (the lesion 0 … L−1, or −1). ``rule`` says how hits were found,
    ``digest`` is the hash of images and lesions.
    """

    images: int
    lesion_image: NDArray[np.int64]
    patients: NDArray[np.int64]
    marks: pd.DataFrame
    rule: str
    digest: str

    @property
    def readers(self) -> tuple[str, ...]:
        """Who marked, in natural order; one blank where the table does not say."""
        return tuple(sorted(self.marks["reader"].unique(), key=natural)) or ("",)

    def __str__(self) -> str:
        return f"{len(self.marks):,} marks on {self.images:,} images with {len(self.lesion_image):,} lesions"

    __repr__ = __str__


@checked
def read_marks(
    marks: str | os.PathLike[str], lesions: str | os.PathLike[str], images: int | str | os.PathLike[str] | None = None,
    *, tolerance: float | None = None,
) -> Marks:  # fmt: skip
    """Marks and lesions from tables.

    ``marks``: ``image`` (or ``case``), ``score``, and ``lesion`` (the id of the lesion that is hit, blank for none) or
    ``x, y`` (and ``z``); optional ``reader`` or ``model``, and ``patient``. ``lesions``: ``image`` and ``lesion``, and
    for places ``x, y`` (``z``) with ``radius`` in the same unit. ``images``: their number, or a table of ``image``
    (and ``patient``), because images with neither marks nor lesions count. ``tolerance``: the radius of lesions that
    have none. A mark hits the nearest lesion centre among those within whose radius it lies.

    Raises :class:`InputError` for missing tables or columns, unknown lesions or images, a lesion that stands twice,
    numbers that are none, or where ``images`` is missing or too small.
    """
    require(tolerance is None or (tolerance >= 0 and math.isfinite(tolerance)), "tolerance must not be negative", given=tolerance)  # fmt: skip
    said, true = _table(marks), _table(lesions)
    names, people = _images(images, said, true)
    said["image"], true["image"] = (_place(names, t["image"], which) for t, which in ((said, "marks"), (true, "lesions")))  # fmt: skip
    true = _once(true)
    said["score"] = _numbers(said, "score", "marks")
    if "lesion" in said:
        rule, hit = "the lesion that each mark names", _by_name(said, true)
    else:
        rule, hit = _by_place(said, true, tolerance)
    made = said.assign(hit=hit)[["reader", "image", "score", "hit"]].reset_index(drop=True)
    held = pd.DataFrame({"image": true["image"].map(dict(enumerate(names))), "lesion": true["lesion"]})
    text = "\n".join(names) + held.sort_values(["image", "lesion"]).to_csv(index=False, lineterminator="\n")
    return Marks(
        len(people), true["image"].to_numpy(np.int64), people, made, rule, sha256(text.encode())[:16]
    )


def _table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """With the columns ``image`` and ``reader``, as text."""
    table = _empty(Path(path))
    table = read_table(Path(path)) if table is None else table
    columns = [str(c) for c in table.columns]
    image = "image" if "image" in columns else guess("image", columns) or guess("case", columns)
    table = table.rename(columns={image or find(columns, "image", "image"): "image"})
    reader = next((c for c in ("reader", "model") if c in columns), None)
    blank = int((known(table["image"]) == "").sum())
    if blank:
        raise InputError(
            "a row names no image", given=f"{blank:,} rows of {Path(path).name}", todo="complete the table"
        )
    return table.assign(reader=table[reader] if reader else "")


def _empty(path: Path) -> pd.DataFrame | None:
    """A table with a header and no rows: nothing was marked, or there are no lesions. None for any other."""
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file() or path.stat().st_size > 1 << 16:
        return None
    lines = path.read_text(encoding="utf-8-sig", errors="replace").strip().splitlines()
    cut = "\t" if path.suffix.lower() == ".tsv" else ","
    return (
        pd.DataFrame({c.strip(): pd.Series(dtype=str) for c in lines[0].split(cut)})
        if len(lines) == 1
        else None
    )


def _images(
    images: int | str | os.PathLike[str] | None, marks: pd.DataFrame, lesions: pd.DataFrame
) -> tuple[list[str], NDArray[np.int64]]:
    """The names of the images that a table names, and the patient of every image (N,)."""
    if images is None:
        raise InputError("the number of images is not known: those with neither marks nor lesions count too",
                         given=f"{len({*marks['image'], *lesions['image']}):,} images with marks or lesions",
                         todo="give --images with their number, or a table with a column image")  # fmt: skip
    if not isinstance(images, int):
        table = _table(images).drop_duplicates("image")
        return list(table["image"]), _patients(list(table["image"]), table, marks, lesions)
    names = list(dict.fromkeys([*lesions["image"], *marks["image"]]))
    if images < len(names):
        raise InputError("there are more images than that", given=f"{images:,} images, {len(names):,} with marks or lesions", todo="correct --images")  # fmt: skip
    named = _patients(names, marks, lesions)
    rest = np.arange(images - len(names)) + (named.max() + 1 if len(named) else 0)
    return names, np.concatenate((named, rest)).astype(np.int64)


def _patients(names: list[str], *tables: pd.DataFrame) -> NDArray[np.int64]:
    """Each image its own patient, but where a table names one; refuses an image of two patients."""
    person: dict[str, str] = {}
    for table in tables:
        if "patient" not in table:
            continue
        pairs = table.loc[known(table["patient"]) != "", ["image", "patient"]].drop_duplicates()
        torn = sum(person.setdefault(i, p) != p for i, p in pairs.itertuples(index=False))
        if torn:
            raise InputError(
                "an image belongs to two patients", given=f"{torn:,} images", todo="correct the tables"
            )
    codes = patient_codes(
        np.array([person.get(name, f"image {name}") for name in names], dtype=object), len(names)
    )
    return codes


def _place(names: list[str], images: pd.Series, which: str) -> NDArray[np.int64]:
    place = pd.Index(names).get_indexer(pd.Index(images))
    lost = int((place < 0).sum())
    if lost:
        raise InputError(f"{which} lie on images that are not in the table of images", given=f"{lost:,} {which}",
                         todo="list every image, named alike in all tables")  # fmt: skip
    return place.astype(np.int64)


def _once(lesions: pd.DataFrame) -> pd.DataFrame:
    if "lesion" not in lesions:
        lesions = lesions.assign(lesion=lesions.groupby("image").cumcount().astype(str))
    twice = int(lesions.duplicated(["image", "lesion"]).sum())
    if twice:
        raise InputError("a lesion stands more than once", given=f"{twice:,} rows too many", todo="give each lesion of an image its own id")  # fmt: skip
    return lesions.reset_index(drop=True)


def _numbers(table: pd.DataFrame, name: str, which: str, *, blank: bool = False) -> NDArray[np.float64]:
    text = known(table[find([str(c) for c in table.columns], name, name)].astype(str))
    number = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    wrong = ~np.isfinite(number) & ~(blank & (text == "").to_numpy())
    if wrong.any():
        raise InputError(f"{name} is not a finite number in the table of {which}", given=f"{int(wrong.sum()):,} of {len(text):,} rows",
                         todo="correct these rows, or leave out marks without a score")  # fmt: skip
    return number


def _by_name(marks: pd.DataFrame, lesions: pd.DataFrame) -> NDArray[np.int64]:
    named = known(marks["lesion"])
    keys = pd.MultiIndex.from_frame(lesions[["image", "lesion"]])
    hit = keys.get_indexer(pd.MultiIndex.from_arrays([marks["image"], named]))
    strange = int(((hit < 0) & (named != "").to_numpy()).sum())
    if strange:
        raise InputError("marks hit lesions that are not in the table of lesions of their image", given=f"{strange:,} marks",
                         todo="leave lesion blank for a false positive")  # fmt: skip
    return np.where(named == "", -1, hit).astype(np.int64)


def _by_place(
    marks: pd.DataFrame, lesions: pd.DataFrame, tolerance: float | None
) -> tuple[str, NDArray[np.int64]]:
    """The nearest lesion centre of the mark's image within whose radius it lies, or −1."""
    axes = [a for a in _AXES if a != "z" or ("z" in marks and "z" in lesions)]
    here, there = (np.column_stack([_numbers(t, a, which) for a in axes]) for t, which in ((marks, "marks"), (lesions, "lesions")))  # fmt: skip
    radius = _numbers(lesions, "radius", "lesions", blank=True) if "radius" in lesions else np.full(len(lesions), math.nan)  # fmt: skip
    lost = int(np.isnan(radius).sum())
    if lost and tolerance is None:
        raise InputError("lesions have no radius, so it is not known what hits them", given=f"{lost:,} of {len(lesions):,} lesions",
                         todo="add a column radius, or give --tolerance")  # fmt: skip
    radius = np.where(np.isnan(radius), tolerance or 0.0, radius)
    of_image = lesions.groupby("image").indices
    hit = np.full(len(marks), -1)
    for image, rows in marks.groupby("image").indices.items():
        if image in of_image:
            candidates = of_image[image]
            apart = np.sqrt(((here[rows, None] - there[None, candidates]) ** 2).sum(axis=2))
            apart[apart > radius[None, candidates] * (1 + 1e-12)] = math.inf
            near = apart.argmin(axis=1)
            hit[rows] = np.where(np.isfinite(apart[np.arange(len(rows)), near]), candidates[near], -1)
    within = f"a radius of {tolerance:g}" if lost == len(lesions) and lost else "the lesion's radius"
    return f"the nearest lesion centre within {within}", hit.astype(np.int64)
