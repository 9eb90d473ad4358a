"""A data set without its patient: every attribute at every depth, by the rules, safe by default.

What stays: numbers, code strings, codes that PS3.16 knows (with the standard's own words for their meaning), UIDs
of the standard, pixels and their tables, and the few texts of the rules. Whatever stays as text or as a code string
is held against the names and identifiers that the file itself gives; what repeats one of them goes too.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread import __version__
from overread.core.errors import ImageError, checked
from overread.deidentify import rules as rulebook
from overread.deidentify.instance import broken, meta, settled, transfer_syntax
from overread.deidentify.rules import EDITION, MAX_DEPTH, Rules, tags
from overread.images.image import Limits

#: What is wrong with a report, a document, a plan or a signal.
NO_IMAGE = "the DICOM file holds no image"
_NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"})
_DUMMIES = {"DA": "19000101", "DT": "19000101000000", "TM": "000000", "AS": "000Y", "DS": "0", "IS": "0", "PN": "REMOVED",
            "CS": "REMOVED", "UR": "urn:removed", "OB": b"\0\0", "OW": b"\0\0", "UN": b"\0\0"}  # fmt: skip
#: Without these, or with others, the pixels would be read as something else.
_ESSENTIAL = ("SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
              "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "NumberOfFrames")  # fmt: skip
_PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422",
                "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "XYB")  # fmt: skip
_CODE_STRING = re.compile(r"[A-Z0-9_ ]{0,16}")
_PLAIN_TEXT = re.compile(r"[ -\[\]-~]{1,64}")  # printable ASCII without the backslash
_LINK = re.compile(r"[0-9A-Za-z]{1,4}")
_OVERLAYS_AND_CURVES = (0x50, 0x60)


@dataclass(frozen=True)
class _Patient:
    """What the cleaning of one file needs to know at every depth."""

    rules: Rules
    days: int
    words: frozenset[str]
    enhanced: bool


@checked
def clean(dataset: Any, rules: Rules) -> Any:
    """A new data set (``pydicom.Dataset``) without the patient, by the Basic Profile of PS3.15 Annex E.

    The argument stays as it is. Pixels stay bit for bit; comments inside compressed frames and bytes behind the
    pixels are blanked or cut. The preamble and the file's meta information are made anew. Raises
    :class:`ImageError` for what holds no image, cannot be read as one, or is compressed in a way not known here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may quote a value
        try:
            return _cleaned(dataset, rules)
        except broken() as error:
            raise ImageError("the DICOM file is damaged", given=type(error).__name__) from None


def _cleaned(dataset: Any, rules: Rules) -> Any:
    who = patient_of(dataset)
    patient = _Patient(rules, rules.days(who), names_in(dataset), "SharedFunctionalGroupsSequence" in dataset)
    new = _level(dataset, patient, 0)
    _require_same_image(dataset, new)
    syntax = transfer_syntax(dataset)
    settled(new, syntax)
    code = f"p-{rules.code('patient', who)}"
    new.PatientName, new.PatientID = code, code
    _say_what_was_done(new, rules)
    new.file_meta, new.preamble = meta(new, syntax), bytes(128)
    return new


def patient_of(dataset: Any) -> str:
    """What tells patients apart: the identifier, else name and birth date, else the study. To be hashed, never shown."""
    if found := _text(dataset, "PatientID"):
        return found
    name, born = _text(dataset, "PatientName"), _text(dataset, "PatientBirthDate")
    return f"{name}\n{born}" if name else _text(dataset, "StudyInstanceUID") or _text(dataset, "SOPInstanceUID")


def _text(dataset: Any, keyword: str) -> str:
    try:
        return str(dataset.get(keyword, "") or "").strip(" \0")
    except broken():
        return ""


def _require_same_image(old: Any, new: Any) -> None:
    if not any(keyword in new for keyword in rulebook.PIXELS[:3]):
        raise ImageError(NO_IMAGE)
    for keyword in _ESSENTIAL:
        if keyword in old and keyword not in new:
            raise ImageError("the header of the image is damaged", given=keyword)
    if "SOPClassUID" not in new or "SOPInstanceUID" not in new:
        raise ImageError("the DICOM file does not say what kind of image it is")


def _say_what_was_done(new: Any, rules: Rules) -> None:
    from pydicom.dataset import Dataset

    new.PatientIdentityRemoved = "YES"
    new.DeidentificationMethod = [f"DICOM PS3.15 {EDITION} Table E.1-1", f"overread {__version__}"]
    items = []
    for value, words in rules.methods.items():
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", words
        items.append(item)
    new.DeidentificationMethodCodeSequence = items
    new.LongitudinalTemporalInformationModified = "MODIFIED" if rules.dates == "shifted" else "REMOVED"


