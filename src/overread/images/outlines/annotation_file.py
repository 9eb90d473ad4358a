"""Annotation files: shapes of the objects of one image or of many, read once and asked for image by image."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from overread.core.errors import ImageError, InputError, checked
from overread.core.files import require_file
from overread.images.image import LIMITS, Limits
from overread.images.outlines.annotation_xml import read_xml
from overread.images.outlines.coco import read_coco
from overread.images.outlines.outline_shapes import ImageShapes
from overread.images.outlines.outline_tables import read_outline_table
from overread.images.outlines.raster import Raster, painted

#: Bytes that an annotation file may have; read, it takes about six times as much memory.
MOST_BYTES = 2**30
#: Files that a process keeps in mind, and the bytes of them together.
_KEPT, _KEPT_BYTES = 64, 2**28
#: Who reads which file, by its ending.
READERS: dict[str, Callable[[Path], dict[str, ImageShapes]]] = {
    ".json": read_coco, ".xml": read_xml, ".csv": read_outline_table, ".tsv": read_outline_table,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class AnnotationFile:
    """The shapes in a file by the names of its images."""

    name: str
    images: dict[str, ImageShapes] = field(repr=False)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes of objects, sorted, without a blank one."""
        return tuple(sorted({name for held in self.images.values() for name in held.classes} - {""}))

    @cached_property
    def _short(self) -> dict[str, list[str]]:
        """Names of images by what they may be asked as: their last part, without its ending, in small letters."""
        found: dict[str, list[str]] = {}
        for name in self.images:
            for key in dict.fromkeys((_plain(name), _last(name), _stem(name))):
                found.setdefault(key, []).append(name)
        return found

    def find(self, image: str) -> str | None:
        """The name under which the file holds an image: as it is asked, by its last part, or without an ending; else None.

        Raises :class:`InputError` where two images fit.
        """
        if image in self.images:
            return image
        for key in (_plain(image), _last(image), _stem(image)):
            fits = self._short.get(key, [])
            if len(fits) > 1:
                raise InputError("two images of an annotation file fit one name", given=f"{fits[0]} and {fits[1]}", todo="name images with their folders")  # fmt: skip
            if fits:
                return fits[0]
        return None

    def shapes(self, image: str) -> ImageShapes:
        """The shapes of an image; without a name those of the only one. Raises :class:`ImageError` where there is none."""
        if not image:
            if len(self.images) != 1:
                raise ImageError("an annotation file of many images needs the name of one", given=f"{len(self.images):,} images", todo="write #image=NAME behind the file")  # fmt: skip
            return next(iter(self.images.values()))
        name = self.find(image)
        if name is None:
            raise ImageError("the annotation file does not hold this image", given=f"{len(self.images):,} others")
        return self.images[name]


def _plain(name: str) -> str:
    return name.replace("\\", "/").lower()


def _last(name: str) -> str:
    return _plain(name).rpartition("/")[2]


def _stem(name: str) -> str:
    return re.sub(r"\.[a-z]{2,4}\Z", "", _last(name))


@checked
def is_annotation(path: str) -> bool:
    """Whether a file's name ends as those of annotation files do.

    >>> is_annotation("coco.json"), is_annotation("labels.png")
    (True, False)
    """
    return os.path.splitext(path)[1].lower() in READERS


_READ: OrderedDict[tuple[str, int, int], tuple[AnnotationFile, int]] = OrderedDict()


@checked
def open_annotations(path: str | os.PathLike[str]) -> AnnotationFile:
    """The annotations in a file: COCO (``.json``), Pascal or ImageScope (``.xml``), boxes or run lengths (``.csv``).

    A file is read once as long as it does not change. Raises :class:`InputError` for one that is missing, larger than
    1 GiB, or no annotations.
    """
    path = require_file(Path(path))
    state = path.stat()
    key = (os.path.abspath(path), state.st_mtime_ns, state.st_size)
    if key in _READ:
        _READ.move_to_end(key)
        return _READ[key][0]
    if state.st_size > MOST_BYTES:
        raise InputError("the annotation file is too large", given=f"{state.st_size:,} bytes; at most {MOST_BYTES:,}", todo="split it by images")  # fmt: skip
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            "this is no file of annotations", given=path.name, todo=f"their names end in {', '.join(READERS)}"
        )
    made = AnnotationFile(path.name, reader(path))
    _READ[key] = made, state.st_size
    while len(_READ) > _KEPT or (len(_READ) > 1 and sum(size for _, size in _READ.values()) > _KEPT_BYTES):
        _READ.popitem(last=False)
    return made


@checked
def raster_of(
    shapes: ImageShapes, size: tuple[int, int] | None, *, rows: bool | None = None, limits: Limits = LIMITS
) -> Raster:
    """The shapes of an image as labels. ``size``: of the image, where the file does not say it; ``rows``: run lengths go
    along rows. Raises :class:`ImageError` where the size is not known, or another than the file says.
    """
    if size is None and shapes.size is None:
        raise ImageError("shapes are drawn into an image whose size is known", given="neither the file nor the caller says it", todo="give the image's size")  # fmt: skip
    if size is not None and shapes.size is not None and tuple(size) != shapes.size:
        raise ImageError("the annotations are of another size than the image", given=f"{shapes.size[1]} × {shapes.size[0]} for {size[1]} × {size[0]} pixels",
                         todo="see that they belong to this image")  # fmt: skip
    height, width = size or shapes.size or (0, 0)
    limits.check(height, width, each=16)
    return painted(shapes.patches((height, width), rows), (height, width), shapes.told)
