"""Headers of many files at once, as plain values: what a process of its own does for a scan of an export."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from overread.errors import ImageError, checked
from overread.images import archives
from overread.images.dicom.elements import Handle, looks_like_dicom, open_regular
from overread.images.dicom.header import Header, header_of

#: Fields that may be NaN.
_NUMBERS = tuple(i for i, field in enumerate(dataclasses.fields(Header)) if field.type == "float")


@checked
def scan(folder: str, archive: str, names: list[str]) -> list[list[Any] | str]:
    """What each of the files in ``folder`` is, or of the members of an ``archive`` in it.

    A list with the fields of its header for DICOM (see :func:`header_from`), the reason for what looks like DICOM and
    cannot be read or is no file, and ``""`` for everything else. Never raises for what is in a file.
    """
    path = os.path.join(folder, archive)
    if archive:
        return [_seen(lambda name=name: archives.open_member(path, name)) for name in names]  # type: ignore[misc]
    return [_seen(lambda name=name: open_regular(os.path.join(path, name))) for name in names]  # type: ignore[misc]


def _seen(opened: Callable[[], Handle]) -> list[Any] | str:
    try:
        with opened() as handle:
            if not looks_like_dicom(handle.read(132) or b""):
                return ""
            values = vars(header_of(handle)).values()
            return [None if value != value else value for value in values]  # JSON knows no NaN
    except ImageError as error:
        return error.what
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"


@checked
def header_from(values: Sequence[Any]) -> Header:
    """The header that :func:`scan` made plain: NaN came as None, tuples as lists."""
    made: list[Any] = [tuple(value) if isinstance(value, list) else value for value in values]
    for place in _NUMBERS:
        made[place] = math.nan if made[place] is None else made[place]
    return Header(*made)


@checked
def any_dicom(archive: str | os.PathLike[str], names: Iterable[str]) -> bool:
    """Whether one of these members of a zip archive begins as DICOM does. Raises :class:`ImageError`."""
    for name in names:
        with archives.open_member(archive, name) as handle:
            if looks_like_dicom(handle.read(132) or b""):
                return True
    return False
