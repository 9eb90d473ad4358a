"""Fundus-like phantoms that several readers of different reliability graded: retinopathy, oedema, and whether it can be told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import write_csv, write_json
from overread.core.progress import Progress, silent
from overread.synthetic.picture import camera_noise, eight_bits, smooth_noise, write_png

#: Shares of the patients with each grade of retinopathy, 0 … 4; of those with oedema by grade; of images that are blurred.
GRADES, OEDEMA, UNGRADABLE = (0.38, 0.2, 0.18, 0.14, 0.1), (0.02, 0.08, 0.3, 0.5, 0.6), 0.1
#: Spots by grade: dark haemorrhages and bright exudates, at most.
_DARK, _BRIGHT = (0, 4, 10, 18, 28), (0, 1, 4, 7, 11)
#: From the most reliable to the least reliable reader: the standard deviation of a grade, and errors of a yes or no.
_WORST, _BEST = 2.2, 0.4


@checked
def draw_fundus(
    folder: str | os.PathLike[str], *, patients: int = 200, size: int = 96, readers: int = 8, grades_per_image: tuple[int, int] = (3, 7),
    varying_field: bool = True, seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw graded fundus photographs into ``folder`` and give the path of their table; two eyes a patient.

    Writes ``images/*.png`` (``size`` pixels a side), ``metadata.csv`` (case, image, patient), ``readers.csv`` (case, reader,
    grade 0 … 4, oedema, gradable; a reader who finds that it cannot be graded leaves the others blank; each image is read by
    ``grades_per_image`` of the ``readers``, whose reliability differs), and ``truth.csv`` with what is true. The round field
    lies at another place and in another size in each image, unless not ``varying_field``. The same seed gives the same bytes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(pd.read_csv(draw_fundus(folder, patients=4)))
    8
    """
    low, high = grades_per_image
    require(patients >= 4, "a cohort needs at least 4 patients", given=patients)
    require(size >= 48, "size must be at least 48 pixels", given=size)
    require(
        1 <= low <= high <= readers,
        "grades_per_image must be a range within the readers",
        given=f"{low} to {high} of {readers}",
    )
    images = Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    truth = _truth(seed, patients)
    each: Any = truth.itertuples(index=False)
    for done, row in enumerate(each, start=1):
        pixels = _draw(seed, int(row.key), int(row.grade), bool(row.oedema), bool(row.gradable), size, varying_field)
        write_png(images / f"{row.case}.png", pixels)
        progress("drawing images", done, len(truth))
    table = truth.assign(image="images/" + truth["case"] + ".png")
    write_csv(Path(folder) / "readers.csv", _read(seed, truth, readers, low, high))
    write_csv(Path(folder) / "truth.csv", truth[["case", "grade", "oedema", "gradable"]])
    write_json(Path(folder) / "truth.json", {"kind": "fundus", "size": size, "seed": seed, "readers": {f"R{i + 1}": s for i, s in enumerate(_spread(readers))}})  # fmt: skip
    return write_csv(Path(folder) / "metadata.csv", table[["case", "image", "patient"]])


def _truth(seed: int, patients: int) -> pd.DataFrame:
    who = np.repeat(np.arange(patients), 2)
    key = np.arange(2 * patients)
    drawn = random.uniform(seed, 0, np.arange(patients), "grade")[who]
    both = np.searchsorted(np.cumsum(GRADES), np.clip(drawn + 0.08 * random.normal(seed, 0, key, "eye"), 0, 0.999))
    grade = np.minimum(both, len(GRADES) - 1)
    oedema = random.uniform(seed, 0, key, "oedema") < np.array(OEDEMA)[grade]
    gradable = random.uniform(seed, 0, key, "gradable") >= UNGRADABLE
    return pd.DataFrame({"key": key, "case": [f"f{k + 1:05d}" for k in key], "patient": [f"P{w + 1:04d}" for w in who], "grade": grade,
                         "oedema": oedema.astype(int), "gradable": gradable.astype(int)})  # fmt: skip


def _spread(readers: int) -> list[float]:
    return np.linspace(_BEST, _WORST, readers).round(4).tolist() if readers > 1 else [_BEST]


