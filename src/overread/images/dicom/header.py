"""What the header of a DICOM file says about an image: who, what, where; never its pixels.

Identifiers are text and nothing else: a UID that looks like a path is never used as one. The date of birth is read
for the age and stays here. What a header holds beyond the fields of :class:`DicomHeader` is not looked at.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from io import BytesIO
from typing import Any

from overread.core.errors import ImageError, checked
from overread.images.dicom import elements
from overread.images.formats import archives

#: Whether pixels are for computers or for people (PS3.3 C.8.11.7).
RAW, SEEN = "FOR PROCESSING", "FOR PRESENTATION"
#: The classes of secondary captures begin so (PS3.4 B.5): screen shots, scanned films, results drawn over an image.
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
#: The class of a DICOMDIR (PS3.4 table B.5-1 and PS3.10 §8.6).
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
#: Characters of an identifier or a name that are kept; the standard allows 64 (PS3.5 table 6.2-1).
MAX_TEXT = 256
#: Bytes of one value that are read; of functional groups only the first item is asked for.
_MAX_VALUE = 1 << 20

_TAGS = {
    "class": 0x00080016, "class of media": 0x00020002, "instance": 0x00080018, "instance of media": 0x00020003,
    "charset": 0x00080005, "image type": 0x00080008, "study date": 0x00080020, "series date": 0x00080021,
    "acquisition date": 0x00080022, "content date": 0x00080023, "study time": 0x00080030, "series time": 0x00080031,
    "acquisition time": 0x00080032, "content time": 0x00080033, "accession": 0x00080050, "modality": 0x00080060,
    "manufacturer": 0x00080070, "site": 0x00080080, "device": 0x00081090, "patient": 0x00100020,
    "issuer": 0x00100021, "birth date": 0x00100030, "sex": 0x00100040, "age": 0x00101010, "body part": 0x00180015,
    "thickness": 0x00180050, "detector spacing": 0x00181164, "view": 0x00185101, "study": 0x0020000D,
    "series": 0x0020000E, "series number": 0x00200011, "acquisition": 0x00200012, "number": 0x00200013,
    "position": 0x00200032, "orientation": 0x00200037, "laterality": 0x00200060, "image laterality": 0x00200062,
    "view codes": 0x00540220, "frames": 0x00280008, "rows": 0x00280010, "columns": 0x00280011,
    "spacing": 0x00280030, "burned in": 0x00280301, "intent": 0x00080068, "shared groups": 0x52009229, "frame groups": 0x52009230,
}  # fmt: skip
#: What may tell images in one place apart (PS3.6), by the names that people are told: see :mod:`.stacks`.
TRAITS = {
    "echo time": 0x00180081, "echo number": 0x00180086, "b-value": 0x00189087, "gradient direction": 0x00189089,
    "inversion time": 0x00180082, "flip angle": 0x00181314, "component": 0x00089208, "temporal position": 0x00200100,
    "reconstruction kernel": 0x00181210, "tube voltage": 0x00180060, "sequence": 0x00180024, "trigger time": 0x00181060,
    "frame reference time": 0x00541300, "acquisition time": 0x00080032, "acquisition date and time": 0x0008002A,
    "content time": 0x00080033,
}  # fmt: skip
#: Those that are stored as binary numbers (VR FD).
_DOUBLES = frozenset(("b-value", "gradient direction"))
_WANTED = frozenset((*_TAGS.values(), *TRAITS.values()))

#: Functional groups (PS3.3 C.7.6.16.2) that tell place and spacing, and the elements within them.
_GROUPS = frozenset({0x00209113, 0x00209116, 0x00289110, 0x00209071})
_INNER = {_TAGS[name]: name for name in ("position", "orientation", "spacing", "thickness")} | {
    0x00209072: "laterality"
}
#: Codes of views of the chest and the breast (PS3.16 CID 4010 and 4014), in SNOMED CT and as they were before.
_VIEWS = {
    "399348003": "AP", "R-10206": "AP", "272479007": "PA", "R-10214": "PA", "R-40888": "PA", "399173006": "LL",
    "R-10236": "LL", "399198007": "RL", "R-10232": "RL", "399067008": "LATERAL", "R-102CD": "LATERAL",
    "399162004": "CC", "R-10242": "CC", "399368009": "MLO", "R-10226": "MLO", "399260004": "ML", "R-10224": "ML",
    "399352003": "LM", "R-10228": "LM", "399099002": "LMO", "R-10230": "LMO", "399192008": "XCCL",
    "R-1024A": "XCCL", "399101009": "XCCM", "R-1024B": "XCCM", "399196006": "FB", "R-10244": "FB",
}  # fmt: skip


@dataclass(frozen=True)
class DicomHeader:
    """The header of one DICOM file, without its path.

    ``patient``, ``issuer`` (of the patient's identifier), ``study``, ``series``, ``instance``, ``accession``:
    identifiers, ``""`` where missing. ``age`` in years, NaN where unknown (a bound such as 90+ is taken as it is), with
    ``age_doubt``: ``bound``, ``unreadable`` or ``""``; ``sex``: F, M, O or ``""``; ``date``: ISO, of the study;
    ``time``: HH:MM:SS, of the acquisition. ``rows``, ``columns``, ``frames``: as stated, 0 and 1 where they are not.
    ``position`` (x, y, z) and ``orientation`` (row, then column direction) of the first frame in mm, LPS; ``spacing``
    (between rows, between columns) in mm, on the detector where the patient's is not known; ``thickness`` in mm.
    ``laterality``: L, R, B, U or ``""``. ``burned_in``: YES, NO or ``""``. ``image_type``: its words. ``class_uid``:
    the SOP class. ``intent``: FOR PRESENTATION, FOR PROCESSING or ``""``. ``traits``: the values of :data:`TRAITS` as
    text, ``""`` where missing; none at all where they were not asked for.
    """

    patient: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""
    accession: str = ""
    modality: str = ""
    site: str = ""
    manufacturer: str = ""
    device: str = ""
    view: str = ""
    laterality: str = ""
    age: float = math.nan
    sex: str = ""
    date: str = ""
    body_part: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 1
    position: tuple[float, float, float] | None = None
    orientation: tuple[float, float, float, float, float, float] | None = None
    spacing: tuple[float, float] | None = None
    thickness: float = math.nan
    number: int | None = None
    time: str = ""
    burned_in: str = ""
    has_pixels: bool = False
    issuer: str = ""
    series_number: int | None = None
    acquisition: int | None = None
    image_type: tuple[str, ...] = ()
    class_uid: str = ""
    intent: str = ""
    age_doubt: str = ""
    traits: tuple[str, ...] = ()

    @property
    def is_localizer(self) -> bool:
        """Whether this is a scout on which other images are planned (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1)."""
        return "LOCALIZER" in self.image_type

    @property
    def is_capture(self) -> bool:
        """Whether this is a secondary capture, by its class."""
        return self.class_uid == CAPTURES or self.class_uid.startswith(f"{CAPTURES}.")

    @property
    def is_directory(self) -> bool:
        """Whether this is a DICOMDIR."""
        return self.class_uid == MEDIA_DIRECTORY


@checked
def read_header(source: str | os.PathLike[str] | bytes) -> DicomHeader:
    """The header of a DICOM file, from a path or from bytes; the pixels are not read.

    Raises :class:`ImageError`, without the file's name, for what is missing, not a regular file, not DICOM, cut off
    before its pixels, or written to exhaust its reader. Elements: PS3.6; encodings: PS3.5 §6.2 and §7.
    """
    if isinstance(source, bytes):
        return header_of(BytesIO(source))
    with elements.open_regular(source) as handle:
        return header_of(handle)


@checked
def header_of(handle: elements.Handle) -> DicomHeader:
    """The header of an open DICOM file (anything that seeks and reads). Raises :class:`ImageError`."""
    try:
        return _header(_Values(elements.read_elements(handle, _WANTED, limit=_MAX_VALUE)))
    except OSError as error:
        raise ImageError("the file cannot be read", given=error.strerror or "the system refused") from error


@checked
def is_dicom_file(path: str | os.PathLike[str]) -> bool:
    """Whether a regular file begins as DICOM does; False for everything that cannot be opened."""
    try:
        with elements.open_regular(path) as handle:
            return elements.looks_like_dicom(handle.read(132))
    except (ImageError, OSError):
        return False


# -- values as bytes to fields -----------------------------------------------------------------------------------


class _Values:
    """The values of one file, by name, converted as they are asked for."""

    def __init__(self, found: elements.Elements) -> None:
        self.pixels, self._form = found.pixels, found.form
        self._values = {name: found.values[tag] for name, tag in _TAGS.items() if tag in found.values}
        for name in ("frame groups", "shared groups"):
            if name in self._values:
                groups = elements.functional_groups(self._values[name], self._form, _GROUPS, frozenset(_INNER), 1)
                inside = {_INNER[tag]: value for item in groups for tag, value in item.items()}
                self._values = inside | self._values
        self._charset = self._values.get("charset", b"")
        self._traits = {name: found.values[tag] for name, tag in TRAITS.items() if tag in found.values}

    def text(self, *names: str) -> str:
        """The first filled one as text in the file's character set, in one line, without control characters."""
        for name in names:
            value = self._values.get(name)
            if value and (found := clean(_decoded(value[: 4 * MAX_TEXT].strip(b"\0 "), self._charset))):
                return found
        return ""

    def words(self, name: str) -> tuple[str, ...]:
        """The values of a code string, in capitals."""
        return tuple(word.strip() for word in self.text(name).upper().split("\\"))[:16] if name in self._values else ()

    def code(self, name: str, allowed: tuple[str, ...]) -> str:
        """The value if it is one of those allowed, else blank."""
        found = self.text(name).upper()
        return found if found in allowed else ""

    def numbers(self, name: str, count: int) -> tuple[float, ...] | None:
        """The first ``count`` decimal numbers, or None if there are fewer or one is not finite."""
        value = self._values.get(name, b"")
        found = elements.decimals(b"\\".join(value[: 32 * count].split(b"\\")[:count]))
        return found if len(found) == count else None

    def whole(self, name: str) -> int | None:
        """The first number of an integer string, or None."""
        found = self.numbers(name, 1)
        return int(found[0]) if found and abs(found[0]) < 2**31 else None

    def short(self, name: str) -> int:
        """An unsigned number of 16 bits, 0 where there is none."""
        value = self._values.get(name, b"")
        return int(struct.unpack(self._form.order + "H", value[:2])[0]) if len(value) >= 2 else 0

    def traits(self) -> tuple[str, ...]:
        """The values of :data:`TRAITS`, numbers without the different ways to write one."""
        return tuple(self._trait(name, self._traits.get(name, b"")) for name in TRAITS)

    def _trait(self, name: str, value: bytes) -> str:
        if name in _DOUBLES and value and len(value) % 8 == 0:
            found = struct.unpack(f"{self._form.order}{len(value) // 8}d", value[:64])
        else:
            found = elements.decimals(value.strip(b"\0 "))
        return " ".join(f"{number:.6g}" if abs(number) < 1e5 else f"{number!r}" for number in found) or clean(
            value.decode("latin-1")
        )

    def codes(self, name: str) -> list[str]:
        """The code values in a sequence of codes (PS3.3 table 8.8-1)."""
        if name not in self._values:
            return []
        found = elements.items(self._values[name], self._form, frozenset({0x00080100}), 4)
        return [clean(item.get(0x00080100, b"").decode("latin-1")) for item in found]


#: Fields that are taken as they stand.
_TEXTS = ("patient", "study", "series", "accession", "site", "manufacturer", "device", "issuer")


def _header(values: _Values) -> DicomHeader:
    day = values.text("study date") or values.text("series date", "acquisition date", "content date")
    frames = values.whole("frames")
    age, doubt = _age(values.text("age"), values.text("birth date"), day)
    codes = (_VIEWS[code] for code in values.codes("view codes") if code in _VIEWS)
    clock = _TIME.match(values.text("acquisition time", "content time", "series time", "study time"))
    texts: dict[str, Any] = {name: values.text(name) for name in _TEXTS}
    return DicomHeader(
        instance=values.text("instance", "instance of media"),
        modality=values.text("modality").upper(),
        view=values.text("view").upper() or next(codes, ""),
        laterality=values.code("image laterality", ("L", "R", "B", "U")) or values.code("laterality", ("L", "R", "B")),
        age=age,
        age_doubt=doubt,
        sex=values.code("sex", ("F", "M", "O")),
        date=studied.isoformat() if (studied := _day(day)) else "",
        body_part=values.text("body part").upper(),
        rows=values.short("rows"),
        columns=values.short("columns"),
        frames=frames if frames and frames > 0 else 1,
        position=values.numbers("position", 3),  # type: ignore[arg-type]
        orientation=_directions(values.numbers("orientation", 6)),  # type: ignore[arg-type]
        spacing=_positive(values.numbers("spacing", 2) or values.numbers("detector spacing", 2)),  # type: ignore[arg-type]
        thickness=(_positive(values.numbers("thickness", 1)) or (math.nan,))[0],
        number=values.whole("number"),
        time=":".join(clock.groups()) if clock else "",
        burned_in=values.code("burned in", ("YES", "NO")),
        has_pixels=values.pixels,
        series_number=values.whole("series number"),
        acquisition=values.whole("acquisition"),
        image_type=values.words("image type"),
        class_uid=values.text("class", "class of media"),
        intent=values.code("intent", (SEEN, RAW)),
        traits=values.traits(),
        **texts,
    )


def clean(text: str) -> str:
    """One line without control, format and unassigned characters; blanks at the ends and doubled ones go.

    >>> clean(" A\\x00B\\tC\\u202e ")
    'A B C'
    """
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(text.split())[:MAX_TEXT]


def _decoded(value: bytes, charset: bytes) -> str:
    """Text by the file's character set (PS3.5 §6.1, PS3.3 C.12.1.1.2)."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    import warnings

    from pydicom.charset import convert_encodings, decode_bytes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown character set is read as far as it goes
        try:
            names = convert_encodings([name.strip() for name in charset.decode("ascii", "replace").split("\\")])
            return str(decode_bytes(value, names, {0x5C}))
        except (LookupError, ValueError, TypeError, AttributeError):
            return value.decode("latin-1")


def _positive(numbers: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return numbers if numbers and min(numbers) > 0 else None


def _directions(numbers: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Two unit vectors at right angles (PS3.3 C.7.6.2.1.1), or None."""
    if numbers is None:
        return None
    row, column = numbers[:3], numbers[3:]
    across = sum(a * b for a, b in zip(row, column, strict=True))
    straight = abs(math.hypot(*row) - 1) < 0.05 and abs(math.hypot(*column) - 1) < 0.05 and abs(across) < 0.05
    return numbers if straight else None


_TIME = re.compile(r"([01]\d|2[0-3]):?([0-5]\d):?([0-5]\d|60)")
_AGE = re.compile(r"([<>≤≥]?=?) ?(\d{1,3})(\+?) ?([DWMY]?)(?:EARS?|RS?|EEKS?|ONTHS?|AYS?)? ?(\+?)\Z")
#: Years of age above which nobody is believed to be.
OLDEST = 130
_YEAR = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}


