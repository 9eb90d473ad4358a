"""How a stack of frames is seen as one image: projections over time, or frames as its channels.

A stack is a TIFF of several pages, a film or volume, or a folder of images, whose names give their order. It is read frame by
frame: of a film of any length only sums are kept. A row of a table says how by the address of its image,
``film.tif#frames=projections`` or ``film.tif#frames=channels:8``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ArgumentError, ImageError, checked, require
from overread.core.files import sha256
from overread.images.address import Address
from overread.images.conversions import between
from overread.images.formats.archives import address_bytes
from overread.images.formats.signatures import FORMATS, sniff
from overread.images.formats.tiff import stack_pages
from overread.images.image import Limits, read_bytes

#: The channels of projections, in this order.
PROJECTIONS = ("mean", "maximum", "correlation with neighbours")
#: How the frames of one row may be seen.
HOW = "projections, channels or channels:N"
#: As many channels as there are if nobody says how many.
CHANNELS = 8
#: Percentiles between which a projection is stretched.
_ENDS = (0.1, 99.9)
_ENDINGS = tuple(ending for row in FORMATS if row.reader for ending in row.endings)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FrameView:
    """``how``: ``projections`` or ``channels``; ``channels``: how many equal spans of time become channels.

    Raises :class:`ArgumentError` for another ``how`` or fewer than 1 channel.
    """

    how: str
    channels: int = CHANNELS

    def __post_init__(self) -> None:
        require(
            self.how in ("projections", "channels"),
            "frames are seen in one of two ways",
            given=self.how,
            todo=f"say {HOW}",
        )
        require(1 <= self.channels <= 64, "frames become 1 to 64 channels", given=self.channels)

    def __str__(self) -> str:
        return self.how if self.how == "projections" else f"channels:{self.channels}"


@checked
def frame_view(text: str) -> FrameView:
    """The view that a text names. Raises :class:`ArgumentError` for another.

    >>> str(frame_view("channels:12")), str(frame_view("channels")), str(frame_view("projections"))
    ('channels:12', 'channels:8', 'projections')
    """
    how, _, many = text.partition(":")
    require(
        not many or (how == "channels" and many.isdecimal()),
        "frames are seen in one of two ways",
        given=text,
        todo=f"say {HOW}",
    )
    return FrameView(how, int(many)) if many else FrameView(how)


@checked
def read_frames(
    address: Address, limits: Limits, decode: Callable[[str], NDArray[Any]]
) -> tuple[NDArray[Any], tuple[str, ...], str, str]:
    """Pixels (H, W, C) uint16, notes, digest and format of a stack that is seen as ``address.frames`` says.

    Projections: :data:`PROJECTIONS` as three channels, the first two stretched between percentiles, the third from 0 to 1. Channels:
    the means of equal spans of time, stretched together. ``decode`` gives the pixels of an address that is one image, or a
    film or volume (D, H, W, 1). Raises :class:`ImageError` for a stack of one frame, or of
    fewer than channels, for frames of unlike sizes or in colour, and as reading an image does.
    """
    view = _viewed(address)
    stack = _Stack(replace(address, frames=""), limits, decode)
    pixels = _projections(stack) if view.how == "projections" else _spans(stack, view.channels)
    told = ", ".join(PROJECTIONS) if view.how == "projections" else f"{view.channels} spans of time"
    return pixels, (f"{stack.count} frames as {told}",), frames_digest(address, limits), stack.kind


@checked
def frames_digest(address: Address, limits: Limits) -> str:
    """The digest that :func:`read_frames` reports, without decoding; two ways to see one stack are two images."""
    if _is_folder(address.path):
        digest = sha256(
            "".join(sha256(read_bytes(file, limits=limits)) for file in folder_frames(address.path)).encode()
        )
    elif address.series or address.plane:
        from overread.images.volumes import volume

        digest = volume.digest_of(replace(address, frames=""), limits)
    else:
        digest = sha256(address_bytes(address, limits))
    return sha256(f"{digest}#frames={_viewed(address)}".encode())


def _viewed(address: Address) -> FrameView:
    try:
        return frame_view(address.frames)
    except ArgumentError as error:
        raise ImageError(error.what, given=error.given, todo=error.todo) from error


@checked
def folder_frames(folder: str | os.PathLike[str]) -> list[str]:
    """The images in a folder, in the order of the numbers in their names.

    Raises :class:`ImageError` for a folder without.
    """
    found = [
        each.path
        for each in os.scandir(folder)
        if each.is_file() and each.name.lower().endswith(_ENDINGS) and not each.name.startswith(".")
    ]
    if not found:
        raise ImageError("the folder of frames holds no images")
    return sorted(found, key=lambda path: numbered(Path(path).name))


@checked
def numbered(name: str) -> list[tuple[int, str]]:
    """A key that puts names in the order of the numbers in them.

    >>> sorted(["f10.tif", "f9.tif"], key=numbered)
    ['f9.tif', 'f10.tif']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name.lower())]


