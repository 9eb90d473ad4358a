"""A model's opinion on a DICOM image as objects for a PACS: a structured report and a picture with the map burnt in.

The report is TID 1500 (PS3.16): probabilities as measurements, calls as coded evaluations, the algorithm by name, version and
digest, the image as evidence. Both are new instances in new series of the image's own study; the image is never changed.
"""

from __future__ import annotations

import io
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread import __version__
from overread.core.errors import ImageError, InputError, checked
from overread.core.files import sha256, write_bytes
from overread.deidentify.clean import burned_in, clean
from overread.deidentify.rules import Rules
from overread.evaluation.decision.single_case import Opinion
from overread.export.contract import require_installed
from overread.images.address import parse
from overread.images.image import LIMITS, broken_as

#: What stands on the picture, in both series, and in the parameters of the algorithm.
WARNING = "NOT FOR DIAGNOSTIC USE - AI RESULT"
#: The scheme of codes for what no public scheme has a code for (PS3.16 chapter 8: 99 is for private ones).
SCHEME = "99OVERREAD"
#: Blank where the image lacks them: what DICOM wants to be there, if only empty (type 2 of the patient and study modules).
_BLANK = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
          "ReferringPhysicianName")  # fmt: skip
#: Kinds of image that have one frame by definition, whatever a file holds (PS3.3 A.2 to A.8, A.21): CR, CT, MR, US, SC, PET.
_SINGLE = tuple(f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("1", "2", "4", "6.1", "7", "128"))
_SIDE, _MARGIN = 512, 12


@dataclass(frozen=True)
class Algorithm:
    """What answered: a name for people, its version, and the digest of weights and contract."""

    name: str
    version: str
    digest: str