# -- levels and elements ----------------------------------------------------------------------------------------


def _level(dataset: Any, patient: _Patient, depth: int) -> Any:
    from pydicom.dataset import Dataset

    new = Dataset()
    for tag in sorted(dataset.keys()):
        if _is_known(tag):
            element = _read(dataset, tag)
            cleaned = None if element is None else _element(element, patient, depth)
            if cleaned is not None:
                new[tag] = cleaned
    return new


def _is_known(tag: Any) -> bool:
    """Whether the standard's dictionary has the tag, and it is none of a group that goes as a whole."""
    from pydicom.datadict import dictionary_has_tag

    gone = tag.is_private or tag.group < 8 or tag.element == 0 or tag.group >> 8 in _OVERLAYS_AND_CURVES
    return not gone and dictionary_has_tag(tag)


def _read(dataset: Any, tag: Any) -> Any:
    """The element, or None where its bytes are not what its kind asks for, or its kind is not the dictionary's."""
    from pydicom.datadict import dictionary_VR

    try:
        element = dataset[tag]
        fits = set(element.VR.split(" or ")) <= set(dictionary_VR(tag).split(" or "))
    except broken():
        return None
    return element if fits else None


def _element(element: Any, patient: _Patient, depth: int) -> Any:
    todo = rulebook.action(element.tag, element.VR, patient.rules, patient.enhanced)
    if element.VR == "SQ":
        return _sequence(element, todo, patient, depth)
    if todo in ("X", "Z") or (todo == "D" and element.VR != "UI"):
        return _replaced(element, todo)
    if todo == "C":
        return _shifted(element, patient)
    if element.VR == "UI":
        return element if todo == "K" else _changed(element, _uids(element, patient.rules))
    return _filtered(element, todo, patient)


def _replaced(element: Any, todo: str) -> Any:
    """Removed, emptied, or a dummy in place of a value."""
    if todo == "X":
        return None
    filled = todo == "D" and element.value not in (None, "", b"")
    return _changed(element, [_DUMMIES.get(element.VR, 0 if element.VR in _NUMBERS else "REMOVED")] if filled else [])


def _changed(element: Any, values: list[Any]) -> Any:
    from pydicom.dataelem import DataElement

    return DataElement(element.tag, element.VR, None if not values else values[0] if len(values) == 1 else values)


def _values(element: Any) -> list[Any]:
    value = element.value
    if value is None or value == "" or value == b"":
        return []
    return list(value) if element.VM > 1 else [value]


def _uids(element: Any, rules: Rules) -> list[str]:
    """UIDs of the standard itself are nobody's; all others are replaced. Where one belongs, several count as one."""
    from pydicom.datadict import dictionary_VM
    from pydicom.uid import UID_dictionary

    found = [str(uid).strip(" \0") for uid in _values(element)]
    found = ["\\".join(found)] if len(found) > 1 and dictionary_VM(element.tag) == "1" else found
    return [uid if uid in UID_dictionary or not uid else rules.uid(uid) for uid in found]


def _filtered(element: Any, todo: str, patient: _Patient) -> Any:
    """What no rule removes: kept as far as its kind, its form and the patient's names allow."""
    tag, vr = element.tag, element.VR
    if vr in _NUMBERS or tag in rulebook.tags(rulebook.PIXELS) or vr in ("US or SS", "US or OW", "US or SS or OW"):
        return element
    if vr in ("DS", "IS"):
        return element if all(_is_number(str(value), patient.words) for value in _values(element)) else None
    if vr == "CS":
        return _code_strings(element, patient)
    if vr == "AS":
        return _changed(element, [_age(str(element.value))]) if todo == "K" else None
    if todo == "K" and vr in ("DA", "TM"):
        return element
    return _kept_text(element, todo, patient)


def _is_number(text: str, words: frozenset[str]) -> bool:
    """Whether a number stands there, and not an identifier of the patient."""
    number = re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text) is not None
    return number and not (len(text) > 5 and text in words)


def _age(text: str) -> str:
    """An age (PS3.5 6.2); 90 years and more are one group."""
    if not re.fullmatch(r"\d{3}[DWMY]", text):
        return ""
    return "090Y" if text.endswith("Y") and text > "090Y" else text


def _code_strings(element: Any, patient: _Patient) -> Any:
    """Values that are no code string, or name the patient, are emptied where they stand: order has a meaning."""
    values = [str(value) for value in _values(element)]
    if element.keyword == "PhotometricInterpretation":
        return element if values and values[0] in _PHOTOMETRIC else None
    kept = [v if _CODE_STRING.fullmatch(v) and not mentions(v, patient.words) else "" for v in values]
    return element if kept == values else _changed(element, kept) if any(kept) else None


