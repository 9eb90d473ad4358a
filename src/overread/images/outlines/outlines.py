"""The objects of one image as a label image: 0 is the background, 1 … K are the objects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked, require
from overread.core.files import EqualByDigest, publish, sha256
from overread.core.phrases import count
from overread.core.sandbox import contained
from overread.images.address import parse
from overread.images.formats.archives import address_bytes
from overread.images.formats.npz import is_address, read_row
from overread.images.image import LIMITS, Limits
from overread.images.outlines.annotation_file import is_annotation, open_annotations, raster_of
from overread.images.outlines.label_image import raster_of_numbers, read_label_image
from overread.images.outlines.mask_address import mask_file, parse_mask, several
from overread.images.outlines.mask_folder import read_mask_folder
from overread.images.outlines.raster import Raster, joined
from overread.images.read import naming

#: What the rooms above read and write masks with.
__all__ = ["Outlines", "consecutive", "outlines_of", "read_masks", "read_outlines", "write_labels"]

#: Objects that a 16-bit label image can hold.
MOST_IN_16_BITS = 65_535


@dataclass(frozen=True, eq=False)
class Outlines(EqualByDigest):
    """The objects of one image.

    ``labels``: int32 (H, W), 0 the background, 1 … K the objects without a gap. ``classes``: (K,) the class of each
    object, ``""`` where it has none. ``notes``: what was done in reading. ``digest``: SHA-256 of the bytes that they
    were read from, or of the labels. ``overlapped``: pixels that two objects claimed; the smaller one has them.
    """

    labels: NDArray[np.int32]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    digest: str = ""
    overlapped: int = 0

    def __post_init__(self) -> None:
        require(self.labels.ndim == 2 and self.labels.dtype == np.int32, "labels are int32 (H, W)",
                given=f"{self.labels.dtype} {self.labels.shape}", todo="make them with outlines_of(labels)")  # fmt: skip
        require(len(self.classes) == int(self.labels.max(initial=0)), "each object needs a class, which may be blank",
                given=f"{count(len(self.classes), 'class', 'classes')} for objects up to {int(self.labels.max(initial=0)):,}")  # fmt: skip
        if not self.digest:
            told = repr((self.labels.shape, self.classes)).encode()
            object.__setattr__(self, "digest", sha256(told + np.ascontiguousarray(self.labels).tobytes()))

    def __len__(self) -> int:
        return len(self.classes)

    def __str__(self) -> str:
        height, width = self.labels.shape
        return f"{count(len(self), 'object')} in {width} × {height} pixels"

    __repr__ = __str__

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels.shape[0], self.labels.shape[1]

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """(K,) pixels of each object; 0 where others covered all of it."""
        return np.bincount(self.labels.ravel(), minlength=len(self) + 1)[1:].astype(np.int64)

    def of_class(self, name: str) -> NDArray[np.int32]:
        """The labels (H, W) of the objects of a class alone, under the numbers that they have; of ``""`` of all."""
        if not name:
            return self.labels
        kept = np.array([0, *(place if held == name else 0 for place, held in enumerate(self.classes, 1))], np.int32)
        return kept[self.labels]


@checked
def read_outlines(
    address: str | os.PathLike[str], *, size: tuple[int, int] | None = None, classes: Sequence[str] = (), limits: Limits = LIMITS
) -> Outlines:  # fmt: skip
    """The objects that a mask outlines, from its address (:mod:`.mask_address`).

    ``size``: height and width of the image, which a label image must have and shapes are drawn into. ``classes``: the
    classes that are known, none: any.

    Raises :class:`ImageError` for what is missing, damaged, larger than the limits, of another size than the image, of
    a class that is not known, or of no form that is read. The message names the file, never its folder.
    """
    addresses = several(os.fspath(address))
    if not addresses:
        raise ImageError("there is no mask", given="a blank address")
    read = []
    for text in addresses:
        with naming(mask_file(text)):
            read.append(_raster(text, size, limits))
    with naming(mask_file(addresses[0])):
        raster, digest = joined([each for each, _ in read]), sha256("".join(each for _, each in read).encode())
        digest = read[0][1] if len(read) == 1 else digest
        found = outlines_of(raster.labels, classes=raster.classes, notes=raster.notes, digest=digest, overlapped=raster.overlapped)  # fmt: skip
        if size is not None and found.size != tuple(size):
            raise ImageError("the mask has another size than its image", given=f"{found.size[1]} × {found.size[0]} for {size[1]} × {size[0]} pixels",
                             todo="save masks at the size of their images, without a resize")  # fmt: skip
        strange = sorted(set(found.classes) - {"", *classes}) if classes else []
        if strange:
            raise ImageError("an object is of a class that is not asked for", given=", ".join(strange[:5]), todo=f"the classes are {', '.join(classes)}")  # fmt: skip
        return found


@checked
def read_masks(
    addresses: Sequence[str], *, sizes: Sequence[tuple[int, int]] = (), classes: Sequence[str] = (), workers: int = 0
) -> Iterator[Outlines | ImageError]:
    """The outlines at each address, in their order, or why they cannot be read: :func:`read_outlines` in processes of their own, where a
    malicious file can do no harm.

    ``sizes``: (height, width) of each image, where it is known. ``workers``: processes that read, 0 for a core each.
    """
    known = [list(size) for size in sizes] or [[]] * len(addresses)
    tasks = ((address, size, list(classes)) for address, size in zip(addresses, known, strict=True))
    return contained(outlines_at, tasks, workers=workers)


@checked
def outlines_at(address: str, size: list[int], classes: list[str]) -> Outlines:
    """:func:`.read_outlines`, as a process of its own is asked."""
    return read_outlines(address, size=(size[0], size[1]) if size else None, classes=classes)


def _raster(text: str, size: tuple[int, int] | None, limits: Limits) -> tuple[Raster, str]:
    """The objects of one address, and the digest of the bytes that they were read from, or of what a file says of the image."""
    address = parse_mask(text)
    if os.path.isdir(address.path):
        return read_mask_folder(address.path, limits)
    if is_annotation(address.path):
        try:
            shapes = open_annotations(address.path).shapes(address.image)
        except InputError as error:
            raise ImageError(error.what, given=error.given, todo=error.todo) from error
        raster = raster_of(shapes, size, rows={"": None, "rows": True, "columns": False}[address.order], limits=limits)
        return raster, sha256(repr((raster.labels.shape, raster.classes)).encode() + raster.labels.tobytes())
    if is_address(address.path):
        return raster_of_numbers(read_row(address.path, limits.pixels), dict(address.classes)), sha256(text.encode())
    data = address_bytes(parse(address.path), limits)
    return read_label_image(data, dict(address.classes), limits=limits), sha256(data)


@checked
def outlines_of(
    labels: NDArray[Any], *, classes: Sequence[str] = (), notes: Sequence[str] = (), digest: str = "", overlapped: int = 0
) -> Outlines:  # fmt: skip
    """Outlines from labels (H, W) of any whole numbers; where they have gaps, objects are numbered anew in their order.

    ``classes``: (highest label,) the class of each number, or none. Raises :class:`ArgumentError` for labels that
    are not whole numbers, and for too few classes.

    >>> outlines_of(np.array([[0, 7], [7, 9]])).labels.tolist()
    [[0, 1], [1, 2]]
    """
    require(labels.ndim == 2 and labels.dtype.kind in "iub", "labels are whole numbers (H, W)", given=f"{labels.dtype} {labels.shape}")  # fmt: skip
    numbered, names = consecutive(labels)
    highest = int(names.max(initial=0))
    require(not classes or len(classes) >= highest, "each object needs a class", given=f"{len(classes):,} for {highest:,}")  # fmt: skip
    held = tuple(classes[name - 1] for name in names) if classes else ("",) * len(names)
    gaps = highest - len(names)
    told = (f"{count(len(names), 'object')} numbered anew, since numbers up to {highest:,} leave gaps",) if gaps else ()
    return Outlines(numbered, held, (*notes, *told), digest, overlapped)


@checked
def consecutive(labels: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels (H, W) as 0 and 1 … K without gaps, int32, and the numbers (K,) that they had; below 0 is background.

    >>> consecutive(np.array([[0, 4], [9, 4]]))[1].tolist()
    [4, 9]
    """
    labels = labels.astype(np.int64, copy=False)
    highest = int(labels.max(initial=0))
    if highest <= 4 * labels.size + 1_000:
        there = np.bincount(np.maximum(labels, 0).ravel(), minlength=1) > 0
        there[0] = False
        names = np.flatnonzero(there)
        place = np.zeros(len(there), np.int32)
        place[names] = np.arange(1, len(names) + 1)
        return place[np.maximum(labels, 0)], names
    names, inverse = np.unique(np.maximum(labels, 0), return_inverse=True)
    shift = int(names[0] != 0)  # no background at all
    return (inverse.reshape(labels.shape) + shift).astype(np.int32), names[names > 0]


@checked
def write_labels(path: str | os.PathLike[str], labels: NDArray[Any]) -> Path:
    """Write labels (H, W) as a 16-bit PNG, or beyond 65,535 objects as a 32-bit TIFF; returns the path written.

    The ending becomes that of what is written. Raises :class:`ArgumentError` for labels below 0 or not whole.
    """
    path = Path(path)
    require(labels.ndim == 2 and labels.dtype.kind in "iub" and labels.size > 0, "labels are whole numbers (H, W)", given=f"{labels.dtype} {labels.shape}")  # fmt: skip
    require(int(labels.min()) >= 0, "labels must not be negative", given=int(labels.min()))
    if int(labels.max()) > MOST_IN_16_BITS:
        import tifffile

        path = path.with_suffix(".tif")
        with publish(path) as temporary:
            tifffile.imwrite(temporary, labels.astype(np.uint32), compression="zlib", software="")
        return path
    path = path.with_suffix(".png")
    done, data = cv2.imencode(".png", labels.astype(np.uint16))
    if not done:
        raise ImageError("the label image cannot be written", given=path.name)
    with publish(path) as temporary:
        Path(temporary).write_bytes(data.tobytes())
    return path
