"""Images with the outlines of their objects, read one at a time in processes that a malicious file may crash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.cases.cases import Cases, mask_paths, paths
from overread.core.errors import ImageError, checked, require
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.images.outlines.outlines import Outlines, read_outlines
from overread.images.read import read_image


@checked
def read_marked(image: str, mask: str, names: Sequence[str] = (), seen: bool = True) -> list[Any]:
    """``[pixels (H, W, C), labels (H, W), classes, notes]`` of an image and its mask; either may be blank.

    Without an image, and where it need not be ``seen``, the pixels are (0, 0, 0); it is then read only where the mask does
    not say how large the image is, as boxes do not. Without a mask there is no object. Raises :class:`ImageError` for what
    cannot be read, for a mask of another size, and for volumes.
    """
    if mask and not seen:
        with suppress(ImageError):
            found = read_outlines(mask, classes=tuple(names))
            return [np.zeros((0, 0, 0), np.uint8), found.labels, list(found.classes), list(found.notes)]
    pixels = read_image(image).pixels if image else np.zeros((0, 0, 0), np.uint8)
    if pixels.ndim != 3:
        raise ImageError("objects are outlined in flat images", given=f"a volume of shape {pixels.shape}")
    size = (pixels.shape[0], pixels.shape[1]) if image else None
    found = (
        read_outlines(mask, size=size, classes=tuple(names)) if mask else Outlines(np.zeros(pixels.shape[:2], np.int32))
    )
    return [pixels, found.labels, list(found.classes), list(found.notes)]


@checked
def marked_images(
    images: Sequence[str], masks: Sequence[str], *, names: Sequence[str] = (), threads: int = 0, errors: dict[int, str] | None = None,
    doing: str = "", progress: Progress = silent,
) -> Iterator[tuple[int, NDArray[Any] | None, Outlines]]:  # fmt: skip
    """``(row, pixels or None, outlines)`` of each image and its mask, by their addresses (N,), blank where there is none.

    ``names``: the classes of objects that are known. ``errors`` takes why a row cannot be read; such rows are left out.
    ``doing``: what the bar calls it, blank for no bar.
    """
    require(len(images) == len(masks), "each image has an address and one of its mask", given=(len(images), len(masks)))
    return _read(list(zip(images, masks, strict=True)), list(names), True, threads, errors, doing, progress)


def _read(
    tasks: list[tuple[str, str]], names: list[str], seen: bool, threads: int, errors: dict[int, str] | None, doing: str, progress: Progress
) -> Iterator[tuple[int, NDArray[Any] | None, Outlines]]:  # fmt: skip
    with closing(contained(read_marked, tasks, common=(names, seen), workers=threads)) as found:
        for row, made in enumerate(found):
            if doing:
                progress(doing, row, len(tasks))
            if isinstance(made, ImageError):
                if errors is not None:
                    errors[row] = made.reason or str(made)
                continue
            pixels, labels, classes, notes = made
            labels = np.ascontiguousarray(labels, np.int32)
            yield row, pixels if tasks[row][0] and seen else None, Outlines(labels, tuple(classes), tuple(notes))
    if doing:
        progress(doing, len(tasks), len(tasks))


@checked
def truly_marked(
    cases: Cases, *, names: Sequence[str] = (), threads: int = 0, errors: dict[int, str] | None = None, pixels: bool = True,
    doing: str = "", progress: Progress = silent,
) -> Iterator[tuple[int, NDArray[Any] | None, Outlines]]:  # fmt: skip
    """The same of the images of ``cases`` that have a mask; ``row`` is that of their table. ``pixels``: whether they are read."""
    held = [
        (row, image, mask)
        for row, (image, mask) in enumerate(zip(paths(cases), mask_paths(cases), strict=True))
        if mask
    ]
    return _read_held(held, list(names), threads, errors, pixels, doing, progress)


def _read_held(
    held: list[tuple[int, str, str]], names: list[str], threads: int, errors: dict[int, str] | None, pixels: bool, doing: str, progress: Progress
) -> Iterator[tuple[int, NDArray[Any] | None, Outlines]]:  # fmt: skip
    wrong: dict[int, str] = {}
    tasks = [(image, mask) for _, image, mask in held]
    for place, read, outlines in _read(tasks, names, pixels, threads, wrong, doing, progress):
        yield held[place][0], read, outlines
    if errors is not None:
        errors.update({held[place][0]: reason for place, reason in wrong.items()})


class PixelsInTurn:
    """The pixels of images by their row, asked for in ascending order: each is read once, and one is held."""

    def __init__(self, images: Sequence[str], threads: int = 0) -> None:
        self._read = marked_images(images, [""] * len(images), threads=threads)
        self._held = next(self._read, None)

    def at(self, row: int) -> NDArray[Any] | None:
        """Those of a row, None where it cannot be read."""
        while self._held is not None and self._held[0] < row:
            self._held = next(self._read, None)
        return self._held[1] if self._held is not None and self._held[0] == row else None
