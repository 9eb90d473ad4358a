"""The stages of two-stage studies: cells cut out of images, told apart, and what was found of them kept beside the run.

What is cut and what is told of it lies in ``cells/`` of the study's folder and is made once: a stage that is called again
finds its files and goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.cells.marked_images import truly_marked
from overread.cells.stages.cell_crops import (
    IMAGE_CASE,
    IMAGE_ROW,
    OBJECT,
    CutImage,
    Window,
    carried_split,
    cells_as_cases,
    cells_of_cases,
    cut_cells,
    write_crops,
)
from overread.core.errors import InputError, checked
from overread.core.files import fingerprint, plain, read_json, read_rows, write_json, write_rows
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.evaluation.instances.instance_match import match_instances
from overread.images.outlines.outlines import Outlines
from overread.learning.model import Model
from overread.learning.recipe import Recipe
from overread.predictions import Predictions
from overread.tasks.target import Target

#: The two kinds of outlines that cells are cut by.
TRUE, PREDICTED = "true", "predicted"
#: Cells that match a true one by more than this overlap have its class.
SAME = 0.5
#: Of which outlines and images the crops in a folder are, or of which crops a network; there only once all of it is.
OF = "of.json"


@dataclass(frozen=True, eq=False)
class StageTools:
    """What the stages work with: the images with their masks and labels, who is in which part, the folder, and ways to speak.

    ``sizes`` (N,): microns a pixel, NaN where unknown. ``held``: of each part a hash of what its images and masks hold.
    """

    images: Cases
    parts: Split
    folder: Path
    window: Window
    sizes: NDArray[np.float64]
    seed: int = 0
    device: str = ""
    threads: int = 0
    cache: Path | None = None
    weights: str = ""
    network: bool = True
    progress: Progress = silent
    say: Say = unheard
    held: dict[str, str] = field(default_factory=dict)

    def part(self, name: str) -> Cases:
        """The images of a part."""
        return self.images.only(self.parts, name)

    def rows(self, name: str) -> NDArray[np.int64]:
        """Where the images of a part stand among all."""
        return self.parts.rows(self.images, name)


# -- cut out ------------------------------------------------------------------------------------------------------------


@checked
def cut_part(tools: StageTools, kind: str, part: str, outlined: Iterator[tuple[int, NDArray[Any] | None, Outlines]], key: str, names: Sequence[str] = ()) -> list[CutImage]:  # fmt: skip
    """The cells of a part's images, cut by ``outlined`` (row among the part's images, pixels, outlines), kept in ``cells/``.

    ``key``: what the outlines hang on; the same key finds what was cut. ``names``: the classes of cells that are told
    apart; others are blank. Images in which nothing is outlined have no cells.
    """
    home = tools.folder / "cells" / f"{kind}-{part}"
    listed, about = home / "cut.json", {"key": fingerprint([key, tools.window, tools.part(part).digest, list(names), tools.held.get(part, "")])}  # fmt: skip
    if listed.exists() and (home / OF).exists() and read_json(home / OF) == about:
        return list(read_rows(CutImage, listed))
    (home / OF).unlink(missing_ok=True)  # before the first crop: what is left of a cut that was stopped is of two cuts
    rows, made = tools.rows(part), list[CutImage]()
    for row, pixels, outlines in outlined:
        if pixels is None or not len(outlines):
            continue
        place = int(rows[row])
        size = float(tools.sizes[place])
        crops = cut_cells(pixels, outlines, tools.window, pixel_size=size if np.isfinite(size) else 0.0)
        classes = tuple(name if name in names else "" for name in outlines.classes)
        made.append(CutImage(place, tuple(write_crops(home / f"{place}.npz", crops)), classes))
    write_rows(listed, made)
    write_json(home / OF, about)
    tools.say(f"  {kind} cells of the {part} part: {count(sum(len(each.classes) for each in made), 'cell')} in {count(len(made), 'image')}")  # fmt: skip
    return made


@checked
def cut_true(tools: StageTools, part: str, names: Sequence[str] = ()) -> list[CutImage]:
    """The cells of a part's images by their masks; of the classes ``names``."""
    images, errors = tools.part(part), dict[int, str]()
    read = truly_marked(images, names=names if len(names) != 1 else (), threads=tools.threads, errors=errors, doing="cutting out cells", progress=tools.progress)  # fmt: skip
    made = cut_part(tools, TRUE, part, read, "masks", names)
    if errors:
        tools.say(f"  {count(len(errors), 'mask')} of the {part} part cannot be read: {next(iter(errors.values()))}")
    return made


