"""Predicting slides: a heat map each, the places that stand out, and one answer a slide by a rule that tuning slides choose.

The answer of a slide is an ordinary prediction, by which everything in :mod:`overread.study.image_steps` judges it; beside it stand
its heat map, the places that stand out, and how many of the true lesions these are.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from overread.cases.cases import OUTLINES, Cases, paths
from overread.cases.split import Split
from overread.core.errors import InputError, checked
from overread.core.files import read_json, write_csv, write_json
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.images.slides.lesion_outlines import Lesions
from overread.images.slides.slide import slide_at
from overread.images.slides.tissue import Tissue
from overread.learning.model import Model
from overread.learning.predict import tabulate
from overread.predictions import Predictions
from overread.slides.heat_map import SlideMaps
from overread.slides.slide_attention import answer_slides
from overread.slides.slide_maps import map_slides
from overread.study.context import RunContext
from overread.study.outline_steps import file_names, image_keys
from overread.study.slides.lesion_tables import MAPS, PLACES, TRUTH, found_places, lesions_of, save_places, true_lesions
from overread.study.slides.slide_rule import ATTENTION, SlideReading, choose_reading, windows

#: In ``predictions/``: of which model the maps are.
OF = "maps/of.json"


@checked
def predict_slides(context: RunContext, model: Model, cases: Cases, parts: Split) -> dict[str, Predictions]:
    """Maps of the tuning and the test part, how they are read by the tuning part, and what they say of both.

    Writes ``predictions/maps``, ``tissue``, ``places`` and ``lesions``, and ``slides.json`` beside the model. A run that was
    stopped goes on with the maps that are not there yet.
    """
    _empty(context.folder / "predictions", model)
    tuning, test = (cases.only(parts, part) for part in ("tuning", "test"))
    mapped, lesions = _mapped(context, model, tuning)
    reading = reading_of(model, tuning, mapped, lesions)
    reading.save(context.folder / "model")
    for line in reading.lines:
        context.say(line)
    mapped = replace(mapped, maps={row: found.with_threshold(reading.threshold) for row, found in mapped.maps.items()})
    _write_tables(context, model, tuning, "tuning", mapped, lesions, reading)
    tested, lesions = _mapped(context, model, test, reading.threshold)
    _write_tables(context, model, test, "test", tested, lesions, reading)
    how: dict[str, Any] = {"cache": context.cache, "device": context.study.resources.device, "threads": context.study.resources.threads,
           "progress": context.progress, "say": context.say}  # fmt: skip
    return {part: slide_answers(model, held, maps, reading, part, **how) for part, held, maps in (("tuning", tuning, mapped), ("test", test, tested))}  # fmt: skip


def _mapped(
    context: RunContext, model: Model, cases: Cases, threshold: float = math.nan
) -> tuple[SlideMaps, list[Lesions | None]]:
    """The maps of a part and its true lesions."""
    home, resources = context.folder / "predictions", context.study.resources
    mapped = map_slides(model, cases, home / MAPS, file_names(cases), threshold=threshold, device=resources.device, threads=resources.threads,
                        workers=resources.threads, cache=context.cache, progress=context.progress, say=context.say)  # fmt: skip
    return mapped, lesions_of(cases, context.say)


def _write_tables(
    context: RunContext, model: Model, cases: Cases, part: str, mapped: SlideMaps, lesions: list[Lesions | None], reading: SlideReading
) -> None:  # fmt: skip
    """The places that stand out on the slides of a part, its true lesions, and what was looked at."""
    home, names = context.folder / "predictions", file_names(cases)
    keyed = replace(cases, table=cases.table.assign(case=image_keys(cases)))
    places = found_places(keyed, mapped.maps, lesions, model.about.recipe.tiles.radius, window=reading.window)
    save_places(places, home / PLACES / f"{part}.csv")
    save_places(true_lesions(keyed, lesions), home / TRUTH / f"{part}.csv")
    write_csv(home / f"slides-{part}.csv", looked_at(keyed, names, mapped, home / MAPS, lesions), float_format="%.7g")


def _empty(home: Path, model: Model) -> None:
    """Remove the maps of another model."""
    told = home / OF
    if told.exists() and read_json(told) == {"model": model.digest}:
        return
    for path in home.glob("maps/*"):
        if path.is_dir():  # the journal of a map that was stopped
            shutil.rmtree(path)
        else:
            path.unlink()
    write_json(told, {"model": model.digest})


@checked
def reading_of(model: Model, tuning: Cases, mapped: SlideMaps, lesions: list[Lesions | None]) -> SlideReading:
    """How maps are read, by those of the tuning part."""
    keyed, recipe = replace(tuning, table=tuning.table.assign(case=image_keys(tuning))), model.about.recipe
    places = {window: found_places(keyed, mapped.maps, lesions, recipe.tiles.radius, window=window) for window in windows(recipe)}  # fmt: skip
    labels = tuning.table[tuning.target.columns[0]].to_numpy()
    truth = np.where(labels == "", -1, np.isin(labels, list(tuning.target.positive)).astype(np.int64))
    outlined = sum(lesions[row] is not None for row in mapped.maps)
    any_lesion = any(one is not None and len(one) for one in lesions)
    there = [lesions[row] if row in mapped.maps else None for row in range(len(tuning))]
    to_find = int((true_lesions(keyed, there)["judged"] == 1).sum())
    return choose_reading(recipe, mapped, truth, places, outlined if any_lesion else 0, to_find)


@checked
def slide_answers(
    model: Model, cases: Cases, mapped: SlideMaps, reading: SlideReading, part: str = "", *, cache: str | Path | None = None, device: str = "",
    threads: int = 0, progress: Progress = silent, say: Say = unheard,
) -> Predictions:  # fmt: skip
    """The table of predictions: the score of each slide by its map, of several slides of a case the highest; of a model that learned from labels of
    slides alone by attention over its tiles."""
    if reading.score == ATTENTION:
        made = answer_slides(
            model, cases, cache=cache, device=device, threads=threads, part=part, progress=progress, say=say
        )
        return replace(made, table=made.table.drop(columns=OUTLINES, errors="ignore"))
    score = np.full(len(cases), np.nan)
    for row, found in mapped.maps.items():
        score[row] = found.score(reading.score)
    highest = pd.Series(score).groupby(cases.table["case"].to_numpy()).transform("max").to_numpy(np.float64)
    (positive,) = cases.target.positive
    values = np.column_stack([highest if name == positive else 1 - highest for name in cases.target.names])
    if np.isnan(values).any(axis=1).all():
        raise InputError("none of the slides can be read", given=count(len(cases), "slide"), todo="see the reason above: copy them anew, or take others")  # fmt: skip
    made = tabulate(
        values, replace(cases, table=cases.table.drop(columns=OUTLINES, errors="ignore")), cases.target, part
    )
    seen = (made.table["split"] == "") & model.saw(made.table["patient"].tolist())
    return replace(made, table=made.table.assign(split=made.table["split"].mask(seen, "seen")), by=model.facts, identifiers=cases.identifiers)  # fmt: skip


@checked
def looked_at(cases: Cases, names: Sequence[str], mapped: SlideMaps, home: Path, lesions: Sequence[Lesions | None]) -> pd.DataFrame:  # fmt: skip
    """A row for each slide that has a map: size in µm, microns of a pixel, places that were looked at and that could not be read, whether its
    ``lesions`` are known (1 or 0), and the shares of its area by what they are; ``home``: where the tissue lies that the maps were made by."""
    rows = []
    for row, found in mapped.maps.items():
        about, slide = found.about, slide_at(paths(cases)[row])
        shares = Tissue.load(home / f"{names[row]}.tissue.png").shares
        rows.append({"case": cases.table["case"].iloc[row], "name": names[row], "width": about.size[0], "height": about.size[1], "mpp": slide.mpp, "looked": about.looked,
                     "unread": about.unread, "known": int(lesions[row] is not None), **{f"share {kind}": share for kind, share in shares.items()}})  # fmt: skip
    return pd.DataFrame(rows, columns=None if rows else ["case", "name", "known"])
