"""Microns of a pixel, where an image's file says them: TIFF's resolution, ImageJ's unit, OME's physical size."""

from __future__ import annotations

import re
import struct
from io import BytesIO
from typing import Any

from overread.core.errors import OverreadError, checked
from overread.images.address import parse
from overread.images.formats.archives import address_bytes
from overread.images.formats.npz import is_address
from overread.images.formats.signatures import sniff
from overread.images.formats.tiff import require_directories
from overread.images.image import LIMITS, Limits

#: Microns in a unit, as ImageJ and OME write it.
_MICRONS = {"nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "micron": 1.0,
            "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25_400.0}  # fmt: skip
#: Of TIFF's ResolutionUnit: an inch, a centimetre.
_OF_TIFF = {2: 25_400.0, 3: 10_000.0}
#: Below and above, it is the resolution of a screen or of a printer rather than of a microscope.
_PLAUSIBLE = (1e-3, 50.0)


@checked
def pixel_size_of(address: str, *, limits: Limits = LIMITS) -> float:
    """Microns of a pixel, NaN where the file does not say it, or says that of a screen; never an error.

    Pixels that are not square count by their width. Of PNG the ``pHYs`` chunk is read where it gives metres.
    """
    if is_address(address):
        return float("nan")
    try:
        data = address_bytes(parse(address), limits)
        kind = sniff(data)
        size = _of_tiff(data) if kind == "TIFF" else _of_png(data) if kind == "PNG" else float("nan")
    except (OverreadError, ValueError, TypeError, LookupError, OSError, ArithmeticError, AttributeError, struct.error):
        return float("nan")
    return size if _PLAUSIBLE[0] <= size <= _PLAUSIBLE[1] else float("nan")


def _of_png(data: bytes) -> float:
    """Pixels a metre of the ``pHYs`` chunk (PNG, third edition, 11.3.4.3)."""
    at = data[:65_536].find(b"pHYs")
    if at < 0:
        return float("nan")
    across, _, unit = struct.unpack_from(">IIB", data, at + 4)
    return 1e6 / across if unit == 1 and across else float("nan")


def _of_tiff(data: bytes) -> float:
    import tifffile

    require_directories(data, 4096)
    with tifffile.TiffFile(BytesIO(data), is_ndpi=False, is_lsm=False, is_scanimage=False) as file:
        page: Any = file.pages[0]
        described = str(page.description or "")
        if "<OME" in described:
            size = re.search(r'\bPhysicalSizeX="([\d.eE+-]+)"', described)
            unit = re.search(r'\bPhysicalSizeXUnit="([^"]+)"', described)
            return float(size[1]) * _MICRONS.get(unit[1] if unit else "µm", float("nan")) if size else float("nan")
        tags = page.tags
        across = tags[282].value if 282 in tags else (0, 1)
        pixels = across[0] / across[1]  # in a unit
        unit = re.search(r"^unit=(.+)$", described, re.MULTILINE) if described.startswith("ImageJ") else None
        if unit:
            return _MICRONS.get(unit[1].strip().lower(), float("nan")) / pixels
        held = int(tags[296].value) if 296 in tags else 2
        return _OF_TIFF.get(held, float("nan")) / pixels
