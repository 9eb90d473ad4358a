"""Any phantom by its kind: what ``overread demo --recipe`` and ``make recipes`` draw."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from overread.core.errors import InputError, checked, nearest, one_of
from overread.core.progress import Progress, silent
from overread.synthetic.cells.calcium import draw_calcium
from overread.synthetic.cells.cancer_cells import draw_cancer_cells
from overread.synthetic.cells.microscopes import draw_microscopes
from overread.synthetic.cells.tomogram import draw_tomogram
from overread.synthetic.chest import draw_chest
from overread.synthetic.chest_findings import draw_chest_findings
from overread.synthetic.cohort import DRAWERS, draw_cohort
from overread.synthetic.disease_tree import draw_disease_tree
from overread.synthetic.graded_fundus import draw_fundus
from overread.synthetic.mammograms import draw_mammograms
from overread.synthetic.nodules import draw_nodules
from overread.synthetic.planted_nodule import draw_planted_nodules
from overread.synthetic.several_images import KINDS as OF_SEVERAL
from overread.synthetic.several_images import draw_cases
from overread.synthetic.slides.slide_cohort import draw_slides
from overread.synthetic.tracks import KINDS as OF_TRACKS
from overread.synthetic.tracks import draw_tracks

#: Who draws each kind; all take a folder, a seed and how to tell progress, and give the path of the table.
PHANTOMS: dict[str, Callable[..., Path]] = {
    **dict.fromkeys(DRAWERS, draw_cohort),
    **dict.fromkeys(OF_SEVERAL, draw_cases),
    "chest": draw_chest,
    "nodules": draw_nodules,
    "disease tree": draw_disease_tree,
    **dict.fromkeys(OF_TRACKS, draw_tracks),
    "fundus": draw_fundus,
    "chest findings": draw_chest_findings,
    "mammograms": draw_mammograms,
    "planted nodule": draw_planted_nodules,
    "calcium": draw_calcium,
    "tomogram": draw_tomogram,
    "microscopes": draw_microscopes,
    "cancer cells": draw_cancer_cells,
    "slides": draw_slides,
}


@checked
def draw(
    folder: str | os.PathLike[str], kind: str, options: Mapping[str, Any], *, seed: int = 0, progress: Progress = silent
) -> Path:
    """Draw phantoms of a ``kind`` into ``folder``, with the ``options`` of its drawer, and give the path of their table.

    Raises :class:`InputError` for an option that the drawer of this kind does not have, naming the nearest.
    """
    drawer = PHANTOMS[one_of(kind, PHANTOMS, "the kind of phantom")]
    known = inspect.signature(drawer).parameters
    for name in options:
        if name not in known or name in ("folder", "seed", "progress"):
            raise InputError(f"a phantom of kind {kind} has no option {name!r}", todo=nearest(name, known))
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    own_kind = {"kind": kind} if "kind" in known else {}
    return drawer(folder, **own_kind, **given, seed=seed, progress=progress)
