"""Touching cells under three microscopes of different contrast, stain and scale, with the pixels of each cell."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import publish, write_csv, write_json
from overread.core.progress import Progress, silent
from overread.images.outlines.outlines import write_labels
from overread.synthetic.cells.cell_fields import MICROSCOPES, Look, draw_field, photograph_cells

#: All cells look alike but for their size and turn.
CELL = Look()


@checked
def draw_microscopes(
    folder: str | os.PathLike[str], *, images: tuple[int, int, int] = (60, 40, 20), cells: tuple[int, int] = (12, 36), size: int = 128,
    touching: float = 0.6, empty: float = 0.03, seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw fields of cells into ``folder`` and give the path of their table.

    ``images``: how many of the microscopes A (sharp, fluorescent), B (dim, blurred, of higher magnification) and C
    (stained tissue). Each shows about so many ``cells``, of which a share ``touching`` was placed at another; a share
    ``empty`` shows none. Writes ``images/*.png``, ``labels/*.png`` (a number a cell, 16 bits) and ``metadata.csv``: case,
    image, mask, microscope, patient (two images each), pixel_size in microns, cells. The same seed gives the same bytes.
    Raises ArgumentError for values out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(pd.read_csv(draw_microscopes(folder, images=(2, 2, 2), cells=(3, 5), size=64)))
    6
    """
    low, high = cells
    require(min(images) >= 0 and sum(images) >= 4, "a cohort needs at least 4 images", given=images)
    require(1 <= low <= high <= 500, "cells are a range from 1 to 500", given=cells)
    require(0 <= touching <= 1 and 0 <= empty < 1, "shares lie between 0 and 1", given=(touching, empty))
    home, rows = Path(folder), []
    names = [name for name, many in zip(MICROSCOPES, images, strict=True) for _ in range(many)]
    number = dict.fromkeys(MICROSCOPES, 0)
    for key, name in enumerate(names):
        u = random.uniform(seed, key, np.arange(2), "field")
        many = 0 if u[0] < empty else low + int(u[1] * (high - low + 1))
        field = draw_field(seed, key, np.zeros(many, np.int64), (CELL,), pixel=MICROSCOPES[name].pixel, size=size, touching=touching)  # fmt: skip
        case, number[name] = f"{name}{number[name] + 1:04d}", number[name] + 1
        write_png(home / "images" / f"{case}.png", photograph_cells(seed, key, field, (CELL,), MICROSCOPES[name]))
        write_labels(home / "labels" / f"{case}.png", field.labels)
        rows.append((case, f"images/{case}.png", f"labels/{case}.png", name, f"{name}{(number[name] + 1) // 2:03d}", MICROSCOPES[name].pixel, len(field.kinds)))  # fmt: skip
        progress("drawing cells", key + 1, len(names))
    write_json(home / "truth.json", {"kind": "microscopes", "seed": seed, "touching": touching, "size": size})
    columns = ["case", "image", "mask", "microscope", "patient", "pixel_size", "cells"]
    return write_csv(home / "metadata.csv", pd.DataFrame(rows, columns=columns))


@checked
def write_png(path: Path, pixels: np.ndarray) -> Path:
    """Write RGB pixels (H, W, 3) of 8 bits."""
    with publish(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    return path
