"""What the header of a NIfTI, NRRD or MetaImage file says of voxels that have not been read yet.

NIfTI-1 and NIfTI-2, single files of either byte order: the place of the voxels is the sform where its code is above 0,
else the qform, else the voxel sizes alone (NIfTI-1 standard, "methods" 3, 2 and 1); one that spans no space is passed
over. Of several volumes the first is read.

NRRD and MetaImage: a text header, read here field by field, and nothing in it is followed but a plain name in the same
folder. What its numbers mean in space is left to SimpleITK, which is handed a clean header made of numbers alone; the
voxels never reach it. NRRD: the Teem definition of the format, version 5. MetaImage: the ITK MetaIO documentation.
"""

from __future__ import annotations

import math
import re
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.image import Limits
from overread.images.volumes.grid import FLAT, LPS, usable

#: The longest text in front of the voxels, in bytes.
HEAD = 1 << 20
_NRRD = {
    "int8": "i1", "int8_t": "i1", "signed char": "i1", "uint8": "u1", "uint8_t": "u1", "uchar": "u1",
    "unsigned char": "u1", "short": "i2", "short int": "i2", "signed short": "i2", "signed short int": "i2",
    "int16": "i2", "int16_t": "i2", "ushort": "u2", "unsigned short": "u2", "unsigned short int": "u2", "uint16": "u2",
    "uint16_t": "u2", "int": "i4", "signed int": "i4", "int32": "i4", "int32_t": "i4", "uint": "u4",
    "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4", "longlong": "i8", "long long": "i8", "int64": "i8",
    "int64_t": "i8", "ulonglong": "u8", "unsigned long long": "u8", "uint64": "u8", "uint64_t": "u8", "float": "f4",
    "double": "f8",
}  # fmt: skip
_META = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_CODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_SPACES = {"ras": "RAS", "las": "LAS", "lps": "LPS", "right-anterior-superior": "RAS",
           "left-anterior-superior": "LAS", "left-posterior-superior": "LPS"}  # fmt: skip
_UNITS = {"mm": 1.0, "um": 0.001, "cm": 10.0, "m": 1000.0}
#: The longest header in front of the voxels, in bytes.
HEADER_BYTES = 4 << 20
#: Bytes that :func:`nifti_plan` needs, inflated.
NIFTI_HEAD = 540
_NIFTI_UNITS = {1: 1000.0, 3: 0.001}  # metres, micrometres; 0 (unknown) and 2 are mm
_NIFTI = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLOUR = {128: "RGB", 2304: "RGBA", 32: "complex", 1792: "complex", 2048: "complex"}


