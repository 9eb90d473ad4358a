"""Cases from a folder of class folders, with ``train``, ``val`` and ``test`` above them or a patient's folder below."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from overread.cases.columns import PART_NAMES
from overread.errors import InputError, checked

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
    notes = ["label: the name of the folder"]
    if any(columns["patient"]):
        notes.append("patient: the name of the folder within the class's folder")
    return pd.DataFrame({"image": found, **columns}), notes


@checked
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
