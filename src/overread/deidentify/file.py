"""The file around a cleaned data set: how it is coded, its meta information, its bytes."""

from __future__ import annotations

from functools import cache
from typing import Any

from overread import __version__
from overread.errors import ImageError, checked
from overread.images.image import BROKEN

#: The implementation class of files written here: 2.25 and a number of our own (PS3.5 B.2).
IMPLEMENTATION = "2.25.186083033758014709499219619881222828323"


@cache
def broken() -> tuple[type[Exception], ...]:
    """What reading a damaged data set raises: pydicom has two kinds of its own, which quote the value."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (*BROKEN, BytesLengthException, InvalidDicomError)


@checked
def transfer_syntax(dataset: Any) -> str:
    """How the file is written: as its meta information says, else as it was found to be."""
    named = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if named:
        return str(named)
    implicit, little = getattr(dataset, "original_encoding", (None, None))
    if implicit is None or little is None:
        raise ImageError("the DICOM file does not say how it is written", given="no transfer syntax")
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


@checked
def meta(new: Any, syntax: str) -> Any:
    """The meta information of a cleaned data set, made anew: nothing of who wrote or sent the original (PS3.10 7.1)."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    made = FileMetaDataset()
    made.FileMetaInformationVersion = b"\0\1"
    made.MediaStorageSOPClassUID, made.MediaStorageSOPInstanceUID = new.SOPClassUID, new.SOPInstanceUID
    made.TransferSyntaxUID, made.ImplementationClassUID = UID(syntax), UID(IMPLEMENTATION)
    made.ImplementationVersionName = f"OVERREAD {__version__}"[:16]
    return made


@checked
def as_bytes(new: Any) -> bytes:
    """The file of a cleaned data set: an empty preamble, its meta information, itself (PS3.10 chapter 7)."""
    import pydicom
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset, write_file_meta_info

    out = DicomBytesIO()
    if new.file_meta.TransferSyntaxUID in pydicom.uid.UID_dictionary:
        pydicom.dcmwrite(out, new, enforce_file_format=True)
        return out.getvalue()
    out.is_little_endian = True  # as every compressed syntax is written (PS3.5 A.4)
    out.is_implicit_VR = False
    out.write(bytes(128) + b"DICM")
    write_file_meta_info(out, new.file_meta)
    write_dataset(out, new)
    return out.getvalue()