@dataclass(frozen=True)
class Plan:
    """What a header says of voxels that have not been read yet.

    ``shape``: voxels along the stored axes (i, j, k), i fastest. ``affine``: from these to RAS mm. ``dtype`` with its
    byte order; the value of a voxel is ``slope`` × stored + ``intercept``. ``start``: bytes before the coded voxels
    (-1: they end the file); ``skip``: inflated bytes before the voxels; ``volumes`` in the file, of which the first is
    read; ``coding``: raw, gzip or bzip2; ``beside``: the name of the file with the voxels, "" for the same.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    start: int = 0
    skip: int = 0
    slope: float = 1.0
    intercept: float = 0.0
    volumes: int = 1
    coding: str = "raw"
    beside: str = ""
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of the voxels of one volume, as stored."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def memory(self) -> int:
        """Bytes that one volume takes when it is read."""
        return self.bytes if (self.slope, self.intercept) == (1, 0) else max(self.bytes, 4 * prod(self.shape))


@checked
def decoded(plan: Plan, raw: bytes | memoryview) -> NDArray[Any]:
    """Voxels (k, j, i) from the bytes of one volume, scaled by slope and intercept."""
    stored = np.frombuffer(raw, plan.dtype).reshape(plan.shape[::-1])
    stored = stored.astype(plan.dtype.newbyteorder("="), copy=False)
    if plan.slope == 1 and plan.intercept == 0:
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(np.float32)
        values *= np.float32(plan.slope)
        values += np.float32(plan.intercept)
    return values


@checked
def check_shape(shape: tuple[int, ...], limits: Limits) -> None:
    """Raise :class:`ImageError` for sizes below 1 or beyond the limits, before anything is allocated."""
    if min(shape, default=0) < 1:
        raise ImageError("the header gives a size that cannot be", given=" x ".join(map(str, shape))[:80])
    i, j, k = (*shape, 1, 1)[:3]
    limits.check(j, i, k)


# -- NIfTI -----------------------------------------------------------------------------------------------


@checked
def nifti_plan(head: bytes, limits: Limits) -> Plan:
    """What a NIfTI header, inflated, says of the voxels. Raises :class:`ImageError` before anything is allocated."""
    header = _nifti_header(head)
    sizes = _nifti_sizes(header)
    check_shape(sizes, limits)
    kind = int(header["datatype"])
    if kind not in _NIFTI:
        given = f"{_COLOUR.get(kind, 'NIfTI datatype')} ({kind})"
        todo = "save the volume with one number per voxel"
        raise ImageError("voxels of this kind are not read", given=given, todo=todo)
    affine, notes = _nifti_affine(header)
    dtype = np.dtype(_NIFTI[kind]).newbyteorder(header.endianness)
    slope, intercept = _nifti_scale(header)
    skip = _nifti_start(header)
    return _plan(sizes, affine, dtype, 0, notes, skip=skip, slope=slope, intercept=intercept)


def _nifti_header(head: bytes) -> Any:
    import nibabel
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}  # type: ignore[arg-type]
    first = 348 in sizes and head[344:348] in (b"n+1\0", b"ni1\0")
    kind = nibabel.Nifti1Header if first else nibabel.Nifti2Header
    second = 540 in sizes and head[4:8] in (b"n+2\0", b"ni2\0")
    if not (first or second) or len(head) < kind.sizeof_hdr:
        raise ImageError("the NIfTI header is cut off", given=f"{len(head):,} bytes")
    if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        raise ImageError("NIfTI in two files (.hdr and .img) is not read", todo="save it as one .nii file")
    try:
        return kind(head[: kind.sizeof_hdr], check=False)
    except (HeaderDataError, WrapStructError, ValueError) as error:
        raise ImageError("the NIfTI header is damaged") from error


def _nifti_sizes(header: Any) -> tuple[int, ...]:
    """Voxels along (i, j), which is one plane by design, (i, j, k) or (i, j, k, volumes)."""
    axes, *sizes = (int(size) for size in header["dim"])
    if not 2 <= axes <= 7:
        raise ImageError("a NIfTI volume has 2 to 7 axes", given=axes)
    return (*sizes[: min(axes, 3)], *((prod(sizes[3:axes]),) if axes > 3 else ()))


def _nifti_start(header: Any) -> int:
    """Where the voxels begin: behind the header where the file does not say."""
    start, least = float(header["vox_offset"]), 352 if header.sizeof_hdr == 348 else 544
    if start == 0:
        return least
    if not least <= start <= HEADER_BYTES or start != int(start):
        raise ImageError("the header says that the voxels begin where they cannot", given=f"byte {start:g}")
    return int(start)


def _nifti_scale(header: Any) -> tuple[float, float]:
    """scl_slope and scl_inter; a slope of 0 or none at all leaves voxels as stored (NIfTI-1, "data scaling")."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    if not np.isfinite(intercept):
        raise ImageError("the header's intercept is not a number")
    return slope, intercept


def _nifti_affine(header: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """(i, j, k) to RAS mm, by the first method that can be used."""
    unit = _NIFTI_UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
    scale = np.diag([unit, unit, unit, 1.0])
    notes = () if unit == 1 else ("lengths converted to mm",)
    for method, code in ((_sform, "sform_code"), (_qform, "qform_code")):
        if int(header[code]) > 0:
            affine = scale @ method(header)
            if usable(affine):
                return affine, notes
            notes = (*notes, f"{code.removesuffix('_code')} cannot be used")
    sizes = np.abs(np.asarray(header["pixdim"][1:4], np.float64))
    sizes = np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1.0) * unit
    affine = np.diag([*sizes.tolist(), 1.0])
    if not usable(affine):
        return np.eye(4), (*notes, "no usable voxel size: 1 mm assumed", "no orientation: RAS assumed")
    return affine, (*notes, "no orientation: RAS assumed")


def _sform(header: Any) -> NDArray[np.float64]:
    return np.asarray([*(header[f"srow_{axis}"] for axis in "xyz"), [0, 0, 0, 1]], np.float64)


