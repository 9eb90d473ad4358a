"""A run of whole slides, opened to be looked at: where its slides, heat maps and outlines lie, and what was frozen on tuning data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from overread.cases.cases import Cases, outline_paths, paths
from overread.cases.split import Split
from overread.core.errors import InputError, OverreadError, checked
from overread.core.files import cores
from overread.evaluation.decision.class_decision import load_operating_points
from overread.learning.device import pick_device
from overread.learning.model import Model
from overread.learning.predict import load_model
from overread.serving.slides.run_slides import RunSlide, SlidesOfRun
from overread.study.context import RunContext, predictions_of, reads_slides
from overread.study.outline_steps import file_names, image_keys
from overread.study.question import Study
from overread.study.slides.lesion_tables import FOUND, PLACES, read_places
from overread.study.slides.slide_rule import FILE, SlideReading

#: Whose slides are shown, in this order: those that taught the model would look better than it is.
PARTS = ("test", "tuning")


@dataclass(frozen=True, eq=False)
class SlideReader:
    """A model of whole slides, and the slides of its run."""

    model: Model
    slides: SlidesOfRun
    device: str = "cpu"
    threads: int = 0

    def opinion(self, images: Any, *, case: str = "") -> Any:
        """None: raises :class:`InputError`, since slides are not sent."""
        raise InputError("this model reads whole slides, which are not sent", todo="look at those of the run")


@checked
def open_slide_reader(folder: Path, *, device: str = "", threads: int = 0) -> SlideReader:
    """A run of whole slides. Raises :class:`InputError` for another one, and where it is damaged or not finished."""
    if not reads_slides(folder):
        raise InputError("this run is not of whole slides", given=folder.name)
    model = load_model(folder)
    return SlideReader(model, slides_of_run(folder, model), pick_device(device), threads or cores())


@checked
def slides_of_run(folder: Path, model: Model) -> SlidesOfRun:
    """The slides of the tuning and the test part, those of the test part first, and what is frozen.

    Where the table cannot be read again, or has changed, the slides are listed and none can be shown.
    """
    context, split = RunContext(Study.load(folder / "study.toml"), folder), Split.load(folder / "split.csv")
    facts = list[str]()
    try:
        cases, there = context.cases(), True
        paths(cases)
    except OverreadError:
        cases, there = Cases.load(folder / "cases.csv"), False
        facts.append("the run's table is not where it was, or has changed, so that no slide can be shown")
    positive, scores = _scores(folder, model)
    shown = [slide for part in PARTS for slide in _slides(cases.only(split, part), part, folder, scores, there)]
    reading = SlideReading.load(folder / "model") if (folder / "model" / FILE).exists() else None
    if reading and reading.window > 1:
        facts.append(
            f"scores of places are means over {reading.window} × {reading.window} cells of the heat map, as tuning slides chose"
        )
    return SlidesOfRun(tuple(shown), positive, _threshold(folder, positive), reading.threshold if reading else math.nan, model.about.recipe.tiles.tissue,
                       cases.planes.tumour, tuple(facts))  # fmt: skip


def _slides(cases: Cases, part: str, folder: Path, scores: dict[str, float], there: bool) -> Iterator[RunSlide]:
    """The slides of a part, each under its case, of cases with several slides under its own name; ``there``: whether it is known
    where they lie."""
    addresses, outlines = (paths(cases), outline_paths(cases)) if there else ([""] * len(cases), [""] * len(cases))
    maps, label = folder / "predictions" / "maps", cases.target.columns[0]
    names, keys = file_names(cases), image_keys(cases)
    held = {path.name: path for path in maps.iterdir()} if maps.is_dir() else {}
    places = _places(folder, part)
    for row, case in enumerate(cases.table["case"].astype(str)):
        score = scores.get(case, math.nan)
        yield RunSlide(keys[row], part, addresses[row], str(cases.table[label].iloc[row]), score, outlines[row],
                       held.get(f"{names[row]}.tif"), held.get(f"{names[row]}.tissue.png"), None if places is None else places[places["case"] == keys[row]])  # fmt: skip


def _places(folder: Path, part: str) -> pd.DataFrame | None:
    """The places that stand out on the slides of a part; None where their table is not there, or damaged."""
    try:
        return read_places(folder / "predictions" / PLACES / f"{part}.csv")[list(FOUND)]
    except (InputError, KeyError, ValueError):  # each slide tells that they cannot be shown
        return None


def _scores(folder: Path, model: Model) -> tuple[str, dict[str, float]]:
    """The class that is looked for, and the score of each case that was read."""
    positive = (model.target.positive or model.target.names[-1:])[0]
    found: dict[str, float] = {}
    for part in PARTS:
        path = folder / "predictions" / f"{part}.csv"
        if path.exists():
            table = predictions_of(folder, part).table
            found.update(zip(table["case"].astype(str), table[f"p:{positive}"].astype(float), strict=True))
    return positive, found


def _threshold(folder: Path, positive: str) -> float:
    path = folder / "evaluation" / "operating.json"
    points = load_operating_points(path) if path.exists() else ()
    return next((point.threshold for point in points if point.of == positive), math.nan)
