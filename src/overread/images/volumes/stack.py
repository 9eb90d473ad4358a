"""Volumes from DICOM: a series of slices, or a film whose frames are slices.

The place of a slice is ImagePositionPatient along the normal of its plane (PS3.3 C.7.6.2.1.1), that of a frame
comes from its functional groups (C.7.6.16.2) or, for doses, from the grid of offsets (C.8.8.3.2). Slices at uneven
steps are brought to the median step by linear interpolation, and a note says so; their values are those after the
modality transformation, Hounsfield units for CT.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.core.files import sha256
from overread.images import dicom
from overread.images.address import Address
from overread.images.dicom import series
from overread.images.dicom.elements import Form, decimals, functional_groups, read_elements
from overread.images.dicom.header import DicomHeader, read_header
from overread.images.dicom.stacks import widely
from overread.images.formats.archives import address_bytes
from overread.images.image import Limits
from overread.images.volumes.grid import LPS, Volume, canonical, check_memory, usable

_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_PLACE, _DIRECTIONS, _MEASURES = 0x00209113, 0x00209116, 0x00289110
_POSITION, _ORIENTATION, _SPACING = 0x00200032, 0x00200037, 0x00280030
_BETWEEN, _OFFSETS = 0x00180088, 0x3004000C
_FILM = frozenset({_SHARED, _PER_FRAME, _POSITION, _ORIENTATION, _SPACING, _BETWEEN, _OFFSETS})
Grid = tuple[tuple[int, int, int], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Slices:
    """Where slices lie. ``positions``: (N, 3) mm, LPS, or None; ``orientation``: row, then column direction, or None;
    ``spacing`` between rows and columns in mm, or None; ``step`` in mm between slices where positions do not say.
    """

    count: int
    positions: NDArray[np.float64] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    step: float

    @property
    def known_step(self) -> float:
        """The step, 0 where it is not known."""
        return abs(self.step) if np.isfinite(self.step) else 0.0


@dataclass(frozen=True, eq=False)
class Arrangement:
    """How slices become a volume: which are ``kept``, in order; ``at`` which places among them the planes of the
    volume lie, whole numbers where nothing is interpolated; the ``affine`` from (column, row, plane) to RAS mm.
    """

    kept: NDArray[np.int64]
    at: NDArray[np.float64]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]


# -- a series --------------------------------------------------------------------------------------------


@checked
def read_series(address: Address, limits: Limits) -> Volume:
    """The volume of a series: all of its files in the folder, or the archive, of the one that is named."""
    frames: list[Any] = []
    heads, digests = [], []
    files = _files(address)
    for file in files:
        data = address_bytes(file, limits)
        head = read_header(data)
        limits.check(head.rows, head.columns, max(len(files), head.frames))
        if head.frames > 1 and len(files) == 1:
            return read_film(data, limits)
        values = dicom.physical(data, limits.check)[0]
        if values.shape[0] != 1 or (frames and values.shape[1:] != frames[0].shape):
            raise ImageError("the images of the series do not make one volume", given="films, or other sizes")
        check_memory(values.nbytes * len(files), limits)
        frames.append(values[0])
        heads.append(head)
        digests.append(sha256(data))
    notes = (*series.order(heads).problems, f"{len(frames)} slices of a series")
    return _volume(frames, arrange(_of_headers(heads)), notes, digest_of_files(digests), limits)


@checked
def digest_of_files(digests: Sequence[str]) -> str:
    """One digest for one or several files."""
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode())


@checked
def series_bytes(address: Address, limits: Limits) -> Iterator[bytes]:
    """The bytes of each file of a series, in order."""
    return (address_bytes(file, limits) for file in _files(address))


@checked
def series_grid(address: Address, limits: Limits) -> Grid:
    """Voxels along, and the affine of, the stored axes of a series, from headers only."""
    files = _files(address)
    heads = [read_header(address_bytes(file, limits) if file.entry else file.path) for file in files]
    if len(heads) == 1 and heads[0].frames > 1:
        return film_grid(address_bytes(files[0], limits), limits)
    return _grid(heads[0], arrange(_of_headers(heads)), limits)


def _grid(head: DicomHeader, arrangement: Arrangement, limits: Limits) -> Grid:
    limits.check(head.rows, head.columns, len(arrangement.at))
    return (head.columns, head.rows, len(arrangement.at)), arrangement.affine


def _files(address: Address) -> list[Address]:
    """The files of a series, or its members of an archive, in order."""
    if address.entry:
        return [Address(address.path, name) for name in series.series_entries(address.path, address.entry)]
    return [Address(str(path)) for path in series.series_files(address.path)]


def _of_headers(heads: Sequence[DicomHeader]) -> Slices:
    """The slices of a series that is in order already."""
    first, places = heads[0], [head.position for head in heads]
    positions = None if None in places else np.asarray(places, np.float64)
    return Slices(len(heads), positions, first.orientation, first.spacing, first.thickness)


# -- a film ----------------------------------------------------------------------------------------------


@checked
def read_film(data: bytes, limits: Limits) -> Volume:
    """The volume of one file whose frames are slices; a file of one frame is one slice."""
    head = read_header(data)
    limits.check(head.rows, head.columns, head.frames)
    frames = list(dicom.physical(data, limits.check)[0])
    if len(frames) != head.frames:
        raise ImageError("the file does not hold the frames it announces", given=f"{len(frames)} of {head.frames}")
    arrangement = arrange(_of_film(data, head))
    return _volume(frames, arrangement, (f"{len(frames)} frames as slices",), sha256(data), limits)


@checked
def film_grid(data: bytes, limits: Limits) -> Grid:
    """Voxels along, and the affine of, the stored axes of a film, from its header."""
    head = read_header(data)
    limits.check(head.rows, head.columns, head.frames)
    return _grid(head, arrange(_of_film(data, head)), limits)


def _of_film(data: bytes, head: DicomHeader) -> Slices:
    elements = read_elements(BytesIO(data), _FILM)
    values, form = elements.values, elements.form
    shared = _groups(values.get(_SHARED, b""), form, 1)
    frames = _groups(values.get(_PER_FRAME, b""), form, head.frames)
    positions = [frame.get(_POSITION, ()) for frame in frames]
    if len(positions) != head.frames or {len(position) for position in positions} != {3}:
        positions = _offset_positions(values, head)
    directions = {frame[_ORIENTATION] for frame in frames if len(frame.get(_ORIENTATION, ())) == 6}
    if len(directions) > 1:
        raise ImageError("the frames lie in different directions and make no volume", given=f"{len(directions)}")
    common = {tag: value for frame in (*shared, *frames[:1]) for tag, value in frame.items()}
    between = common.get(_BETWEEN) or decimals(values.get(_BETWEEN, b""))
    step = between[0] if between else head.thickness
    known = np.asarray(positions, np.float64) if positions else None
    return Slices(head.frames, known, common.get(_ORIENTATION) or head.orientation, head.spacing, step)


def _groups(data: bytes, form: Form, most: int) -> list[dict[int, tuple[float, ...]]]:
    """Position, orientation and step in each item of a sequence of functional groups."""
    groups, wanted = frozenset({_PLACE, _DIRECTIONS, _MEASURES}), frozenset({_POSITION, _ORIENTATION, _BETWEEN})
    found = functional_groups(data, form, groups, wanted, most)
    return [{tag: numbers for tag, value in item.items() if (numbers := decimals(value))} for item in found]


def _offset_positions(values: dict[int, bytes], head: DicomHeader) -> list[tuple[float, ...]]:
    """Positions by GridFrameOffsetVector: along the normal, from the first, or z itself (PS3.3 C.8.8.3.2)."""
    offsets = decimals(values.get(_OFFSETS, b""))
    if len(offsets) != head.frames or head.position is None or head.orientation is None:
        return []
    normal, first = np.asarray(series.normal(head)), np.asarray(head.position)
    return [tuple((first + normal * (offset - offsets[0])).tolist()) for offset in offsets]


# -- both ------------------------------------------------------------------------------------------------


@checked
def arrange(slices: Slices) -> Arrangement:
    """Put slices in order along their normal, at even steps, and find the affine (PS3.3 C.7.6.2.1.1)."""
    if slices.positions is None or slices.orientation is None:
        return _without_places(slices)
    placed = series.in_order(slices.positions, slices.orientation)
    kept, taken = placed.kept, slices.count - len(placed.kept)
    notes = (f"{taken} slices in places that are taken are left out",) if taken else ()
    at, more = _even(placed)
    rows, columns = np.asarray(slices.orientation[:3]), np.asarray(slices.orientation[3:])
    first, last = slices.positions[kept[0]], slices.positions[kept[-1]]
    step = (
        (last - first) / max(len(at) - 1, 1) if len(kept) > 1 else np.cross(rows, columns) * (slices.known_step or 1.0)
    )
    between, across = slices.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3] = np.column_stack([rows * across, columns * between, step, first])
    if not usable(affine):
        raise ImageError("the slices do not span a volume", given="their positions or orientation")
    return Arrangement(kept, at, LPS @ affine, (*notes, *more, *_unknown(slices)))


def _even(placed: series.Placement) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Where the planes of the volume lie, counted in slices: at each, or at the median step between first and last."""
    places = placed.places
    count = np.arange(len(places), dtype=np.float64)
    if not placed.gaps and not placed.uneven:
        return count, ()
    extent = float(places[-1] - places[0])
    planes = round(extent / placed.step) + 1
    if len(widely(places, placed.step)):
        given = f"{np.diff(places).max():.4g} mm where slices stand {placed.step:.4g} mm apart"
        raise ImageError("the slices lie too far apart to make a volume: a wide gap is not interpolated over", given=given,
                         todo="read them as images, or each side of the gap as a series of its own")  # fmt: skip
    at = np.interp(np.linspace(places[0], places[-1], planes), places, count)
    return at, (f"uneven slices brought to steps of {extent / (planes - 1):.4g} mm",)


