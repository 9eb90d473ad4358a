"""The pixels of a case for a viewer that lets people choose the window: physical values where the file has them.

A browser reads neither DICOM nor TIFF nor volumes. What it is sent is whole in values, not yet in the window of the file,
so that what lies outside that window can be looked at too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.core.files import plain
from overread.core.sandbox import contained
from overread.images.address import parse
from overread.images.dicom.header import read_header
from overread.images.dicom.pixels import physical
from overread.images.formats.archives import address_bytes
from overread.images.formats.npz import is_address
from overread.images.image import Limits
from overread.images.read import read_image
from overread.images.volumes.volume import read_volume
from overread.serving.policy import ServingLimits

#: Most bytes of pixels that are sent of a case; larger ones are averaged down within their planes, and say so.
MOST_BYTES = 64_000_000
#: Share of the values' variance that a straight line must explain for it to be called the file's window.
_STRAIGHT = 0.999
#: Pixels that a window is told from.
_SAMPLE = 200_000


@dataclass(frozen=True, eq=False)
class Viewed:
    """An image of a case: ``pixels`` (D, H, W, C), uint8 or uint16, whose 0 is the value ``least`` and whose largest is ``most``.

    ``low`` and ``high``: the window it is first shown in, black and white, in those values; ``inverted``: low values are
    white. ``unit``: HU of CT, blank if not known. ``shrunk``: by how much it was averaged down within its planes.
    """

    pixels: NDArray[Any]
    least: float
    most: float
    low: float
    high: float
    inverted: bool = False
    unit: str = ""
    shrunk: float = 1.0


@checked
def viewed(addresses: Sequence[str], limits: ServingLimits) -> bytes:
    """A line of JSON that describes the images of a case, and then their pixels, little-endian, one after the other.

    Each image begins at an even byte. Decoded in a process of its own. Raises :class:`ImageError` for the first that
    cannot be read.
    """
    room = MOST_BYTES // max(len(addresses), 1)
    found: list[Viewed] = []
    for one in contained(look_at, ((address, limits.pixels, room) for address in addresses), workers=1):
        if isinstance(one, ImageError):
            raise one
        found.append(one)
    head = [_described(f"image {number}" if len(found) > 1 else "", one) for number, one in enumerate(found, start=1)]
    parts = [one.pixels.astype(one.pixels.dtype.newbyteorder("<"), copy=False).tobytes() for one in found]
    even = [part + b"\0" * (len(part) % 2) for part in parts]
    return json.dumps({"images": head}, allow_nan=False).encode() + b"\n" + b"".join(even)


def _described(name: str, one: Viewed) -> dict[str, Any]:
    slices, height, width, channels = one.pixels.shape
    size = {
        "width": width,
        "height": height,
        "slices": slices,
        "channels": channels,
        "bits": 8 * one.pixels.dtype.itemsize,
    }
    return plain({"name": name, **size, **{key: value for key, value in vars(one).items() if key != "pixels"}})


@checked
def look_at(address: str, pixels: int, room: int) -> Viewed:
    """The image at an address, its pixels in at most ``room`` bytes. Raises :class:`ImageError` if it cannot be read."""
    limits = Limits(pixels=pixels)
    seen = read_image(address, limits=limits)
    shown = seen.pixels if seen.pixels.ndim == 4 else seen.pixels[None]
    values = None if shown.shape[-1] == 3 else _physical(address, seen.format, shown.shape[:-1], limits)
    if values is None:
        made = _as_shown(shown)
    else:
        made = _windowed(values, shown[..., 0], _unit(address, seen.format))
    return _within(made, room)


def _physical(address: str, kind: str, shape: tuple[int, ...], limits: Limits) -> NDArray[Any] | None:
    """Values (D, H, W) as they lie in the shown image, None where the file has none of its own."""
    found = None
    with suppress(ImageError):
        where = None if is_address(address) else parse(address)
        if kind == "DICOM" and where is not None and not where.series:
            found = physical(address_bytes(where, limits), limits.check, frame=where.frame)[0]
        elif len(shape) == 3 and (
            kind in ("NIfTI", "NRRD", "MetaImage", "array") or (where is not None and where.series)
        ):
            found = np.ascontiguousarray(read_volume(address, limits=limits).voxels[:, ::-1, ::-1])
    return found if found is not None and found.shape == shape else None


def _unit(address: str, kind: str) -> str:
    if kind != "DICOM":
        return ""
    with suppress(ImageError):
        return "HU" if read_header(address_bytes(parse(address), Limits())).modality == "CT" else ""
    return ""


def _windowed(values: NDArray[Any], shown: NDArray[Any], unit: str) -> Viewed:
    """Values in whole, with the window that turned them into what is shown."""
    least, most = float(values.min()), float(values.max())
    low, high = _window(values, shown) or (least, most)
    scale = 65_535 / (most - least) if most > least else 0.0
    if np.issubdtype(values.dtype, np.integer) and most - least <= 65_535:
        scale, most = 1.0, least + 65_535  # each value as it is
    stored = np.empty(values.shape, np.uint16)
    for plane, own in zip(stored, values, strict=True):  # a whole volume in float64 would be eight times its size
        plane[:] = np.clip(np.rint((own.astype(np.float64) - least) * scale), 0, 65_535)
    return Viewed(stored[..., None], least, most, min(low, high), max(low, high), low > high, unit)


def _window(values: NDArray[Any], shown: NDArray[Any]) -> tuple[float, float] | None:
    """The values that are shown black and white, by a line through what is neither; None where no line fits."""
    step = max(1, values.size // _SAMPLE)
    value, grey = values.ravel()[::step].astype(np.float64), shown.ravel()[::step].astype(np.float64)
    full = float(np.iinfo(shown.dtype).max)
    between = (grey > 0) & (grey < full)
    if between.sum() < 2 or np.ptp(value[between]) == 0 or np.ptp(grey[between]) == 0:
        return None
    value, grey = value[between], grey[between]
    if np.corrcoef(value, grey)[0, 1] ** 2 < _STRAIGHT:
        return None
    slope, offset = np.polyfit(value, grey, 1)
    return (-offset / slope, (full - offset) / slope)


def _as_shown(shown: NDArray[Any]) -> Viewed:
    """Pixels that are there to be seen: 8 bits as they are, deeper ones between their 0.5th and 99.5th percentile."""
    if shown.dtype == np.uint8:
        return Viewed(shown, 0.0, 255.0, 0.0, 255.0)
    least, most = (0.0, 65_535.0) if shown.dtype == np.uint16 else (float(shown.min()), float(shown.max()))
    low, high = (float(each) for each in np.percentile(shown, (0.5, 99.5)))
    if shown.dtype == np.uint16:
        return Viewed(shown, least, most, low, max(high, low + 1))
    unit = (shown.astype(np.float64) - least) / max(most - least, math.ulp(1.0))
    return Viewed(np.rint(unit * 65_535).astype(np.uint16), least, most, low, max(high, math.nextafter(low, math.inf)))


def _within(made: Viewed, room: int) -> Viewed:
    shrunk = max(1.0, math.sqrt(made.pixels.nbytes / max(room, 1)))
    if shrunk == 1.0:
        return made
    height, width = (max(1, int(side / shrunk)) for side in made.pixels.shape[1:3])
    planes = [
        cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
        for plane in made.pixels
    ]
    return Viewed(**{**vars(made), "pixels": np.stack(planes), "shrunk": made.pixels.shape[2] / width})
