"""A run of whole slides, opened to be looked at: where its slides, heat maps and outlines lie, and what was frozen on tuning data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from overread.cases.cases import HIDDEN, Cases, paths
from overread.cases.split import Split
from overread.core.errors import InputError, OverreadError, checked
from overread.core.files import cores, read_fields
from overread.evaluation.decision.class_decision import load_operating_points
from overread.learning.device import pick_device
from overread.learning.model import Model
from overread.learning.predict import load_model
from overread.serving.slides.run_slides import RunSlide, SlidesOfRun
from overread.slides.heat_map import HeatMap
from overread.study.context import RunContext
from overread.study.question import Study

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
def reads_slides(folder: Path) -> bool:
    """Whether a run is of whole slides; said by its files, without loading it."""
    path = folder / "cases.target.json"
    return path.exists() and bool(read_fields(path).get("planes", {}).get("slides", False))


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
    context = RunContext(Study.load(folder / "study.toml"), folder)
    saved, facts = Cases.load(folder / "cases.csv"), list[str]()
    try:
        cases = context.cases()
        addresses = paths(cases)
    except OverreadError:
        cases, addresses = saved, [""] * len(saved)
        facts.append("the run's table is not where it was, or has changed, so that no slide can be shown")
    split, tiles = Split.load(folder / "split.csv").table, model.about.recipe.tiles
    positive, scores = _scores(folder, model)
    part_of = dict(zip(split["case"].astype(str), split["part"], strict=True))
    slides = [RunSlide(str(row["case"]), part_of.get(str(row["case"]), ""), address, str(row.get(model.target.task.label_columns[0], "")), scores.get(str(row["case"]), math.nan),
                       _outlines(cases, row), _map(folder, str(row["case"]))) for row, address in zip(cases.table.to_dict("records"), addresses, strict=True)]  # fmt: skip
    shown = [slide for part in PARTS for slide in slides if slide.part == part]
    return SlidesOfRun(
        tuple(shown),
        positive,
        _threshold(folder, positive),
        _map_threshold(shown),
        tissue=tiles.tissue,
        radius=tiles.radius,
        facts=tuple(facts),
    )


def _outlines(cases: Cases, row: dict[Any, Any]) -> str:
    held = str(row.get("outlines", ""))
    return "" if held in ("", HIDDEN) else str(Path(cases.root) / held)


def _map(folder: Path, case: str) -> Path | None:
    path = folder / "predictions" / "maps" / f"{case}.tif"
    return path if path.parent.is_dir() and path in set(path.parent.iterdir()) else None


def _scores(folder: Path, model: Model) -> tuple[str, dict[str, float]]:
    """The class that is looked for, and the score of each case that was read."""
    positive = (model.target.positive or model.target.names[-1:])[0]
    found: dict[str, float] = {}
    for part in PARTS:
        path = folder / "predictions" / f"{part}.csv"
        if path.exists():
            held = pd.read_csv(path, dtype={"case": str}, keep_default_na=False, na_values=[""])
            if f"p:{positive}" in held:
                found.update(zip(held["case"], held[f"p:{positive}"].astype(float), strict=True))
    return positive, found


def _threshold(folder: Path, positive: str) -> float:
    path = folder / "evaluation" / "operating.json"
    points = load_operating_points(path) if path.exists() else ()
    return next((point.threshold for point in points if point.of == positive), math.nan)


def _map_threshold(slides: list[RunSlide]) -> float:
    """What tuning slides chose, as the heat maps themselves say it."""
    return next(_told(slides), math.nan)


def _told(slides: list[RunSlide]) -> Iterator[float]:
    for slide in slides:
        if slide.heat_map is not None:
            yield HeatMap.load(slide.heat_map).about.threshold