def _qform(header: Any) -> NDArray[np.float64]:
    """Rotation by the quaternion, voxel sizes, and pixdim[0] as the sign of k (NIfTI-1, "method 2")."""
    from nibabel.quaternions import quat2mat

    b, c, d = (float(header[f"quatern_{name}"]) for name in "bcd")
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    affine = np.full((4, 4), np.nan)
    if np.isfinite([a, b, c, d]).all():
        sign = -1.0 if float(header["pixdim"][0]) < 0 else 1.0  # 0 counts as 1
        affine = np.eye(4)
        affine[:3, :3] = quat2mat([a, b, c, d]) * header["pixdim"][1:4].astype(np.float64) * [1.0, 1.0, sign]
        affine[:3, 3] = [float(header[f"qoffset_{name}"]) for name in "xyz"]
    return affine


# -- NRRD ------------------------------------------------------------------------------------------------


@checked
def nrrd_plan(head: bytes, limits: Limits) -> Plan:
    """What the header of a NRRD file says of the voxels. Raises :class:`ImageError` for what is not read."""
    fields, start = _nrrd_fields(head)
    sizes = _sizes(fields.get("sizes", ""), fields.get("dimension", ""))
    directions = _directions(fields.get("space directions", ""), len(sizes))
    _one_number(fields, directions)
    check_shape(sizes, limits)
    dtype = _dtype(_NRRD.get(fields.get("type", "").lower(), ""), fields.get("type", ""), fields.get("endian", ""))
    coding = _CODINGS.get(fields.get("encoding", "").lower(), "")
    if not coding:
        raise ImageError("NRRD with this encoding is not read", todo="save it as raw, gzip or bzip2")
    name = _first(fields, "data file", "datafile")
    beside = "" if name is None else _plain_name(name)
    start = _skipped(fields, 0 if beside else start, coding)
    affine, notes = _nrrd_affine(fields, sizes[:3], directions)
    return _plan(sizes, affine, dtype, start, notes, coding=coding, beside=beside)


def _nrrd_fields(head: bytes) -> tuple[dict[str, str], int]:
    """Fields by name, and where the voxels begin: after the first empty line, if they are in the same file."""
    end = re.search(rb"\r?\n\r?\n", head)
    if end is None and len(head) >= HEAD:
        raise ImageError("the header is longer than the limit", given=f"{HEAD:,} bytes without an end")
    fields: dict[str, str] = {}
    for line in head[: end.start() if end else None].decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):  # comments; keys and values, which are free text
            continue
        if not colon or name.strip().lower() in fields:
            raise ImageError("the NRRD header is damaged", given="a line that is no field, or a field twice")
        fields[name.strip().lower()] = value.strip()
    if end is None and _first(fields, "data file", "datafile") is None:
        raise ImageError("the file is cut off", given="a NRRD header without an end")
    return fields, end.end() if end else len(head)


def _one_number(fields: dict[str, str], directions: list[tuple[float, ...]]) -> None:
    """Raise for several numbers per voxel: a first axis that is not one of space."""
    kinds = re.findall(r'[^\s"]+', fields.get("kinds", "").lower())
    if (directions and not directions[0]) or (kinds and kinds[0] not in ("domain", "space", "???", "none")):
        raise ImageError("several numbers per voxel are not read", given="colour or vectors in a NRRD file")
    if len(directions) == 4 and directions[3]:
        raise ImageError("a NRRD volume has three axes in space", given="4")


def _skipped(fields: dict[str, str], start: int, coding: str) -> int:
    """Where the voxels begin after ``line skip`` and ``byte skip``; -1 for the end of the file."""
    lines, skip = (_whole(_first(fields, f"{what} skip", f"{what}skip") or "0") for what in ("line", "byte"))
    if lines or skip < -1 or (skip and coding != "raw"):
        raise ImageError("NRRD with skipped lines, or with skipped bytes of compressed data, is not read")
    return -1 if skip == -1 else start + skip


def _directions(text: str, axes: int) -> list[tuple[float, ...]]:
    """A vector per axis, () for one that is not in space; an empty list where there are none."""
    found = re.findall(r"none|\([^()]*\)", text.lower())
    if not found:
        return []
    vectors = [() if part == "none" else _numbers(part.strip("()").replace(",", " ")) for part in found]
    if len(vectors) != axes or len({len(vector) for vector in vectors if vector}) != 1:
        raise ImageError("the NRRD header is damaged", given="space directions that do not fit the dimension")
    return vectors


