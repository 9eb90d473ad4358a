"""Where the images of a table lie: as it says, or in a usual folder and with an ending that it leaves out."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from overread.cases.folders import ENDINGS
from overread.errors import InputError
from overread.images.address import file_of

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
        notes = [
            *notes,
            f"image: {len(absent):,} of {len(images):,} files are not there, first that of row {absent.index[0] + 1:,}; the audit sets them aside",
        ]
    return images, notes


def numbered(mask: pd.Series) -> str:
    """The first rows of a mask, counted from 1 below the header: a row says which, and not who."""
    numbers = [f"{i + 1:,}" for i in mask.index[mask][:2]]
    return f"row{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}"