@contextmanager
def _discreet() -> Iterator[None]:
    """Without the warnings of a library, which quote the names of patients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@checked
def require_highdicom() -> None:
    """Raise :class:`UnavailableError` unless ``highdicom`` is installed."""
    require_installed("highdicom")


@checked
def read_source(address: str, deidentify: Rules | None = None) -> Any:
    """The header of a DICOM image as a ``pydicom.Dataset``, with what a PACS wants to be there.

    ``deidentify``: take patient, study and every identifier out of it first, by the basic profile of PS3.15. Raises
    :class:`ImageError` for what is no DICOM image, or has no study that the new objects could belong to.
    """
    import pydicom

    place = parse(address)
    if place.series or place.plane or place.entry:
        raise InputError("only a DICOM file of its own has a result filed beside it", given="a series, or a file inside an archive",
                         todo="unpack the archive, or give the images one by one")  # fmt: skip
    with broken_as(f"{Path(place.path).name} is no DICOM image, so no result can be filed beside it"):
        source = pydicom.dcmread(place.path, stop_before_pixels=deidentify is None, force=True)
        source = clean(source, deidentify) if deidentify else source
        for keyword in _BLANK:  # ACR-NEMA wrote 1997.08.24 and 14:04:38
            value = str(source.get(keyword, "") or "")
            setattr(
                source,
                keyword,
                value.replace(".", "")
                if keyword == "StudyDate"
                else value.replace(":", "")
                if keyword == "StudyTime"
                else value,
            )
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not source.get(keyword):
            raise ImageError("the DICOM file does not say which image of which study it is", given=f"no {keyword}")
    return source


@checked
@_discreet()
def may_name_patient(address: str) -> bool:
    """Whether the pixels of a DICOM file may name the patient: its header says so, or they seem to hold text."""
    import pydicom

    data = Path(parse(address).path).read_bytes()
    with broken_as("the DICOM file cannot be searched for text in its pixels"):
        return burned_in(pydicom.dcmread(io.BytesIO(data), force=True), data, LIMITS) != ""


@checked
@_discreet()
def report_of(sources: Sequence[Any], opinion: Opinion, algorithm: Algorithm, frames: Sequence[int | None] = ()) -> Any:
    """A ``highdicom.sr.ComprehensiveSR`` after TID 1500: each answer as a measurement, each call as an evaluation.

    ``sources``: the images of the case, of one patient and study. ``frames``: which frame of each, counted from 0, None for all.
    Raises :class:`InputError` for images of several studies.
    """
    from highdicom import UID, sr
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    if len({source.StudyInstanceUID for source in sources}) > 1:
        raise InputError(
            "the images of the case belong to several studies, and a report to one", given=f"{len(sources)} images"
        )
    images = [
        sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID, _numbers(source, frame))
        for source, frame in zip(sources, frames or [None] * len(sources), strict=True)
    ]
    parameters = [
        f"model digest {algorithm.digest}",
        WARNING,
        *opinion.warnings,
        opinion.calibration,
        *(f"{call.of}: {call}" for call in opinion.calls),
    ]
    identified = sr.AlgorithmIdentification(
        algorithm.name[:64], algorithm.version, [line[:1024] for line in parameters if line]
    )
    unit = Code("1", "UCUM", "no units")
    measured = [
        sr.Measurement(_code(_asked(opinion, answer.name), "P"), float(answer.value), unit)
        for answer in opinion.answers
    ]
    called = {True: Code("10828004", "SCT", "Positive"), False: Code("260385009", "SCT", "Negative")}
    evaluated = [
        sr.QualitativeEvaluation(_code(f"{call.of}, {call.at}", "C"), called[call.positive]) for call in opinion.calls
    ]
    if opinion.called:
        evaluated.append(sr.QualitativeEvaluation(_code("Called by the model", "C"), _code(opinion.called, "F")))
    group = sr.MeasurementsAndQualitativeEvaluations(
        sr.TrackingIdentifier(UID(), "overread"), finding_type=_code("Answer of an image classifier", "F"),
        algorithm_id=identified, measurements=measured, qualitative_evaluations=evaluated, source_images=images,
    )  # fmt: skip
    device = sr.DeviceObserverIdentifyingAttributes(
        _device(algorithm), name="overread", manufacturer_name="overread", model_name=algorithm.name[:64]
    )
    context = sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))
    content = sr.MeasurementReport(
        context, Code("363679005", "SCT", "Imaging procedure"), [group], title=codes.DCM.ImagingMeasurementReport
    )
    made = sr.ComprehensiveSR(
        evidence=list(sources), content=content, series_instance_uid=UID(), series_number=9001, sop_instance_uid=UID(), instance_number=1,
        manufacturer="overread", is_complete=True, series_description=WARNING.title(), manufacturer_model_name=algorithm.name[:64],
        software_versions=__version__, device_serial_number=algorithm.digest,
    )  # fmt: skip
    return _filed(made, sources[0])


@checked
@_discreet()
def picture_of(
    sources: Sequence[Any], shown: NDArray[np.uint8], opinion: Opinion, algorithm: Algorithm, caption: str = ""
) -> Any:
    """A secondary capture (``highdicom.sc.SCImage``) of ``shown`` (H, W, 3), with the result and the warning burnt in.

    ``sources``: the images that are shown. What of them names the patient must not be in ``shown``: see
    :func:`may_name_patient`.
    """
    import highdicom

    source = sources[0]
    pixels = burnt_in(shown, opinion, algorithm, caption)
    made = highdicom.sc.SCImage.from_ref_dataset(
        source, pixels, "RGB", 8, "PATIENT", highdicom.UID(), 9002, highdicom.UID(), 1, "overread", patient_orientation=("L", "P"),
        series_description=WARNING.title(), manufacturer_model_name=algorithm.name[:64], software_versions=__version__,
        device_serial_number=algorithm.digest, transfer_syntax_uid="1.2.840.10008.1.2.1",
    )  # fmt: skip
    made["PatientOrientation"].value, made.Laterality = "", ""  # of a picture with text around it there is none
    made.DerivationDescription = "What the network saw, and a map of where it looked, by overread"
    made.BurnedInAnnotation = "NO"  # none that names the patient (PS3.3 C.7.6.1.1.2)
    made.SourceImageSequence = [_reference(each) for each in sources]
    return _filed(made, source)


@checked
def burnt_in(shown: NDArray[np.uint8], opinion: Opinion, algorithm: Algorithm, caption: str = "") -> NDArray[np.uint8]:
    """The picture (H, W, 3), enlarged where it is small, above it the warning, under it the ``caption`` of the map and the answers."""
    from PIL import Image, ImageDraw, ImageFont

    factor = max(1.0, _SIDE / shown.shape[0])
    picture = Image.fromarray(shown).resize(
        (round(shown.shape[1] * factor), round(shown.shape[0] * factor)), Image.Resampling.BICUBIC
    )
    answers = [f"{answer.name}: {answer.value:.3g}" for answer in opinion.answers[:6]]
    more = [f"and {len(opinion.answers) - 6} more"] if len(opinion.answers) > 6 else []
    lines = [
        *([caption] if caption else []),
        *answers,
        *more,
        *map(str, opinion.calls[:3]),
        *(f"! {line}" for line in opinion.warnings[:3]),
        f"{algorithm.name} {algorithm.version}, {algorithm.digest}",
    ]
    font = ImageFont.truetype(_font(), 16)
    wide = max(picture.width, _SIDE)
    lines = [part for line in lines for part in _wrapped(line, font, wide - 2 * _MARGIN)]
    top, height = 34, 22
    page = Image.new("RGB", (wide, top + picture.height + height * len(lines) + 2 * _MARGIN))
    page.paste(picture, ((wide - picture.width) // 2, top))
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, 7), WARNING, font=font, fill=(255, 210, 0))
    for number, line in enumerate(lines):
        draw.text((_MARGIN, top + picture.height + _MARGIN + number * height), line, font=font, fill=(255, 255, 255))
    return np.array(page)


@checked
def write_object(made: Any, path: str | Path) -> Path:
    """Write a new object with an empty preamble; raises :class:`InputError` where a file is there: nothing is written over."""
    import pydicom

    path = Path(path)
    if path.exists():
        raise InputError(
            "a file is there already, and no DICOM file is written over",
            given=str(path),
            todo="choose another folder: -o FOLDER",
        )
    made.preamble, out = bytes(128), io.BytesIO()
    pydicom.dcmwrite(out, made, enforce_file_format=True)
    return write_bytes(path, out.getvalue())


# -- parts --------------------------------------------------------------------------------------------------------------


def _numbers(source: Any, frame: int | None) -> list[int] | None:
    """The frame as a report counts it, from 1; none where the kind of image has one frame by its definition."""
    return None if frame is None or source.SOPClassUID in _SINGLE else [frame + 1]


def _asked(opinion: Opinion, name: str) -> str:
    return opinion.task.asked_of(name)


@cache
def _code(meaning: str, kind: str) -> Any:
    """A private code for words: the same for the same words, 16 characters at most."""
    from pydicom.sr.coding import Code

    return Code(f"{kind}{sha256(meaning.encode())[:12].upper()}", SCHEME, meaning[:64])


def _device(algorithm: Algorithm) -> str:
    """The UID of the observer: the same for the same model."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'overread {algorithm.digest}').int}"


def _reference(source: Any) -> Any:
    from pydicom.dataset import Dataset

    found = Dataset()
    found.ReferencedSOPClassUID, found.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return found


def _filed(made: Any, source: Any) -> Any:
    """In UTF-8, which has every letter of a name; marked where the patient was taken out."""
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"):
        if keyword in source:
            setattr(made, keyword, source[keyword].value)
    return made


@cache
def _font() -> str:
    """DejaVu Sans, which matplotlib brings: Latin, Greek and Cyrillic letters."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def _wrapped(line: str, font: Any, most: int) -> Sequence[str]:
    """A line in parts that are at most so many pixels wide, cut between words."""
    made = [""]
    for word in line.split():
        longer = f"{made[-1]} {word}".strip()
        made = [*made[:-1], longer] if font.getlength(longer) <= most or not made[-1] else [*made, word]
    return made
