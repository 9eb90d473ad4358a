"""Slices to series: which images of a folder or an archive are one volume, and in which order.

Slices are ordered by their position along the normal of their plane, never by their name; what does not fit (gaps,
positions that are taken twice, scouts, other sizes) is told.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from overread.core.errors import ImageError, checked
from overread.images.dicom.header import DicomHeader, header_of, read_header
from overread.images.formats import archives
from overread.images.formats.archives import ARCHIVE_LIMITS, ArchiveLimits

#: A step between two slices above this many median steps is a gap.
GAP = 1.5
#: Steps that differ by more than this share from the median are called uneven.
UNEVEN = 0.1
#: Positions closer than this, in mm, are the same.
SAME_PLACE = 0.01
#: Files of one folder whose headers are looked at to find a series.
MAX_FILES = 100_000


@dataclass(frozen=True)
class SeriesOrder:
    """A volume's slices in order.

    ``indices``: positions in the sequence that was given, along the normal of the plane (for axial slices from the
    feet upwards). ``spacing``: the median step in mm, NaN where it is not known. ``gaps``: after which slices (places
    in ``indices``) something is missing. ``left_out``: the others. ``problems``: texts without identifiers.
    """

    indices: tuple[int, ...]
    spacing: float
    gaps: tuple[int, ...]
    left_out: tuple[int, ...]
    problems: tuple[str, ...]


@checked
def fit_together(one: DicomHeader, other: DicomHeader) -> bool:
    """Whether two slices can be of one volume: same size, orientation and pixel spacing, both scouts or neither."""
    same = (one.rows, one.columns, one.is_localizer) == (other.rows, other.columns, other.is_localizer)
    placed = (one.position is None) == (other.position is None)
    turned = _close(one.orientation, other.orientation, 0.01)
    return same and placed and turned and _close(one.spacing, other.spacing, 0.001)


def _close(one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or other is None or one == other:
        return one == other
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


@checked
def stacks(headers: Sequence[DicomHeader]) -> list[list[int]]:
    """Indices of the images that fit together, a list for each stack, in the order of their first images."""
    found: list[list[int]] = []
    for i, header in enumerate(headers):
        for group in found:
            if fit_together(headers[group[0]], header):
                group.append(i)
                break
        else:
            found.append([i])
    return found


@checked
def order(headers: Sequence[DicomHeader]) -> SeriesOrder:
    """The slices of the largest stack in order, by ImagePositionPatient along the normal (PS3.3 C.7.6.2.1.1).

    Without positions the instance numbers order them, and the order says so. Of slices in one place the one with the
    lowest acquisition and instance number is kept. Raises :class:`ImageError` where there is no header.
    """
    if not headers:
        raise ImageError("a series needs at least one image")
    kept, problems = _largest(headers)
    first = headers[kept[0]]
    if first.position is None or first.orientation is None:
        return _numbered(headers, kept, problems)
    places = {i: round(_along(headers[i]), 4) for i in kept}
    kept.sort(key=lambda i: (places[i], *_taken(headers[i]), i))
    unique = [i for n, i in enumerate(kept) if n == 0 or places[i] - places[kept[n - 1]] > SAME_PLACE]
    if len(unique) < len(kept):
        problems.append(f"slices in places that are taken: {len(kept) - len(unique)}; the first of each is kept")
    spacing, gaps, more = _steps([places[i] for i in unique])
    tilt = _tilt(headers[unique[0]], headers[unique[-1]])
    return _made(headers, unique, spacing, gaps, [*problems, *more, *tilt])


def _made(headers: Sequence[DicomHeader], kept: list[int], spacing: float, gaps: tuple[int, ...],
          problems: list[str]) -> SeriesOrder:  # fmt: skip
    left = tuple(sorted(set(range(len(headers))) - set(kept)))
    return SeriesOrder(tuple(kept), spacing, gaps, left, tuple(problems))


def _taken(header: DicomHeader) -> tuple[float, float]:
    """Acquisition and instance number; unknown ones come last."""
    return (
        math.inf if header.acquisition is None else header.acquisition,
        math.inf if header.number is None else header.number,
    )


def _largest(headers: Sequence[DicomHeader]) -> tuple[list[int], list[str]]:
    """The positions of the largest stack, scouts only if there is nothing else, and what was left out."""
    groups = stacks(headers)
    plain = [group for group in groups if not headers[group[0]].is_localizer] or groups
    scouts = len(headers) - sum(map(len, plain))
    problems = [f"localizers kept apart: {scouts}"] if scouts else []
    kept = max(plain, key=len)
    if len(plain) > 1:
        what = " and ".join(_differing([headers[group[0]] for group in plain]))
        problems.append(f"the series mixes {what}: {len(kept)} of {sum(map(len, plain))} images fit together")
    return list(kept), problems


def _differing(headers: Sequence[DicomHeader]) -> list[str]:
    """In what the stacks differ, in words."""
    parts: dict[str, set[object]] = {
        "sizes": {(h.rows, h.columns) for h in headers},
        "orientations": {h.orientation and tuple(round(x, 2) for x in h.orientation) for h in headers},
        "pixel spacings": {h.spacing for h in headers},
        "images with and without position": {h.position is None for h in headers},
    }
    return [what for what, values in parts.items() if len(values) > 1] or ["orientations"]


def _numbered(headers: Sequence[DicomHeader], kept: list[int], problems: list[str]) -> SeriesOrder:
    kept.sort(key=lambda i: (_taken(headers[i])[::-1], i))
    numbers = [headers[i].number for i in kept]
    known = len(set(numbers)) == len(numbers) and None not in numbers
    how = "ordered by instance number" if known else "instance numbers are missing or repeated, the order is a guess"
    problems = [*problems, f"positions are missing: {how}"] if len(kept) > 1 else problems
    return _made(headers, kept, headers[kept[0]].thickness, (), problems)


@checked
def normal(header: DicomHeader) -> tuple[float, float, float]:
    """The direction across the image plane, row × column direction (PS3.3 C.7.6.2.1.1), in LPS.

    Raises :class:`ImageError` where the header has no orientation.
    """
    if header.orientation is None:
        raise ImageError("the image has no orientation")
    a, b, c, d, e, f = header.orientation
    return (b * f - c * e, c * d - a * f, a * e - b * d)


def _along(header: DicomHeader) -> float:
    assert header.position is not None
    return sum(p * n for p, n in zip(header.position, normal(header), strict=True))


def _steps(places: list[float]) -> tuple[float, tuple[int, ...], list[str]]:
    """The median step, after which slices there are gaps, and problems."""
    steps = [after - before for before, after in pairwise(places)]
    if not steps:
        return math.nan, (), []
    middle = median(steps)
    gaps = tuple(i for i, step in enumerate(steps) if step > GAP * middle)
    problems = (
        [f"gaps: {len(gaps)}, the widest {max(steps):.4g} mm where slices stand {middle:.4g} mm apart"] if gaps else []
    )
    uneven = [s for i, s in enumerate(steps) if i not in gaps and abs(s - middle) > UNEVEN * middle]
    if uneven:
        problems.append(f"steps between slices vary from {min(steps):.4g} to {max(uneven):.4g} mm")
    return middle, gaps, problems


def _tilt(first: DicomHeader, last: DicomHeader) -> list[str]:
    """Whether the stack is a sheared box: a tilted gantry moves each slice within its plane."""
    assert first.position is not None
    assert last.position is not None
    way = [b - a for a, b in zip(first.position, last.position, strict=True)]
    along = sum(w * n for w, n in zip(way, normal(first), strict=True))
    aside = math.sqrt(max(0.0, sum(w * w for w in way) - along * along))
    angle = math.degrees(math.atan2(aside, abs(along)))
    return (
        [f"the slices are shifted within their planes (gantry tilt of {angle:.1f} degrees)"]
        if angle > 1 and aside > 1
        else []
    )


# -- the series of a file or a member -------------------------------------------------------------------------------


@checked
def series_files(first: str | os.PathLike[str]) -> list[Path]:
    """All files in the folder of ``first`` that are of its series and its stack, in order.

    The headers of a folder are kept for the last eight folders of this process, until the folder changes. Raises
    :class:`ImageError` where ``first`` is not an image with a header.
    """
    path = Path(os.path.abspath(first))
    index = _folder(path.parent, path.is_symlink())
    header = index.get(path.name) or read_header(path)
    return [path.parent / name for name in _ordered(header, path.name, index)]


@checked
def series_entries(path: str | os.PathLike[str], entry: str, *, limits: ArchiveLimits = ARCHIVE_LIMITS) -> list[str]:
    """All members beside ``entry`` in a zip archive that are of its series and its stack, in order.

    Raises :class:`ImageError` as :func:`overread.images.formats.archives.members` does.
    """
    index = _archive(path, limits)
    folder = _folder_of(entry)
    beside = {name: header for name, header in index.items() if _folder_of(name) == folder}
    header = index.get(entry) or _member_header(path, entry, limits)
    return _ordered(header, entry, beside)


def _folder_of(entry: str) -> str:
    return entry.rpartition("/")[0]


def _ordered(header: DicomHeader, name: str, index: dict[str, DicomHeader]) -> list[str]:
    """Names of the stack of ``header`` in order; itself alone where the series has no identifier."""
    names = [n for n in sorted(index) if index[n].series == header.series]
    if not header.series or name not in names:
        return [name]
    headers = [index[n] for n in names]
    group = next(group for group in stacks(headers) if names.index(name) in group)
    return [names[group[i]] for i in order([headers[i] for i in group]).indices]


_INDEX: OrderedDict[tuple[Any, ...], dict[str, DicomHeader]] = OrderedDict()
_INDEX_LOCK = threading.Lock()


def _folder(folder: Path, links: bool) -> dict[str, DicomHeader]:
    """Headers by file name of the images with a series that lie in ``folder``; links only if asked for."""
    try:
        about = os.stat(folder)
    except (OSError, ValueError) as error:
        raise ImageError("the folder does not exist", todo="check the path") from error
    key = (str(folder), about.st_mtime_ns, about.st_ino, links)
    return _cached(key, lambda: _headers(folder, links))


def _cached(key: tuple[Any, ...], make: Any) -> dict[str, DicomHeader]:
    with _INDEX_LOCK:
        if key not in _INDEX:
            _INDEX[key] = make()
            while len(_INDEX) > 8:
                _INDEX.popitem(last=False)
        _INDEX.move_to_end(key)
        return _INDEX[key]


def _headers(folder: Path, links: bool) -> dict[str, DicomHeader]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=links))
    if len(names) > MAX_FILES:
        raise ImageError("the folder has more files than the limit", given=f"{len(names):,} files", todo=f"at most {MAX_FILES:,} are looked at, split the folder")  # fmt: skip
    return _readable((name, folder / name) for name in names)


def _readable(places: Iterable[tuple[str, Path]]) -> dict[str, DicomHeader]:
    found = {}
    for name, path in places:
        try:
            header = read_header(path)
        except ImageError:  # another kind of file, or a damaged one: the tree tells it
            continue
        if header.series and header.has_pixels:
            found[name] = header
    return found


def _archive(path: str | os.PathLike[str], limits: ArchiveLimits) -> dict[str, DicomHeader]:
    try:
        about = os.stat(path)
    except (OSError, ValueError) as error:
        raise ImageError("the file does not exist", todo="check the path") from error
    key = (os.path.abspath(path), about.st_mtime_ns, about.st_ino, limits)
    return _cached(key, lambda: _entries(path, limits))


def _entries(path: str | os.PathLike[str], limits: ArchiveLimits) -> dict[str, DicomHeader]:
    found = {}
    for name in archives.members(path, limits=limits):
        try:
            header = _member_header(path, name, limits)
        except ImageError:
            continue
        if header.series and header.has_pixels:
            found[name] = header
    return found


def _member_header(path: str | os.PathLike[str], name: str, limits: ArchiveLimits) -> DicomHeader:
    with archives.open_member(path, name, limits) as handle:
        return header_of(handle)