def _age(stated: str, born: str, day: str) -> tuple[float, str]:
    """Years, from the stated age, else whole years (below two years: months) from birth to study; and what is doubtful."""
    match = _AGE.match(stated.upper())
    if match and (years := int(match[2]) * _YEAR[match[4]]) <= OLDEST:
        return round(years, 2), "bound" if match[1] or match[3] or match[5] else ""
    doubt = "unreadable" if stated else ""
    first, then = _day(born), _day(day)
    if first is None or then is None:
        return math.nan, doubt
    months = (then.year - first.year) * 12 + then.month - first.month - (then.day < first.day)
    years = months // 12 if months >= 24 else months / 12
    return (round(years, 2) if 0 <= years <= OLDEST else math.nan), doubt


def _day(text: str) -> date | None:
    digits = text.replace(".", "").replace("-", "")[:8]  # 1999.12.31 was allowed once
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None


# -- headers of many files at once, as plain values: what a process of its own does for a scan of an export -------


#: Fields that may be NaN.
_NUMBERS = tuple(i for i, field in enumerate(dataclasses.fields(DicomHeader)) if field.type == "float")


@checked
def scan(folder: str, archive: str, names: list[str]) -> list[list[Any] | str]:
    """What each of the files in ``folder`` is, or of the members of an ``archive`` in it.

    A list with the fields of its header for DICOM (see :func:`header_from`), the reason for what looks like DICOM and
    cannot be read or is no file, and ``""`` for everything else. Never raises for what is in a file.
    """
    path = os.path.join(folder, archive)
    if archive:
        return [_scanned(partial(archives.open_member, path, name)) for name in names]
    return [_scanned(partial(elements.open_regular, os.path.join(path, name))) for name in names]


def _scanned(opened: Callable[[], elements.Handle]) -> list[Any] | str:
    try:
        with opened() as handle:
            if not elements.looks_like_dicom(handle.read(132) or b""):
                return ""
            values = vars(header_of(handle)).values()
            return [None if value != value else value for value in values]  # JSON knows no NaN
    except ImageError as error:
        return error.what
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"


@checked
def header_from(values: Sequence[Any]) -> DicomHeader:
    """The header that :func:`scan` made plain: NaN came as None, tuples as lists."""
    made: list[Any] = [tuple(value) if isinstance(value, list) else value for value in values]
    for place in _NUMBERS:
        made[place] = math.nan if made[place] is None else made[place]
    return DicomHeader(*made)


@checked
def any_dicom(archive: str | os.PathLike[str], names: Iterable[str]) -> bool:
    """Whether one of these members of a zip archive begins as DICOM does. Raises :class:`ImageError`."""
    for name in names:
        with archives.open_member(archive, name) as handle:
            if elements.looks_like_dicom(handle.read(132) or b""):
                return True
    return False