def _kept_text(element: Any, todo: str, patient: _Patient) -> Any:
    form = _LINK if element.keyword in rulebook.LINKS else _PLAIN_TEXT
    if todo != "K" and element.keyword not in (*rulebook.KEPT_TEXT, *rulebook.LINKS):
        return None
    values = [str(value) for value in _values(element)]
    fits = all(form.fullmatch(value) and not mentions(value, patient.words) for value in values)
    return element if fits else None


def _sequence(element: Any, todo: str, patient: _Patient, depth: int) -> Any:
    if todo in ("X", "D") or depth >= MAX_DEPTH:  # a dummy sequence would be of no use to a reader of images
        return None
    if todo == "Z":
        return _items(element, [])
    items = [item for item in (_item(item, patient, depth + 1) for item in element.value) if item is not None]
    return _items(element, items) if items or not len(element.value) else None


def _items(element: Any, items: list[Any]) -> Any:
    from pydicom.dataelem import DataElement
    from pydicom.sequence import Sequence

    return DataElement(element.tag, "SQ", Sequence(items))


def _item(item: Any, patient: _Patient, depth: int) -> Any:
    """An item, cleaned; None for a code that PS3.16 does not know."""
    new = _level(item, patient, depth)
    value, scheme = _text(item, "CodeValue"), _text(item, "CodingSchemeDesignator")
    if not scheme and not value:
        return new
    meaning = rulebook.meaning(scheme, value)
    if not meaning:
        return new if len(new) else None
    new.CodeValue, new.CodingSchemeDesignator, new.CodeMeaning = value, scheme, meaning
    return new


def _shifted(element: Any, patient: _Patient) -> Any:
    """Dates some days earlier, times as they are; what is neither goes."""
    values = [_earlier(str(value), element.VR, patient.days) for value in _values(element)]
    return _changed(element, values) if all(values) else None


