"""Marked patches: squares of images of which somebody said whether a feature is in them, and perhaps where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.sources.tables import read_table
from overread.core.errors import ImageError, InputError, checked, nearest, require
from overread.core.phrases import count
from overread.images.image import LIMITS
from overread.images.read import read_image

#: Side of a patch where the table has no column of it.
SIDE = 64
#: Within so many pixels of the middle of a patch that nobody painted lies the feature.
MIDDLE = 4
NEEDED = ("image", "x", "y", "feature", "present")
YES, NO = ("1", "1.0", "yes", "true", "present"), ("0", "0.0", "no", "false", "absent")


@dataclass(frozen=True)
class MarkedPatch:
    """A square around column ``x`` and row ``y``, ``side`` pixels wide: with the ``feature``, or without any of it.

    ``image``: the address as the table has it; ``mask``: where the feature is painted, an image of the size of the patch or
    of the whole image, blank where nobody did.
    """

    image: str
    x: int
    y: int
    side: int
    feature: str
    present: bool
    mask: str = ""

    @property
    def top(self) -> int:
        """Its first row, which may lie above the image."""
        return self.y - self.side // 2

    @property
    def left(self) -> int:
        """Its first column."""
        return self.x - self.side // 2


@dataclass(frozen=True)
class MarkedPatches:
    """The patches of a table, and the folder that its paths are relative to."""

    patches: tuple[MarkedPatch, ...]
    root: str = "."

    @property
    def features(self) -> tuple[str, ...]:
        """Their features, in the order of the table."""
        return tuple(dict.fromkeys(patch.feature for patch in self.patches))

    @property
    def images(self) -> tuple[str, ...]:
        """The images that patches lie in, in the order of the table."""
        return tuple(dict.fromkeys(patch.image for patch in self.patches))

    def address(self, written: str) -> str:
        """A path of the table as it is opened from here."""
        return str(Path(self.root) / written)

    def of(self, feature: str, *, present: bool) -> tuple[MarkedPatch, ...]:
        """The patches with a feature, or those without it."""
        return tuple(patch for patch in self.patches if patch.feature == feature and patch.present == present)

    def __str__(self) -> str:
        told = (
            f"{name} {len(self.of(name, present=True))} with, {len(self.of(name, present=False))} without"
            for name in self.features
        )
        return (
            f"{count(len(self.patches), 'patch', 'patches')} in {count(len(self.images), 'image')}: {'; '.join(told)}"
        )


@checked
def read_patches(path: str | os.PathLike[str], *, features: Sequence[str] = ()) -> MarkedPatches:
    """The marked patches of a table with the columns image, x, y (the middle, in pixels), feature and present.

    ``side`` (else :data:`SIDE`) and ``mask`` may stand beside them. ``features``: of these alone. Raises
    :class:`InputError` for a missing column, numbers that are none, an answer that is neither yes nor no, a patch without
    the feature that is painted, and a feature without patches of both kinds.
    """
    table = read_table(Path(path))
    for name in NEEDED:
        if name not in table.columns:
            raise InputError(f"the table of patches has no column {name!r}", given=", ".join(map(str, table.columns)),
                             todo=f"it needs {', '.join(NEEDED)}; {nearest(name, table.columns)}")  # fmt: skip
    numbers = {name: _whole(table[name], name) for name in ("x", "y")}
    sides = _whole(table["side"], "side") if "side" in table else np.full(len(table), SIDE, np.int64)
    require(bool((sides >= 8).all()), "a patch has at least 8 pixels a side", given=int(sides.min()))
    present = [_answer(text, row) for row, text in enumerate(table["present"], 1)]
    masks = list(table["mask"]) if "mask" in table else [""] * len(table)
    found = tuple(
        MarkedPatch(str(image), int(x), int(y), int(side), str(feature), there, str(mask))
        for image, x, y, side, feature, there, mask in zip(table["image"], numbers["x"], numbers["y"], sides, table["feature"], present, masks, strict=True)
    )  # fmt: skip
    if painted := sum(not patch.present and patch.mask != "" for patch in found):
        raise InputError("patches without the feature are painted", given=count(painted, "row"), todo="leave their mask blank, or say that the feature is present")  # fmt: skip
    made = MarkedPatches(found, str(Path(path).absolute().parent))
    return _chosen(made, features)


def _chosen(made: MarkedPatches, features: Sequence[str]) -> MarkedPatches:
    for name in features:
        if name not in made.features:
            raise InputError("no patch is marked with this feature", given=name, todo=nearest(name, made.features))
    kept = tuple(patch for patch in made.patches if not features or patch.feature in features)
    found = MarkedPatches(kept, made.root)
    if blank := sum(patch.feature == "" or patch.image == "" for patch in kept):
        raise InputError(
            "patches need an image and a feature", given=count(blank, "row"), todo="fill in the blank cells"
        )
    for name in found.features:
        for there, said in ((True, "with"), (False, "without")):
            if not found.of(name, present=there):
                raise InputError(
                    f"there is no patch {said} the feature", given=name, todo=f"mark about ten squares {said} it"
                )
    return found


def _whole(column: pd.Series, name: str) -> NDArray[np.int64]:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any():
        row = int(np.flatnonzero(numbers.isna())[0]) + 1
        raise InputError(f"{name} is not a number", given=f"row {row}", todo="write pixels from the upper left")
    return np.rint(numbers.to_numpy()).astype(np.int64)


def _answer(text: str, row: int) -> bool:
    word = str(text).strip().lower()
    if word not in (*YES, *NO):
        raise InputError("present is neither yes nor no", given=f"row {row}: {text!r}", todo="write 1 or 0")
    return word in YES


@checked
def painted(patch: MarkedPatch, address: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(side, side) where the feature is painted in a patch; ``size`` of its image, ``address`` of its mask.

    Raises :class:`ImageError` for a mask that has neither the size of the patch nor that of the image.
    """
    mask = read_image(address, limits=LIMITS).pixels.max(axis=-1) > 0
    if mask.shape == (patch.side, patch.side):
        return mask
    if mask.shape != size:
        raise ImageError("what is painted has neither the size of its patch nor that of its image", given=f"{mask.shape[1]} x {mask.shape[0]}",
                         todo=f"save it as {patch.side} x {patch.side} or {size[1]} x {size[0]} pixels")  # fmt: skip
    return framed(mask, patch.top, patch.left, patch.side, patch.side).astype(bool)


@checked
def framed(pixels: NDArray, top: int, left: int, height: int, width: int) -> NDArray:
    """A window of an image (H, W) that may reach beyond it; there it is 0.

    >>> framed(np.ones((2, 2), int), -1, 0, 2, 2).tolist()
    [[0, 0], [1, 1]]
    """
    found = np.zeros((height, width), pixels.dtype)
    rows = slice(max(0, top), max(0, min(pixels.shape[0], top + height)))
    columns = slice(max(0, left), max(0, min(pixels.shape[1], left + width)))
    part = pixels[rows, columns]
    found[
        rows.start - top : rows.start - top + part.shape[0], columns.start - left : columns.start - left + part.shape[1]
    ] = part
    return found
