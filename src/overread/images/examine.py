"""Everything that is asked of one new image at once, in one reading of its bytes: pixels, description, header."""

from __future__ import annotations

import os
from typing import Any

from overread.core.errors import ImageError, checked
from overread.images.address import parse
from overread.images.dicom.header import DicomHeader, read_header
from overread.images.formats import npz
from overread.images.formats.archives import address_bytes
from overread.images.image import LIMITS
from overread.images.perceptual_hash import description
from overread.images.preprocess import Preprocess, load, prepared
from overread.images.read import read_image


@checked
def examine(source: str | os.PathLike[str] | bytes, preprocess: Preprocess) -> list[Any]:
    """Of an image its pixels as :func:`~overread.images.preprocess.load` gives them, what it is as
    :func:`~overread.images.perceptual_hash.description` tells, and of DICOM its modality, body part, view, patient,
    issuer and whether it says that text is burned in; ``{}`` of other formats.

    Made to be run by :func:`overread.core.sandbox.contained`. Raises :class:`ImageError`.
    """
    image = read_image(source)
    # a JPEG may be decoded at a fraction of its size, and a window changes what is seen
    again = image.format.startswith("JPEG") or bool(preprocess.window)
    pixels = load(source, preprocess) if again else prepared(image, preprocess, source)
    return [pixels, description(image), _header(source) if image.format == "DICOM" else {}]


def _header(source: str | os.PathLike[str] | bytes) -> dict[str, str]:
    """The few fields that an opinion needs; none of a header that cannot be read, whose pixels could."""
    try:
        found = read_header(source if isinstance(source, bytes) else _bytes_of(os.fspath(source)))
    except ImageError:
        found = DicomHeader()
    wanted = ("modality", "body_part", "view", "patient", "issuer", "burned_in")
    return {name: str(getattr(found, name)) for name in wanted}


def _bytes_of(text: str) -> bytes | str:
    """A path as it is; what lies in an archive, or stands beside others as a series, by its bytes."""
    if npz.is_address(text):
        return text
    address = parse(text)
    return address_bytes(address, LIMITS) if address.entry else address.path
