"""Names that are part of the picture: which files may hold them, and whether text is found in their pixels.

No tag can clean such a file. It is told by what the file says of itself, by the kind of image (ultrasound, screen
shots, scans of film, photographs, labels of slides), by text in its pixels, and by bits that belong to no pixel.
"""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.deidentify.instance import broken
from overread.images.image import Limits

#: Frames of a film that are searched for text, spread evenly from the first to the last.
FRAMES_SEARCHED = 24
#: Modalities whose images often carry text (PS3.3 C.7.3.1.1.1).
MODALITIES_AT_RISK = frozenset({"US", "IVUS", "BDUS", "OT", "XA", "RF", "XC", "ES", "GM", "SM", "ECG", "HC", "DOC", "DG", "OP",
                                "OPT", "OCT", "IVOCT", "EPS", "HD", "BMD", "TG", "ST", "FILM", "SC"})  # fmt: skip
_CLASSES_AT_RISK = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6.", "1.2.840.10008.5.1.4.1.1.3.",
                    "1.2.840.10008.5.1.4.1.1.12.", "1.2.840.10008.5.1.4.1.1.77.1.")  # fmt: skip
_TYPES_AT_RISK = frozenset({"SECONDARY", "SCREEN SAVE", "SCREENSHOT", "SCREEN", "CAPTURE", "DOSE", "REPORT", "PROTOCOL", "LABEL",
                            "OVERVIEW", "MONTAGE", "SECONDARY CAPTURE"})  # fmt: skip
#: Small images are searched enlarged, by their longer side: devices write letters of six pixels.
_ENLARGED = ((400, 3), (800, 2))
#: The black that writing of small images stands on: side in pixels of what is looked at around each, and brightness.
_AROUND, _DARK = 25, 40
#: Levels of black and white, of 255: faint text, and plain text on a picture.
_LEVELS = (48, 128)
_NOT_SEARCHED = "burned-in annotation: the pixels cannot be searched for text"
_HEAD = re.compile(r"HEAD|BRAIN|SKULL|FACE|FACIAL|NECK|ORBIT|SINUS|CRANI|JAW|MANDIB|MAXILL|EAR|IAC|EYE|WHOLEBODY")


@checked
def burned_in(dataset: Any, data: bytes, limits: Limits) -> str:
    """Why the pixels of a file may name the patient, in a few words; "" where nothing speaks for it.

    ``dataset`` was read from ``data``. Pixels are decoded only of the kinds at risk; those that cannot be count.
    """
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        return "burned-in annotation: the file says so"
    if _overlay_in_pixels(dataset):
        return "burned-in annotation: bits beside the pixels hold something"
    types = {str(part).strip().upper() for part in _listed(dataset.get("ImageType"))}
    if types & {"LABEL", "OVERVIEW"}:
        return "burned-in annotation: the label of a slide may be seen"
    return _found_text(dataset, data, limits) if at_risk(dataset, types) else ""


@checked
def at_risk(dataset: Any, types: set[str]) -> bool:
    """Whether images of this kind often carry text."""
    kind = str(dataset.get("SOPClassUID", ""))
    captured = "ConversionType" in dataset or bool(types & _TYPES_AT_RISK)
    return (
        captured
        or str(dataset.get("Modality", "") or "OT").strip() in MODALITIES_AT_RISK
        or kind.startswith(_CLASSES_AT_RISK)
    )


@checked
def may_show_a_face(dataset: Any) -> bool:
    """Whether a face could be rebuilt from the volume: CT, MR or PET of the head, or of a part that is not named."""
    part = str(dataset.get("BodyPartExamined", "") or "").upper().replace(" ", "")
    return dataset.get("Modality") in ("CT", "MR", "PT") and (not part or _HEAD.search(part) is not None)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _found_text(dataset: Any, data: bytes, limits: Limits) -> str:
    from overread.images.dicom import decode

    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    try:
        for frame in np.unique(np.linspace(0, frames - 1, min(frames, FRAMES_SEARCHED)).astype(int)).tolist():
            pixels, _ = decode(data, limits.check, frame=frame if frames > 1 else None)
            if _has_text(_as_whole_numbers(pixels)):
                return "burned-in annotation: text is found in the pixels"
    except ImageError:
        return _NOT_SEARCHED
    except broken():
        return _NOT_SEARCHED
    return ""


def _has_text(pixels: NDArray[Any]) -> bool:
    """Whether text is found in the image as it is or, if it is small, in two enlarged copies in black and white."""
    from overread.images.crop import text_boxes

    if text_boxes(pixels):
        return True
    times = next((times for side, times in _ENLARGED if max(pixels.shape[:2]) <= side), 0)
    if not times:
        return False
    grey = pixels.max(-1)
    grey = (grey.astype(np.float32) * (255.0 / max(float(grey.max()), 1.0))).astype(np.uint8)
    grey[cv2.medianBlur(grey, _AROUND) > _DARK] = 0  # texture makes rows of pieces, too; devices write on black
    large = cv2.resize(grey, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    return any(text_boxes(np.where(large > level, np.uint8(255), np.uint8(0))[..., None]) for level in _LEVELS)


def _as_whole_numbers(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.dtype.kind != "f":
        return pixels
    low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    return np.nan_to_num((pixels - low) / (high - low or 1.0) * 65535).astype(np.uint16)


def _overlay_in_pixels(dataset: Any) -> bool:
    """An overlay of the old kind, whose plane lies in bits of the pixels that no grey value uses (retired, PS3.5 8.1.2)."""
    groups = {tag.group for tag in sorted(dataset.keys()) if tag.group >> 8 == 0x60 and not tag.is_private}
    declared = any(dataset.get((group, 0x0102)) is not None and (group, 0x3000) not in dataset for group in groups)
    return declared or _unused_bits_are_used(dataset)


def _unused_bits_are_used(dataset: Any) -> bool:
    """Whether pixels of 16 bits that are not compressed have bits set beside those stored, sign and padding aside."""
    stored, high = int(dataset.get("BitsStored", 0) or 0), int(dataset.get("HighBit", 0) or 0)
    if "PixelData" not in dataset or dataset.get("BitsAllocated") != 16 or stored in (0, 16) or high > 15:
        return False
    element = dataset["PixelData"]
    if element.is_undefined_length:  # compressed
        return False
    order = ">" if getattr(dataset, "original_encoding", (None, True))[1] is False else "<"
    values = np.frombuffer(element.value, f"{order}u2", count=len(element.value) // 2)
    mask = ((1 << stored) - 1) << max(0, high + 1 - stored) & 0xFFFF
    signs = 0xFFFF & ~((1 << (high + 1)) - 1) if dataset.get("PixelRepresentation") == 1 else 0
    beside = values & (0xFFFF & ~mask)
    return bool(((beside != 0) & (beside != signs) & ~_is_padding(dataset, values)).any())


def _is_padding(dataset: Any, values: NDArray[np.uint16]) -> NDArray[np.bool_]:
    value = dataset.get("PixelPaddingValue")
    return values == (int(value) & 0xFFFF) if isinstance(value, int) else np.zeros(values.shape, bool)
