"""What becomes of each attribute: the table of PS3.15, the options that may be kept, codes in place of identifiers.

The actions are those of Table E.1-1 (Basic Application Level Confidentiality Profile), taken as data from
dicom-anonymizer; what is done with them is ours. The table names what must go. What it does not name may still
hold a name, so text outside it goes too, unless it is on the short lists below.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from overread.core.errors import InputError, UnavailableError, checked, one_of, require

#: The edition of PS3.15 that the table of actions is from.
EDITION = "2026c"
#: Sequences within sequences that are walked; what lies deeper is removed.
MAX_DEPTH = 32
#: What may become of dates: removed, or shifted by the same number of days for all files of a patient.
DATES = ("removed", "shifted")
#: Bytes of a salt at least, at most, and of one that is made here.
SALT_AT_LEAST, SALT_AT_MOST, SALT_BYTES = 16, 4096, 32
#: Dates are shifted into the past by one day to ten years.
SHIFT_AT_MOST = 3650

#: Text that is kept although no table asks for its removal: who made the device, and what the numbers mean.
KEPT_TEXT = ("Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "RescaleType", "ModalityLUTType")
#: Links within a file, kept where they are no longer than a few letters or digits.
LINKS = ("StackID", "OpticalPathIdentifier", "ReferencedOpticalPathIdentifier")
#: Bytes that are pixels or tell how to show them. All others are removed: sound, documents, profiles, signatures.
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "LUTData",
          "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
          "AlphaPaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
          "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
          "SegmentedAlphaPaletteColorLookupTableData")  # fmt: skip
#: Removed although the table does not name them: originals in encrypted form, and the character set of text that is
#: gone.
REMOVED = ("EncryptedAttributesSequence", "SpecificCharacterSet", "PatientIdentityRemoved", "DeidentificationMethod",
           "DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified")  # fmt: skip
#: Kept by the Retain Device Identity Option (column "Rtn. Dev. Id. Opt."), besides the version of the software.
DEVICE = ("DeviceSerialNumber", "DeviceUID", "StationName", "DetectorID", "GantryID", "GeneratorID", "PlateID", "CassetteID",
          "XRayDetectorID", "XRayDetectorLabel", "XRaySourceID", "DeviceDescription", "DeviceLabel", "ManufacturerDeviceIdentifier",
          "ManufacturerDeviceClassUID", "UniqueDeviceIdentifier", "UDISequence", "TransducerIdentificationSequence", "LensMake",
          "LensModel", "LensSerialNumber", "LensSpecification", "DateOfLastCalibration", "TimeOfLastCalibration",
          "DateOfLastDetectorCalibration", "TimeOfLastDetectorCalibration", "TreatmentMachineName", "SoftwareVersions")  # fmt: skip
#: Kept by the Retain Patient Characteristics Option, where they are numbers or codes and no free text.
CHARACTERISTICS = ("PatientAge", "PatientSex", "PatientSize", "PatientWeight", "PatientSexNeutered", "PregnancyStatus",
                   "SmokingStatus")  # fmt: skip
#: Codes of de-identification methods (PS3.16 CID 7050).
METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
}
_LISTS = {"D_TAGS": "D", "Z_TAGS": "Z", "X_TAGS": "X", "U_TAGS": "U", "Z_D_TAGS": "Z/D", "X_Z_TAGS": "X/Z", "X_D_TAGS": "X/D",
          "X_Z_D_TAGS": "X/Z/D", "X_Z_U_STAR_TAGS": "X/Z/U"}  # fmt: skip
#: Of a combined action, the first one that an object conforms with: in plain images, and in enhanced ones, whose
#: attributes are mostly of type 1 and may not be empty.
_PLAIN = {"Z/D": "Z", "X/Z": "Z", "X/D": "X", "X/Z/D": "Z", "X/Z/U": "U"}
_ENHANCED = {"Z/D": "D", "X/Z": "Z", "X/D": "D", "X/Z/D": "D", "X/Z/U": "U"}
_PATIENT, _SIGNATURES, _LAST_MENSTRUAL_DATE = 0x0010, 0x0400, 0x001021D0


@dataclass(frozen=True)
class Rules:
    """How to de-identify: the secret ``salt`` (16 bytes or more) and what may be kept.

    ``dates``: ``removed``, or ``shifted`` by a number of days that is the same for all files of a patient.
    ``keep_device``: serial numbers and names of devices. ``keep_characteristics``: age, sex, size, weight.
    """

    salt: bytes = field(repr=False)
    dates: str = "removed"
    keep_device: bool = False
    keep_characteristics: bool = False

    def __post_init__(self) -> None:
        size = len(self.salt)
        require(size >= SALT_AT_LEAST, f"a salt has {SALT_AT_LEAST} bytes or more", given=f"{size} bytes")
        one_of(self.dates, DATES, "dates")

    @property
    def methods(self) -> dict[str, str]:
        """Codes and meanings of the methods used (PS3.16 CID 7050)."""
        used = {"113107": self.dates == "shifted", "113108": self.keep_characteristics, "113109": self.keep_device}
        return {code: meaning for code, meaning in METHODS.items() if used.get(code, True)}

    def code(self, kind: str, text: str) -> str:
        """The code of a patient, a study or a file: 16 hexadecimal digits, equal for equal text and salt."""
        return self._digest(kind, text)[:8].hex()

    def uid(self, uid: str) -> str:
        """The UID in place of ``uid``: 2.25 and a number made from its keyed hash (PS3.5 B.2)."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid), version=5).int}"

    def days(self, patient: str) -> int:
        """Days by which the dates of a patient are shifted into the past."""
        return 1 + int.from_bytes(self._digest("days", patient), "big") % SHIFT_AT_MOST

    def _digest(self, kind: str, text: str) -> bytes:
        key = hashlib.sha256(self.salt).digest()
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16, key=key, person=kind.encode()).digest()


