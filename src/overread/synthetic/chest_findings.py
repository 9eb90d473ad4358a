"""Chest-like phantoms with fourteen findings that go together, labels of which some are uncertain or blank, and readers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import write_csv, write_json
from overread.core.progress import Progress, silent
from overread.synthetic.phantoms import draw_chest
from overread.synthetic.picture import eight_bits, places, write_png

#: The findings of ChestX-ray14 and how common each is here.
FINDINGS = {
    "Infiltration": 0.28, "Effusion": 0.25, "Atelectasis": 0.22, "Nodule": 0.16, "Mass": 0.14, "Pneumothorax": 0.12,
    "Consolidation": 0.12, "Pleural_Thickening": 0.1, "Cardiomegaly": 0.1, "Emphysema": 0.08, "Edema": 0.08, "Fibrosis": 0.06,
    "Pneumonia": 0.05, "Hernia": 0.03,
}  # fmt: skip
#: Sensitivity and specificity of the readers, from the best on.
SKILLS = ((0.86, 0.96), (0.8, 0.94), (0.74, 0.93), (0.68, 0.9))
#: How often the label of a case with the finding, and of one without, is uncertain (−1), and how often it is blank.
UNCERTAIN, BLANK = (0.45, 0.03), 0.08
_TOGETHER = 0.35  # correlation of two findings of a patient, on the normal scale


@checked
def draw_chest_findings(
    folder: str | os.PathLike[str], *, patients: int = 300, size: int = 64, readers: int = 4, findings: int = 14, doubtful: bool = True,
    seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw frontal views with several findings into ``folder`` and give the path of their table; one or two images a patient.

    Writes ``images/*.png`` (``size`` pixels a side, grey), ``metadata.csv`` (image, patient, split 70/10/20 by patient, and a
    column for each of the first ``findings`` of :data:`FINDINGS`: 1, 0, −1 or blank), ``readers.csv`` (case, reader and the
    same columns, of the test part; :data:`SKILLS`), and ``truth.csv``. A finding is uncertain more often where it is present;
    without ``doubtful`` labels are complete and true. Each finding has its own place and shape. The same seed gives the same
    bytes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.read_csv(draw_chest_findings(folder, patients=10, findings=3)).columns.tolist()
    ['image', 'patient', 'split', 'Infiltration', 'Effusion', 'Atelectasis']
    """
    require(patients >= 10, "a cohort needs at least 10 patients", given=patients)
    require(size >= 28, "size must be at least 28 pixels", given=size)
    require(0 <= readers <= len(SKILLS), f"there are at most {len(SKILLS)} readers", given=readers)
    require(1 <= findings <= len(FINDINGS), f"there are 1 to {len(FINDINGS)} findings", given=findings)
    names, images = list(FINDINGS)[:findings], Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    who = np.repeat(np.arange(patients), 1 + random.integers(seed, 0, np.arange(patients), "images", 2))
    key = np.arange(len(who))
    truth = _present(seed, who, len(who), names)
    for k in key:
        pixels = _draw(seed, int(k), truth[k], size)
        write_png(images / f"x{k + 1:05d}.png", pixels)
        progress("drawing images", int(k) + 1, len(key))
    order = random.by_name(seed, [f"P{w + 1:04d}" for w in who], "part")
    part = np.where(order < 0.2, "test", np.where(order < 0.3, "tuning", "train"))
    cases, patient = [f"x{k + 1:05d}" for k in key], [f"P{w + 1:04d}" for w in who]
    label = _labels(seed, truth) if doubtful else truth.astype(int).astype(object)
    label[part == "test"] = truth[part == "test"].astype(int)
    table = pd.DataFrame({"image": [f"images/{case}.png" for case in cases], "patient": patient, "split": part})
    write_csv(
        Path(folder) / "truth.csv", pd.DataFrame(truth.astype(int), columns=names).assign(case=cases)[["case", *names]]
    )
    if readers:
        write_csv(Path(folder) / "readers.csv", _readings(seed, truth, cases, part == "test", names, readers))
    write_json(Path(folder) / "truth.json", {"kind": "chest findings", "size": size, "seed": seed, "readers": SKILLS[:readers], "prevalence": {n: FINDINGS[n] for n in names}})  # fmt: skip
    return write_csv(Path(folder) / "metadata.csv", pd.concat([table, pd.DataFrame(label, columns=names)], axis=1))


def _present(seed: int, who: NDArray[np.int64], images: int, names: list[str]) -> NDArray[np.bool_]:
    """(images, findings): a patient's findings go together, and differ a little between his images."""
    common = random.normal(seed, 0, who, "how ill")[:, None] * np.sqrt(_TOGETHER)
    place = who[:, None] * len(FINDINGS) + np.arange(len(names))
    own = random.normal(seed, 0, place, "findings") * np.sqrt(0.85 - _TOGETHER)
    image = random.normal(
        seed, 0, np.arange(images)[:, None] * len(FINDINGS) + np.arange(len(names)), "of the image"
    ) * np.sqrt(0.15)
    return np.asarray(ndtr(-(common + own + image)) < np.array([FINDINGS[name] for name in names]))


def _labels(seed: int, truth: NDArray[np.bool_]) -> NDArray[np.object_]:
    place = np.arange(truth.size).reshape(truth.shape)
    doubt = random.uniform(seed, 0, place, "uncertain") < np.where(truth, *UNCERTAIN)
    label = np.where(doubt, -1, truth.astype(int)).astype(object)
    label[random.uniform(seed, 0, place, "blank") < BLANK] = ""
    return label


def _readings(
    seed: int, truth: NDArray[np.bool_], cases: list[str], test: NDArray[np.bool_], names: list[str], readers: int
) -> pd.DataFrame:
    parts, place = [], np.arange(truth.size).reshape(truth.shape)
    for reader, (sensitivity, specificity) in enumerate(SKILLS[:readers]):
        drawn = random.uniform(seed, reader + 1, place, "reading")
        said = np.where(truth, drawn < sensitivity, drawn >= specificity).astype(int).astype(object)
        said[random.uniform(seed, reader + 1, place, "no answer") < 0.02] = ""
        parts.append(pd.DataFrame(said, columns=names).assign(case=cases, reader=f"R{reader + 1}")[test])
    return pd.concat(parts, ignore_index=True)[["case", "reader", *names]]


def _draw(seed: int, key: int, present: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """A chest without an opacity, and at the place of each present finding a density of its shape."""
    grey = draw_chest(seed, key, -9.0, size=size).astype(np.float64) / 255
    y, x = places(size)
    for k in np.flatnonzero(present):
        u = random.uniform(seed, key, np.arange(4) + 8 * k, "sign")
        side = 1.0 if k % 2 else -1.0
        at_y, at_x = -0.55 + 1.2 * (k // 2) / 6 + 0.08 * (u[0] - 0.5), side * (0.42 + 0.08 * (u[1] - 0.5))
        tall, broad = ((0.07, 0.07), (0.05, 0.16), (0.16, 0.05))[k % 3]
        strength = (0.2 + 0.1 * u[2]) * (-1 if k % 5 == 4 else 1)  # air is darker: some findings are
        grey += strength * np.exp(-(((y - at_y) / tall) ** 2 + ((x - at_x) / broad) ** 2) / 2)
    return eight_bits(grey)
