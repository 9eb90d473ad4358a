"""Phantom chest radiographs: pleural effusion on the right, an enlarged heart, foci in an upper lobe, and films that lie turned."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import write_csv
from overread.core.progress import Progress, silent
from overread.synthetic.picture import write_png

#: How common each finding is.
SHARES = {"effusion": 0.35, "enlarged heart": 0.35, "tuberculosis": 0.5}
#: The heart's width over that of the chest, and its spread: not enlarged, enlarged.
RATIOS = ((0.45, 0.04), (0.57, 0.05))


@checked
def draw_chest(
    folder: str | os.PathLike[str], *, patients: int = 93, size: int = 64, films: float = 0.0, seed: int = 0, progress: Progress = silent
) -> Path:  # fmt: skip
    """Draw frontal chest radiographs into ``folder`` and give the path of their table.

    Writes ``images/*.png`` (grey, ``size`` pixels a side) and ``metadata.csv``: image, patient (one image each), source,
    ``effusion``, ``enlarged heart``, ``abnormal`` (one of these two) and ``tuberculosis``, each ``present`` or ``absent``. An
    effusion fills the lower part of the patient's right lung (the left of the image), foci of tuberculosis lie in
    an upper lobe. ``films``: the share of patients whose image is a digitised film, source ``film`` in place of
    ``digital``, that lies turned by 90, 180 or 270°. The same seed gives the same bytes. Raises :class:`ArgumentError`
    for fewer than 6 patients, images below 32 pixels, or a share outside of 0 … 1.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pd.read_csv(draw_chest(folder, patients=20))
    >>> bool(((table["abnormal"] == "present") == (table[["effusion", "enlarged heart"]] == "present").any(axis=1)).all())
    True
    """
    require(patients >= 6, "the radiographs need at least 6 patients", given=patients)
    require(size >= 32, "the radiographs need at least 32 pixels a side", given=size)
    require(0 <= films <= 1, "films is a share of the patients", given=films)
    (Path(folder) / "images").mkdir(parents=True, exist_ok=True)
    each = np.arange(patients)
    has = {
        name: random.permutation(seed, 0, patients, name) < round(share * patients) for name, share in SHARES.items()
    }
    film = random.permutation(seed, 0, patients, "films") < round(films * patients)
    turns = 1 + random.integers(seed, 0, each, "turn of a film", 3)
    rows = []
    for number in range(patients):
        pixels = radiograph(
            seed, number, size, **{name.replace(" ", "_"): bool(found[number]) for name, found in has.items()}
        )
        pixels = np.rot90(pixels, int(turns[number])) if film[number] else pixels
        name = f"images/C{number + 1:05d}.png"
        write_png(Path(folder) / name, pixels)
        abnormal = has["effusion"][number] or has["enlarged heart"][number]
        said = {**{key: found[number] for key, found in has.items()}, "abnormal": abnormal}
        rows.append({"image": name, "patient": f"P{number + 1:05d}", "source": "film" if film[number] else "digital",
                     **{key: "present" if value else "absent" for key, value in said.items()}})  # fmt: skip
        progress("drawing radiographs", number + 1, patients)
    return write_csv(Path(folder) / "metadata.csv", pd.DataFrame(rows))


@checked
def radiograph(
    seed: int,
    number: int,
    size: int,
    *,
    effusion: bool = False,
    enlarged_heart: bool = False,
    tuberculosis: bool = False,
) -> NDArray[np.uint8]:
    """One radiograph (size, size): bright is dense."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size

    def drawn(what: str, middle: float, spread: float) -> float:
        return middle + spread * (2 * float(random.uniform(seed, 0, number, what)) - 1)

    across, down = drawn("across", 0.5, 0.03), drawn("down", 0.52, 0.03)
    wide, high = drawn("width", 0.21, 0.02), drawn("height", 0.33, 0.03)
    body = 0.55 * _within(x, y, across, down + 0.08, 0.45, 0.55)
    lungs = [_within(x, y, across + side * (wide + 0.035), down, wide, high) for side in (-1, 1)]
    image = body - 0.38 * np.maximum(*lungs)
    image += 0.05 * np.sin(2 * np.pi * (y * 9 + 0.6 * (x - across) ** 2 + drawn("ribs", 0, 0.5))) * np.maximum(*lungs)
    image += 0.30 * np.exp(-(((x - across) / 0.05) ** 2)) * (body > 0)
    ratio, spread = RATIOS[enlarged_heart]
    heart = drawn("heart", ratio, spread) * 2 * (wide + 0.035)
    image = np.maximum(image, 0.62 * _within(x, y, across + 0.12 * heart, down + 0.6 * high, heart / 1.6, 0.42 * high))
    for side, lung in enumerate(lungs):  # haze over the bases, which is nothing
        haze = _smooth((y - down - high * drawn(f"haze {side}", 0.75, 0.3)) * 20)
        image += drawn(f"density {side}", 0.06, 0.06) * haze * lung
    if effusion:
        level = down + high * drawn("level", 0.72, 0.22) - 0.25 * (across - x) * (x < across)
        fluid = lungs[0] * _smooth((y - level) * size / 2)
        image = np.maximum(image, 0.5 * fluid)
    if tuberculosis:
        side = 1 if drawn("side", 0, 1) > 0 else -1
        for focus in range(3):
            at_x = across + side * (wide + 0.035) + wide * drawn(f"focus {focus} across", 0, 0.5)
            at_y = down - high * drawn(f"focus {focus} down", 0.5, 0.2)
            image += 0.3 * np.exp(
                -((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * drawn(f"focus {focus}", 0.036, 0.006) ** 2)
            )
    gain, offset = drawn("gain", 1.0, 0.15), drawn("offset", 0.06, 0.04)
    noise = 0.02 * random.normal(seed, number, np.arange(size * size), "noise").reshape(size, size)
    return np.clip(255 * (gain * image + offset + noise), 0, 255).round().astype(np.uint8)


def _within(x: NDArray, y: NDArray, at_x: float, at_y: float, wide: float, high: float) -> NDArray[np.float64]:
    """1 within an ellipse, 0 outside, with a soft edge."""
    radius = np.sqrt(((x - at_x) / wide) ** 2 + ((y - at_y) / high) ** 2)
    return _smooth((1 - radius) * 12)


def _smooth(value: NDArray) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -30, 30))), np.float64)
