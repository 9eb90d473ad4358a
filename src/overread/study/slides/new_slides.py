"""Slides that a model has not seen: a heat map each, the places that stand out, and one answer a slide, as its tuning slides chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.cases import OUTLINES, Cases, paths
from overread.cases.privacy import patient_codes
from overread.core.errors import checked
from overread.core.files import write_csv
from overread.core.progress import Progress, Say, silent, unheard
from overread.images.slides.lesion_outlines import Lesions
from overread.learning.model import Model
from overread.predictions import Predictions
from overread.reporting.slides.new_slides_page import DRAWN, new_slides_page
from overread.reporting.slides.slide_pictures import SlideToShow
from overread.slides.slide_maps import SlideMaps, map_slides
from overread.study.outline_steps import file_names, image_keys
from overread.study.slides.lesion_tables import LEAST, found_places, lesions_of, save_places, true_lesions
from overread.study.slides.slide_predictions import looked_at, slide_answers
from overread.study.slides.slide_rule import ATTENTION, SlideReading

#: What is written into a folder: the answers, the places found, the true lesions where there are outlines, what was looked at, the maps, a page.
ANSWERS, FOUND, TRUE, LOOKED, MAPS, PAGE = (
    "predictions.csv",
    "places.csv",
    "lesions.csv",
    "slides.csv",
    "maps",
    "slides.html",
)


@dataclass(frozen=True)
class NewSlides:
    """What was written: ``answers`` (a table of predictions) and a ``page``, of ``slides`` that were read, on which ``places`` reach the threshold;
    patients that training has ``seen``."""

    answers: Path
    page: Path
    slides: int
    places: int
    seen: int


@checked
def read_new_slides(
    model: Model, reading: SlideReading, cases: Cases, folder: str | Path, *, hide: bool = False, keep: Sequence[str] = (), device: str = "",
    threads: int = 0, progress: Progress = silent, say: Say = unheard,
) -> NewSlides:  # fmt: skip
    """Map each slide of ``cases`` into ``folder`` and write what its map says; called again, it goes on where it was stopped.

    ``hide``: codes stand in place of the names of cases and patients, and of other columns only those to ``keep`` go along.
    Raises :class:`InputError` where no slide can be read.
    """
    home, named = Path(folder), _named(model, cases, hide, keep, say)
    names = file_names(named)
    mapped = map_slides(model, named, home / MAPS, names, threshold=reading.threshold, device=device, threads=threads, workers=threads, progress=progress, say=say)  # fmt: skip
    answers = _seen(
        model,
        named,
        slide_answers(model, named, mapped, reading, device=device, threads=threads, progress=progress, say=say),
    )
    lesions = lesions_of(named, say) if (named.table[OUTLINES] != "").any() else [None] * len(named)
    keyed = replace(
        named, table=named.table.assign(case=image_keys(named))
    )  # of several slides of a case each has its own
    places = found_places(keyed, mapped.maps, lesions, model.about.recipe.tiles.radius, LEAST, reading.window)
    save_places(places, home / FOUND)
    (home / TRUE).unlink(missing_ok=True)  # of outlines that were given before
    if any(one is not None for one in lesions):
        save_places(true_lesions(keyed, lesions), home / TRUE)
    write_csv(home / LOOKED, looked_at(keyed, names, mapped, home / MAPS, lesions), float_format="%.7g")
    answers.save(home / ANSWERS)
    seen = int(answers.table["patient"][answers.table["split"] == "seen"].nunique())
    over = places[places["score"] >= reading.threshold]
    score = _scores(reading, named, answers, mapped)
    page = _page(home, reading, keyed, score, mapped, lesions, over, names, hide or bool(cases.salt), threads, progress)
    return NewSlides(home / ANSWERS, page, len(mapped.maps), len(over), seen)


def _scores(reading: SlideReading, cases: Cases, answers: Predictions, mapped: SlideMaps) -> dict[int, float]:
    """The score of each slide by its own map; of a model that weighs tiles by attention that of its case."""
    if reading.score != ATTENTION:
        return {row: float(found.score(reading.score)) for row, found in mapped.maps.items()}
    told = dict(zip(answers.table["case"].astype(str), answers.table[f"p:{cases.target.positive[0]}"].astype(float), strict=True))  # fmt: skip
    return {row: told.get(str(cases.table["case"].iloc[row]), np.nan) for row in mapped.maps}


def _page(
    home: Path, reading: SlideReading, cases: Cases, score: dict[int, float], mapped: SlideMaps, lesions: Sequence[Lesions | None], over: pd.DataFrame,
    names: Sequence[str], coded: bool, threads: int, progress: Progress,
) -> Path:  # fmt: skip
    """The page of all slides that were read, the highest scores first; where names are hidden without pictures of slides on which there is writing."""
    called, group = cases.table["case"].astype(str).tolist(), over.groupby("case")
    many, area = group.size(), group["area"].max()
    rows = sorted(mapped.maps, key=lambda row: (-np.nan_to_num(score[row], nan=-1.0), row))
    told = pd.DataFrame([{"case": called[row], "score": score[row], "places": int(many.get(called[row], 0)), "area": float(area.get(called[row], np.nan)),
                          "map": f"{MAPS}/{names[row]}.tif"} for row in rows], columns=["case", "score", "places", "area", "map"])  # fmt: skip
    drawn = rows[:DRAWN]
    written = take_fingerprints(cases.take(np.array(drawn, np.int64)), threads=threads)["text"].to_numpy() > 0 if coded else [False] * len(drawn)  # fmt: skip
    shown = [SlideToShow(called[row], str(cases.table["source"].iloc[row]), "", score[row], paths(cases)[row], mapped.maps[row], lesions[row],
                         over[over["case"] == called[row]]) for row in drawn]  # fmt: skip
    return new_slides_page(home / PAGE, shown, told, threshold=reading.threshold, facts=[line.strip() for line in reading.lines], set_aside=list(mapped.errors.values()),
                           withheld={called[row] for row, text in zip(drawn, written, strict=True) if text}, coded=coded, progress=progress)  # fmt: skip


def _named(model: Model, cases: Cases, hide: bool, keep: Sequence[str], say: Say) -> Cases:
    """Who each slide is of: a slide without a patient is its own; with codes in place of names where these are to be hidden."""
    table = cases.table
    alone = (
        cases
        if cases.salt
        else replace(cases, table=table.assign(patient=table["patient"].where(table["patient"] != "", table["case"])))
    )
    if not hide or cases.salt:
        return alone
    hidden = alone.hidden(salt=model.about.names_salt, keep=keep)
    say(f"  {hidden.notes[-1]}")
    return hidden


def _seen(model: Model, cases: Cases, answers: Predictions) -> Predictions:
    """With what training has seen marked, by the codes that the model knows patients by."""
    about, who = model.about, answers.table["patient"].astype(str).tolist()
    known = patient_codes(who, about.names_salt, about.identifiers) if about.names_salt and not cases.salt else who
    return replace(answers, table=answers.table.assign(split=np.where(model.saw(list(known)), "seen", "")))
