"""Cases from a folder of class folders, with ``train``, ``val`` and ``test`` above them or a patient's folder below."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from overread.cases.columns import PART_NAMES
from overread.errors import InputError

#: Endings of files that are taken for images; the content decides later what they are.
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", ".bmp")
_TABLES = (".csv", ".tsv", ".parquet")


def read_folder(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """A row per image: ``image``, ``label``, ``split``, ``patient`` (blank unless every class has folders below).

    Raises :class:`InputError` where there are no class folders with images.
    """
    found = sorted(_images(folder, ""))
    if not found:
        raise InputError("there are no images in class folders here", given=str(folder), todo=_hint(folder))
    pieces = [PurePosixPath(name).parts for name in found]
    top = {piece[0].lower() for piece in pieces}
    above = top <= set(PART_NAMES) and all(len(piece) > 2 for piece in pieces)
    if not all(len(piece) > 1 + above for piece in pieces):
        raise InputError(
            "images stand beside the class folders", given=f"{found[0]} in {folder}", todo=_hint(folder)
        )
    return _table(found, pieces, int(above))


def _table(found: list[str], pieces: list[tuple[str, ...]], above: int) -> tuple[pd.DataFrame, list[str]]:
    nested = all(len(piece) > 2 + above for piece in pieces)
    table = pd.DataFrame({
        "image": found,
        "label": [piece[above] for piece in pieces],
        "split": [PART_NAMES[piece[0].lower()] if above else "" for piece in pieces],
        "patient": [piece[1 + above] if nested else "" for piece in pieces],
    })  # fmt: skip
    notes = ["label: the name of the folder"]
    if nested:
        notes.append("patient: the name of the folder within the class's folder")
    return table, notes


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
