"""Volumes cut into what is looked at: the rows that :class:`Planes` asks for."""

from __future__ import annotations

from dataclasses import replace

from overread.cases import volumes
from overread.cases.cases import Cases, Planes
from overread.errors import InputError, checked


@checked
def cut(cases: Cases, planes: Planes) -> Cases:
    """``cases`` with three views or all slices of each volume in its place; images that are none stay as they are.

    Raises :class:`InputError` if there is no volume among them.
    """
    if planes.how == "whole":
        return cases
    if not any(volumes.is_volume(image, cases.root) for image in cases.table["image"]):
        raise InputError(f"there are no volumes to take {planes.how} of", given=f"{len(cases):,} images",
                         todo="leave out --volumes")  # fmt: skip
    if planes.how == "slices":
        return volumes.as_slices(cases, planes)
    made = volumes.as_views(cases, planes)
    return replace(
        made, table=made.table.drop(columns=list(planes.point))
    )  # it is in the addresses; masks are paths
