"""Phantom scans with nodules whose class stands in one of three planes through them, whichever that is.

Each nodule has a satellite. Of the class ``satellite`` it lies in the axial, the coronal or the sagittal plane through the
nodule, each in a third of them; of the class ``solitary`` off all three. So one view misses two thirds, planes through the
middle of the scan show nothing, and only three views through the point tell the classes apart.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import publish, write_csv
from overread.core.progress import Progress, silent

CLASSES = ("solitary", "satellite")
#: Voxels (i, j, k), and mm between them: slices are thick.
SHAPE, SPACING = (64, 64, 24), (1.0, 1.0, 3.0)
#: Radius of a nodule, of its satellite, and how far away that is along each of its axes, in mm.
RADIUS, SMALL, AWAY = 4.0, 3.2, 8.0
#: Hounsfield units of the lung and of a nodule, and the noise of the scanner.
LUNG, NODULE, NOISE = -850.0, 30.0, 40.0
#: The scanner writes its axes in one of these directions (x, y, z), +1 towards right, anterior, superior.
DIRECTIONS = ((1, 1, 1), (-1, -1, 1), (-1, 1, -1))
#: mm from the middle of the scan, along each axis, in which no nodule nor satellite lies.
CLEAR = 1.0


@checked
def draw_nodules(
    folder: str | os.PathLike[str], *, patients: int = 120, seed: int = 0, progress: Progress = silent
) -> Path:
    """Draw chest scans with nodules into ``folder`` and give the path of their table.

    Writes ``scans/*.nii.gz`` (64 × 64 × 24 voxels of 1 × 1 × 3 mm in Hounsfield units, their axes written in three
    directions), ``masks/*.nii.gz`` (of each nodule, without its satellite) and ``metadata.csv``: image, case (a nodule),
    patient, x, y, z (mm, RAS), mask, diagnosis (half ``solitary``, half ``satellite``). Every third patient has two
    nodules in one scan. The same seed gives the same bytes. Raises ArgumentError for fewer than 6 patients.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pd.read_csv(draw_nodules(folder, patients=6))
    ...     len(table), table["patient"].nunique()
    (8, 6)
    """
    require(patients >= 6, "the nodules need at least 6 patients", given=patients)
    for name in ("scans", "masks"):
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
    owners = [patient for patient in range(patients) for _ in range(1 + (patient % 3 == 2))]
    order = random.permutation(seed, 0, len(owners), "classes")
    satellite = np.isin(np.arange(len(owners)), order[: len(owners) // 2])
    rows = []
    for patient in range(patients):
        own = [number for number, owner in enumerate(owners) if owner == patient]
        places = _places(seed, patient, len(own))
        affine = _affine(seed, patient)
        scan = f"scans/P{patient + 1:04d}.nii.gz"
        voxels = LUNG + NOISE * random.normal(seed, patient, np.arange(int(np.prod(SHAPE))), "noise").reshape(SHAPE)
        for number, place in zip(own, places):
            offset = _offset(seed, number, bool(satellite[number]))
            for centre, radius in ((place, RADIUS), (place + offset, SMALL)):
                voxels += (NODULE - LUNG) * _ball(centre, radius)
            mask = f"masks/N{number + 1:04d}.nii.gz"
            _save(Path(folder) / mask, (_ball(place, RADIUS) > 0.5).astype(np.uint8), affine)
            x, y, z = (affine @ [*(place / SPACING - 0.5), 1.0])[:3]
            rows.append([scan, f"N{number + 1:04d}", f"P{patient + 1:04d}", round(x, 3), round(y, 3), round(z, 3), mask,
                         CLASSES[int(satellite[number])]])  # fmt: skip
        _save(Path(folder) / scan, np.rint(voxels).astype(np.int16), affine)
        progress("drawing scans", patient + 1, patients)
    columns = ["image", "case", "patient", "x", "y", "z", "mask", "diagnosis"]
    return write_csv(Path(folder) / "metadata.csv", pd.DataFrame(rows, columns=columns))


def _places(seed: int, patient: int, many: int) -> list[NDArray[np.float64]]:
    """Centres (x, y, z) in mm from the corner of the scan: near opposite corners, so that no plane shows two of them."""
    drawn = random.uniform(seed, patient, np.arange(9), "places")
    full = np.array(SHAPE) * SPACING
    reach = full / 2 - AWAY - SMALL - CLEAR  # so far from its border that the satellite stays off the middle
    low = 15 + drawn[:3] * np.minimum(5.0, reach - 15)
    high = full - 15 - drawn[3:6] * np.minimum(5.0, reach - 15)
    upper = drawn[6:] < 0.5
    return [np.where(upper, high, low), np.where(upper, low, high)][:many]


def _offset(seed: int, number: int, satellite: bool) -> NDArray[np.float64]:
    """From a nodule to its satellite, mm: in one of the three planes, or off all of them."""
    drawn = random.uniform(seed, number, np.arange(4), "satellite")
    offset = np.where(drawn[:3] < 0.5, -AWAY, AWAY)
    if satellite:
        offset[int(drawn[3] * 3)] = 0.0
    return offset


def _ball(centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """(I, J, K) how much of each voxel lies in a ball, from 0 to 1, its edge one mm wide."""
    lines = [(np.arange(n) + 0.5) * mm - c for n, mm, c in zip(SHAPE, SPACING, centre)]
    distance = np.sqrt(sum(line**2 for line in np.meshgrid(*lines, indexing="ij")))
    return np.clip(radius - distance + 0.5, 0, 1)


def _affine(seed: int, patient: int) -> NDArray[np.float64]:
    """(i, j, k) to RAS mm: another corner and other directions of the axes for each scan."""
    drawn = random.uniform(seed, patient, np.arange(4), "geometry")
    made = np.diag([*(np.array(DIRECTIONS[int(drawn[3] * len(DIRECTIONS))]) * SPACING), 1.0])
    made[:3, 3] = np.round(200 * (drawn[:3] - 0.5), 1)
    return made


def _save(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    """Write NIfTI whose bytes say no time."""
    import gzip

    import nibabel

    data = nibabel.Nifti1Image(voxels, affine).to_bytes()
    with publish(path) as beside:
        beside.write_bytes(gzip.compress(data, compresslevel=4, mtime=0))
