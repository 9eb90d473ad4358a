"""Images and their outlines as they are, of any size: decoded once, memory-mapped ever after.

What :mod:`overread.images.store` is for images of one size. A store is a folder named by the digests of the images and
masks. Each row is a file of its own, published whole: a line of JSON (sizes, levels, classes, checksum), the pixels and
the labels. What a killed process finished stays; a row whose checksum differs is decoded again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked, require
from overread.core.files import cores, fingerprint, folder_lock, publish, sha256
from overread.core.phrases import count
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.images.image import Image
from overread.images.outlines.mask_address import mask_file, several
from overread.images.outlines.outlines import read_outlines
from overread.images.read import LIMITS, Limits, content_digest, read_image

_FORMAT = 1
_HEADER = 1 << 22  # longest line of JSON in bytes: the classes of half a million objects


@dataclass(frozen=True, eq=False)
class Native:
    """An image with the outlines of its objects, memory-mapped.

    ``pixels`` (H, W, C) uint8 or uint16, C 1, 3, or the frames of a stack. ``labels`` (H, W) uint16 or int32, 0 the background; all 0 where the
    image has no mask. ``classes`` (K,) of the objects. ``levels`` (C, 2): the two percentiles of each channel.
    """

    pixels: NDArray[Any]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    levels: NDArray[np.float32]
    digest: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, eq=False)
class NativeStore:
    """Rows of images and outlines in the order of the addresses."""

    folder: Path
    rows: tuple[Native, ...]
    rebuilt: int

    def __len__(self) -> int:
        return len(self.rows)


@checked
def pack_native(
    images: Sequence[str], masks: Sequence[str], cache: Path, *, percentiles: tuple[float, float] = (1.0, 99.8), window: str = "",
    digests: Sequence[str] | None = None, classes: Sequence[str] = (), threads: int = 0, progress: Progress = silent,
    limits: Limits = LIMITS,
) -> NativeStore:  # fmt: skip
    """Decode images and masks into a store under ``cache``, or open the one that is there.

    ``images`` and ``masks``: addresses (``""``: without outlines). ``percentiles``: of each channel, kept as levels.
    ``digests``: SHA-256 of the image files where known. ``classes``: the names that objects may have. Raises
    :class:`InputError` where an image or a mask cannot be read, or has changed since its digest was taken.
    """
    require(
        len(images) == len(masks) > 0,
        "each image needs the address of its mask, which may be blank",
        given=f"{len(masks)} for {len(images)}",
    )
    known = list(digests or [""] * len(images))
    require(len(known) == len(images), "one digest per image is needed", given=f"{len(known)} for {len(images)}")
    workers = threads or cores()
    asked = ((image, mask, expected) for image, mask, expected in zip(images, masks, known, strict=True))
    found = _all(contained(_digests, asked, common=(limits,), workers=workers), len(images), "hashing images", progress)
    key = fingerprint([_FORMAT, sha256(" ".join(map(str, found)).encode()), list(percentiles), window, list(classes)])
    folder = cache / f"native-{key}"
    with folder_lock(folder, wait=-1.0):
        there = [_open(_path(folder, row)) for row in range(len(images))]
        missing = [row for row, held in enumerate(there) if held is None]
        damaged = sum(_path(folder, row).exists() for row in missing)
        tasks = ((images[row], masks[row], str(_path(folder, row)), found[row]) for row in missing)
        about = (tuple(percentiles), window, tuple(classes), limits)
        _all(
            contained(_write, tasks, common=about, workers=workers), len(missing), "reading images and masks", progress
        )
        rows = [held or _open(_path(folder, row)) for row, held in enumerate(there)]
    require(
        all(row is not None for row in rows),
        "a row of the store cannot be opened",
        todo="delete the folder of the cache and run again",
    )
    return NativeStore(folder, tuple(row for row in rows if row is not None), damaged)


def _all(results: Any, total: int, what: str, progress: Progress) -> list[Any]:
    """All results; raises :class:`InputError` with how many failed, and the first of them."""
    found, failed = [], []
    with closing(results):
        for done, result in enumerate(results, 1):
            found.append(result)
            if isinstance(result, ImageError):
                failed.append(result)
            progress(what, done, total)
    if failed:
        raise InputError(f"{count(len(failed), 'image or mask', 'images or masks')} cannot be read", given=failed[0].reason or str(failed[0]),
                         todo="run `overread audit`, which sets them aside")  # fmt: skip
    return found


def _path(folder: Path, row: int) -> Path:
    return folder / f"{row:06d}.row"


# -- in a process of its own -------------------------------------------------------------------------------------------


def _digests(image: str, mask: str, expected: str, limits: Limits) -> list[str]:
    """What the row is made of: the digest of the image, and the digest of the mask and its address, which names a part."""
    found = content_digest(image, limits=limits)
    if expected and found != expected:
        raise InputError("an image changed since it was looked at", todo="run again")
    return [found, _mask_digest(mask) if mask else ""]


def _mask_digest(mask: str) -> str:
    """Of the bytes of the files that a mask is read from, one or several, or those in a folder, and what is named within them."""
    told = []
    for one in several(mask):
        path = mask_file(one)
        try:
            files = (
                sorted(each for each in Path(path).iterdir() if each.is_file()) if Path(path).is_dir() else [Path(path)]
            )
            told += [one[len(path) :].lstrip("#"), *(f"{each.name}:{_file_digest(each)}" for each in files)]
        except OSError as error:
            raise ImageError("a mask cannot be opened", given=error.strerror) from error
    return sha256(" ".join(told).encode("utf-8", "surrogatepass"))


def _file_digest(path: Path) -> str:
    about = path.stat()
    return _digest_of(str(path), about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=1 << 12)
def _digest_of(path: str, size: int, changed: int) -> str:
    """Of the bytes of a file as it was then: one file of annotations holds the outlines of thousands of images."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _write(
    image: str,
    mask: str,
    path: str,
    digests: list[str],
    percentiles: list[float],
    window: str,
    classes: list[str],
    limits: Limits,
) -> int:
    """Decode one row and publish its file."""
    read = read_image(image, limits=limits, window=window)
    if read.pixels.ndim != 3:
        raise ImageError("an image whose objects are outlined has 2 sides", given=f"shape {read.pixels.shape}")
    pixels = whole_numbers(read.pixels)
    height, width = pixels.shape[:2]
    labels, held = np.zeros((height, width), np.uint16), tuple[str, ...]()
    if mask:
        outlines = read_outlines(mask, size=(height, width), classes=classes, limits=limits)
        labels, held = outlines.labels, outlines.classes  # type: ignore[assignment]
        labels = labels.astype(np.uint16) if len(outlines) < 2**16 else labels
    levels = levels_of(histograms(pixels), percentiles[0], percentiles[1])
    body = np.ascontiguousarray(pixels).tobytes() + np.ascontiguousarray(labels).tobytes()
    about = {"shape": pixels.shape, "type": pixels.dtype.name, "labels": labels.dtype.name, "classes": held,
             "levels": levels.tolist(), "digest": digests[0], "crc32": zlib.crc32(body)}  # fmt: skip
    with publish(path) as beside, open(beside, "wb") as out:
        out.write(json.dumps(about).encode() + b"\n")
        out.write(body)
    return 0


