"""NRRD and MetaImage: a text header, then the voxels, in the same file or in one beside it.

The header is read here, field by field, and nothing in it is followed but a plain name in the same folder. What its
numbers mean in space is left to SimpleITK, which is handed a clean header made of numbers alone; the voxels never
reach it. NRRD: the Teem definition of the format, version 5. MetaImage: the ITK MetaIO documentation.
"""

from __future__ import annotations

import math
import re
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.image import Limits
from overread.images.volumes.grid import FLAT, LPS, Plan, check_shape, usable

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


# -- NRRD ------------------------------------------------------------------------------------------------


@checked
def nrrd_plan(head: bytes, limits: Limits) -> Plan:
    """What the header of a NRRD file says of the voxels. Raises :class:`ImageError` for what is not read."""
    fields, start = _nrrd_fields(head)
    sizes = _sizes(fields.get("sizes", ""), fields.get("dimension", ""))
    directions = _directions(fields.get("space directions", ""), len(sizes))
    _one_number(fields, directions)
    check_shape(sizes[:3], limits)
    dtype = _dtype(_NRRD.get(fields.get("type", "").lower(), ""), fields.get("type", ""), fields.get("endian", ""))
    coding = _CODINGS.get(fields.get("encoding", "").lower(), "")
    if not coding:
        raise ImageError("NRRD with this encoding is not read", todo="save it as raw, gzip or bzip2")
    name = _first(fields, "data file", "datafile")
    beside = "" if name is None else _plain_name(name)
    start = _skipped(fields, 0 if beside else start, coding)
    affine, notes = _nrrd_affine(fields, sizes[:3], directions)
    return _plan(sizes, affine, dtype, start, coding, beside, notes)


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
    detached = "data file" in fields or "datafile" in fields
    if end is None and not detached:
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
    lines = _whole(fields.get("line skip", fields.get("lineskip", "0")))
    skip = _whole(fields.get("byte skip", fields.get("byteskip", "0")))
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
    check_shape(sizes[:3], limits)
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
    return _plan(sizes, affine, dtype, start, coding, beside, notes)


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
    sizes: tuple[int, ...], affine: NDArray[np.float64], dtype: np.dtype, start: int, coding: str, beside: str,
    notes: tuple[str, ...],
) -> Plan:  # fmt: skip
    if not usable(affine):
        raise ImageError("the header's voxel sizes or axes span no space")
    i, j, k, volumes = (*sizes, 1, 1)[:4]
    if volumes > 1:
        notes = (*notes, f"first of {volumes} volumes")
    if len(sizes) == 2:
        notes = (*notes, FLAT)
    return Plan((i, j, k), affine, dtype, start, volumes=volumes, coding=coding, beside=beside, notes=notes)


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
    if min(sizes) < 1:
        raise ImageError("the header gives a size that cannot be", given=" x ".join(map(str, sizes))[:80])
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
