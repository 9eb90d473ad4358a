"""Phantom films of calcium imaging: neurons that light up when they fire, among what only looks like one.

A neuron is a ring (the nucleus holds less of the dye) and seen by its flashes: a spike raises its light, which then falls off
exponentially. Beside neurons lie bright specks that never change. So a mean image shows specks as well as neurons, and only
what happens over time tells them apart. Over all lies neuropil, which waxes and wanes slowly, and the noise of counted
photons.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import publish, write_csv
from overread.core.progress import Progress, silent
from overread.images.outlines.outlines import write_labels
from overread.synthetic.phantoms import smooth_noise

#: Microns of a pixel, frames a second, and the time in which a flash falls to 1/e, in seconds.
PIXEL, RATE, DECAY = 1.2, 8.0, 0.9
#: Radius of a neuron in pixels, and how much nearer than two radii centres may lie.
RADIUS, CLOSE = (3.6, 5.2), 0.92
#: Spikes a second of a neuron, and the light of one over that at rest.
SPIKES, FLASH = 0.35, 0.9
#: Where the microscopes differ: photons of a pixel at rest, and blur in pixels.
MICROSCOPES = {"two-photon A": (60.0, 0.6), "two-photon B": (30.0, 1.0)}
_MOST = 64  # places tried for neurons and for specks of a film


@dataclass(frozen=True, eq=False)
class Film:
    """``frames``: uint16 (T, H, W); ``labels``: int32 (H, W), a neuron each; ``centres``: (K, 2) rows and columns;
    ``traces``: (K, T), the light of each neuron over that at rest."""

    frames: NDArray[np.uint16]
    labels: NDArray[np.int32]
    centres: NDArray[np.float64]
    traces: NDArray[np.float64]


@checked
def draw_calcium(
    folder: str | os.PathLike[str], *, movies: int = 24, frames: int = 64, size: int = 96, neurons: int = 14, specks: int = 10,
    films_each: int = 2, seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw films into ``folder`` and give the path of their table.

    Writes ``movies/*.tif`` (16 bits, ``frames`` pages of ``size`` pixels a side), ``masks/*.png`` (a label a neuron),
    ``neurons.csv`` (movie, neuron, row, column, spikes) and ``metadata.csv``: image, movie, animal (``films_each`` films each),
    microscope, mask, pixel_size. About ``neurons`` neurons and ``specks`` unchanging specks in each. The same seed gives
    the same bytes. Raises ArgumentError for values out of range.
    """
    import tifffile

    require(movies >= 4, "a cohort needs at least 4 films", given=movies)
    require(films_each >= 1, "an animal has at least one film", given=films_each)
    require(frames >= 8 and size >= 48, "a film has at least 8 frames of 48 pixels", given=(frames, size))
    home, rows, found = Path(folder), [], []
    (home / "movies").mkdir(parents=True, exist_ok=True)
    for movie in range(movies):
        name, microscope = f"M{movie + 1:03d}", list(MICROSCOPES)[movie // films_each % len(MICROSCOPES)]
        film = draw_film(seed, movie, frames=frames, size=size, neurons=neurons, specks=specks, microscope=microscope)
        with publish(home / "movies" / f"{name}.tif") as temporary:
            tifffile.imwrite(
                temporary, film.frames, photometric="minisblack", compression="zlib", software="", metadata=None
            )
        mask = write_labels(home / "masks" / f"{name}.png", film.labels)
        rows.append(
            [f"movies/{name}.tif", name, f"A{movie // films_each + 1:03d}", microscope, f"masks/{mask.name}", PIXEL]
        )
        spikes = (np.diff(film.traces, axis=1, prepend=0) > FLASH / 2).sum(1)
        found += [[name, k + 1, *np.round(centre, 2), int(spikes[k])] for k, centre in enumerate(film.centres)]
        progress("drawing films", movie + 1, movies)
    write_csv(home / "neurons.csv", pd.DataFrame(found, columns=["movie", "neuron", "row", "column", "spikes"]))
    columns = ["image", "movie", "animal", "microscope", "mask", "pixel_size"]
    return write_csv(home / "metadata.csv", pd.DataFrame(rows, columns=columns))


@checked
def draw_film(
    seed: int, key: int, *, frames: int = 64, size: int = 96, neurons: int = 14, specks: int = 10, microscope: str = "two-photon A"
) -> Film:  # fmt: skip
    """One film; ``key`` names it: the same seed and key give the same film.

    >>> draw_film(0, 1, frames=8, size=48, neurons=3).frames.shape
    (8, 48, 48)
    """
    photons, blur = MICROSCOPES[microscope]
    count = max(1, round(neurons * float(random.uniform(seed, key, 0, "neurons", 0.7, 1.3))))
    places = _places(seed, key, size, count + specks)
    cells, debris = places[:count], places[count:]
    labels = np.zeros((size, size), np.int32)
    shapes = np.zeros((len(cells), size, size), np.float32)
    for k, (row, column, radius) in enumerate(cells):
        body, ring = _neuron(seed, key * _MOST + k, size, row, column, radius)
        labels[body & (labels == 0)] = k + 1
        shapes[k] = ring
    traces = _traces(seed, key, len(cells), frames)
    still = np.zeros((size, size), np.float32)
    for k, (row, column, radius) in enumerate(debris):
        still += np.float32(1.4) * _neuron(seed, key * _MOST + count + k, size, row, column, radius)[1]
    background = 0.5 + 0.22 * smooth_noise(seed, key, "tissue", size, cells=7)
    neuropil = 0.5 + 0.5 * smooth_noise(seed, key, "neuropil", size, cells=4)
    slow = _slow(seed, key, frames)
    light = (background + still)[None] + 0.14 * slow[:, None, None] * neuropil[None]
    light = light + np.einsum("kt,khw->thw", 0.45 + traces, shapes)
    light = np.stack([cv2.GaussianBlur(frame.astype(np.float32), (0, 0), blur) for frame in light])
    mean = photons * np.maximum(light, 0.02)
    noise = random.normal(seed, key, np.arange(light.size), "photons").reshape(light.shape)
    counted = mean + np.sqrt(mean) * noise  # counted photons: their variance is their mean
    return Film(np.clip(np.rint(20 * counted + 100), 0, 65_535).astype(np.uint16), labels, cells[:, :2], traces)


def _places(seed: int, key: int, size: int, count: int) -> NDArray[np.float64]:
    """Rows, columns and radii (at most ``count``, 3) that hardly overlap: tried in turn, kept where there is room."""
    drawn = random.uniform(seed, key, np.arange(_MOST * 16 * 3), "places").reshape(-1, 3)
    kept: list[NDArray[np.float64]] = []
    for u in drawn:
        radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * u[2]
        place = np.array(
            [radius + 1 + u[0] * (size - 2 * radius - 2), radius + 1 + u[1] * (size - 2 * radius - 2), radius]
        )
        if all(np.hypot(*(place[:2] - other[:2])) > CLOSE * (radius + other[2]) for other in kept):
            kept.append(place)
        if len(kept) == count:
            break
    return np.array(kept).reshape(-1, 3)


def _neuron(seed: int, key: int, size: int, row: float, column: float, radius: float) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:  # fmt: skip
    """The pixels of a neuron, and how it shines: a ring, with less where the nucleus is."""
    u = random.uniform(seed, key, np.arange(4), "neuron")
    y, x = np.mgrid[:size, :size]
    y, x = y - row, x - column
    turn, squeeze = np.pi * u[0], 1 + 0.3 * u[1]
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    distance = np.hypot(along / np.sqrt(squeeze), across * np.sqrt(squeeze)) / radius
    body = 1 / (1 + np.exp(np.clip((distance - 1) * 8, -40, 40)))
    hole = 0.55 / (1 + np.exp(np.clip((distance - 0.45) * 10, -40, 40)))
    return distance <= 1, ((body - hole) * (0.7 + 0.6 * u[2])).astype(np.float32)


def _traces(seed: int, key: int, count: int, frames: int) -> NDArray[np.float64]:
    """(count, frames): spikes at random, each a jump that falls off; every neuron fires at least once."""
    spikes = random.uniform(seed, key, np.arange(count * frames), "spikes").reshape(count, frames) < SPIKES / RATE
    first = random.integers(seed, key, np.arange(count), "first spike", frames)
    spikes[np.arange(count), first] = True
    height = FLASH * (0.7 + 0.6 * random.uniform(seed, key, np.arange(count), "height"))
    traces, fall = np.zeros((count, frames)), np.exp(-1 / (RATE * DECAY))
    for frame in range(frames):
        traces[:, frame] = (traces[:, frame - 1] * fall if frame else 0) + spikes[:, frame] * height
    return traces


def _slow(seed: int, key: int, frames: int) -> NDArray[np.float64]:
    """A slow course over the frames, of mean 0."""
    knots = random.normal(seed, key, np.arange(8), "neuropil over time")
    course = np.interp(np.linspace(0, 7, frames), np.arange(8), knots)
    return np.asarray(course - course.mean())