class _Stack:
    """The frames (H, W) of a stack one by one, as often as they are asked for; how many, and the format."""

    def __init__(self, address: Address, limits: Limits, decode: Callable[[str], NDArray[Any]]) -> None:
        self._limits, self._decode = limits, decode
        self._pixels: NDArray[Any] | None = None
        self._files: Sequence[str] = ()
        self._data = b""
        if _is_folder(address.path):
            self._files, self.kind = folder_frames(address.path), "folder"
            self.count = len(self._files)
        else:
            self._data = b"" if address.series or address.plane else address_bytes(address, limits)
            self.kind = sniff(self._data) if self._data else "DICOM"
            if self.kind == "TIFF":
                self.count = sum(1 for _ in stack_pages(self._data, limits.check, most=limits.frames, decode=False))
            else:
                pixels = decode(str(address))
                self._pixels = pixels[..., 0] if pixels.ndim == 4 else pixels[None, ..., 0]
                self.count = len(self._pixels)
        if self.count < 2:
            raise ImageError(
                "a stack has several frames",
                given=f"{self.count} of {self.kind}",
                todo="leave out --frames for images of one frame",
            )
        if self.count > limits.frames:
            raise ImageError(
                "the stack has more frames than the limit",
                given=f"{self.count:,}",
                todo=f"read it with Limits(frames=…), now {limits.frames:,}",
            )

    def __iter__(self) -> Iterator[Floats]:
        size: tuple[int, ...] | None = None
        for frame in self._frames():
            if frame.ndim != 2:
                raise ImageError(
                    "the frames of a stack are grey", given=f"shape {frame.shape}", todo="convert the film to grey"
                )
            if size is not None and frame.shape != size:
                raise ImageError(
                    "the frames of a stack have one size",
                    given=f"{size[1]} x {size[0]} and {frame.shape[1]} x {frame.shape[0]}",
                )
            size = frame.shape
            yield frame.astype(np.float64)

    def _frames(self) -> Iterator[NDArray[Any]]:
        if self._pixels is not None:
            yield from self._pixels
        elif self._files:
            for file in self._files:
                pixels = self._decode(file)
                yield pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        else:
            for pixels in stack_pages(self._data, self._limits.check, most=self._limits.frames):
                yield pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)


#: From a pixel to those neighbours whose correlations with it are summed once for both.
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


def _projections(stack: _Stack) -> NDArray[np.uint16]:
    """Mean, maximum, and the mean correlation over time of a pixel with its eight neighbours (Smith & Häusser 2010)."""
    first: Floats | None = None
    for frame in stack:
        if first is None:
            first = frame
            total, squares = np.zeros(frame.shape), np.zeros(frame.shape)
            most = frame.copy()
            beside = [np.zeros(frame[_from(step)].shape) for step in _NEIGHBOURS]
            continue
        apart = frame - first  # sums of what is near zero keep their digits
        total += apart
        squares += apart * apart
        np.maximum(most, frame, out=most)
        for at, step in enumerate(_NEIGHBOURS):
            beside[at] += apart[_from(step)] * apart[_to(step)]
    assert first is not None
    mean = total / stack.count
    spread = np.sqrt(np.maximum(squares / stack.count - mean**2, 0))
    alike, many = np.zeros(first.shape), np.zeros(first.shape)
    for step, products in zip(_NEIGHBOURS, beside, strict=True):
        here, there = _from(step), _to(step)
        scale = spread[here] * spread[there]
        found = np.where(
            scale > 0, (products / stack.count - mean[here] * mean[there]) / np.where(scale > 0, scale, 1), 0
        )
        for place in (here, there):
            alike[place] += found
            many[place] += 1
    alike /= np.maximum(many, 1)
    return np.stack([_stretched(first + mean), _stretched(most), _whole(np.clip(alike, 0, 1))], axis=-1)


def _from(step: tuple[int, int]) -> tuple[slice, slice]:
    """The pixels that have a neighbour in that direction."""
    return slice(0, -step[0] or None), slice(max(0, -step[1]), -max(0, step[1]) or None)


def _to(step: tuple[int, int]) -> tuple[slice, slice]:
    """Those neighbours."""
    return slice(step[0], None), slice(max(0, step[1]), min(0, step[1]) or None)


def _spans(stack: _Stack, channels: int) -> NDArray[np.uint16]:
    """(H, W, channels) the mean of each of so many equal spans of time."""
    if stack.count < channels:
        raise ImageError("the stack has fewer frames than channels are asked for", given=f"{stack.count} frames, {channels} channels",
                         todo=f"ask for at most so many: --frames channels:{stack.count}")  # fmt: skip
    sums: list[Floats] = []
    many = np.zeros(channels)
    for number, frame in enumerate(stack):
        span = number * channels // stack.count
        if span == len(sums):
            sums.append(np.zeros(frame.shape))
        sums[span] += frame
        many[span] += 1
    return _stretched(np.stack(sums, axis=-1) / many)


def _stretched(values: Floats) -> NDArray[np.uint16]:
    return _whole(between(values, *(float(x) for x in np.percentile(values, _ENDS))))


def _whole(values: Floats) -> NDArray[np.uint16]:
    return np.rint(values * 65_535).astype(np.uint16)