@checked
def same_classes(truth: Outlines, predicted: Outlines) -> Outlines:
    """The predicted objects with the class of the true one that each is (IoU above :data:`SAME`), ``""`` where none is."""
    match = match_instances(truth.labels, predicted.labels, iou=SAME)
    names = [""] * len(predicted)
    true_names, predicted_names = match.instances.true_names, match.instances.predicted_names
    for true, found in match.pairs:
        names[int(predicted_names[found]) - 1] = truth.classes[int(true_names[true]) - 1]
    return Outlines(predicted.labels, tuple(names), predicted.notes)


# -- told apart ---------------------------------------------------------------------------------------------------------


@checked
def teach_cells(
    tools: StageTools, cut: dict[str, list[CutImage]], target: Target, recipe: Recipe, clock: Clock
) -> Model:
    """A network that tells cells apart, taught by the ``train`` cells and chosen by the ``tuning`` ones; saved in ``cells/model``.

    The split is that of the images, carried over (:func:`.carried_split`).
    """
    every = [*cut["train"], *cut["tuning"]]
    return _taught(tools, cells_as_cases(tools.images, every, target), _cut_keys(tools, every), recipe, "model", clock)


@checked
def teach_pool(tools: StageTools, cut: dict[str, list[CutImage]], recipe: Recipe, clock: Clock) -> Model:
    """A network that sees the cells of a case together and learns how to weigh them (Ilse 2018); saved in ``cells/pool``."""
    every = [*cut["train"], *cut["tuning"]]
    return _taught(tools, cells_of_cases(tools.images, every), _cut_keys(tools, every), recipe, "pool", clock)


def _cut_keys(tools: StageTools, cut: Sequence[CutImage]) -> list[str]:
    """The keys by which these cells were cut: other cells may lie in files of the same names."""
    homes = sorted({Path(address.rpartition("#")[0]).parent.name for each in cut for address in each.addresses})
    return [read_json(tools.folder / "cells" / home / OF)["key"] for home in homes]


def _taught(tools: StageTools, cells: Cases, cut: list[str], recipe: Recipe, name: str, clock: Clock) -> Model:
    from overread.learning.train import train

    if not len(cells):
        raise InputError("there are no cells to learn from", todo="see what the segmentation found, or give masks")
    parts = carried_split(tools.parts, cells)
    home = tools.folder / "cells" / name
    parts.save(home / "split.csv")
    key = {"key": fingerprint([cells.digest, cut, parts.digest, recipe])}
    if (home / "model.json").exists() and (home / OF).exists() and read_json(home / OF) == plain(key):
        return Model.load(home)
    checkpoints = home / "checkpoints"
    if checkpoints.exists() and not ((checkpoints / OF).exists() and read_json(checkpoints / OF) == plain(key)):
        shutil.rmtree(checkpoints)  # of crops that are not there any more; a training knows them by their names alone
    write_json(checkpoints / OF, key)
    model = train(cells, parts, recipe, weights=tools.weights or None, folder=checkpoints, cache=tools.cache, clock=clock, device=tools.device,
                  threads=tools.threads, network=tools.network, progress=tools.progress, say=tools.say)  # fmt: skip
    model.save(home)
    write_json(home / OF, key)
    return model


@checked
def told_cells(
    tools: StageTools, model: Model, cut: Sequence[CutImage], target: Target, kind: str, part: str
) -> Predictions:
    """What a network says of each of these cells; kept in ``cells/<kind>-<part>.csv``. Of no cell, an empty table."""
    from overread.learning.predict import predict

    cells = cells_as_cases(tools.images, cut, target)
    path = tools.folder / "cells" / f"{kind}-{part}.csv"
    of = path.with_suffix(".of.json")
    key = {"key": fingerprint([model.digest, cells.digest, _cut_keys(tools, cut)])}
    if path.exists() and of.exists() and read_json(of) == key:
        return Predictions.read(path)
    if not len(cells):
        columns = [
            "case",
            "patient",
            "split",
            "source",
            IMAGE_CASE,
            IMAGE_ROW,
            OBJECT,
            "label",
            *target.task.prediction_columns,
        ]
        return Predictions(pd.DataFrame({name: pd.Series(dtype=float if name.startswith("p:") else object) for name in columns}), target)  # fmt: skip
    found = predict(model, cells, device=tools.device, threads=tools.threads, part=part, progress=tools.progress, say=tools.say)  # fmt: skip
    found.save(path)
    write_json(of, key)
    return Predictions.read(path)  # as a later call finds it: a file rounds


@checked
def true_answers(told: Predictions) -> Predictions:
    """The same cells as a network without error would tell them: 1 for the class that each has, 0 where it has none."""
    truth = told.truth
    scores = np.zeros_like(told.scores)
    known = np.flatnonzero(truth >= 0)
    scores[known, truth[known]] = 1.0
    return told.with_scores(scores)
