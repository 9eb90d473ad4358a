"""A dataset of one's own, by ``(image, row)``, as a table of cases: for images that nothing here can read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, require
from overread.core.files import publish, write_csv
from overread.core.progress import Progress, silent

#: Images of one shape that follow each other stand in one array, up to so many of them and bytes.
_MOST_ROWS, _MOST_BYTES = 1024, 64 << 20
_FIX = "give the pixels as they were acquired, uint8 or uint16: scaling and normalisation are kept with the model"


@runtime_checkable
class ImageRows(Protocol):
    """What a map-style ``torch.utils.data.Dataset`` is: a length, and by a number ``(image, row)``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Mapping[str, Any]]: ...


@checked
def write_dataset(dataset: ImageRows, folder: str | os.PathLike[str], *, progress: Progress = silent) -> Path:
    """Write a dataset as ``images.npz`` and ``table.csv``, a table that every command takes; gives its path.

    ``dataset[i]`` is an image and its row. The image: an array, uint8 or uint16, (H, W), (H, W, 3) or, of a volume,
    (D, H, W); sizes may differ. The row: names of columns to texts or numbers, the same names in all; the column
    ``image`` is added. One image after the other is asked for, once each, and no more than some are held in memory.
    Raises :class:`InputError` for an empty dataset, an item that is no such pair, and rows of different columns, with
    the number of the item.
    """
    folder = Path(folder)
    (folder / "table.csv").unlink(missing_ok=True)  # an old table must not point into new images
    require(len(dataset) > 0, "the dataset is empty")
    rows: list[dict[str, Any]] = []
    with publish(folder / "images.npz") as beside, zipfile.ZipFile(beside, "w") as archive:
        for number, block in enumerate(_blocks(dataset, rows, progress)):
            with archive.open(f"images{number}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.stack(block), allow_pickle=False)
            for place, row in enumerate(rows[len(rows) - len(block) :]):
                row["image"] = f"images.npz#images{number}/{place}"
    return write_csv(folder / "table.csv", pd.DataFrame(rows))


def _blocks(dataset: ImageRows, rows: list[dict[str, Any]], progress: Progress) -> Iterator[list[NDArray[Any]]]:
    """The images, those of one shape that follow each other together; ``rows`` gets those of each block with it."""
    block, waiting = list[NDArray[Any]](), list[dict[str, Any]]()
    for index in range(len(dataset)):
        pixels, row = _checked_item(dataset, index)
        first = (rows or waiting or [row])[0]
        if set(row) != set(first) - {"image"}:
            raise InputError("the rows of a dataset need the same columns", given=f"item {index}: {', '.join(row) or 'none'}; the first: {', '.join(n for n in first if n != 'image') or 'none'}")  # fmt: skip
        other = block and (block[0].shape, block[0].dtype) != (pixels.shape, pixels.dtype)
        if other or len(block) == _MOST_ROWS or len(block) * pixels.nbytes >= _MOST_BYTES:
            rows += waiting
            yield block
            block, waiting = [], []
        block.append(pixels)
        waiting.append(row)
        progress("writing images", index + 1, len(dataset))
    rows += waiting
    yield block


def _checked_item(dataset: ImageRows, index: int) -> tuple[NDArray[Any], dict[str, Any]]:
    item = dataset[index]
    if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[1], Mapping):
        raise InputError("an item of the dataset is no pair of an image and its row", given=f"item {index}: {type(item).__name__}",
                         todo='return (pixels, {"label": …, "patient": …})')  # fmt: skip
    pixels, row = np.array(item[0]), {str(name): value for name, value in item[1].items()}
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError("the pixels of a dataset are whole numbers of 8 or 16 bits", given=f"item {index}: {pixels.dtype}", todo=_FIX)  # fmt: skip
    channels_first = pixels.ndim == 3 and pixels.shape[0] in (1, 3) and min(pixels.shape[1:]) > 3
    if (
        pixels.ndim not in (2, 3)
        or not pixels.size
        or channels_first
        or (pixels.ndim == 3 and pixels.shape[2] in (1, 2, 4))
    ):
        raise InputError("an image of a dataset is (H, W), (H, W, 3) or, a volume, (D, H, W)", given=f"item {index}: shape {pixels.shape}")  # fmt: skip
    if "image" in row:
        raise InputError(
            "the column image is made here", given=f"item {index}", todo="give the row another name for it"
        )
    return pixels, row
