"""Simple DICOM: one frame or several, to grey or RGB pixels.

The order is that of PS3.3 C.11 and C.7.6.3.1.2: modality (rescale) → values of interest (window or table) →
MONOCHROME1 inverted last. Grey images that are stored in 8 bits without rescale, window or table stay as
they are; all others become 16 bits, black to white over the stored window, else from the smallest to the
largest value (padding left out). Nothing but pixels leaves this module: no tag, no name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import ImageError, checked

_NEEDED = ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")


@checked
def decode(data: bytes, check: Callable[[int, int, int], None]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Pixels (H, W, C) or (D, H, W, 1) and notes from the bytes of a DICOM file.

    ``check(height, width, frames)`` is asked before anything is decoded. Raises :class:`ImageError`.
    """
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of headers that do not concern the pixels
        head = pydicom.dcmread(BytesIO(data), force=data[128:132] != b"DICM")
        _require_image(head)
        frames = int(head.get("NumberOfFrames", 1) or 1)
        check(int(head.Rows), int(head.Columns), frames)
        pixels = _stored(head)
        if head.PhotometricInterpretation in _COLOUR:
            return _colour(head, pixels, frames)
        return _grey(head, pixels)


def _require_image(head: Any) -> None:
    missing = [name for name in _NEEDED if not head.get(name)]
    pixels = [name for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in head]
    if missing or not pixels:
        raise ImageError(
            "the DICOM file holds no image", given=f"without {', '.join(missing or ['PixelData'])}"
        )
    known = (*_COLOUR, "MONOCHROME1", "MONOCHROME2")
    if head.PhotometricInterpretation not in known:
        raise ImageError(
            "this kind of DICOM image is not read", given=str(head.PhotometricInterpretation)[:32]
        )


def _stored(head: Any) -> NDArray[Any]:
    """The decoded samples; YBR already as RGB."""
    syntax = getattr(getattr(head, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        raise ImageError("the DICOM file does not say how its pixels are coded", given="no transfer syntax")
    try:
        return np.asarray(head.pixel_array)
    except (RuntimeError, NotImplementedError) as error:
        raise ImageError(
            "there is no decoder for this DICOM file",
            given=syntax.name,
            todo="install pylibjpeg, python-gdcm or pyjpegls, or convert the file",
        ) from error


def _colour(head: Any, pixels: NDArray[Any], frames: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    from pydicom.pixels.processing import apply_color_lut

    if frames > 1:
        raise ImageError(
            "a colour film is not read", given=f"{frames} frames", todo="export the frames one by one"
        )
    if head.PhotometricInterpretation == "PALETTE COLOR":
        table = apply_color_lut(pixels, head)[..., :3]
        return (table >> 8 if table.max() > 255 else table).astype(np.uint8), ("palette converted to RGB",)
    if pixels.dtype.itemsize > 2:
        raise ImageError("colour of more than 16 bits is not read", given=f"{pixels.dtype.itemsize * 8} bits")
    return pixels.astype(pixels.dtype.newbyteorder("=")), ()


def _grey(head: Any, pixels: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    from pydicom.pixels.processing import apply_modality_lut

    slope, intercept = float(head.get("RescaleSlope", 1) or 1), float(head.get("RescaleIntercept", 0) or 0)
    plain = slope == 1 and intercept == 0 and "ModalityLUTSequence" not in head
    if plain and pixels.dtype == np.uint8 and not _has_window(head) and not head.get("VOILUTSequence"):
        grey, note = _stretch_bits(head, pixels), "as stored"
    else:
        values = apply_modality_lut(pixels, head).astype(np.float64)
        unit, note = _of_interest(head, pixels, values)
        grey = np.rint(unit * 65535).astype(np.uint16)
    notes: tuple[str, ...] = (note,)
    if head.PhotometricInterpretation == "MONOCHROME1":
        grey, notes = np.iinfo(grey.dtype).max - grey, (*notes, "MONOCHROME1 inverted")
    return grey[..., None], notes


def _stretch_bits(head: Any, pixels: NDArray[Any]) -> NDArray[Any]:
    """Fewer than 8 stored bits (a mask has 1) stretched to 8."""
    bits = int(head.get("BitsStored", 8) or 8)
    return pixels if bits >= 8 else (pixels.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)


def _has_window(head: Any) -> bool:
    return head.get("WindowCenter") not in (None, "") and head.get("WindowWidth") not in (None, "")


def _of_interest(
    head: Any, stored: NDArray[Any], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], str]:
    """Values on 0 … 1 by the stored table, the first stored window, or the range."""
    if head.get("VOILUTSequence") and stored.dtype.kind in "iu":
        return _by_table(head, values)
    if _has_window(head):
        centre, width = _first(head.WindowCenter), _first(head.WindowWidth)
        function = str(head.get("VOILUTFunction", "LINEAR") or "LINEAR")
        if width >= 1 or (width > 0 and function != "LINEAR"):
            return window(values, centre, width, function), f"window {centre:g}/{width:g}"
    return _range(values, _padding(head, stored)), "smallest to largest value"


def _first(value: Any) -> float:
    return float(
        value if isinstance(value, (int, float, str)) or not hasattr(value, "__getitem__") else value[0]
    )


@checked
def window(
    values: NDArray[np.float64], centre: float, width: float, function: str = "LINEAR"
) -> NDArray[np.float64]:
    """Values on 0 … 1 by a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    >>> window(np.array([0.0, 50.0, 200.0]), 50.5, 101.0).tolist()
    [0.0, 0.5, 1.0]
    """
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -500, 500)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width == 1:  # a threshold
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _by_table(head: Any, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """The first VOI LUT (PS3.3 C.11.2.1.1): entries, first value mapped, bits of an entry."""
    item = head.VOILUTSequence[0]
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    kind = np.uint8 if isinstance(item.LUTData, bytes) and bits <= 8 else np.uint16
    table = np.frombuffer(item.LUTData, kind) if isinstance(item.LUTData, bytes) else np.asarray(item.LUTData)
    if values.min() < 0 and first >= 2**15:
        first -= 2**16
    table = table[: entries or 2**16].astype(np.float64)
    index = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)
    return np.clip(table[index] / (2**bits - 1), 0.0, 1.0), "table of the file"


def _padding(head: Any, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the pixels are padding (PS3.3 C.7.5.1.1.2)."""
    value = head.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = head.get("PixelPaddingRangeLimit", value)
    low, high = sorted((int(value), int(limit)))
    return (stored >= low) & (stored <= high)


def _range(values: NDArray[np.float64], padding: NDArray[np.bool_]) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        raise ImageError("the image holds NaN or infinite pixels")
    kept = values[~padding] if not padding.all() else values
    low, high = float(kept.min()), float(kept.max())
    return np.clip((values - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(values)