def _without_places(slices: Slices) -> Arrangement:
    """As they come, in LPS."""
    between, across = slices.spacing or (1.0, 1.0)
    order = np.arange(slices.count)
    affine = LPS @ np.diag([across, between, (slices.known_step or 1.0), 1.0])
    notes = ("no positions: slices as they come, axial and LPS assumed", *_unknown(slices))
    return Arrangement(order, order.astype(np.float64), affine, notes)


def _unknown(slices: Slices) -> tuple[str, ...]:
    one = slices.positions is None or slices.count == 1
    unknown = (["pixels"] if slices.spacing is None else []) + (["slices"] if one and not slices.known_step else [])
    return (f"unknown distance of {' and '.join(unknown)}: 1 mm assumed",) if unknown else ()


def _volume(
    frames: Sequence[NDArray], arrangement: Arrangement, notes: tuple[str, ...], digest: str, limits: Limits
) -> Volume:
    rows, columns = frames[0].shape
    limits.check(rows, columns, len(arrangement.at))
    kept = [frames[index] for index in arrangement.kept]
    if (arrangement.at == np.rint(arrangement.at)).all() and len(arrangement.at) == len(kept):
        stack = np.stack(kept)
    else:
        stack = np.stack([_between(kept, place) for place in arrangement.at])
    return canonical(stack, arrangement.affine, (*notes, *arrangement.notes), digest)


def _between(frames: Sequence[NDArray], place: float) -> NDArray[np.float32]:
    below = min(int(place), len(frames) - 2)
    part = np.float32(place - below)
    return frames[below].astype(np.float32) * (1 - part) + frames[below + 1].astype(np.float32) * part
