"""Phantom patients whose diseases stand in a tree: nine kinds of nuclei under three groups, benign or malignant.

The kinds of one group look alike to anybody, as subtypes do that only a gene tells apart: no model can say which of them
an image shows, only of which group they are. So the most probable kind says little of which group it is (four of the
malignant kinds share what their group has, nearly all of the benign growths are cysts), and the sum over a group says it;
and one kind is too rare to be learned by itself.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import write_csv, write_json
from overread.core.progress import Progress, silent
from overread.synthetic.phantoms import draw_microscope
from overread.synthetic.picture import write_png
from overread.tasks.taxonomy import Taxonomy

#: Kind, the node above it, and its share of the patients beside the rare one.
KINDS = {
    "reactive": ("inflamed", 0.17), "infected": ("inflamed", 0.03),
    "cyst": ("benign growth", 0.28), "wart": ("benign growth", 0.04),
    "spindle": ("malignant growth", 0.12), "clear cell": ("malignant growth", 0.12), "solid": ("malignant growth", 0.12),
    "papillary": ("glandular", 0.12), "signet ring": ("glandular", 0.0),
}  # fmt: skip
#: Groups by how far their nuclei have gone from benign to malignant, in standard deviations of a patient.
SIGNALS = {"inflamed": -0.8, "benign growth": 0.8, "malignant growth": 2.4}
RARE = "signet ring"
TREE = Taxonomy(
    ("lesion", "benign", "malignant", *SIGNALS, "glandular", *KINDS),
    (
        "",
        "lesion",
        "lesion",
        "benign",
        "benign",
        "malignant",
        "malignant growth",
        *(over for over, _ in KINDS.values()),
    ),
    ("", "danger", "danger", *["three-way"] * 3, "", *["kind"] * len(KINDS)),
)
_IMAGE_SPREAD = 0.4


@checked
def draw_disease_tree(
    folder: str | os.PathLike[str], *, patients: int = 240, images_per_patient: int = 2, size: int = 64, rare: int = 2,
    readers: int = 0, seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw patients with one of nine kinds of nuclei into ``folder`` and give the path of their table.

    Writes ``images/*.png`` (``size`` pixels a side), ``metadata.csv`` (case, image, patient, diagnosis, sex),
    ``taxonomy.csv`` (levels danger, three-way and kind; ``signet ring`` has ``rare`` patients, and lies with ``papillary``
    under ``glandular``), ``readers.csv`` where there
    are ``readers`` (case, reader, label: ``benign`` or ``malignant``) and ``truth.json``. The same seed gives the same
    bytes. Raises ArgumentError for values out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pd.read_csv(draw_disease_tree(folder, patients=40, size=32))["diagnosis"].nunique()
    9
    """
    require(patients >= 40, "the kinds need at least 40 patients", given=patients)
    require(1 <= images_per_patient <= 16, "images_per_patient must lie within 1 to 16", given=images_per_patient)
    require(1 <= rare <= patients // 10, "rare must lie between 1 and a tenth of the patients", given=rare)
    require(readers >= 0, "readers must not be negative", given=readers)
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    kinds = _kinds(patients, rare, seed)
    rows = []
    for patient, kind in enumerate(kinds):
        group, sex = TREE.at("three-way")[kind], random.uniform(seed, 0, patient, "sex") < 0.5
        typical = SIGNALS[group] + float(random.normal(seed, 0, patient, "signal"))
        for number in range(images_per_patient):
            key = patient * 16 + number
            signal = typical + _IMAGE_SPREAD * float(random.normal(seed, 0, key, "image signal"))
            pixels = draw_microscope(seed, key, signal, size=size)
            name = f"{patient + 1:04d}-{number + 1:02d}"
            write_png(folder / "images" / f"{name}.png", pixels)
            rows.append([name, f"images/{name}.png", f"P{patient + 1:04d}", kind, "female" if sex else "male", signal])
        progress("drawing images", patient + 1, patients)
    table = pd.DataFrame(rows, columns=["case", "image", "patient", "diagnosis", "sex", "signal"])
    TREE.save(folder / "taxonomy.csv")
    if readers:
        write_csv(folder / "readers.csv", _readings(table, readers, seed))
    write_json(folder / "truth.json", {"kind": "disease tree", "size": size, "seed": seed, "signal": table["signal"].round(6).tolist(), "rare": RARE})  # fmt: skip
    return write_csv(folder / "metadata.csv", table.drop(columns="signal"))


def _kinds(patients: int, rare: int, seed: int) -> list[str]:
    """The kind of each patient: whole numbers of each, dealt out by chance."""
    names = [name for name in KINDS if name != RARE]
    edges = np.rint(np.cumsum([0.0, *(KINDS[name][1] for name in names)]) * (patients - rare)).astype(int)
    dealt = [RARE] * rare + [name for name, many in zip(names, np.diff(edges), strict=True) for _ in range(many)]
    return [dealt[place] for place in random.permutation(seed, 0, patients, "kinds")]


def _readings(table: pd.DataFrame, readers: int, seed: int) -> pd.DataFrame:
    """Readers see the signal through a noise of their own, and call malignant what lies above half way between the groups."""
    cases = np.arange(len(table))
    seen: list[NDArray[np.float64]] = [
        table["signal"].to_numpy() + 0.8 * random.normal(seed, reader, cases, "reader's eye")
        for reader in range(readers)
    ]
    half = (SIGNALS["benign growth"] + SIGNALS["malignant growth"]) / 2
    read = [pd.DataFrame({"case": table["case"], "reader": f"R{number + 1}", "label": np.where(saw > half, "malignant", "benign")})
            for number, saw in enumerate(seen)]  # fmt: skip
    return pd.concat(read, ignore_index=True)
