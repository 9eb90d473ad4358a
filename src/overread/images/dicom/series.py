"""Slices to series: which images of a folder or an archive are one volume, and in which order.

Slices are ordered by their position along the normal of their plane, never by their name; what does not fit (gaps,
positions that are taken twice, scouts, other sizes) is told.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.dicom.header import DicomHeader, header_of, read_header
from overread.images.dicom.stacks import REPEATED, SAME_PLACE, Stack, along_normal, stacks
from overread.images.formats import archives
from overread.images.formats.archives import ARCHIVE_LIMITS, ArchiveLimits
from overread.images.image import Recent, file_key

#: A step between two slices above this many median steps is a gap.
GAP = 1.5
#: Slices that lie off an even grid by more than this share of the median step are uneven.
UNEVEN = 0.1
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


@dataclass(frozen=True, eq=False)
class Placement:
    """Slices along the normal of their plane.

    ``kept``: (N,) their indices in order, without those in places that are taken; ``places``: (N,) in mm. ``step``: the
    median one, NaN for one slice. ``gaps``: after which of them something is missing. ``uneven``: whether they lie off
    an even grid, gaps aside.
    """

    kept: NDArray[np.int64]
    places: NDArray[np.float64]
    step: float
    gaps: tuple[int, ...]
    uneven: bool


@checked
def in_order(
    positions: NDArray[np.float64], orientation: Sequence[float], ranks: NDArray[np.float64] | None = None
) -> Placement:
    """Slices by their ``positions`` (N, 3) in mm, LPS, along the normal of the plane (PS3.3 C.7.6.2.1.1).

    ``orientation``: row, then column direction. Of slices in one place the one with the lowest ``ranks`` (N, any), or
    the first, is kept.
    """
    places = along_normal(positions, orientation)
    kept = np.lexsort([*(() if ranks is None else ranks.T[::-1]), places])
    kept = kept[np.r_[True, np.diff(places[kept]) > SAME_PLACE]]
    steps = np.diff(places[kept])
    step = float(np.median(steps)) if len(steps) else math.nan
    gaps = np.flatnonzero(steps > GAP * step)
    closed = np.r_[0.0, np.cumsum(np.delete(steps, gaps))]
    off = np.abs(closed - np.linspace(0.0, closed[-1], len(closed))).max()
    return Placement(kept, places[kept], step, tuple(gaps.tolist()), bool(off > UNEVEN * step))


@checked
def order(headers: Sequence[DicomHeader]) -> SeriesOrder:
    """The slices of the largest stack in order, by :func:`in_order`.

    Without positions the instance numbers order them, and the order says so. Of slices in one place the one with the
    lowest acquisition and instance number is kept. Raises :class:`ImageError` where there is no header, and where most
    places hold several images that nothing tells apart: which of them belong together is not guessed.
    """
    if not headers:
        raise ImageError("a series needs at least one image")
    kept, problems = _largest(headers)
    first = headers[kept[0]]
    if first.position is None or first.orientation is None:
        return _numbered(headers, kept, problems)
    positions = np.array([headers[i].position for i in kept], np.float64)
    placed = in_order(positions, first.orientation, np.array([_taken(headers[i]) for i in kept], np.float64))
    unique = [kept[n] for n in placed.kept]
    if len(unique) < len(kept):
        _require_few_taken(headers, kept, unique)
        problems.append(f"slices in places that are taken: {len(kept) - len(unique)}; the first of each is kept")
    problems += _steps(placed) + _tilt(headers[unique[0]], headers[unique[-1]])
    return _made(headers, unique, placed.step, placed.gaps, problems)


def _require_few_taken(headers: Sequence[DicomHeader], kept: list[int], unique: list[int]) -> None:
    """Raise where images share places as a rule; copies of an image aside."""
    named = {headers[i].instance for i in unique} - {""}
    others = [i for i in kept if i not in set(unique) and headers[i].instance not in named]
    if len(others) >= REPEATED * len(unique):
        raise ImageError("several images lie in each place of the series, and nothing in their headers tells which belong together",
                         given=f"{len(kept)} images in {len(unique)} places",
                         todo="put those that belong together into a folder of their own, or read each as an image")  # fmt: skip


def _made(headers: Sequence[DicomHeader], kept: list[int], spacing: float, gaps: tuple[int, ...],
          problems: list[str]) -> SeriesOrder:  # fmt: skip
    left = tuple(sorted(set(range(len(headers))) - set(kept)))
    return SeriesOrder(tuple(kept), spacing, gaps, left, tuple(problems))


def _taken(header: DicomHeader) -> tuple[float, float]:
    """Acquisition and instance number; unknown ones come last."""
    one, other = (math.inf if number is None else number for number in (header.acquisition, header.number))
    return one, other


def _largest(headers: Sequence[DicomHeader]) -> tuple[list[int], list[str]]:
    """The positions of the largest stack, scouts only if there is nothing else, and what was left out."""
    found = stacks(headers)
    plain = [stack for stack in found if not headers[stack.indices[0]].is_localizer] or found
    images = sum(len(stack.indices) for stack in plain)
    scouts = len(headers) - images
    problems = [f"localizers kept apart: {scouts}"] if scouts else []
    kept = max(plain, key=lambda stack: len(stack.indices)).indices
    if len(plain) > 1:
        what = " and ".join(_differing(headers, plain))
        problems.append(f"the series mixes {what}: {len(kept)} of {images} images fit together")
    return list(kept), problems


def _differing(every: Sequence[DicomHeader], found: list[Stack]) -> list[str]:
    """In what the stacks differ, in words."""
    headers = [every[stack.indices[0]] for stack in found]
    values: dict[str, list[object]] = {
        "sizes": [(h.rows, h.columns) for h in headers],
        "orientations": [h.orientation and tuple(round(x, 2) for x in h.orientation) for h in headers],
        "pixel spacings": [h.spacing for h in headers],
        "images with and without position": [h.position is None for h in headers],
    }
    apart = sorted({f"{stack.apart}s" for stack in found if stack.apart})
    return [what for what, values in values.items() if len(set(values)) > 1] + apart or ["orientations"]


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
    x, y, z = np.cross(header.orientation[:3], header.orientation[3:]).tolist()
    return x, y, z


def _steps(placed: Placement) -> list[str]:
    """What is wrong with the steps between slices."""
    steps, gaps = np.diff(placed.places), list(placed.gaps)
    problems = []
    if gaps:
        widest = f"{steps.max():.4g} mm where slices stand {placed.step:.4g} mm apart"
        problems.append(f"gaps: {len(gaps)}, the widest {widest}")
    if placed.uneven:
        most = np.delete(steps, gaps).max()
        problems.append(f"steps between slices vary from {steps.min():.4g} to {most:.4g} mm")
    return problems


def _tilt(first: DicomHeader, last: DicomHeader) -> list[str]:
    """Whether the stack is a sheared box: a tilted gantry moves each slice within its plane."""
    way = np.subtract(last.position or (), first.position or ())
    along = float(way @ normal(first))
    aside = math.sqrt(max(0.0, float(way @ way) - along * along))
    angle = math.degrees(math.atan2(aside, abs(along)))
    if angle <= 1 or aside <= 1:
        return []
    return [f"the slices are shifted within their planes (gantry tilt of {angle:.1f} degrees)"]


#: Headers by name of the images of a series, for the last folders and archives.
_INDEX: Recent[dict[str, DicomHeader]] = Recent(8)


@checked
def series_files(first: str | os.PathLike[str]) -> list[Path]:
    """All files in the folder of ``first`` that are of its series and its stack, in order.

    The headers of a folder are kept for the last eight folders of this process, until the folder changes. Raises
    :class:`ImageError` where ``first`` is not an image with a header.
    """
    path = Path(os.path.abspath(first))
    links = path.is_symlink()  # others are of the series only if the first is one
    index = _INDEX.get((file_key(path.parent, "folder"), links), lambda: _headers(path.parent, links))
    header = index.get(path.name) or read_header(path)
    return [path.parent / name for name in _ordered(header, path.name, index)]


@checked
def series_entries(path: str | os.PathLike[str], entry: str, *, limits: ArchiveLimits = ARCHIVE_LIMITS) -> list[str]:
    """All members beside ``entry`` in a zip archive that are of its series and its stack, in order.

    Raises :class:`ImageError` as :func:`overread.images.formats.archives.members` does.
    """
    read = partial(_member_header, path, limits=limits)
    names = partial(archives.members, path, limits=limits)
    index = _INDEX.get((file_key(path), limits), lambda: _images({name: partial(read, name) for name in names()}))
    folder = entry.rpartition("/")[0]
    beside = {name: header for name, header in index.items() if name.rpartition("/")[0] == folder}
    header = index.get(entry) or read(entry)
    return _ordered(header, entry, beside)


def _ordered(header: DicomHeader, name: str, index: dict[str, DicomHeader]) -> list[str]:
    """Names of the stack of ``header`` in order; itself alone where the series has no identifier."""
    names = [n for n in sorted(index) if index[n].series == header.series]
    if not header.series or name not in names:
        return [name]
    headers = [index[n] for n in names]
    group = next(stack.indices for stack in stacks(headers) if names.index(name) in stack.indices)
    return [names[group[i]] for i in order([headers[i] for i in group]).indices]


def _headers(folder: Path, links: bool) -> dict[str, DicomHeader]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=links))
    if len(names) > MAX_FILES:
        given = f"{len(names):,} files"
        todo = f"at most {MAX_FILES:,} are looked at, split the folder"
        raise ImageError("the folder has more files than the limit", given=given, todo=todo)
    return _images({name: partial(read_header, folder / name) for name in names})


def _images(headers: dict[str, Callable[[], DicomHeader]]) -> dict[str, DicomHeader]:
    """The headers that can be read and are those of images of a series."""
    found = {}
    for name, read in headers.items():
        with suppress(ImageError):  # another kind of file, or a damaged one: the tree tells it
            header = read()
            if header.series and header.has_pixels:
                found[name] = header
    return found


def _member_header(path: str | os.PathLike[str], name: str, limits: ArchiveLimits) -> DicomHeader:
    with archives.open_member(path, name, limits) as handle:
        return header_of(handle)
