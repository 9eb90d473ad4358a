"""De-identified copies of DICOM files, by the basic profile of PS3.15."""

from overread.deidentify.export import Deidentified, Rules, clean, deidentify, new_salt, read_salt

__all__ = ["Deidentified", "Rules", "clean", "deidentify", "new_salt", "read_salt"]
