"""Phantom tracks: cells that are followed until they become one of two kinds, after Buggenthin 2017 (doi:10.1038/nmeth.4182).

No frame tells the kind by itself: what tells is how a cell changes (``trend``: one kind grows and turns coarse, the other
the reverse) and how fast it moves (``movement``, a column of the table and not in the pixels), or both (``tracks``). A marker shows
the kind only shortly before the event that ends the track.
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

KINDS = ("tracks", "trend", "movement")
LINEAGES = ("granulocytic", "erythroid")
#: Time between frames; how early a track begins before its event; how early the marker shows, at most.
STEP, BEGINS, MARKER = 0.1, (0.6, 1.6), 0.2
#: Growth of a kind in a unit of time, and when before the event both kinds are equally large on average.
GROWTH, ALIKE = 0.2, 0.5
#: Difference of the logarithm of the displacement between the kinds, and its standard deviation between frames.
FASTER, SPREAD = 0.26, 0.6
_MOST = 64  # frames of a track, for their names in chance
_TRACKS = 3  # tracks of a patient, at most


@checked
def draw_tracks(
    folder: str | os.PathLike[str], *, kind: Literal["tracks", "trend", "movement"] = "tracks", patients: int = 100, size: int = 28,
    seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw tracks of cells into ``folder`` and give the path of their table.

    Writes ``images/*.png`` (``size`` pixels a side, grey) and ``metadata.csv``: image, track, patient (one to three tracks
    each), time, displacement since the frame before (blank of a first frame), event_time, marker_time (blank where the marker
    was never seen) and lineage (``granulocytic`` or ``erythroid``, half of the tracks each). Frames are ``STEP`` apart, one
    in twelve is lost, some tracks are one frame long. The same seed gives the same bytes. Raises ArgumentError for another
    ``kind``, and for values out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(pd.read_csv(draw_tracks(folder, patients=4))["lineage"].unique())
    ['erythroid', 'granulocytic']
    """
    one_of(kind, KINDS, "kind")
    require(patients >= 4, "a cohort needs at least 4 patients", given=patients)
    require(size >= 16, "size must be at least 16 pixels", given=size)
    images = Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    many = 1 + random.integers(seed, 0, np.arange(patients), "tracks of a patient", _TRACKS)
    owner = np.repeat(np.arange(patients), many)
    erythroid = np.zeros(len(owner), bool)
    erythroid[random.permutation(seed, 0, len(owner), "erythroid")[: len(owner) // 2]] = True
    rows = []
    for track, (patient, grows) in enumerate(zip(owner, erythroid)):
        drawn = random.uniform(seed, track, np.arange(8), "track")
        before, start = _frames(seed, track, drawn), 10 * drawn[0]
        event = start + before[0]
        marker = "" if drawn[1] < 0.1 else f"{event - MARKER * drawn[2]:.3f}"
        sign = 1 if grows else -1
        for number in random.permutation(seed, track, len(before), "order of the rows"):
            key, lead = track * _MOST + int(number), float(before[number])
            change = sign * GROWTH * (ALIKE - lead) if kind != "movement" else 0.0
            name = f"{track + 1:04d}-{number + 1:02d}.png"
            write_png(images / name, _draw_cell(seed, key, drawn[3] + change, change, size))
            rows.append([f"images/{name}", f"T{track + 1:04d}", f"P{patient + 1:04d}", f"{event - lead:.3f}",
                         _displacement(seed, key, drawn[4], sign * (kind != "trend")) if number else "",
                         f"{event:.3f}", marker, LINEAGES[int(grows)]])  # fmt: skip
        progress("drawing tracks", track + 1, len(owner))
    columns = ["image", "track", "patient", "time", "displacement", "event_time", "marker_time", "lineage"]
    return write_csv(Path(folder) / "metadata.csv", pd.DataFrame(rows, columns=columns))


def _frames(seed: int, track: int, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """How long before the event each frame of a track was taken, the first one first."""
    length = BEGINS[0] + (BEGINS[1] - BEGINS[0]) * drawn[5]
    before = np.arange(length, -1e-9, -STEP) + 0.02 * (random.uniform(seed, track, np.arange(20), "jitter")[: int(length / STEP + 1)])  # fmt: skip
    if drawn[6] < 0.04:
        return before[: 1 + int(drawn[7] * 2) * (len(before) - 1)][-1:]
    kept = random.uniform(seed, track, np.arange(len(before)), "lost frames") > 1 / 12
    kept[0] = True
    return np.asarray(before[kept], np.float64)


def _displacement(seed: int, key: int, own: float, sign: int) -> str:
    """How far a cell moved since the frame before, in micrometres: log-normal, with a speed of the track's own."""
    step = float(random.normal(seed, key, 0, "displacement"))
    return f"{4 * np.exp(0.2 * (own - 0.5) + sign * FASTER / 2 + SPREAD * step):.3f}"


def _draw_cell(seed: int, key: int, large: float, coarse: float, size: int) -> NDArray[np.uint8]:
    """A round cell in a bright field, (size, size); ``large`` about 0 … 1, ``coarse`` about −.3 … .3."""
    place = random.uniform(seed, key, np.arange(3), "place")
    y, x = places(size)
    large += 0.02 * float(random.normal(seed, key, 1, "size of the frame"))
    distance = np.hypot(y - 0.2 * (place[0] - 0.5), x - 0.2 * (place[1] - 0.5))
    cell = inside((max(0.1, 0.18 + 0.42 * large) - distance) * size / 2)
    grey = 0.04 * smooth_noise(seed, key, "field", size, cells=5) + cell * (
        0.3 + (0.06 + 0.1 * coarse) * smooth_noise(seed, key, "granules", size, cells=9)
    )
    grey = grey - grey.mean() + 0.4 + 0.1 * place[2]
    return eight_bits(grey + 0.03 * camera_noise(seed, key, (size, size)))
