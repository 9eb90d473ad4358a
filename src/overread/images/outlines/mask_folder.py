"""A folder with a mask for each object of an image, as the Data Science Bowl of 2018 is published."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from overread.core.errors import ImageError, checked
from overread.core.files import sha256
from overread.core.phrases import count
from overread.images.address import Address
from overread.images.formats.archives import address_bytes
from overread.images.image import LIMITS, Limits
from overread.images.outlines.label_image import numbers
from overread.images.outlines.raster import Patch, Raster, painted, patch_of

#: Endings of masks; other files of the folder are left out, and counted.
ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".webp", ".jpg", ".jpeg", ".jp2")
MOST_FILES = 100_000


@checked
def read_mask_folder(folder: str | os.PathLike[str], limits: Limits = LIMITS) -> tuple[Raster, str]:
    """The objects of a folder, a file each in the order of their names, and the digest of the files' bytes.

    What is not 0 in a file is its object; its pieces are one object. Raises :class:`ImageError` for a folder without a
    file, too many of them, one that cannot be read, and masks that differ in size.
    """
    try:
        entries = sorted(
            entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith(".")
        )
    except OSError as error:
        raise ImageError("the folder of masks cannot be read", given=error.strerror) from error
    files = [name for name in entries if name.lower().endswith(ENDINGS)]
    if not files or len(files) > MOST_FILES:
        raise ImageError("the folder holds no masks" if not files else "the folder holds too many files", given=count(len(entries), "file"),
                         todo=f"a mask for each object, named {', '.join(ENDINGS)}")  # fmt: skip
    digest, sizes = hashlib.sha256(), list[tuple[int, int]]()

    def objects() -> Iterator[Patch]:
        for name in files:
            data = address_bytes(Address(str(Path(folder) / name)), limits)
            digest.update(sha256(data).encode())
            values = numbers(data, limits)[0]
            sizes.append((values.shape[0], values.shape[1]))
            if sizes[-1] != sizes[0]:
                raise ImageError("the masks of one image differ in size", given=f"{sizes[-1][1]} × {sizes[-1][0]} and {sizes[0][1]} × {sizes[0][0]}")  # fmt: skip
            yield patch_of(values > 0)

    patches = list(objects())
    left = len(entries) - len(files)
    notes = (f"{count(left, 'file')} in the folder of masks left out",) if left else ()
    return painted(patches, sizes[0], notes), digest.hexdigest()
