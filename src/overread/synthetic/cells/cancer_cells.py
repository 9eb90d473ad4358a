"""Fields of stained cells, in some of which a few are cancerous: what tells a case is in single cells, which are known.

A cancerous cell is larger, less even in outline, darker and coarser. No field has more cells, or another stain, for having
any.
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
from overread.core.files import write_csv, write_json
from overread.core.progress import Progress, silent
from overread.images.outlines.outlines import write_labels
from overread.synthetic.cells.cell_fields import MICROSCOPES, Field, Look, draw_field, photograph_cells
from overread.synthetic.cells.microscopes import write_png

#: The two kinds of cells, and how they look.
KINDS = ("healthy", "cancerous")
LOOKS = (Look(3.6, 0.05, 0.85, 0.12), Look(4.9, 0.13, 1.15, 0.3))
#: Of the fields with cancer: the smallest and the largest share of cancerous cells.
SHARE = (0.05, 0.3)


@checked
def draw_cancer_cells(
    folder: str | os.PathLike[str], *, patients: int = 60, images_each: int = 2, cells: tuple[int, int] = (14, 30), size: int = 128,
    prevalence: float = 0.5, touching: float = 0.5, seed: int = 0, progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw fields of cells into ``folder`` and give the path of their table.

    A share ``prevalence`` of the patients has cancer, and in each of their images 5 to 30 % of the cells, at least one,
    are cancerous. Writes ``images/*.png``, ``labels/*.png`` (a number a cell), ``cells.json`` (COCO: the same cells with
    their class), ``objects.csv`` (case, object, class, row, column, area in pixels) and ``metadata.csv``: case, image, mask
    (in ``cells.json``), labels, cancer (yes or no), cancerous (how many), cells, patient, microscope, pixel_size. The same
    seed gives the same bytes. Raises ArgumentError for values out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(set(pd.read_csv(draw_cancer_cells(folder, patients=4, size=64, cells=(5, 8)))["cancer"]))
    ['no', 'yes']
    """
    low, high = cells
    require(
        patients >= 4 and images_each >= 1,
        "a cohort needs at least 4 patients with an image",
        given=(patients, images_each),
    )
    require(2 <= low <= high <= 500, "cells are a range from 2 to 500", given=cells)
    require(0 < prevalence < 1 and 0 <= touching <= 1, "shares lie between 0 and 1", given=(prevalence, touching))
    home, rows, objects, fields = Path(folder), list[Any](), list[Any](), dict[str, Field]()
    microscope, ill = MICROSCOPES["C"], _ill(seed, patients, prevalence)
    for key in range(patients * images_each):
        patient, case = key // images_each, f"f{key + 1:04d}"
        u = random.uniform(seed, key, np.arange(2), "field")
        many = low + int(u[0] * (high - low + 1))
        share = SHARE[0] + u[1] * (SHARE[1] - SHARE[0])
        kinds = np.zeros(many, np.int64)
        if ill[patient]:  # the first places, where there is room for sure
            kinds[: max(1, round(share * many))] = 1
        field = draw_field(seed, key, kinds, LOOKS, pixel=microscope.pixel, size=size, touching=touching)
        fields[case] = field
        write_png(home / "images" / f"{case}.png", photograph_cells(seed, key, field, LOOKS, microscope))
        write_labels(home / "labels" / f"{case}.png", field.labels)
        areas = np.bincount(field.labels.ravel(), minlength=len(field.kinds) + 1)[1:]
        objects += [(case, place + 1, KINDS[kind], *np.round(field.centres[place], 2), int(areas[place])) for place, kind in enumerate(field.kinds)]  # fmt: skip
        sick = int((field.kinds == 1).sum())
        rows.append((case, f"images/{case}.png", f"cells.json#image={case}.png", f"labels/{case}.png", "yes" if sick else "no", sick, len(field.kinds),
                     f"P{patient + 1:03d}", "C", microscope.pixel))  # fmt: skip
        progress("drawing cells", key + 1, patients * images_each)
    write_json(home / "cells.json", _coco(fields))
    write_csv(home / "objects.csv", pd.DataFrame(objects, columns=["case", "object", "class", "row", "column", "area"]))
    write_json(home / "truth.json", {"kind": "cancer cells", "seed": seed, "size": size, "prevalence": prevalence})
    columns = ["case", "image", "mask", "labels", "cancer", "cancerous", "cells", "patient", "microscope", "pixel_size"]
    return write_csv(home / "metadata.csv", pd.DataFrame(rows, columns=columns))


def _ill(seed: int, patients: int, prevalence: float) -> NDArray[np.bool_]:
    """Which patients have cancer: so many of them, drawn by chance."""
    some = np.zeros(patients, bool)
    some[random.permutation(seed, 0, patients, "cancer")[: min(patients - 1, max(1, round(prevalence * patients)))]] = (
        True
    )
    return some


def _coco(fields: dict[str, Field]) -> dict[str, Any]:
    """The cells of all fields as run lengths with their classes."""
    images, annotations = list[Any](), list[Any]()
    for number, (case, field) in enumerate(fields.items(), start=1):
        height, width = field.labels.shape
        images.append({"id": number, "file_name": f"{case}.png", "height": height, "width": width})
        for place, kind in enumerate(field.kinds):
            flat = np.concatenate([[0], (field.labels == place + 1).T.ravel(), [0]]).astype(np.int8)
            edges = np.flatnonzero(np.diff(flat))
            counts = np.diff(np.concatenate([[0], edges, [height * width]]))
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": int(kind) + 1, "iscrowd": 0,
                                "segmentation": {"size": [height, width], "counts": counts.tolist()}})  # fmt: skip
    return {"images": images, "categories": [{"id": i + 1, "name": name} for i, name in enumerate(KINDS)], "annotations": annotations}  # fmt: skip