def _nrrd_affine(
    fields: dict[str, str], sizes: tuple[int, ...], directions: list[tuple[float, ...]]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """(i, j, k) to RAS mm."""
    axes = len(sizes)
    space = _SPACES.get(fields.get("space", "").lower().removesuffix("-time"), "")
    notes: tuple[str, ...] = () if space and directions else ("no orientation: LPS assumed",)
    lines = ["NRRD0004", "type: uchar", f"dimension: {axes}", "encoding: raw", f"sizes: {_joined(sizes)}"]
    if directions:
        vectors = " ".join(f"({','.join(map(repr, vector))})" for vector in directions[:axes])
        origin = _numbers(fields.get("space origin", "").strip("()").replace(",", " ")) or (0.0,) * axes
        lines.append(f"space: {space}" if space and axes == 3 else f"space dimension: {axes}")
        lines += [f"space directions: {vectors}", f"space origin: ({','.join(map(repr, origin))})"]
    elif fields.get("spacings"):
        spacings = [x if math.isfinite(x) and x > 0 else 1.0 for x in _numbers(fields["spacings"], nan=True)]
        lines.append(f"spacings: {_joined(tuple(spacings[:axes]))}")
    affine = _by_simpleitk("\n".join(lines) + "\n\n", "header.nrrd", "NrrdImageIO", axes)
    units = {part.lower() for part in re.findall(r'"([^"]*)"', fields.get("space units", ""))} - {""}
    scale = _UNITS.get(next(iter(units)), 1.0) if len(units) == 1 else 1.0
    if scale != 1:
        affine, notes = np.diag([scale, scale, scale, 1.0]) @ affine, (*notes, "lengths converted to mm")
    return affine, notes


# -- MetaImage -------------------------------------------------------------------------------------------


@checked
def meta_plan(head: bytes, limits: Limits) -> Plan:
    """What the header of a MetaImage says of the voxels. Raises :class:`ImageError` for what is not read."""
    fields, start = _meta_fields(head)
    sizes = _sizes(fields.get("dimsize", ""), fields.get("ndims", ""))
    check_shape(sizes, limits)
    if _whole(fields.get("elementnumberofchannels", "1")) != 1:
        raise ImageError("several numbers per voxel are not read", given="colour or vectors in a MetaImage")
    if _says(fields, "binarydata", True) is False:
        raise ImageError("MetaImage with voxels as text is not read", todo="save it as binary data")
    big = _says(fields, "binarydatabyteordermsb", _says(fields, "elementbyteordermsb", False))
    kind = fields.get("elementtype", "")
    dtype = _dtype(_META.get(kind, ""), kind, "big" if big else "little")
    coding = "gzip" if _says(fields, "compresseddata", False) else "raw"
    name, skip = fields["elementdatafile"], _whole(fields.get("headersize", "0"))
    beside = "" if name.upper() == "LOCAL" else _plain_name(name)
    if skip < -1:
        raise ImageError("the MetaImage header is damaged", given=f"HeaderSize {skip}")
    start = -1 if skip == -1 else (0 if beside else start) + skip
    affine, notes = _meta_affine(fields, sizes)
    return _plan(sizes, affine, dtype, start, notes, coding=coding, beside=beside)


def _meta_fields(head: bytes) -> tuple[dict[str, str], int]:
    """Fields by name, up to ElementDataFile, which is the last, and where its line ends."""
    fields: dict[str, str] = {}
    for line in re.finditer(rb"([^\n]*)\n|([^\n]+)\Z", head[:HEAD]):
        name, equals, value = (line[1] or line[2] or b"").decode("latin-1").partition("=")
        name = name.strip().lower()
        if equals and name in fields and name != "comment":
            raise ImageError("the MetaImage header is damaged", given="a field stands twice")
        if equals:
            fields[name] = value.strip()
        if name == "elementdatafile":
            return fields, line.end()
        if not equals and name:
            break
    raise ImageError("the file is cut off", given="a MetaImage header without ElementDataFile")


def _meta_affine(fields: dict[str, str], sizes: tuple[int, ...]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """(i, j, k) to RAS mm; of four axes the first three."""
    have, axes = len(sizes), min(len(sizes), 3)
    spacing = _numbers(fields.get("elementspacing", fields.get("elementsize", ""))) or (1.0,) * have
    origin = _numbers(_first(fields, "offset", "position", "origin") or "") or (0.0,) * have
    turned = _first(fields, "transformmatrix", "rotation", "orientation") or ""
    matrix = np.asarray(_numbers(turned) or np.eye(have).ravel().tolist())
    if (len(spacing), len(origin), len(matrix)) != (have, have, have * have) or min(spacing) <= 0:
        raise ImageError("the MetaImage header is damaged", given="spacing, offset or matrix that do not fit")
    matrix = matrix.reshape(have, have)[:axes, :axes]
    text = (
        f"ObjectType = Image\nNDims = {axes}\nBinaryData = True\n"
        f"TransformMatrix = {_joined(tuple(matrix.ravel().tolist()))}\nOffset = {_joined(origin[:axes])}\n"
        f"ElementSpacing = {_joined(spacing[:axes])}\nDimSize = {_joined(sizes[:axes])}\n"
        "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    affine = _by_simpleitk(text, "header.mha", "MetaImageIO", axes)
    return affine, () if turned else ("no orientation: LPS assumed",)


def _first(fields: dict[str, str], *names: str) -> str | None:
    return next((fields[name] for name in names if name in fields), None)


def _says(fields: dict[str, str], name: str, otherwise: bool) -> bool:
    return fields[name].lower() in ("true", "1", "t", "y", "yes") if name in fields else otherwise


# -- both ------------------------------------------------------------------------------------------------


def _plan(
    sizes: tuple[int, ...],
    affine: NDArray[np.float64],
    dtype: np.dtype,
    start: int,
    notes: tuple[str, ...],
    **more: Any,
) -> Plan:
    if not usable(affine):
        raise ImageError("the header's voxel sizes or axes span no space")
    i, j, k, volumes = (*sizes, 1, 1)[:4]
    if volumes > 1:
        notes = (*notes, f"first of {volumes} volumes")
    if len(sizes) == 2:
        notes = (*notes, FLAT)
    return Plan((i, j, k), affine, dtype, start, volumes=volumes, notes=notes, **more)


def _by_simpleitk(text: str, name: str, reader: str, axes: int) -> NDArray[np.float64]:
    """The affine to RAS mm that SimpleITK reads from a clean header without voxels."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(prefix="overread-") as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="ascii", newline="\n")
        image = sitk.ImageFileReader()
        image.SetImageIO(reader)
        image.SetFileName(str(path))
        try:
            image.ReadImageInformation()
        except RuntimeError as error:
            raise ImageError("the header's voxel sizes or axes cannot be used") from error
    affine = np.eye(4)
    affine[:axes, :axes] = np.reshape(image.GetDirection(), (axes, axes)) * image.GetSpacing()
    affine[:axes, 3] = image.GetOrigin()
    return LPS @ affine


def _sizes(text: str, axes: str) -> tuple[int, ...]:
    """Voxels along the axes, (i, j), (i, j, k) or (i, j, k, volumes)."""
    sizes = tuple(_whole(part) for part in text.split()[:8])
    if len(sizes) not in (2, 3, 4) or len(sizes) != _whole(axes or "0"):
        raise ImageError("a volume has two to four axes, each with its size", given=f"{len(sizes)} sizes")
    return sizes


def _dtype(kind: str, name: str, endian: str) -> np.dtype:
    if not kind:
        raise ImageError("voxels of this kind are not read", given="an unknown type" if name else "no type")
    dtype = np.dtype(kind)
    if dtype.itemsize > 1 and endian.lower() not in ("little", "big"):
        raise ImageError("the header does not say in which order the bytes are", given="no endian")
    return dtype.newbyteorder(">" if endian.lower() == "big" else "<")


def _plain_name(name: str) -> str:
    """A name of one file; lists and patterns of files are refused."""
    if not name:
        raise ImageError("the header names no file with the voxels")
    if re.match(r"(?i)list\b", name) or re.search(r"%\d*[du]", name):
        raise ImageError("voxels in a list of files are not read", todo="save the volume as one file")
    return name


def _numbers(text: str, *, nan: bool = False) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split()[:64])
    except ValueError as error:
        raise ImageError("the header is damaged", given="a number that is none") from error
    if not nan and not all(map(math.isfinite, values)):
        raise ImageError("the header is damaged", given="a number that is not finite")
    return values


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,15}", text):
        raise ImageError("the header is damaged", given="a whole number that is none")
    return int(text)


def _joined(values: tuple[float, ...]) -> str:
    return " ".join(map(repr, values))
