"""Images that a model has not seen, as people name them: files, a folder, an archive, a pattern; never a table."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from overread.cases.cases import ROLES, WHOLE, Cases, Planes
from overread.cases.frame_stacks import arranged
from overread.cases.sources import dicom_export
from overread.cases.sources.folders import images_below
from overread.cases.sources.layout import Layout
from overread.cases.sources.read_cases import read_images
from overread.cases.sources.slides import as_slides
from overread.cases.sources.tables import ENDINGS, PLAIN
from overread.core.errors import InputError, checked
from overread.core.phrases import count
from overread.images.address import Address, file_of
from overread.images.dicom.header import is_dicom_file
from overread.images.formats import archives
from overread.tasks.target import Target

_DICOM = (".dcm", ".dicom")
_FLAT = tuple(ending for ending in ENDINGS if ending not in _DICOM)


@checked
def image_cases(
    given: Sequence[str], target: Target, *, alone: bool = True, planes: Planes = WHOLE, layout: Layout = PLAIN
) -> Cases:
    """The images of one folder, archive or DICOMDIR, or of several files, as cases of ``target`` without labels.

    ``alone``: each image is a case; otherwise DICOM says which belong together. The patient is as DICOM names him,
    blank elsewhere. Raises :class:`InputError` where there is no image, and for folders among several files.
    """
    first = Path(given[0])
    flat = _members(first) if len(given) == 1 and not dicom_export.is_tree(first) else []
    if flat or len(given) > 1:
        read = _listed([str(first.parent / name) for name in flat] or given, target)
        if planes.slides:
            read = as_slides(read)
        elif planes.frames:
            read = arranged(read, Planes(frames=planes.frames))
    else:
        read = read_images(first, target, names="keep", planes=planes, layout=layout)
        read = _with_flat_images(read, first, layout) if dicom_export.is_tree(first) else read
    table = read.table
    bare = table["patient"] == table["image"]
    case = table["image"] if alone else table["case"]
    return replace(read, table=table.assign(patient=table["patient"].mask(bare, ""), case=case))


@checked
def expanded(given: Sequence[str]) -> list[str]:
    """Paths, with the files that patterns such as ``scans/*.dcm`` stand for where the shell has left them as they are.

    Raises :class:`InputError` for a pattern that no file fits, and for a blank path.
    """
    found: list[str] = []
    for text in given:
        if not text.strip():
            raise InputError("a path is blank", todo="name an image, a folder or a table")
        some = [text] if _file(text).exists() or not glob.has_magic(text) else sorted(glob.glob(text, recursive=True))
        if not some:
            raise InputError("no file fits the pattern", given=text, todo="check the path")
        found += some
    return found


@checked
def holds_images(text: str) -> bool:
    """Whether a path or address is an image, or holds images: not a table. Raises :class:`InputError` if it is missing."""
    file = _file(text)
    if not file.exists():
        raise InputError("the folder or file does not exist", given=text, todo="check the path")
    image = file.is_file() and (file.name.lower().endswith(ENDINGS) or is_dicom_file(file))
    return image or file.is_dir() or dicom_export.is_tree(file) or bool(_members(file))


@checked
def is_image(text: str) -> bool:
    """Whether a path or address is one image: neither a folder nor an archive nor a DICOMDIR."""
    file = _file(text)
    archive = file.name.lower().endswith(".zip") and text == str(file)
    return file.is_file() and not archive and not dicom_export.is_directory(file)


def _file(text: str) -> Path:
    """The file of a path or of an address."""
    return Path(text) if Path(text).exists() else Path(file_of(text))


def _with_flat_images(read: Cases, place: Path, layout: Layout) -> Cases:
    """With the images beside the DICOM files of a folder or an archive."""
    names, notes = images_below(place, layout) if place.is_dir() else (_members(place), [])
    names = [name for name in names if not name.lower().endswith(_DICOM)]
    if not names:
        return read
    more = _bare(names, read.target, tuple(read.table.columns))
    told = f"{count(len(read), 'DICOM image')} and {count(len(names), 'other image')}"
    return replace(read, table=pd.concat([read.table, more], ignore_index=True), notes=(told, *read.notes, *notes))


def _members(file: Path) -> list[str]:
    """The flat images in a zip archive, as addresses relative to its folder; none of anything else."""
    if not (file.is_file() and archives.is_archive(file)):
        return []
    return [str(Address(file.name, name)) for name in archives.members(file) if name.lower().endswith(_FLAT)]


def _listed(files: Sequence[str], target: Target) -> Cases:
    """Images named one by one, each a case."""
    if wrong := next((text for text in files if not is_image(text)), ""):
        raise InputError("folders and archives are given one at a time", given=wrong, todo="give it alone, or its images one by one")  # fmt: skip
    where = os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    names = dict.fromkeys(os.path.relpath(os.path.abspath(file), where) for file in files)
    return Cases(_bare(list(names), target, ROLES), target, where)


def _bare(names: list[str], target: Target, columns: Sequence[str]) -> pd.DataFrame:
    """A row for each image, of which nothing else is known."""
    table = pd.DataFrame("", index=range(len(names)), columns=list(columns)).assign(
        image=names, case=names, patient=names
    )
    for name in target.columns:
        table[name] = target.task.unknown
    return table
