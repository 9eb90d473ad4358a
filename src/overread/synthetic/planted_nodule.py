"""Chest phantoms with one nodule in a lung, or none: nothing but the nodule tells them apart.

What a map of a network should point at is known where one thing alone decides. So a chest with a nodule is, outside of the
nodule, the chest without it to the bit: exposure, noise and anatomy say nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import write_csv, write_json
from overread.core.progress import Progress, silent
from overread.synthetic.phantoms import DETECTORS, chest_air, draw_chest
from overread.synthetic.picture import inside, write_png

CLASSES = ("normal", "nodule")
#: The radius of a nodule as a share of the side of the image, from and to, and how much brighter than the lung it is (0..1).
RADIUS, DENSITY = (0.05, 0.09), (0.30, 0.42)
#: A signal of a chest without an opacity, see :func:`overread.synthetic.phantoms.severity`.
_WELL = -9.0


@checked
def draw_planted_nodules(
    folder: str | os.PathLike[str], *, patients: int = 300, size: int = 64, prevalence: float = 0.5, seed: int = 0,
    progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw frontal views with a nodule or without into ``folder`` and give the path of their table; one image a patient.

    Writes ``images/*.png`` (``size`` pixels a side, grey), ``masks/*.png`` (of each nodule: where the image is changed by
    half of the most or more) and ``metadata.csv``: image, case, patient, source (three detectors), mask (blank of the
    normal), diagnosis: ``normal`` or ``nodule``. ``prevalence``: the share with a nodule. The same seed gives the same
    bytes. Raises ArgumentError for values out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.read_csv(draw_planted_nodules(folder, patients=8))["diagnosis"].value_counts().sort_index().to_dict()
    {'nodule': 4, 'normal': 4}
    """
    require(patients >= 8, "the phantoms need at least 8 patients", given=patients)
    require(size >= 32, "size must be at least 32 pixels", given=size)
    require(0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    for name in ("images", "masks"):
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
    ill = np.zeros(patients, bool)
    ill[random.permutation(seed, 0, patients, "with a nodule")[: round(prevalence * patients)]] = True
    rows = []
    for key in range(patients):
        name = f"n{key + 1:05d}"
        pixels, mask = nodule_and_chest(seed, key, size=size)
        if ill[key]:
            write_png(Path(folder) / "masks" / f"{name}.png", mask.astype(np.uint8) * 255, level=6)
        else:
            pixels = draw_chest(seed, key, _WELL, device=key % len(DETECTORS), size=size)
        write_png(Path(folder) / "images" / f"{name}.png", pixels)
        rows.append([f"images/{name}.png", name, f"P{key + 1:05d}", "ABC"[key % len(DETECTORS)],
                     f"masks/{name}.png" if ill[key] else "", CLASSES[int(ill[key])]])  # fmt: skip
        progress("drawing images", key + 1, patients)
    write_json(Path(folder) / "truth.json", {"kind": "planted nodule", "size": size, "seed": seed})
    columns = ["image", "case", "patient", "source", "mask", "diagnosis"]
    return write_csv(Path(folder) / "metadata.csv", pd.DataFrame(rows, columns=columns))


@checked
def nodule_and_chest(seed: int, key: int, *, size: int = 64) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A chest with a nodule, (size, size) uint8, and where that is, (size, size): wholly within one lung.

    >>> pixels, mask = nodule_and_chest(0, 1)
    >>> pixels.shape, bool(0.003 < mask.mean() < 0.04)
    ((64, 64), True)
    """
    chest = draw_chest(seed, key, _WELL, device=key % len(DETECTORS), size=size)
    drawn = random.uniform(seed, key, np.arange(3), "planted nodule")
    radius = size * (RADIUS[0] + (RADIUS[1] - RADIUS[0]) * drawn[0])
    room = cv2.distanceTransform((chest_air(seed, key, size=size) > 0.9).astype(np.uint8), cv2.DIST_L2, 5)
    radius = min(radius, float(room.max()))
    places = np.argwhere(room >= radius)
    row, column = places[int(drawn[1] * len(places))]
    y, x = np.mgrid[:size, :size]
    shape = inside((radius - np.hypot(y - row, x - column)) * 2)
    added = np.rint(255 * (DENSITY[0] + (DENSITY[1] - DENSITY[0]) * drawn[2]) * shape)
    return np.minimum(chest + added, 255).astype(np.uint8), shape >= 0.5
