"""NIfTI-1 and NIfTI-2, single files (.nii, .nii.gz) of either byte order.

The place of the voxels is the sform where its code is above 0, else the qform, else the voxel sizes alone (NIfTI-1
standard, "methods" 3, 2 and 1); one that spans no space is passed over. Of several volumes the first is read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.image import Limits
from overread.images.volumes.grid import FLAT, HEADER_BYTES, Plan, check_shape, usable

#: Bytes that :func:`plan` needs, inflated.
HEAD = 540
_UNITS = {1: 1000.0, 3: 0.001}  # metres, micrometres; 0 (unknown) and 2 are mm
_KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLOUR = {128: "RGB", 2304: "RGBA", 32: "complex", 1792: "complex", 2048: "complex"}


@checked
def version(head: bytes) -> int:
    """1 or 2 for a header of NIfTI-1 or -2, inflated, of either byte order; 0 for anything else."""
    sizes = (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    if 348 in sizes and head[344:348] in (b"n+1\0", b"ni1\0"):
        return 1
    return 2 if 540 in sizes and head[4:8] in (b"n+2\0", b"ni2\0") else 0


@checked
def plan(head: bytes, limits: Limits) -> Plan:
    """What a NIfTI header, inflated, says of the voxels. Raises :class:`ImageError` before anything is allocated."""
    header = _header(head)
    shape, volumes, flat = _sizes(header)
    check_shape(shape, limits)
    kind = int(header["datatype"])
    if kind not in _KINDS:
        raise ImageError(
            "voxels of this kind are not read",
            given=f"{_COLOUR.get(kind, 'NIfTI datatype')} ({kind})",
            todo="save the volume with one number per voxel",
        )
    affine, notes = _affine(header)
    if volumes > 1:
        notes = (*notes, f"first of {volumes} volumes")
    dtype = np.dtype(_KINDS[kind]).newbyteorder(header.endianness)
    slope, intercept = _scale(header)
    notes = (*notes, FLAT) if flat else notes
    return Plan(shape, affine, dtype, 0, _start(header), slope, intercept, volumes, notes=notes)


def _header(head: bytes) -> Any:
    import nibabel
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    known, kind = version(head), nibabel.Nifti1Header
    if known == 2:
        kind = nibabel.Nifti2Header
    if not known or len(head) < kind.sizeof_hdr:
        raise ImageError("the NIfTI header is cut off", given=f"{len(head):,} bytes")
    if head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0":
        raise ImageError("NIfTI in two files (.hdr and .img) is not read", todo="save it as one .nii file")
    try:
        return kind(head[: kind.sizeof_hdr], check=False)
    except (HeaderDataError, WrapStructError, ValueError) as error:
        raise ImageError("the NIfTI header is damaged") from error


def _sizes(header: Any) -> tuple[tuple[int, int, int], int, bool]:
    """Voxels along (i, j, k), how many volumes, and whether there is but one plane by design."""
    axes, *sizes = (int(size) for size in header["dim"])
    if not 2 <= axes <= 7:
        raise ImageError("a NIfTI volume has 2 to 7 axes", given=axes)
    if min(sizes[:axes]) < 1:
        raise ImageError("the header gives a size that cannot be", given=" x ".join(map(str, sizes[:axes])))
    i, j, k = sizes[0], sizes[1], sizes[2] if axes > 2 else 1
    volumes = 1
    for size in sizes[3:axes]:
        volumes *= size
    return (i, j, k), volumes, axes == 2


def _start(header: Any) -> int:
    """Where the voxels begin: behind the header where the file does not say."""
    start, least = float(header["vox_offset"]), 352 if header.sizeof_hdr == 348 else 544
    if start == 0:
        return least
    if not least <= start <= HEADER_BYTES or start != int(start):
        raise ImageError("the header says that the voxels begin where they cannot", given=f"byte {start:g}")
    return int(start)


def _scale(header: Any) -> tuple[float, float]:
    """scl_slope and scl_inter; a slope of 0 or none at all leaves voxels as stored (NIfTI-1, "data scaling")."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    if not np.isfinite(intercept):
        raise ImageError("the header's intercept is not a number")
    return slope, intercept


def _affine(header: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """(i, j, k) to RAS mm, by the first method that can be used."""
    unit = _UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
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
    rows = [header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]]
    return np.asarray(rows, np.float64)


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
