"""What every reader of images shares: the image, the limits, and the bytes of a file. See :mod:`.read`."""

from __future__ import annotations

import os
import stat
import struct
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, OverreadError, checked, require

#: What reading damaged archives and headers raises; what decoders raise is anything: see :class:`broken_as`.
BROKEN = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, OSError, RuntimeError, MemoryError,
    AssertionError, ImportError, SyntaxError, struct.error, zlib.error, zipfile.BadZipFile, cv2.error,
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What is refused from the header, of every format and before a decoder runs: more ``pixels`` (all frames),
    ``frames`` or ``file_bytes`` than these, or more ``memory``, in bytes, for what is decoded and its decoding.
    """

    pixels: int = 200_000_000
    frames: int = 4096
    file_bytes: int = 2**31
    memory: int = 2**31

    def __post_init__(self) -> None:
        require(min(vars(self).values()) > 0, "limits must be positive", given=self)

    def check(self, height: int, width: int, frames: int = 1, *, each: int = 1) -> None:
        """Raise :class:`ImageError` if an image of that size is beyond the limits.

        ``each``: bytes that a pixel takes while it is decoded, the work of the decoder and the result together.
        """
        pixels = height * width * frames
        if frames > self.frames or pixels > self.pixels or pixels * each > self.memory:
            given = f"{frames} x {height} x {width} pixels of {each} bytes"
            named = {"pixels": self.pixels, "frames": self.frames, "memory": self.memory}
            now = ", ".join(f"{name}={value:,}" for name, value in named.items())
            raise ImageError(
                "the image is larger than the limit", given=given, todo=f"read it with other Limits, now {now}"
            )


#: What a note begins with that says of a doubtful reading: the audit reports it.
DOUBT = "doubtful: "
#: How a note begins that says how much of a square around a point lies outside of its volume.
BEYOND = "beyond the volume: "
#: The limits where none are given.
LIMITS = Limits()


@dataclass(frozen=True, eq=False)
class Image:
    """Decoded pixels and where they came from.

    ``pixels``: (H, W, C) with C 1 (grey) or 3 (RGB), or another number for frames as channels, or (D, H, W, 1) for
    volumes; uint8, uint16 or float32. ``mode``: ``grey``, ``colour``, ``frames`` or ``volume``; ``bits``: 8, 16 or 32; ``format``: PNG, JPEG, JPEG 2000, TIFF,
    WebP, BMP, DICOM, NIfTI, NRRD, MetaImage, array or slide (and its kind); ``digest``: SHA-256 of the bytes decoded (of a frame or a
    plane: with its number); ``notes``: which conversions were made.
    """

    pixels: NDArray[Any]
    mode: str
    bits: int
    format: str
    digest: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Box:
    """Rows ``top`` … ``bottom`` and columns ``left`` … ``right``, the ends left out, as slices take them."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The box as an index of pixels (H, W, C)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class Circle:
    """A circle around ``row`` and ``column``; it may reach beyond the image."""

    row: float
    column: float
    radius: float


@checked
def image_of(pixels: NDArray[Any], kind: str, digest: str, notes: tuple[str, ...] = ()) -> Image:
    """An :class:`Image` of ``pixels`` (H, W, C) or (D, H, W, 1), brought to uint8, uint16 or finite float32.

    Raises :class:`ImageError` for NaN, infinity, and where there are no pixels.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype not in (np.uint8, np.uint16):
        with np.errstate(over="ignore"):
            pixels = finite(pixels.astype(np.float32))
    if not pixels.size:
        raise ImageError("the image has no pixels", given=f"shape {pixels.shape}")
    mode = "volume" if pixels.ndim == 4 else {1: "grey", 3: "colour"}.get(pixels.shape[-1], "frames")
    return Image(np.ascontiguousarray(pixels), mode, pixels.dtype.itemsize * 8, kind, digest, notes)


@checked
def finite(pixels: NDArray[Any]) -> NDArray[Any]:
    """``pixels`` as they are. Raises :class:`ImageError` for NaN and infinity."""
    if not np.isfinite(pixels).all():
        raise ImageError("the image holds NaN or infinite pixels")
    return pixels


class broken_as(AbstractContextManager[None]):
    """What a decoder raises becomes an :class:`ImageError` that says ``what``, whatever it is: a decoder is the work of
    others, and a file of anybody may bring out an error of a kind that nobody has thought of.

    What a library says may quote a header, and that a name: only the kind of its error is told.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, OverreadError):
            raise ImageError(self._what, given=type(error).__name__) from None


@checked
def read_bytes(path: str | os.PathLike[str], *, limits: Limits = LIMITS, most: int = -1) -> bytes:
    """The bytes of a regular file within the limits, or its first ``most`` whatever its size.

    Raises :class:`ImageError` otherwise, without opening devices.
    """
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise ImageError("this is not a regular file")
        if most < 0 and about.st_size > limits.file_bytes:
            given = f"{about.st_size:,} bytes"
            todo = f"read it with Limits(file_bytes=…), now {limits.file_bytes:,}"
            raise ImageError("the file is larger than the limit", given=given, todo=todo)
        with open(path, "rb", buffering=0) as handle:
            return handle.read(most)
    except FileNotFoundError as error:
        raise ImageError("the file does not exist", todo="check the image column and the folder") from error
    except (OSError, ValueError) as error:
        raise ImageError("the file cannot be opened", given=short(error)) from error


T = TypeVar("T")


class Recent(Generic[T]):
    """The last few things that are dear to make, for all threads."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What stands under ``key``; made now where it is not among the last."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


@checked
def file_key(path: str | os.PathLike[str], what: str = "file") -> tuple[Hashable, ...]:
    """What changes when a file, or a folder, does. Raises :class:`ImageError` where it is not there."""
    try:
        about = os.stat(path)
    except (OSError, ValueError) as error:
        raise ImageError(f"the {what} does not exist", todo="check the path") from error
    return (os.path.abspath(path), about.st_mtime_ns, about.st_size, about.st_ino)


@checked
def short(error: BaseException) -> str:
    """One printable line of what a decoder or the system said, without the path in it.

    >>> short(ValueError("bad\\nheader")), short(FileNotFoundError(2, "No such file", "/home/x"))
    ('bad', 'No such file')
    """
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable((said.strip() or type(error).__name__).splitlines()[0])[:160]


@checked
def printable(text: str) -> str:
    """``text`` with control characters, line ends and undecodable bytes written as escapes.

    >>> printable("a\\nb.png")
    'a\\\\nb.png'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