@cache
def actions() -> dict[int, str]:
    """The action of Table E.1-1 by tag: X, Z, D, U and their combinations. Repeating groups are left to the caller."""
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    lists = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    return {tag[0] << 16 | tag[1]: action for name, action in _LISTS.items() for tag in lists[name] if len(tag) == 2}


@cache
def tags(keywords: tuple[str, ...]) -> frozenset[int]:
    """The tags of attributes given by keyword."""
    from pydicom.datadict import tag_for_keyword

    return frozenset(tag for tag in map(tag_for_keyword, keywords) if tag is not None)


@cache
def kept(rules: Rules) -> frozenset[int]:
    """The tags that the options of ``rules`` keep."""
    return tags(DEVICE * rules.keep_device + CHARACTERISTICS * rules.keep_characteristics)


def action(tag: int, vr: str, rules: Rules, enhanced: bool) -> str:
    """What to do with an attribute: X remove, Z empty, D dummy, U new UID, C shift, K keep; "" where nothing is said."""
    if tag in kept(rules):
        return "K"
    given = "X" if tag in tags(REMOVED) else actions().get(tag, "")
    if given and rules.dates == "shifted" and vr in ("DA", "DT", "TM") and _longitudinal(tag):
        return "C"
    return (_ENHANCED if enhanced else _PLAIN).get(given, given)


def _longitudinal(tag: int) -> bool:
    """Whether the Modified Dates Option speaks of a date: not of birth, and not of a signature."""
    return tag == _LAST_MENSTRUAL_DATE or tag >> 16 not in (_PATIENT, _SIGNATURES)


@cache
def _meanings() -> dict[tuple[str, str], str]:
    from pydicom.sr.codedict import codes

    found: dict[tuple[str, str], str] = {}
    for scheme in codes.schemes():
        known = getattr(codes, scheme)
        for keyword in known.dir():
            code = getattr(known, keyword)
            found[code.scheme_designator, code.value] = code.meaning
    return found


def meaning(scheme: str, value: str) -> str:
    """The meaning of a code that PS3.16 knows, in the words of the standard; "" for all others.

    >>> meaning("SCT", "80891009"), meaning("SRT", "T-32000"), meaning("99LOCAL", "DOE")
    ('Heart structure (body structure)', 'Heart structure (body structure)', '')
    """
    from pydicom.sr.coding import snomed_mapping

    if scheme in ("SRT", "SNM3"):
        scheme, value = "SCT", snomed_mapping["SRT"].get(value, "")
    return _meanings().get((scheme, value), "")[:64]


@checked
def new_salt() -> bytes:
    """A salt of 32 random bytes, from the operating system."""
    return secrets.token_bytes(SALT_BYTES)


@checked
def read_salt(path: str | os.PathLike[str]) -> bytes:
    """The salt in a file; a file that is not there is made, with 32 random bytes, readable for its owner alone.

    Raises :class:`InputError` for one that is too short to be a secret, or far too long to be a salt.
    """
    path = Path(path)
    with suppress(FileExistsError):
        create_secret(path, secrets.token_hex(SALT_BYTES) + "\n")
    try:
        with open(path, "rb") as handle:
            salt = handle.read(SALT_AT_MOST + 1).strip()
    except OSError as error:
        raise InputError("the file of the salt cannot be read", given=error.strerror) from None
    if not SALT_AT_LEAST <= len(salt) <= SALT_AT_MOST:
        todo = f"give a file of {SALT_AT_LEAST} to {SALT_AT_MOST} bytes, or the name of a new one"
        raise InputError("the file of the salt does not hold a salt", given=f"{len(salt)} bytes", todo=todo)
    return salt


def create_secret(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise
    except OSError as error:
        raise UnavailableError("a secret file cannot be written", given=error.strerror) from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
