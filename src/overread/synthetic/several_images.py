"""Phantom cases of several images, each with a signal that none of its images shows.

``asymmetry``: a mass in a left and in a right view; of the diseased it differs between the sides by half of its range,
while on each side it is as large as anybody's. ``growth``: masses seen at four times, which grow in the diseased and
shrink in the others: the same images in another order. ``lesion``: many slices, one of which shows a small bright spot in
the diseased.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, one_of, require
from overread.core.files import write_csv
from overread.core.progress import Progress, silent
from overread.synthetic.picture import camera_noise, eight_bits, inside, places, smooth_noise, write_png

KINDS = ("asymmetry", "growth", "lesion")
#: Times at which growth is seen; slices of a case with a lesion or without, fewest and most.
TIMES, SLICES = 4, (10, 16)
_MOST = 64  # images of a case, for their names in chance


@checked
def draw_cases(
    folder: str | os.PathLike[str], *, kind: Literal["asymmetry", "growth", "lesion"] = "asymmetry", patients: int = 200,
    size: int = 28, seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw cases of several images into ``folder`` and give the path of their table.

    Writes ``images/*.png`` (``size`` pixels a side, grey) and ``metadata.csv`` (image, case, patient, view, time,
    diagnosis: ``healthy`` or ``diseased``, half of each); a patient has one case, and its rows stand in no order. The
    same seed gives the same bytes. Raises ArgumentError for another ``kind``, and for values out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(pd.read_csv(draw_cases(folder, kind="growth", patients=4)))
    16
    """
    one_of(kind, KINDS, "kind")
    require(patients >= 4, "a cohort needs at least 4 patients", given=patients)
    require(size >= 16, "size must be at least 16 pixels", given=size)
    images = Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    diseased = np.zeros(patients, bool)
    diseased[random.permutation(seed, 0, patients, "diseased")[: patients // 2]] = True
    rows = []
    for patient in range(patients):
        sizes = _sizes(kind, seed, patient, bool(diseased[patient]))
        for number in random.permutation(seed, patient, len(sizes), "order of the rows"):
            key = patient * _MOST + int(number)
            pixels = _draw_mass(seed, key, float(sizes[number]), size)
            name = f"{patient + 1:04d}-{number + 1:02d}.png"
            write_png(images / name, pixels)
            rows.append([f"images/{name}", f"C{patient + 1:04d}", f"P{patient + 1:04d}", *_named(kind, seed, patient, int(number)),
                         "diseased" if diseased[patient] else "healthy"])  # fmt: skip
        progress("drawing images", patient + 1, patients)
    columns = ["image", "case", "patient", "view", "time", "diagnosis"]
    return write_csv(Path(folder) / "metadata.csv", pd.DataFrame(rows, columns=columns))


def _sizes(kind: str, seed: int, patient: int, diseased: bool) -> NDArray[np.float64]:
    """How large the mass is in each image of a case, 0 … 1; below 0: there is none."""
    drawn = random.uniform(seed, patient, np.arange(8), "sizes")
    if kind == "asymmetry":  # on each side uniform on 0 … 1, whoever it is
        apart = 0.5 if diseased else 0.04 * (drawn[1] - 0.5)
        return np.array([drawn[0], (drawn[0] + apart) % 1])
    if kind == "growth":
        sizes = 0.3 * drawn[0] + np.arange(TIMES) * (0.1 + 0.13 * drawn[1])
        return sizes if diseased else sizes[::-1]
    many = SLICES[0] + int(drawn[0] * (SLICES[1] - SLICES[0] + 1))
    sizes = np.full(many, -1.0)
    if diseased:
        sizes[int(drawn[1] * many)] = 0.0
    return sizes


def _named(kind: str, seed: int, patient: int, number: int) -> tuple[str, str]:
    """View and time of an image."""
    if kind == "asymmetry":
        return ("left", "right")[number], ""
    if kind == "growth":
        days = np.cumsum(1 + random.integers(seed, patient, np.arange(TIMES), "days between", 90))
        return "", str(np.datetime64("2020-01-01") + days[number])
    return f"slice {number + 1:02d}", ""


def _draw_mass(seed: int, key: int, large: float, size: int) -> NDArray[np.uint8]:
    """Tissue with a round mass somewhere in its middle, (size, size); the camera sets the exposure by itself."""
    place = random.uniform(seed, key, np.arange(3), "place")
    y, x = places(size)
    grey = 0.06 * smooth_noise(seed, key, "tissue", size, cells=6)
    if large >= 0:
        distance = np.hypot(y - 0.5 * (place[0] - 0.5), x - 0.5 * (place[1] - 0.5))
        grey = grey + 0.45 * inside((0.15 + 0.5 * large - distance) * size / 2)
    grey = grey - grey.mean() + 0.4 + 0.1 * place[2]
    return eight_bits(grey + 0.03 * camera_noise(seed, key, (size, size)))