def _earlier(text: str, vr: str, days: int) -> str:
    if vr == "TM":
        return text if re.fullmatch(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?", text) else ""
    time = r"((?:\d{2}){0,3}(?:\.\d{1,6})?)(?:[+-]\d{4})?" if vr == "DT" else "()"
    found = re.fullmatch(r"(\d{4})(\d{2})(\d{2})" + time, text)
    if found is None:
        return ""
    try:
        day = date(int(found[1]), int(found[2]), int(found[3])) - timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{day.year:04}{day.month:02}{day.day:02}{found[4]}"


# -- names and identifiers that a file gives, to hold against them whatever else is kept of it --------------------


_IDENTIFIERS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate", "MedicalRecordLocator")


def names_in(dataset: Any) -> frozenset[str]:
    """Every word of three letters or digits and more in names of people and in identifiers, at any depth."""
    named = tags(_IDENTIFIERS)
    texts = (str(e.value) for _, e in elements(dataset) if e is not None and (e.VR == "PN" or e.tag in named))
    return frozenset(word for text in texts for word in re.findall(r"[^\W_]{3,}", text.casefold()))


def elements(dataset: Any, above: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Every element at every depth, or None where it cannot be read, behind its place: the tags and the numbers of the
    items that lead to it.
    """
    for tag in sorted(dataset.keys()):
        try:
            element = dataset[tag]
        except broken():
            element = None
        place = (*above, int(tag))
        yield place, element
        inside = element is not None and element.VR == "SQ" and len(above) < 2 * MAX_DEPTH
        for number, item in enumerate(element.value if inside else ()):
            yield from elements(item, (*place, number << 32))


def mentions(text: str, words: frozenset[str]) -> bool:
    """Whether ``text`` has one of ``words`` in it: as a word, or as a part if that has five letters or more.

    >>> mentions("DOE_THORAX", frozenset({"doe"})), mentions("THORAX", frozenset({"tho"}))
    (True, False)
    """
    folded = text.casefold()
    parts = set(re.findall(r"[^\W_]+", folded))
    return not words.isdisjoint(parts) or any(len(word) > 4 and word in folded for word in words)


# -- names that are part of the picture, which no tag can clean ----------------------------------------------------


#: Frames of a film that are searched for text, spread evenly from the first to the last.
FRAMES_SEARCHED = 24
#: Modalities whose images often carry text (PS3.3 C.7.3.1.1.1).
MODALITIES_AT_RISK = frozenset({"US", "IVUS", "BDUS", "OT", "XA", "RF", "XC", "ES", "GM", "SM", "ECG", "HC", "DOC", "DG", "OP",
                                "OPT", "OCT", "IVOCT", "EPS", "HD", "BMD", "TG", "ST", "FILM", "SC"})  # fmt: skip
_CLASSES_AT_RISK = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6.", "1.2.840.10008.5.1.4.1.1.3.",
                    "1.2.840.10008.5.1.4.1.1.12.", "1.2.840.10008.5.1.4.1.1.77.1.")  # fmt: skip
_TYPES_AT_RISK = frozenset({"SECONDARY", "SCREEN SAVE", "SCREENSHOT", "SCREEN", "CAPTURE", "DOSE", "REPORT", "PROTOCOL", "LABEL",
                            "OVERVIEW", "MONTAGE", "SECONDARY CAPTURE"})  # fmt: skip
#: Values that are no picture of a patient: marks of an outline and of a dose look like anything.
_NO_PICTURES = frozenset({"SEG", "RTDOSE"})
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
    """Why the pixels of a file may name the patient, in a few words; "" where nothing mentions for it.

    ``dataset`` was read from ``data``. Kinds at risk are searched closely, and count where they cannot be decoded; CT,
    MR, mammograms and other pictures are searched as they are, since patterns in them that are enlarged look like small
    letters.
    """
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        return "burned-in annotation: the file says so"
    if _overlay_in_pixels(dataset):
        return "burned-in annotation: bits beside the pixels hold something"
    types = {str(part).strip().upper() for part in (_values(dataset["ImageType"]) if "ImageType" in dataset else ())}
    if types & {"LABEL", "OVERVIEW"}:
        return "burned-in annotation: the label of a slide may be seen"
    if dataset.get("Modality") in _NO_PICTURES or "Rows" not in dataset:
        return ""
    return _found_text(dataset, data, limits, closely=at_risk(dataset, types))


def shows_a_label(dataset: Any) -> bool:
    """Whether it is the label of a slide, or a photograph that shows it (PS3.3 C.8.12.1.1.1, C.8.12.4.1.4): beside the tissue, and dropped."""
    types = {str(part).strip().upper() for part in (_values(dataset["ImageType"]) if "ImageType" in dataset else ())}
    is_slide = str(dataset.get("SOPClassUID", "")) == "1.2.840.10008.5.1.4.1.1.77.1.6"
    return is_slide and (bool(types & {"LABEL", "OVERVIEW"}) or dataset.get("SpecimenLabelInImage") == "YES")


def at_risk(dataset: Any, types: set[str]) -> bool:
    """Whether images of this kind often carry text."""
    kind = str(dataset.get("SOPClassUID", ""))
    captured = "ConversionType" in dataset or bool(types & _TYPES_AT_RISK)
    modality = str(dataset.get("Modality", "") or "OT").strip()
    return captured or modality in MODALITIES_AT_RISK or kind.startswith(_CLASSES_AT_RISK)


def may_show_a_face(dataset: Any) -> bool:
    """Whether a face could be rebuilt from the volume: CT, MR or PET of the head, or of a part that is not named."""
    part = str(dataset.get("BodyPartExamined", "") or "").upper().replace(" ", "")
    return dataset.get("Modality") in ("CT", "MR", "PT") and (not part or _HEAD.search(part) is not None)


def _found_text(dataset: Any, data: bytes, limits: Limits, *, closely: bool) -> str:
    from overread.images.dicom import decode

    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    try:
        for frame in np.unique(np.linspace(0, frames - 1, min(frames, FRAMES_SEARCHED)).astype(int)).tolist():
            pixels, _ = decode(data, limits.check, frame=frame if frames > 1 else None)
            if _has_text(_as_whole_numbers(pixels), closely=closely):
                return "burned-in annotation: text is found in the pixels"
    except ImageError:
        return _NOT_SEARCHED if closely else ""
    except broken():
        return _NOT_SEARCHED if closely else ""
    return ""


def _has_text(pixels: NDArray[Any], *, closely: bool) -> bool:
    """Whether text is found in the image as it is or, ``closely``, if it is small, in two enlarged copies in black and white."""
    from overread.images.crop import text_boxes

    if text_boxes(pixels):
        return True
    times = next((times for side, times in _ENLARGED if max(pixels.shape[:2]) <= side), 0)
    if not times or not closely:
        return False
    grey = pixels.max(-1)
    grey = (grey.astype(np.float32) * (255.0 / max(float(grey.max()), 1.0))).astype(np.uint8)
    grey[cv2.medianBlur(grey, _AROUND) > _DARK] = 0  # texture makes rows of pieces, too; devices write on black
    large = cv2.resize(grey, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    return any(text_boxes(np.where(large > level, np.uint8(255), np.uint8(0))[..., None]) for level in _LEVELS)


def _as_whole_numbers(pixels: NDArray[Any]) -> NDArray[Any]:
    if not np.issubdtype(pixels.dtype, np.floating):
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