@checked
def read_in_window(image: str | bytes, window: str) -> Image:
    """An image in the window that a model learned from, for the sandbox: :func:`.read_image`. Raises :class:`ImageError`."""
    return read_image(image, window=window)


@checked
def whole_numbers(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels (H, W, C) as uint8 or uint16: as they are, or of other numbers stretched from the least to the largest."""
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    return np.rint((pixels.astype(np.float64) - low) * (65535 / max(high - low, 1e-12))).astype(np.uint16)


@checked
def histograms(pixels: NDArray[Any]) -> NDArray[np.int64]:
    """(C, 256 or 65536) how many pixels (H, W, C) of each channel have each value."""
    full = 256 if pixels.dtype == np.uint8 else 65536
    return np.stack([np.bincount(pixels[..., c].ravel(), minlength=full) for c in range(pixels.shape[-1])]).astype(
        np.int64
    )


@checked
def levels_of(counts: NDArray[np.int64], low: float, high: float) -> NDArray[np.float32]:
    """(C, 2) two percentiles of each channel by its :func:`histograms`, interpolated as by numpy; at least 1 apart."""
    total = counts.cumsum(axis=1)
    found = np.empty((len(counts), 2), np.float32)
    for channel, sums in enumerate(total):
        for place, percentile in enumerate((low, high)):
            at = percentile / 100 * (sums[-1] - 1)
            below, above = (int(np.searchsorted(sums, rank, "right")) for rank in (np.floor(at), np.ceil(at)))
            found[channel, place] = below + (above - below) * (at - np.floor(at))
    found[:, 1] = np.maximum(found[:, 1], found[:, 0] + 1)
    return found


# -- opening -----------------------------------------------------------------------------------------------------------


def _open(path: Path) -> Native | None:
    """The row, its bytes checked; None where there is none or it is damaged."""
    try:
        with open(path, "rb") as handle:
            line = handle.readline(_HEADER)
            about = json.loads(line)
            shape, kinds = tuple(map(int, about["shape"])), (np.dtype(about["type"]), np.dtype(about["labels"]))
            sizes = [shape[0] * shape[1] * shape[2] * kinds[0].itemsize, shape[0] * shape[1] * kinds[1].itemsize]
            crc = 0
            while block := handle.read(8 << 20):
                crc = zlib.crc32(block, crc)
        whole = crc == about["crc32"] and path.stat().st_size == len(line) + sum(sizes)
        levels = np.array(about["levels"], np.float32)
        classes, digest = tuple(map(str, about["classes"])), str(about["digest"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    if not whole:
        return None
    pixels = np.memmap(path, kinds[0], "r", len(line), shape)
    labels = np.memmap(path, kinds[1], "r", len(line) + sizes[0], shape[:2])
    return Native(pixels, labels, classes, levels, digest)
