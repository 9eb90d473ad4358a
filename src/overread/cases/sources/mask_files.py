"""Where the masks of a table's images lie: a column of it, or a folder of files named like the images."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from overread.cases.sources.folders import images_below
from overread.cases.sources.layout import Layout
from overread.cases.sources.tables import find, numbered
from overread.core.errors import InputError, checked
from overread.core.phrases import count
from overread.images.address import file_of
from overread.tasks.segmentation import OBJECT

#: Behind the name of an image in that of its mask.
ENDINGS_OF_MASKS = (
    "_mask",
    "-mask",
    "_masks",
    "_label",
    "_labels",
    "_seg",
    "_segmentation",
    "_gt",
    " mask",
    "_outlines",
)
#: In a folder that was named for masks nothing is set aside.
_ALL = Layout(masks="keep")


@dataclass(frozen=True, eq=False)
class FoundMasks:
    """Addresses as seen from the root, blank where there is none, the classes of objects, and what was found out."""

    addresses: pd.Series
    names: tuple[str, ...]
    notes: tuple[str, ...]


@checked
def find_masks(asked: str, table: pd.DataFrame, images: pd.Series, root: Path) -> FoundMasks:
    """The mask of each of the ``images`` (paths as seen from ``root``, with the index of ``table``).

    ``asked``: a column of the table, or a folder. Raises :class:`InputError` for what is neither, and where more than
    half of the masks are not there.
    """
    if asked in table.columns:
        return _of_column(table[asked], images, root)
    folder = next((path for path in (Path(asked), root / asked) if path.is_dir()), None)
    if folder is None:
        find(list(map(str, table.columns)), asked, "mask")
        raise AssertionError
    return _of_folder(Path(os.path.abspath(folder)), images, root)


def _of_column(cells: pd.Series, images: pd.Series, root: Path) -> FoundMasks:
    masks = cells.loc[images.index].astype(str).str.strip().str.replace("\\", "/", regex=False)
    filled = masks[masks != ""]
    there = {file: os.path.exists(root / file) for file in filled.map(file_of).unique()}
    absent = ~masks.map(lambda mask: mask == "" or there[file_of(mask)])
    if absent.sum() * 2 > max(len(filled), 1):
        raise InputError(f"{int(absent.sum()):,} of {count(len(filled), 'mask')} are not there", given=f"first that of {numbered(absent)}",
                         todo="see that the column holds paths as seen from the table")  # fmt: skip
    return FoundMasks(masks, (OBJECT,), _told(masks, absent))


def _told(masks: pd.Series, absent: pd.Series) -> tuple[str, ...]:
    blank = int((masks == "").sum())
    notes = [f"mask: {count(blank, 'image')} without one can neither train nor be judged"] if blank else []
    if absent.any():
        notes.append(f"mask: {int(absent.sum()):,} of {len(masks) - blank:,} files are not there, first that of {numbered(absent)}")  # fmt: skip
    return tuple(notes)


def _of_folder(folder: Path, images: pd.Series, root: Path) -> FoundMasks:
    """Files of a folder by the names of the images, with any ending, or with *_mask* and the like behind."""
    files = images_below(folder, _ALL)[0]
    by_name = defaultdict[str, list[str]](list)
    for file in files:
        for key in _keys(file):
            by_name[key].append(file)
    found = images.map(lambda image: _fitting(str(image), by_name))
    several = found.map(len) > 1
    if several.any():
        two = found[several].iloc[0][:2]
        raise InputError("two masks fit one image", given=f"{numbered(several)}: {two[0]} and {two[1]}",
                         todo="write the masks into a column of the table, and name it with --mask")  # fmt: skip
    base = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()
    masks = found.map(lambda fits: f"{base}/{fits[0]}" if fits else "")
    here = int((masks != "").sum())
    if not here:
        raise InputError("no file of the folder of masks is named like an image", given=f"{count(len(files), 'file')} in {folder.name}",
                         todo="name masks like their images, or write them into a column")  # fmt: skip
    unused = len(files) - here
    notes = [f"mask: {here:,} files of {folder.name} are named like images"]
    notes += [f"mask: {count(unused, 'file')} of {folder.name} {'is' if unused == 1 else 'are'} named like no image, and not used"] if unused else []  # fmt: skip
    return FoundMasks(masks, (OBJECT,), (*notes, *_told(masks, pd.Series(False, index=masks.index))))


def _keys(file: str) -> list[str]:
    """The names of images that a mask may belong to: with its folder, and without."""
    path = PurePosixPath(file.lower())
    stems = [path.stem, *(path.stem.removesuffix(end) for end in ENDINGS_OF_MASKS if path.stem.endswith(end))]
    return list(dict.fromkeys(key for stem in stems for key in ((path.parent / stem).as_posix(), stem)))


def _fitting(image: str, by_name: dict[str, list[str]]) -> list[str]:
    path = PurePosixPath(file_of(image).lower())
    for key in ((path.parent / path.stem).as_posix(), path.stem):
        if key in by_name:
            return by_name[key]
    return []


@checked
def microns(asked: str, table: pd.DataFrame) -> pd.Series:
    """Microns of a pixel for each row: the number that ``asked`` is, or those of the column of that name, NaN where blank.

    Raises :class:`InputError` for another name, for what is no number, and for numbers that are not above 0.
    """
    try:
        size = pd.Series(float(asked), index=table.index)
    except ValueError:
        cells = table[find(list(map(str, table.columns)), asked, "pixel-size")].astype(str).str.strip()
        size = pd.to_numeric(cells.mask(cells == ""), errors="coerce").astype(float)
        if (strange := size.isna() & (cells != "")).any():
            raise InputError("a pixel size is a number of microns", given=f"{numbered(strange)} of the column {asked!r}",
                             todo="correct the cells, or leave them blank") from None  # fmt: skip
    if (wrong := ~(size.isna() | ((size > 0) & (size < 1e6)))).any():
        raise InputError("a pixel size lies above 0 microns", given=f"{asked}, {numbered(wrong)}", todo="give microns of a pixel, such as 0.5")  # fmt: skip
    return size