def _read(seed: int, truth: pd.DataFrame, readers: int, low: int, high: int) -> pd.DataFrame:
    """Who read which image, and what each said: grades off by a normal error, yes and no wrong now and then."""
    rows, spread = [], _spread(readers)
    many = low + random.integers(seed, 0, truth["key"].to_numpy(), "how many", high - low + 1)
    each: Any = truth.itertuples(index=False)
    for row, number in zip(each, many, strict=True):
        for reader in np.sort(random.permutation(seed, int(row.key), readers, "who read")[: int(number)]):
            error = random.normal(seed, int(reader), np.array([int(row.key)]), "error of the grade")[0] * spread[reader]
            flips = (
                random.uniform(seed, int(reader), np.array([2, 3]) + 4 * int(row.key), "flips") < 0.12 * spread[reader]
            )
            grade, gradable = int(np.clip(np.rint(row.grade + error), 0, 4)), int(row.gradable) ^ int(flips[0])
            said = (grade, int(row.oedema) ^ int(flips[1])) if gradable else ("", "")
            rows.append([row.case, f"R{reader + 1}", *said, gradable])
    return pd.DataFrame(rows, columns=["case", "reader", "grade", "oedema", "gradable"])


def _draw(seed: int, key: int, grade: int, oedema: bool, gradable: bool, size: int, varying: bool) -> NDArray[np.uint8]:
    """(size, size, 3) RGB: an orange field on black, with vessels, a disc, a macula, and what the grade adds."""
    u = random.uniform(seed, key, np.arange(12), "field")
    radius = size * (0.27 + 0.2 * u[0] if varying else 0.46)
    room = size / 2 - radius
    row, column = (size / 2 + (room * (2 * u[k] - 1) if varying else 0.0) for k in (1, 2))
    line = np.arange(size) + 0.5
    y, x = np.meshgrid((line - row) / radius, (line - column) / radius, indexing="ij")  # −1 … 1 within the field
    inside = np.hypot(y, x) < 1
    base = np.stack([0.68 + 0 * y, 0.33 + 0 * y, 0.14 + 0 * y], axis=-1) * (0.9 + 0.1 * u[3])
    base *= (1 - 0.28 * np.hypot(y, x) ** 2)[..., None] * (
        1 + 0.06 * smooth_noise(seed, key, "retina", size, cells=6)[..., None]
    )
    side = 1.0 if u[4] < 0.5 else -1.0
    base += 0.32 * _blob(y, x, 0.05, 0.55 * side, 0.13)[..., None] * np.array([0.9, 1.0, 0.6])  # the disc
    base -= 0.16 * _blob(y, x, 0.02, -0.1 * side, 0.14)[..., None] * np.array([1.0, 0.8, 0.4])  # the macula
    base -= 0.17 * _vessels(y, x, side, u)[..., None] * np.array([0.6, 1.0, 0.5])
    base = _spots(base, y, x, seed, key, grade, oedema, side)
    picture = np.clip(base, 0, 1) * inside[..., None]
    if not gradable:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.16 * radius) * inside[..., None]
    noise = camera_noise(seed, key, (size, size))
    return eight_bits(picture + 0.015 * noise[..., None] * inside[..., None])


def _blob(y: NDArray, x: NDArray, at_y: float, at_x: float, width: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * width**2)), np.float64)


def _vessels(y: NDArray, x: NDArray, side: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two arcades from the disc around the macula."""
    along = 0.55 - side * x
    arcade = (
        0.08 + (0.45 + 0.1 * u[5]) * np.sqrt(np.clip(along, 0, None)),
        -0.02 - (0.45 + 0.1 * u[6]) * np.sqrt(np.clip(along, 0, None)),
    )
    return np.asarray(sum(np.exp(-((y - line) ** 2) / (2 * 0.025**2)) for line in arcade) * (along > 0), np.float64)


def _spots(
    base: NDArray, y: NDArray, x: NDArray, seed: int, key: int, grade: int, oedema: bool, side: float
) -> NDArray:
    """Dark and bright spots, as many as the grade has; with oedema bright ones around the macula, else none there."""
    many = _DARK[grade], _BRIGHT[grade], 6 if oedema else 0
    place = random.uniform(seed, key, np.arange(4 * 64).reshape(-1, 4), "spots")
    for n in range(sum(many)):
        bright, macula = n >= many[0], n >= many[0] + many[1]
        angle, far = (
            2 * np.pi * place[n, 0],
            (0.1 + 0.12 * place[n, 1]) if macula else (0.42 + 0.5 * np.sqrt(place[n, 1])),
        )
        at_y, at_x = far * np.sin(angle) + 0.02, far * np.cos(angle) - 0.1 * side
        spot = _blob(y, x, at_y, at_x, 0.028 + 0.022 * place[n, 2])
        base = (
            base + (0.34 * np.array([0.6, 1.0, 0.5]) if bright else -0.3 * np.array([0.9, 0.8, 0.3])) * spot[..., None]
        )
    return base
