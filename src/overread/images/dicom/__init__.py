"""DICOM: headers, pixels of every transfer syntax, series in order."""

from overread.images.dicom.pixels import decode, physical, stored

__all__ = ["decode", "physical", "stored"]
