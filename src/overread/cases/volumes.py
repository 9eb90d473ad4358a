"""Volumes as images of cases: three orthogonal planes, or slices, each a row of the same case and patient.

A slice is never a patient of its own: it keeps case, patient, source, time, split and label of its volume, so that
no split can part them, and the case gets one prediction.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from overread.cases.cases import WHOLE, Cases, Planes
from overread.core.errors import ImageError, InputError, checked, require
from overread.images import volumes
from overread.images.address import PLANES, Address, parse
from overread.images.formats import npz
from overread.images.image import LIMITS

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_THREE = Planes("views")


@checked
def is_volume(address: str, root: str | os.PathLike[str] = ".") -> bool:
    """Whether an address below ``root`` names a whole volume: by its ending, as a series, or by the shape of its array.

    >>> is_volume("lung.nii.gz"), is_volume("ct/1.dcm#series"), is_volume("lung.nii.gz#plane=axial"), is_volume("a.png")
    (True, True, False, False)
    """
    try:
        known = parse(address)
    except InputError:
        return False
    if known.plane or known.frame is not None:
        return False
    if npz.is_address(address):
        return _is_solid(str(Path(root) / address))
    return known.series or (known.entry or known.path).lower().endswith(ENDINGS)


def _is_solid(address: str) -> bool:
    """Whether rows of an array are volumes: three axes, or four with one channel at the end."""
    try:
        shape = npz.row_shape(address)
    except (ImageError, OSError):
        return False
    return (len(shape) == 3 and shape[-1] not in (1, 3)) or (len(shape) == 4 and shape[-1] == 1)


@checked
def as_planes(cases: Cases, planes: Planes = _THREE) -> Cases:
    """``cases`` with an axial, a coronal and a sagittal row in the place of each volume; other images stay.

    They go through the middle, or where ``planes.point`` says: three columns x, y, z in mm (RAS), or one column with a
    mask, relative to ``cases.root``, of which the centre of the largest piece is taken. ``planes.side``: mm of the
    square around the point, ``planes.pixel``: mm of its pixels. A volume without a point is cut through its middle.

    Raises :class:`InputError` for a missing column or a point that is none, :class:`ImageError` for a bad mask.
    """
    for column in planes.point:
        require(column in cases.table.columns, f"there is no column {column!r} for the point",
                given=", ".join(map(str, cases.table.columns)))  # fmt: skip
    rows, middle = [], 0
    for number, row in enumerate(cases.table.to_dict("records"), 1):
        if not is_volume(row["image"], cases.root):
            rows.append(row)
            continue
        try:
            point = _point(row, planes, cases.root)
        except InputError as error:
            what = f"{error.what}, in row {number:,}"
            raise type(error)(what, given=error.given, todo=error.todo) from error
        middle += point is None
        side, pixel = (planes.side, planes.pixel) if point else (0.0, 0.0)
        for name in PLANES:
            cut = replace(parse(row["image"]), plane=name, point=point, side=side, pixel=pixel)
            rows.append(_as(row, cut, name))
    notes = (f"point: {middle} volumes have none and are cut through their middle",) if planes.point and middle else ()
    return _made(cases, rows, planes, notes)


@checked
def as_slices(cases: Cases) -> Cases:
    """``cases`` with all axial slices in the place of each volume, as images of its one case; other images stay.

    How many there are is read from headers. The ``view`` of a slice is the plane and its number from the inferior side,
    from 0. A volume whose header cannot be read keeps one row, and ``notes`` says so.
    """
    rows, unread = [], 0
    for row in cases.table.to_dict("records"):
        if not is_volume(row["image"], cases.root):
            rows.append(row)
            continue
        whole = parse(row["image"])
        try:
            count = volumes.geometry_of(_placed(whole, cases.root), LIMITS)[0][0]
        except ImageError:  # a row remains, so that the audit finds it and says why
            count, unread = 1, unread + 1
        rows += [_as(row, replace(whole, plane="axial", at=at), f"axial {at:03d}") for at in range(count)]
    notes = (f"slices: {unread} volumes could not be read and keep one row each",) if unread else ()
    return _made(cases, rows, Planes("slices"), notes)


def _as(row: dict, address: Address, name: str) -> dict:
    """The row of one cut: its address, and the plane behind whatever the view was."""
    return row | {"image": str(address), "view": f"{row['view']} {name}".strip()}


def _made(cases: Cases, rows: list[dict], planes: Planes, notes: tuple[str, ...]) -> Cases:
    table = pd.DataFrame(rows, columns=list(cases.table.columns)).astype(cases.table.dtypes.to_dict())
    return replace(cases, table=table, planes=planes, notes=(*cases.notes, *notes))


def _placed(address: Address, root: str) -> Address:
    return replace(address, path=str(Path(root) / address.path))


def _point(row: dict, planes: Planes, root: str) -> tuple[float, float, float] | None:
    """The point of a row in mm, or None where its cells are blank."""
    cells = [row[column] for column in planes.point]
    if any(cell == "" or (isinstance(cell, float) and math.isnan(cell)) for cell in cells) or not cells:
        return None
    if len(cells) == 1:
        return volumes.centre_of(volumes.read_volume(_placed(parse(str(cells[0])), root)))
    try:
        x, y, z = (float(cell) for cell in cells)
    except (TypeError, ValueError) as error:
        raise InputError("a point in mm is not a number", given=", ".join(planes.point)) from error
    if not all(map(math.isfinite, (x, y, z))):
        raise InputError("a point in mm is not finite", given=", ".join(planes.point))
    return x, y, z


@checked
def cut(cases: Cases, planes: Planes) -> Cases:
    """``cases`` with three planes or all slices of each volume in its place; images that are none stay as they are.

    Where ``planes`` say what NaN is, the addresses of the volumes do, too. Raises :class:`InputError` if there is no
    volume among them.
    """
    if replace(planes, frames="") == WHOLE:
        return cases
    if not any(is_volume(image, cases.root) for image in cases.table["image"]):
        raise InputError(f"there are no volumes to take {planes.how} of", given=f"{len(cases):,} images",
                         todo="leave out --volumes and --nan-voxels")  # fmt: skip
    if planes.nan == "lowest":
        cases = _with_nan_as_lowest(cases)
    if planes.how == "whole":
        return replace(cases, planes=planes)
    if planes.how == "slices":
        return replace(as_slices(cases), planes=planes)
    made = as_planes(cases, planes)
    return replace(made, table=made.table.drop(columns=list(planes.point)))  # it is in the addresses; masks are paths


def _with_nan_as_lowest(cases: Cases) -> Cases:
    images = [
        str(replace(parse(image), nan="lowest")) if is_volume(image, cases.root) else image
        for image in cases.table["image"]
    ]
    return replace(cases, table=cases.table.assign(image=images))
