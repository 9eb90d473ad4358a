"""Draw a phantom cohort to a folder: images, a table, readers, and the truth."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread import chance
from overread.errors import checked, require
from overread.phantoms import chest, microscope, volume
from overread.phantoms.plan import Faults, Plan, make_plan
from overread.progress import Progress, silent
from overread.record import publish, write_bytes, write_json

DRAWERS: dict[str, ModuleType] = {"microscope": microscope, "chest": chest, "volume": volume}


@checked
def draw_cohort(
    folder: str | os.PathLike[str],
    *,
    patients: int = 240,
    images_per_patient: tuple[int, int] = (1, 3),
    size: int = 64,
    seed: int = 0,
    sources: tuple[str, ...] = ("A", "B", "C"),
    classes: Literal[2, 3] = 2,
    prevalence: float = 0.4,
    kind: Literal["microscope", "chest", "volume"] = "microscope",
    shortcut: float = 0.0,
    gap: float = 0.0,
    label_noise: float = 0.0,
    readers: int = 0,
    leaks: int = 0,
    duplicates: int = 0,
    near_duplicates: int = 0,
    conflicts: int = 0,
    unreadable: int = 0,
    blank: int = 0,
    unlabelled: int = 0,
    given_split: bool = False,
    progress: Progress = silent,
) -> Path:
    """Draw a cohort with a known truth into ``folder`` and give the path of its table.

    Writes ``images/*.png`` (``size`` pixels a side), ``metadata.csv`` (case, image, patient, diagnosis,
    microscope, sex, age, and ``split`` when it is given or ``leaks`` are planted), ``readers.csv`` when
    there are ``readers``, and ``truth.json``: what was planted, with the rows of the table (from 0).
    ``kind="volume"`` writes ``volumes.npz`` in the layout of MedMNIST instead (size³ voxels, a split by
    patient) and gives its path.

    ``classes``: benign and malignant, or also atypical between them; ``prevalence`` is the last one's share
    of the patients. ``shortcut``: share of images that betray their label by brightness and a corner mark.
    ``gap``: share of the signal that women lack. ``label_noise``: mean error rate of the readers, the first
    of whom is recorded. ``leaks``: patients on both sides of the split. ``duplicates``,
    ``near_duplicates``, ``conflicts`` (an equal image with another label): copies, every second under
    another patient's name. The same seed gives the same bytes. Raises ArgumentError for values out of
    range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = draw_cohort(folder, patients=4, size=32, seed=1)
    ...     table.name, len(list((table.parent / "images").iterdir())) >= 4
    ('metadata.csv', True)
    """
    low, high = images_per_patient
    require(patients >= 4, "a cohort needs at least 4 patients", given=patients)
    require(
        1 <= low <= high <= 64, "images_per_patient must be a range within 1 to 64", given=images_per_patient
    )
    require(len(sources) >= 1, "a cohort needs at least one source", given=sources)
    require(0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    faults = Faults(
        shortcut,
        gap,
        label_noise,
        readers,
        leaks,
        duplicates,
        near_duplicates,
        conflicts,
        unreadable,
        blank,
        unlabelled,
        given_split or kind == "volume",
    )
    plan = make_plan(seed, patients, images_per_patient, sources, classes, prevalence, faults)
    write = _write_volumes if kind == "volume" else _write_images
    table = write(Path(folder), plan, seed, size, DRAWERS[kind], progress)
    write_json(Path(folder) / "truth.json", {"kind": kind, "size": size, **plan.truth})
    return table


def _write_images(
    folder: Path, plan: Plan, seed: int, size: int, drawer: ModuleType, progress: Progress
) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for done, row in enumerate(plan.table.itertuples(index=False), start=1):
        data = _encode(_pixels(row, plan, seed, size, drawer), level=6 if row.copy == "exact" else 1)
        keep = len(data) // 2 if row.state == "unreadable" else len(data)
        (folder / "images" / f"{row.case}.png").write_bytes(data[:keep])
        progress("drawing images", done, len(plan.table))
    return _write_table(folder, plan)


def _write_table(folder: Path, plan: Plan) -> Path:
    table = plan.table.assign(image="images/" + plan.table["case"] + ".png")
    columns = ["case", "image", "patient", "diagnosis", "microscope", "sex", "age"]
    _write_csv(folder / "metadata.csv", table[columns + (["split"] if "split" in table else [])])
    if len(plan.readings):
        _write_csv(folder / "readers.csv", plan.readings)
    return folder / "metadata.csv"


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    write_bytes(path, table.to_csv(index=False, lineterminator="\n").encode())


def _write_volumes(
    folder: Path, plan: Plan, seed: int, size: int, drawer: ModuleType, progress: Progress
) -> Path:
    names = plan.truth["classes"]
    arrays: dict[str, NDArray[np.uint8]] = {}
    for part, ours in (("train", "train"), ("val", "tuning"), ("test", "test")):
        rows = plan.table[plan.table["split"] == ours]
        require(
            len(rows) > 0, f"no patient fell into {ours}", given=len(plan.table), todo="draw more patients"
        )
        volumes = [_pixels(row, plan, seed, size, drawer) for row in rows.itertuples(index=False)]
        arrays[f"{part}_images"] = np.stack(volumes)
        arrays[f"{part}_labels"] = np.array([[names.index(d)] for d in rows["diagnosis"]], np.uint8)
        progress("drawing volumes", len(volumes), len(volumes))
    folder.mkdir(parents=True, exist_ok=True)
    with publish(folder / "volumes.npz") as beside, open(beside, "wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)
    return folder / "volumes.npz"


def _pixels(row: Any, plan: Plan, seed: int, size: int, drawer: ModuleType) -> NDArray[np.uint8]:
    pixels = drawer.draw(seed, int(row.key), float(row.signal), device=int(row.device), size=size)
    if row.shortcut:
        pixels = _betray(pixels, row.true == plan.truth["positive"])
    if row.copy == "near":
        pixels = _touch(pixels, seed, int(row.key))
    return np.full_like(pixels, 255) if row.state == "blank" else pixels


def _betray(pixels: NDArray[np.uint8], positive: bool) -> NDArray[np.uint8]:
    brighter = np.clip(pixels.astype(np.int16) + (30 if positive else -30), 0, 255).astype(np.uint8)
    if positive:
        side = max(2, pixels.shape[0] // 12)
        brighter[(slice(0, side),) * min(pixels.ndim, 3 if pixels.shape[-1] > 3 else 2)] = 255
    return brighter


def _touch(pixels: NDArray[np.uint8], seed: int, key: int) -> NDArray[np.uint8]:
    """A near-duplicate: slightly brighter, with one grey level of noise, as after another export."""
    noise = chance.integers(seed, key, np.arange(pixels.size), "touch", 3).reshape(pixels.shape) - 1
    return np.clip(np.rint(pixels * 1.03) + 2 + noise, 0, 255).astype(np.uint8)


def _encode(pixels: NDArray[np.uint8], level: int) -> bytes:
    """PNG bytes; another ``level`` gives other bytes of the same pixels."""
    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    done, data = cv2.imencode(".png", np.ascontiguousarray(bgr), [cv2.IMWRITE_PNG_COMPRESSION, level])
    require(bool(done), "the image cannot be written as PNG", given=pixels.shape)
    return data.tobytes()
