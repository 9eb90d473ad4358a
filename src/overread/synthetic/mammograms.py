"""Phantom mammograms: four views a woman at two sites, with the readers who read them.

Both breasts share the pattern of their glands, mirrored. A cancer is a mass in one of the four views: it shows as an
asymmetry, and three views say nothing of it. Density, independent of the truth, hides it from people and from networks. The
sites differ in camera (the second one writes dense tissue dark) and in prevalence.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import write_csv
from overread.core.progress import Progress, silent
from overread.synthetic.picture import camera_noise, eight_bits, inside, places, smooth_noise, write_png

VIEWS = ("L-CC", "L-MLO", "R-CC", "R-MLO")
SITES = ("UK", "US")
CLASSES = ("normal", "cancer")
DENSITIES = ("a", "b", "c", "d")
#: Of each site: contrast, gamma, noise, and whether dense tissue is dark.
CAMERAS = ((1.0, 1.0, 0.03, False), (0.8, 1.2, 0.04, True))
#: Of the first reader, the second and the arbiter: how far apart the ill and the well stand for her, and from where she calls.
RECORDED = {"first": (2.5, 1.35), "second": (2.3, 1.25), "arbiter": (3.2, 1.6)}
#: The same distance of the readers of the study of scores.
SKILLS = (1.1, 1.3, 1.5, 1.7, 1.9, 2.1)
#: The score from which they call.
CALLED = 6
#: How much of the distance a class of density takes away.
HIDDEN = 0.3


@checked
def draw_mammograms(
    folder: str | os.PathLike[str], *, patients: int = 240, size: int = 32, seed: int = 0,
    prevalence: tuple[float, float] = (0.3, 0.5), at_first: float = 0.6, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw mammograms of four views into ``folder`` and give the path of their table.

    Writes ``images/*.png`` (``size`` pixels a side, grey), ``metadata.csv`` (image, case, patient, view, source, density,
    diagnosis: ``normal`` or ``cancer``) and ``readers.csv`` (case, reader, label, score: what the ``first`` and the
    ``second`` reader called, and the ``consensus``, for which an arbiter decided where they disagreed; scores from 1 to 10 of
    six other readers, who call from 6 on). ``prevalence`` of either site; ``at_first``: the share of women at the first.
    The same seed gives the same bytes. Raises ArgumentError for values out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pd.read_csv(draw_mammograms(folder, patients=8))
    ...     len(table), sorted(set(table["view"]))
    (32, ['L-CC', 'L-MLO', 'R-CC', 'R-MLO'])
    """
    require(patients >= 8, "the mammograms need at least 8 patients", given=patients)
    require(size >= 24, "size must be at least 24 pixels", given=size)
    require(all(0 < share < 1 for share in (*prevalence, at_first)), "shares must lie between 0 and 1", given=(*prevalence, at_first))  # fmt: skip
    (Path(folder) / "images").mkdir(parents=True, exist_ok=True)
    site = np.ones(patients, np.int64)
    site[random.permutation(seed, 0, patients, "site")[: round(patients * at_first)]] = 0
    ill = np.zeros(patients, bool)
    for number, share in enumerate(prevalence):
        women = np.flatnonzero(site == number)
        ill[women[random.permutation(seed, number, len(women), "ill")[: round(len(women) * share)]]] = True
    density = random.integers(seed, 0, np.arange(patients), "density", len(DENSITIES))
    affected = random.integers(seed, 0, np.arange(patients), "view", len(VIEWS))
    rows: list[list[Any]] = []
    for woman in range(patients):
        for place, view in enumerate(VIEWS):
            mass = bool(ill[woman]) and affected[woman] == place
            pixels = _draw_view(seed, woman, place, mass, int(density[woman]), CAMERAS[site[woman]], size)
            name = f"images/{woman + 1:04d}-{view}.png"
            write_png(Path(folder) / name, pixels)
            rows.append([name, f"C{woman + 1:04d}", f"P{woman + 1:04d}", view, SITES[site[woman]], DENSITIES[density[woman]],
                         CLASSES[int(ill[woman])]])  # fmt: skip
        progress("drawing images", woman + 1, patients)
    names = [f"C{woman + 1:04d}" for woman in range(patients)]
    calls, scores = _readers(seed, ill, density)
    said = [
        [name, reader, CLASSES[int(called[woman])], ""]
        for reader, called in calls.items()
        for woman, name in enumerate(names)
    ]
    said += [[name, f"reader {number + 1}", CLASSES[int(score[woman] >= CALLED)], str(score[woman])]
             for number, score in enumerate(scores) for woman, name in enumerate(names)]  # fmt: skip
    write_csv(Path(folder) / "readers.csv", pd.DataFrame(said, columns=["case", "reader", "label", "score"]))
    columns = ["image", "case", "patient", "view", "source", "density", "diagnosis"]
    return write_csv(Path(folder) / "metadata.csv", pd.DataFrame(rows, columns=columns))


def _draw_view(
    seed: int, woman: int, place: int, mass: bool, density: int, camera: tuple[float, float, float, bool], size: int
) -> NDArray[np.uint8]:
    """One view, (size, size): the breast against a dark background, the chest wall at the side of the other breast."""
    contrast, gamma, noise, dark = camera
    y, x = places(size)
    tilt = 0.25 * y if place % 2 else 0.0  # oblique views lean
    edge = np.hypot(y / 0.9, (x + 1 + tilt) / 1.6) - 1
    breast = inside(-edge * size / 3)
    gland = 0.35 + (0.08 + 0.03 * density) * smooth_noise(seed, woman, f"gland {place % 2}", size, cells=5)
    gland = gland + 0.04 * density
    if mass:
        drawn = random.uniform(seed, woman, np.arange(2), "mass")
        distance = np.hypot(y - 0.9 * (drawn[0] - 0.5), x + 0.75 - 0.8 * drawn[1])
        gland = gland + (0.55 - 0.03 * density) * inside((0.28 - distance) * size / 3)
    grey = np.clip(contrast * gland, 0, 1) ** gamma
    grey = breast * (0.9 - grey if dark else grey)
    grey = grey + noise * camera_noise(seed, woman * len(VIEWS) + place, (size, size))
    if place >= 2:  # the right breast is the mirror image of the left
        grey = grey[:, ::-1]
    return eight_bits(grey)


def _readers(
    seed: int, ill: NDArray[np.bool_], density: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.bool_]], list[NDArray[np.int64]]]:
    """The calls of the first and the second reader and their consensus, and the scores of the six others, (N,) each."""
    women = np.arange(len(ill))
    shared = random.normal(seed, 0, women, "hard cases")  # what makes a woman hard to read for everybody

    def seen(distance: float, reader: str) -> NDArray[np.float64]:
        own = random.normal(seed, 0, women, f"reader {reader}")
        return ill * (distance - HIDDEN * density) + np.sqrt(0.3) * shared + np.sqrt(0.7) * own

    called = {name: seen(distance, name) >= cut for name, (distance, cut) in RECORDED.items()}
    consensus = np.where(called["first"] == called["second"], called["first"], called["arbiter"])
    scores = [np.clip(np.rint(3 + 2 * seen(skill, str(number))), 1, 10).astype(np.int64) for number, skill in enumerate(SKILLS)]  # fmt: skip
    return {"first": called["first"], "second": called["second"], "consensus": consensus}, scores
