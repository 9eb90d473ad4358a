"""A model that outlines objects, opened to be asked about one image after the other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.cells.measure import measure
from overread.cells.native_store import read_in_window
from overread.core.errors import ImageError, InputError, checked
from overread.core.files import cores
from overread.core.sandbox import contained
from overread.images.image import Image
from overread.images.outlines.outlines import Outlines
from overread.learning.device import pick_device
from overread.learning.model import Model
from overread.learning.predict import load_model
from overread.reporting import words
from overread.reporting.run import Run, read_run
from overread.study.context import outlines_objects


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """The objects of an image, and a row an object with its measures (:func:`overread.cells.measure.measure`)."""

    outlines: Outlines
    measures: pd.DataFrame


@dataclass(frozen=True, eq=False)
class OutlineReader:
    """A model that outlines objects, and the facts to say of it."""

    model: Model
    facts: tuple[str, ...]
    device: str = "cpu"
    threads: int = 0
    folder: Path = Path()

    @checked
    def outline(self, image: str | bytes) -> FoundObjects:
        """The objects in the image at an address, or in the bytes of one. Raises :class:`ImageError` if it cannot be read."""
        from overread.cells.segment import segment_image

        about = self.model.about
        (read,) = contained(read_in_window, [(image, about.recipe.window)], workers=1)
        if not isinstance(read, Image):
            raise read if isinstance(read, ImageError) else ImageError("the image cannot be read")
        pixels = read.pixels
        if pixels.ndim != 3:
            raise ImageError("objects are outlined in flat images", given=f"{len(pixels)} slices")
        shown = pixels
        if about.preprocess.channels == 3:  # grey or colour; frames are channels, all of which were learned from
            shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
        found = segment_image(self.model, shown, device=self.device, threads=self.threads)
        return FoundObjects(found, measure(found, pixels, texture=False))

    def opinion(self, images: Any, *, case: str = "") -> Any:
        """None: raises :class:`InputError`, since a case has no one answer here."""
        raise InputError("this model outlines objects, and gives no answer to a case", todo="ask for its outlines")


@checked
def open_outline_reader(folder: str | os.PathLike[str], *, device: str = "", threads: int = 0) -> OutlineReader:
    """A run, or a model's folder, that outlines objects. Raises :class:`InputError` for another one."""
    folder = Path(folder)
    if not outlines_objects(folder):
        raise InputError("this model does not outline objects", given=folder.name)
    run = read_run(folder if (folder / "model").is_dir() else folder.parent if folder.name == "model" else folder)
    return OutlineReader(load_model(folder), _facts(run), pick_device(device), threads or cores(), run.folder)


def _facts(run: Run) -> tuple[str, ...]:
    """What the test part showed, in sentences."""
    ap, recall, precision = (run.known(name) for name in ("ap@0.5", "recall@0.5", "precision@0.5"))
    if not (ap and recall and precision):
        return ("it was not judged on a test part",)
    return (f"on {run.size} of the test part it found {words.in_sentence(recall)} of the objects; {words.in_sentence(precision)} of its outlines were an object",
            f"AP at an IoU of 0.5: {words.in_sentence(ap)}")  # fmt: skip


@checked
def numbers_of(row: dict[Any, Any]) -> dict[str, float]:
    """The measures of an object that are numbers, by name; those that are not finite are left out."""
    held = {str(name): value for name, value in row.items() if name not in ("object", "class")}
    return {name: float(value) for name, value in held.items() if isinstance(value, (int, float, np.number)) and np.isfinite(value)}  # fmt: skip
