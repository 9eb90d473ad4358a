"""Stacks of frames as single images of cases: by the address of each, or of the rows of a case in time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from overread.cases.cases import Cases, Planes
from overread.cases.volumes import cut, is_volume
from overread.core.errors import ImageError, InputError, checked
from overread.core.phrases import count
from overread.images.address import Address, parse
from overread.images.formats import npz
from overread.images.frame_view import folder_frames, frame_view

#: Endings of files that may hold several frames.
ENDINGS = (".tif", ".tiff", ".dcm")


@checked
def arranged(cases: Cases, planes: Planes) -> Cases:
    """``cases`` whose volumes and stacks of frames are looked at as ``planes`` say. Raises :class:`InputError` where there
    are none.
    """
    if cases.slides:
        return cases
    found = cut(cases, planes)
    return replace(as_frames(found, planes.frames), planes=planes) if planes.frames else found


@checked
def as_frames(cases: Cases, how: str) -> Cases:
    """``cases`` whose stacks are seen as ``how`` says (see :mod:`overread.images.frame_view`).

    A stack is a TIFF, a film, a volume or a folder of images, which are all the images of a row. Where a case has several rows
    with a ``time``, they are its frames: they must be all the images of one folder, named in the order of their times, and
    become one row, that of the first. Raises :class:`InputError` where there is no stack.
    """
    view = str(frame_view(how))
    table, joined = _joined(cases)
    stacks = [_is_stack(image, cases.root) for image in table["image"]]
    if not any(stacks):
        raise InputError("there are no stacks of frames to see otherwise", given=f"{len(table):,} images",
                         todo="leave out --frames; stacks are TIFF, DICOM, volumes, folders of images, or rows of a case with a time")  # fmt: skip
    images = [
        str(replace(parse(image), frames=view)) if stack else image
        for image, stack in zip(table["image"], stacks, strict=True)
    ]
    notes = [f"frames: {count(joined, 'row')} of cases in time became one for each case"] if joined else []
    if others := len(stacks) - sum(stacks):
        notes.append(f"frames: {count(others, 'image')} of one frame stayed as they are")
    return replace(cases, table=table.assign(image=images), notes=(*cases.notes, *notes))


def _is_stack(image: str, root: str) -> bool:
    if npz.is_address(image):
        return is_volume(image, root)
    address = parse(image)
    if address.frame is not None or address.plane:
        return False
    path = (address.entry or address.path).lower()
    return is_volume(image, root) or path.endswith(ENDINGS) or (Path(root) / address.path).is_dir()


def _joined(cases: Cases) -> tuple[pd.DataFrame, int]:
    """A row for each case that has several with times, and how many rows went into those."""
    table = cases.table.reset_index(drop=True)
    timed = table["time"].astype(str).to_numpy() != ""
    kept, gone = np.ones(len(table), bool), 0
    images = list(table["image"])
    for _, rows in table[timed].groupby("case", sort=False).groups.items():
        if len(rows) < 2:
            continue
        part = table.loc[rows]
        order = _in_time(part["time"])
        first = int(rows[order[0]])
        images[first] = _folder([images[int(rows[at])] for at in order], cases.root)
        kept[[int(row) for row in rows]] = False
        kept[first] = True
        gone += len(rows)
    return table.assign(image=images)[kept].reset_index(drop=True), gone


def _in_time(times: pd.Series) -> list[int]:
    numbers = pd.to_numeric(times, errors="coerce")
    keys = numbers if numbers.notna().all() else pd.to_datetime(times, errors="coerce", format="ISO8601")
    if keys.isna().any() or keys.duplicated().any():
        raise InputError("the frames of a case have no order in time", given="a time that is none, or stands twice",
                         todo="give each frame of a case a time of its own")  # fmt: skip
    return [int(at) for at in np.argsort(keys.to_numpy(), kind="stable")]


def _folder(images: Sequence[str], root: str) -> str:
    """The folder that holds just these images, in this order."""
    todo = "put the frames of each case into a folder of their own, named in the order of their times, or into one TIFF"
    folders = {os.path.dirname(image) for image in images}
    if len(folders) > 1 or any(str(parse(image)) != str(Address(image)) for image in images):
        raise InputError(
            "the frames of a case lie in several places", given=f"{count(len(folders), 'folder')}", todo=todo
        )
    (folder,) = folders
    try:
        found = [os.path.basename(path) for path in folder_frames(Path(root) / folder)]
    except (ImageError, OSError) as error:
        raise InputError("the frames of a case are not there", todo="check the image column") from error
    if found != [os.path.basename(image) for image in images]:
        given = (
            f"{len(images):,} rows, {len(found):,} images in the folder"
            if len(found) != len(images)
            else "names in another order than the times"
        )
        raise InputError("the frames of a case are not the images of one folder in their order", given=given, todo=todo)
    return folder
